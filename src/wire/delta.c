/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/delta.h"
#include "base/bytes.h"

#include <string.h>

/* Equal bytes between two changes that are not worth a pair of their own. */
#define NC_DELTA_GAP 4u

static uint64_t
nc_delta_word(const uint8_t *p)
{
  uint64_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

/* The first place from ${at} on where the pages differ; the page's end if there is none. */
static size_t
nc_delta_next_change(const uint8_t *base, const uint8_t *page, size_t at)
{
  while (at + 8 <= NC_DELTA_PAGE_BYTES && nc_delta_word(base + at) == nc_delta_word(page + at))
    at += 8;
  while (at < NC_DELTA_PAGE_BYTES && base[at] == page[at])
    at++;
  return at;
}

/* Where the change that begins at ${at} ends: before NC_DELTA_GAP equal bytes, or at the page's end. */
static size_t
nc_delta_change_end(const uint8_t *base, const uint8_t *page, size_t at)
{
  size_t equal = 0;

  for (; at < NC_DELTA_PAGE_BYTES; at++) {
    equal = base[at] == page[at] ? equal + 1 : 0;
    if (equal == NC_DELTA_GAP)
      return at + 1 - equal;
  }
  return at - equal;
}

/* Below 2^14: all that a page needs. */
static size_t
nc_delta_put_number(uint8_t *to, size_t value)
{
  if (value < 0x80) {
    to[0] = (uint8_t)value;
    return 1;
  }
  to[0] = (uint8_t)(value | 0x80);
  to[1] = (uint8_t)(value >> 7);
  return 2;
}

size_t
nc_delta_encode(const uint8_t *base, const uint8_t *page, uint8_t *to, size_t room)
{
  size_t done = 0, length = 0;

  for (;;) {
    size_t change = nc_delta_next_change(base, page, done);
    if (change == NC_DELTA_PAGE_BYTES)
      return length;
    size_t end = nc_delta_change_end(base, page, change);
    if (length + 4 + (end - change) > room)
      return SIZE_MAX;
    length += nc_delta_put_number(to + length, change - done);
    length += nc_delta_put_number(to + length, end - change);
    for (size_t i = change; i < end; i++)
      to[length++] = base[i] ^ page[i];
    done = end;
  }
}

bool
nc_delta_apply(const uint8_t *delta, size_t length, uint8_t *page)
{
  NcReader in = nc_reader(delta, length);
  size_t at = 0;

  while (nc_reader_left(&in) > 0) {
    uint64_t same, n;
    if (!nc_reader_varint(&in, &same) || !nc_reader_varint(&in, &n) || same > NC_DELTA_PAGE_BYTES - at ||
        n > NC_DELTA_PAGE_BYTES - at - same)
      return false;
    const uint8_t *change = nc_reader_take(&in, (size_t)n);
    if (!change)
      return false;
    at += (size_t)same;
    for (size_t i = 0; i < n; i++)
      page[at + i] ^= change[i];
    at += (size_t)n;
  }
  return true;
}
