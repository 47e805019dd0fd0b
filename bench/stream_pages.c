/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_pages FILE: what a recorded migration stream holds, as JSON:
 *
 *   pages, zero_pages    records of either kind
 *   resent_pages         pages (not zero) of which an earlier version had been sent
 *   resent_from          byte at which the first of them begins: before it is the first round; 0 if there is none
 *   opaque_from          byte at which device state begins
 */
#include "qemu/stream.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PIECE_BYTES (16u << 20)

typedef struct {
  GHashTable *seen; /* of block and page */
  uint64_t resent, resent_from;
} Count;

static void
count_records(Count *c, const GArray *records, uint64_t base)
{
  for (guint i = 0; i < records->len; i++) {
    const NcStreamRecord *r = &g_array_index(records, NcStreamRecord, i);
    uint64_t key = (uint64_t)r->block << 48 | r->page_offset / NC_STREAM_PAGE_BYTES;
    if (r->kind != NC_RECORD_PAGE || g_hash_table_add(c->seen, GSIZE_TO_POINTER(key + 1)))
      continue;
    if (c->resent++ == 0)
      c->resent_from = base + r->start;
  }
}

static void
count_stream(Count *c, NcStreamParser *p, const uint8_t *data, size_t length)
{
  g_autoptr(GArray) records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));

  for (size_t at = 0; at < length;) {
    g_array_set_size(records, 0);
    size_t consumed = nc_stream_parser_scan(p, data + at, MIN(length - at, PIECE_BYTES), records);
    count_records(c, records, at);
    if (consumed == 0)
      return; /* cut within a record */
    at += consumed;
  }
}

static const uint8_t *
map_file(const char *path, size_t *ret_length)
{
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);

  if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
    return NULL;
  *ret_length = (size_t)st.st_size;
  const uint8_t *data = mmap(NULL, *ret_length, PROT_READ, MAP_PRIVATE, fd, 0);
  return data == MAP_FAILED ? NULL : data;
}

int
main(int argc, char **argv)
{
  size_t length = 0;
  const uint8_t *data = argc == 2 ? map_file(argv[1], &length) : NULL;
  g_autoptr(NcStreamParser) p = nc_stream_parser_new();
  g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
  Count c = { .seen = seen };
  NcStreamTotals totals;
  uint64_t opaque_from = 0;

  if (!data) {
    fprintf(stderr, "usage: stream_pages FILE (which must not be empty)\n");
    return EXIT_FAILURE;
  }
  count_stream(&c, p, data, length);
  nc_stream_parser_totals(p, &totals);
  nc_stream_parser_is_opaque(p, &opaque_from, NULL);
  printf("{\"bytes\": %zu, \"pages\": %" G_GUINT64_FORMAT ", \"zero_pages\": %" G_GUINT64_FORMAT
         ", \"resent_pages\": %" G_GUINT64_FORMAT ", \"resent_from\": %" G_GUINT64_FORMAT
         ", \"opaque_from\": %" G_GUINT64_FORMAT "}\n",
         length, totals.pages, totals.zero_pages, c.resent, c.resent_from, opaque_from);
  return EXIT_SUCCESS;
}
