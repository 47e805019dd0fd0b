/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/memory_sample.h"
#include "base/ident.h"
#include "crypto/digest.h"
#include "qemu/footprint.h"
#include "qemu/process_memory.h"
#include "wire/codec.h"
#include "wire/delta.h"

#include <errno.h>
#include <string.h>

#define NC_SAMPLE_PAGE NC_PROCESS_PAGE_BYTES
#define NC_SAMPLE_PLACE_BYTES (NC_MEMORY_SAMPLE_PAGES * NC_SAMPLE_PAGE)
#define NC_SAMPLE_LEVEL 1

typedef struct {
  uint64_t address;
  uint8_t present; /* a bit per page: it was there, and not all zeros */
  uint8_t pages[NC_SAMPLE_PLACE_BYTES];
} NcSamplePlace;

struct NcMemorySample {
  NcProcessMemory memory;
  int64_t taken_us;
  uint64_t bytes;
  NcCodecContext *codec;
  NcMemoryPlace answers[NC_MEMORY_SAMPLE_PLACES];
  NcSamplePlace places[NC_MEMORY_SAMPLE_PLACES];
};

void
nc_memory_sample_free(NcMemorySample *s)
{
  if (!s)
    return;
  nc_process_memory_close(&s->memory);
  nc_codec_zstd.context_free(s->codec);
  nc_secret_clear(s, sizeof *s); /* it is a guest's memory */
  g_free(s);
}

/* Where place ${index} is, if all ranges were one behind the other. */
static uint64_t
nc_sample_address(const GArray *ranges, uint64_t total, unsigned index)
{
  uint64_t at = (total / NC_MEMORY_SAMPLE_PLACES * index) & ~(uint64_t)(NC_SAMPLE_PLACE_BYTES - 1);

  for (guint i = 0; i < ranges->len; i++) {
    const NcFootprintRange *range = &g_array_index(ranges, NcFootprintRange, i);
    uint64_t length = range->to - range->from;
    if (at + NC_SAMPLE_PLACE_BYTES <= length)
      return range->from + at;
    at -= MIN(at, length);
  }
  return g_array_index(ranges, NcFootprintRange, 0).from;
}

/* What is there of ${place} now, into ${pages}; a bit per page that is no zeros. */
static uint8_t
nc_sample_read(const NcMemorySample *s, const NcSamplePlace *place, uint8_t *pages)
{
  uint64_t there[NC_MEMORY_SAMPLE_PAGES] = { 0 };
  uint8_t present = 0;

  memset(pages, 0, NC_SAMPLE_PLACE_BYTES);
  if (nc_process_memory_map(&s->memory, place->address, NC_MEMORY_SAMPLE_PAGES, there) != NC_MEMORY_SAMPLE_PAGES)
    return 0;
  for (int i = 0; i < NC_MEMORY_SAMPLE_PAGES; i++) {
    uint8_t *page = pages + i * NC_SAMPLE_PAGE;
    uint64_t at = place->address + (uint64_t)i * NC_SAMPLE_PAGE;
    if ((there[i] & NC_PROCESS_PAGE_TOUCHED) && nc_process_memory_read(&s->memory, at, page, NC_SAMPLE_PAGE) == NC_SAMPLE_PAGE &&
        !nc_process_page_is_zero(page))
      present |= (uint8_t)(1u << i);
  }
  return present;
}

/* Bytes that ${length} of them are compressed to. */
static size_t
nc_sample_code(const NcMemorySample *s, const uint8_t *from, size_t length)
{
  uint8_t room[NC_SAMPLE_PLACE_BYTES];
  size_t coded = length > 0 ? nc_codec_zstd.encode(s->codec, NC_SAMPLE_LEVEL, from, length, room, sizeof room) : 0;

  return coded > 0 ? MIN(coded, length) : length;
}

static NcMemoryPlace
nc_sample_judge(const NcMemorySample *s, const NcSamplePlace *place)
{
  uint8_t content[NC_SAMPLE_PLACE_BYTES];
  size_t length = 0;

  for (int i = 0; i < NC_MEMORY_SAMPLE_PAGES; i++) {
    if (!(place->present & (1u << i)))
      continue;
    memcpy(content + length, place->pages + i * NC_SAMPLE_PAGE, NC_SAMPLE_PAGE);
    length += NC_SAMPLE_PAGE;
  }
  return (NcMemoryPlace){ .content = (float)length / NC_SAMPLE_PLACE_BYTES,
                          .coded = length > 0 ? (float)nc_sample_code(s, content, length) / (float)length : 0 };
}

NcMemorySample *
nc_memory_sample_new(pid_t pid, uint64_t least_bytes, GError **error)
{
  g_autoptr(NcMemorySample) s = g_new0(NcMemorySample, 1);
  uint64_t total = 0;

  s->memory = (NcProcessMemory)NC_PROCESS_MEMORY_CLOSED;
  if (!nc_process_memory_open(&s->memory, pid, error))
    return NULL;
  g_autoptr(GArray) ranges = nc_footprint_ranges(pid, least_bytes);
  for (guint i = 0; i < ranges->len; i++)
    total += g_array_index(ranges, NcFootprintRange, i).to - g_array_index(ranges, NcFootprintRange, i).from;
  if (total < NC_MEMORY_SAMPLE_PLACES * NC_SAMPLE_PLACE_BYTES) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "process %d has no memory of a guest's size", (int)pid);
    return NULL;
  }
  s->bytes = total;
  s->codec = nc_codec_zstd.context_new();
  s->taken_us = nc_mono_us();
  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++) {
    s->places[i].address = nc_sample_address(ranges, total, i);
    s->places[i].present = nc_sample_read(s, &s->places[i], s->places[i].pages);
    s->answers[i] = nc_sample_judge(s, &s->places[i]);
  }
  return g_steal_pointer(&s);
}

const NcMemoryPlace *
nc_memory_sample_places(const NcMemorySample *s)
{
  return s->answers;
}

uint64_t
nc_memory_sample_bytes(const NcMemorySample *s)
{
  return s->bytes;
}

/* The changes of one place behind each other, and the pages that changed, likewise; returns how many. */
static unsigned
nc_sample_compare(const NcSamplePlace *place, const uint8_t *now, uint8_t *ret_delta, size_t *ret_length, uint8_t *ret_pages)
{
  unsigned changed = 0;

  *ret_length = 0;
  for (size_t at = 0; at < NC_SAMPLE_PLACE_BYTES; at += NC_SAMPLE_PAGE) {
    size_t n = nc_delta_encode(place->pages + at, now + at, ret_delta + *ret_length, NC_SAMPLE_PAGE);
    if (n == 0)
      continue;
    if (n == SIZE_MAX) { /* it is another page */
      memcpy(ret_delta + *ret_length, now + at, NC_SAMPLE_PAGE);
      n = NC_SAMPLE_PAGE;
    }
    *ret_length += n;
    memcpy(ret_pages + changed++ * NC_SAMPLE_PAGE, now + at, NC_SAMPLE_PAGE);
  }
  return changed;
}

bool
nc_memory_sample_again(NcMemorySample *s, NcMemoryChange *ret, GError **error)
{
  uint8_t now[NC_SAMPLE_PLACE_BYTES], delta[NC_SAMPLE_PLACE_BYTES], pages[NC_SAMPLE_PLACE_BYTES];
  unsigned changed = 0;
  size_t coded = 0, length;
  double places = 0;

  if (nc_process_memory_read(&s->memory, s->places[0].address, now, 1) != 1)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "the guest's memory can't be read any more");
  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++) {
    nc_sample_read(s, &s->places[i], now);
    unsigned n = nc_sample_compare(&s->places[i], now, delta, &length, pages);
    changed += n;
    places += n * (i + 0.5);
    coded += MIN(nc_sample_code(s, delta, length), nc_sample_code(s, pages, n * NC_SAMPLE_PAGE));
  }
  ret->seconds = (double)(nc_mono_us() - s->taken_us) / 1e6;
  ret->changed = (double)changed / (NC_MEMORY_SAMPLE_PLACES * NC_MEMORY_SAMPLE_PAGES);
  ret->coded = changed > 0 ? (double)coded / ((double)changed * NC_SAMPLE_PAGE) : 1;
  ret->where = changed > 0 ? places / changed / NC_MEMORY_SAMPLE_PLACES : 0.5;
  return true;
}
