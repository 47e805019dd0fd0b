/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stored_giver.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "qemu/stream.h"

#include <errno.h>
#include <sys/socket.h>

#define NC_GIVER_LIST_US 5000000 /* the source waits for the list */

struct NcStoredGiver {
  NcImage *image;  /* as long as it is open, the store keeps its blocks */
  GArray *hashes;  /* of NC_SHA256_BYTES, in the order of the list */
  int fd;          /* our end */
  int64_t list_until_us;
  GThread *thread; /* of which the rest is */
  bool told;       /* of the first page that could not be had; there may be many */
};

/* A list that is cut short saves less, and costs nothing else. */
static bool
nc_giver_is_full(const NcStoredGiver *g)
{
  return g->hashes->len >= NC_STORED_PAGES_MAX || nc_mono_us() >= g->list_until_us;
}

/* Pages of 4 KiB, as far as the list goes. */
static bool
nc_giver_take_pages(NcStoredGiver *g, uint64_t count, GByteArray *prefixes, GError **error)
{
  NcManifestEntry entry;

  for (; count > 0 && !nc_giver_is_full(g); count--) {
    if (!nc_image_next_entry(g->image, &entry, error))
      return false;
    if (entry.length != NC_STREAM_PAGE_BYTES || nc_manifest_entry_is_hole(&entry))
      continue;
    g_array_append_vals(g->hashes, entry.hash, 1);
    g_byte_array_append(prefixes, entry.hash, NC_STORED_PREFIX_BYTES);
  }
  return true;
}

/* The manifest alone says what there is: no page is read. */
static bool
nc_giver_list(NcStoredGiver *g, GByteArray *prefixes, GError **error)
{
  NcStep step;
  NcLayoutOutcome outcome;

  while ((outcome = nc_image_next_step(g->image, &step, error)) == NC_LAYOUT_STEP) {
    if (step.kind == NC_STEP_DISK) /* no memory behind it */
      return true;
    if (!(step.kind == NC_STEP_PAGES ? nc_giver_take_pages(g, step.count, prefixes, error)
                                     : nc_image_skip_blocks(g->image, nc_layout_entries(&step), error)))
      return false;
    if (nc_giver_is_full(g)) /* the rest of the step was not read */
      return true;
  }
  return outcome != NC_LAYOUT_BAD;
}

/* Pages, verified; false: one of them is not here any more. */
static bool
nc_giver_get(NcStoredGiver *g, const uint8_t *const *hashes, uint32_t n, uint8_t *to)
{
  g_autoptr(GError) error = NULL;

  if (nc_page_store_get_pages(nc_image_store(g->image), hashes, n, to, &error))
    return true;
  if (!g->told)
    nc_log(NC_LOG_WARNING, "agent", "pages of checkpoint %s go over the link, since they can't be had here: %s",
           nc_image_name(g->image), error->message);
  g->told = true;
  return false;
}

/* One request and its answer; it came from a process that reads foreign bytes. False: that is the end. */
static bool
nc_giver_serve(NcStoredGiver *g, GByteArray *answer)
{
  uint8_t head[4], numbers[NC_STORED_READ_MAX * 4];
  const uint8_t *hashes[NC_STORED_READ_MAX];

  if (!nc_read_all(g->fd, head, sizeof head, -1, NULL))
    return false;
  uint32_t n = nc_be32(head);
  if (n == 0 || n > NC_STORED_READ_MAX || !nc_read_all(g->fd, numbers, (size_t)n * 4, -1, NULL))
    return false;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t number = nc_be32(numbers + 4 * (size_t)i);
    if (number >= g->hashes->len)
      return false;
    hashes[i] = (const uint8_t *)g->hashes->data + (size_t)number * NC_SHA256_BYTES;
  }
  g_byte_array_set_size(answer, 1 + n * NC_STREAM_PAGE_BYTES);
  answer->data[0] = nc_giver_get(g, hashes, n, answer->data + 1);
  return nc_write_all(g->fd, answer->data, answer->data[0] == 1 ? answer->len : 1, NULL);
}

static gpointer
nc_giver_run(gpointer data)
{
  NcStoredGiver *g = data;
  g_autoptr(GByteArray) answer = g_byte_array_new();

  while (nc_giver_serve(g, answer))
    ;
  shutdown(g->fd, SHUT_RDWR); /* so that nobody waits for an answer */
  return NULL;
}

NcStoredGiver *
nc_stored_giver_new(NcImage *image, GByteArray **ret_prefixes, int *ret_fd, GError **error)
{
  g_autoptr(NcStoredGiver) g = g_new0(NcStoredGiver, 1);
  g_autoptr(GByteArray) prefixes = g_byte_array_new();
  int pair[2];

  g->image = image;
  g->hashes = g_array_new(FALSE, FALSE, NC_SHA256_BYTES);
  g->fd = -1;
  g->list_until_us = nc_mono_us() + NC_GIVER_LIST_US;
  if (!nc_giver_list(g, prefixes, error))
    return NULL;
  if (g->hashes->len == 0) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "checkpoint %s has no pages of memory", nc_image_name(image));
    return NULL;
  }
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't make a socket for stored pages");
    return NULL;
  }
  g->fd = pair[0];
  g->thread = g_thread_new("stored-giver", nc_giver_run, g);
  *ret_prefixes = g_steal_pointer(&prefixes);
  *ret_fd = pair[1];
  return g_steal_pointer(&g);
}

void
nc_stored_giver_free(NcStoredGiver *g)
{
  if (!g)
    return;
  if (g->thread) {
    shutdown(g->fd, SHUT_RDWR);
    g_thread_join(g->thread);
  }
  nc_fd_clear(&g->fd);
  g_array_unref(g->hashes);
  nc_image_free(g->image);
  g_free(g);
}
