/* SPDX-License-Identifier: Apache-2.0 */
#include "mover/stored_pages.h"
#include "base/bytes.h"
#include "base/io.h"
#include "base/log.h"
#include "wire/shadow.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

/* novacrond's disk may have other things to do; behind this it is not asked any more. Connections wait meanwhile, and at the end the guest. */
#define NC_MOVER_STORED_MS 1000

typedef struct {
  NcStoredPages pages;
  pthread_mutex_t lock; /* one request at a time: protects the rest */
  int fd;               /* -1: it has failed */
  uint8_t answer[NC_STORED_READ_MAX * NC_SHADOW_PAGE_BYTES];
} NcMoverStored;

NcStoredIndex *
nc_mover_stored_list(int fd, uint32_t count, GError **error)
{
  size_t length = (size_t)count * NC_STORED_PREFIX_BYTES, done = 0;

  if (fd < 0) {
    nc_fail(error, NC_ERROR_PROTOCOL, "stored pages: no file came with the list");
    return NULL;
  }
  g_autofree uint8_t *prefixes = g_malloc(length);
  while (done < length) {
    ssize_t n = pread(fd, prefixes + done, length - done, (off_t)done);
    if (n == 0 || (n < 0 && errno != EINTR)) {
      nc_fail_errno(error, NC_ERROR_IO, n < 0 ? errno : EIO, "the list of stored pages");
      return NULL;
    }
    done += n > 0 ? (size_t)n : 0;
  }
  return nc_stored_index_new(g_steal_pointer(&prefixes), count);
}

/* With the lock held. *ret_there: all of them were given. False: the socket is of no more use. */
static bool
nc_mover_stored_ask(NcMoverStored *s, const uint32_t *numbers, uint32_t n, bool *ret_there, GError **error)
{
  uint8_t request[4 + NC_STORED_READ_MAX * 4], there;

  nc_store_be32(request, n);
  for (uint32_t i = 0; i < n; i++)
    nc_store_be32(request + 4 + 4 * i, numbers[i]);
  if (!nc_write_all(s->fd, request, 4 + 4 * (size_t)n, error) ||
      !nc_read_all(s->fd, &there, 1, NC_MOVER_STORED_MS, error))
    return false;
  *ret_there = there == 1;
  return !*ret_there || nc_read_all(s->fd, s->answer, (size_t)n * NC_SHADOW_PAGE_BYTES, NC_MOVER_STORED_MS, error);
}

static bool
nc_mover_stored_read(void *data, const uint32_t *numbers, uint32_t n, uint8_t *to, size_t step)
{
  NcMoverStored *s = data;
  g_autoptr(GError) error = NULL;
  bool there = false;

  pthread_mutex_lock(&s->lock);
  if (s->fd >= 0 && !nc_mover_stored_ask(s, numbers, n, &there, &error)) {
    nc_log(NC_LOG_WARNING, "mover", "novacrond gives no stored pages any more: %s", error->message);
    nc_fd_clear(&s->fd);
    there = false;
  }
  for (uint32_t i = 0; there && i < n; i++)
    memcpy(to + i * step, s->answer + (size_t)i * NC_SHADOW_PAGE_BYTES, NC_SHADOW_PAGE_BYTES);
  pthread_mutex_unlock(&s->lock);
  return there;
}

NcStoredPages *
nc_mover_stored_pages(int fd, uint32_t count)
{
  NcMoverStored *s = g_new0(NcMoverStored, 1);

  pthread_mutex_init(&s->lock, NULL);
  s->fd = fd;
  s->pages = (NcStoredPages){ .count = count, .data = s, .read = nc_mover_stored_read };
  return &s->pages;
}
