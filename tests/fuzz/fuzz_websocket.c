/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client says on a WebSocket. The first byte is how many bytes arrive
 * at a time (0: all at once), the rest is what arrives. However it is cut, the
 * same is understood, and nothing behind garbage.
 */
#include "gate/websocket.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool promise)
{
  if (!promise)
    abort();
}

/* What was understood, as text. */
static GString *
read_all(const uint8_t *data, size_t size, size_t step)
{
  NcWsReader reader = { 0 };
  GString *story = g_string_new(NULL);
  bool garbage = false;

  for (size_t at = 0; at < size;) {
    size_t part = MIN(step, size - at), used = 0;
    unsigned code = 0;
    const char *why = NULL;
    g_autofree uint8_t *exact = g_memdup2(data + at, part);
    NcWsGot got = nc_ws_read(&reader, exact, part, &used, &code, &why);
    require(used > 0 && used <= part);
    require(reader.payload_bytes <= NC_WS_CONTROL_BYTES);
    require(!garbage || got == NC_WS_GOT_NOTHING);
    require((got == NC_WS_GOT_GARBAGE) == (why != NULL && code >= 1000));
    garbage |= got == NC_WS_GOT_GARBAGE;
    if (got != NC_WS_GOT_NOTHING)
      g_string_append_printf(story, "%d %u;", got, got == NC_WS_GOT_GARBAGE ? code : reader.payload_bytes);
    at += used;
  }
  return story;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  GString *pieces = read_all(data + 1, size - 1, data[0] ? data[0] : size), *whole = read_all(data + 1, size - 1, size);
  require(g_string_equal(pieces, whole));
  g_string_free(pieces, TRUE);
  g_string_free(whole, TRUE);
  return 0;
}
