/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/shadow.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

struct NcShadow {
  uint8_t *pages;
  uint32_t frames;
};

NcShadow *
nc_shadow_new(int fd, uint32_t frames, GError **error)
{
  size_t length = (size_t)frames * NC_SHADOW_PAGE_BYTES;

  if (frames == 0 || frames > NC_SHADOW_FRAMES_MAX) {
    nc_fail(error, NC_ERROR_INVALID, "a shadow of %u pages", frames);
    return NULL;
  }
  if (fd >= 0 && ftruncate(fd, (off_t)length) < 0) { /* what it holds up to there stays */
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "no room for a shadow of %u pages", frames);
    return NULL;
  }
  void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, fd, 0);
  if (pages == MAP_FAILED) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't map a shadow of %u pages", frames);
    return NULL;
  }
  /* Not in huge pages: they are whole blocks of memory, which a virtual node has most likely given back to its host (decision 106). */
  NcShadow *s = g_new(NcShadow, 1);
  *s = (NcShadow){ .pages = pages, .frames = frames };
  return s;
}

void
nc_shadow_free(NcShadow *s)
{
  if (!s)
    return;
  munmap(s->pages, (size_t)s->frames * NC_SHADOW_PAGE_BYTES);
  g_free(s);
}

uint32_t
nc_shadow_frames(const NcShadow *s)
{
  return s->frames;
}

uint8_t *
nc_shadow_frame(NcShadow *s, uint32_t frame)
{
  g_assert(frame < s->frames);
  return s->pages + (size_t)frame * NC_SHADOW_PAGE_BYTES;
}
