/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes come, the messages of the return path, put together, are those
 * bytes again, and no way of cutting them into pieces makes a difference.
 *
 * Input: u8 piece size, then the bytes.
 */
#include "qemu/return_path.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
  if (!holds)
    abort();
}

/* Takes what is there; whether the parser is still content. */
static bool
drain(NcReturnPath *p, GByteArray *out, GArray *lengths)
{
  NcReturnMessage m;
  NcReturnOutcome outcome;
  g_autoptr(GError) error = NULL;

  while ((outcome = nc_return_path_next(p, &m, &error)) == NC_RETURN_MESSAGE) {
    must(m.type > NC_RETURN_BYTES && m.type < NC_RETURN_TYPE_COUNT && m.length >= 4);
    g_byte_array_append(out, m.data, (guint)m.length);
    g_array_append_val(lengths, m.length);
  }
  must((outcome == NC_RETURN_BAD) == (error != NULL));
  return outcome == NC_RETURN_MORE;
}

static void
run(const uint8_t *data, size_t size, size_t piece, GArray *lengths)
{
  g_autoptr(NcReturnPath) p = nc_return_path_new();
  g_autoptr(GByteArray) out = g_byte_array_new();
  NcReturnMessage rest;
  size_t fed = 0;
  bool good = true;

  while (good && fed < size) {
    size_t n = MIN(piece, size - fed);
    nc_return_path_feed(p, data + fed, n);
    fed += n;
    good = drain(p, out, lengths);
  }
  nc_return_path_go_blind(p);
  if (nc_return_path_next(p, &rest, NULL) == NC_RETURN_MESSAGE)
    g_byte_array_append(out, rest.data, (guint)rest.length);
  must(out->len == fed && (fed == 0 || memcmp(out->data, data, fed) == 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  g_autoptr(GArray) whole = g_array_new(FALSE, FALSE, sizeof(size_t));
  g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(size_t));

  if (size < 2)
    return 0;
  run(data + 1, size - 1, size, whole);
  run(data + 1, size - 1, data[0] + 1u, pieces);
  must(whole->len == pieces->len);
  must(whole->len == 0 || memcmp(whole->data, pieces->data, whole->len * sizeof(size_t)) == 0);
  return 0;
}
