/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever comes over a QMP socket, the parser gives whole objects or one
 * error, never more bytes than a line may have, and no way of cutting the
 * bytes into pieces makes a difference.
 *
 * Input: u8 piece size, then the bytes.
 */
#include "qemu/qmp.h"
#include "qemu/qmp_parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
  if (!holds)
    abort();
}

/* Takes the objects that are there; whether the parser is still content. */
static bool
drain(NcQmpParser *p, GString *seen)
{
  g_autoptr(GError) error = NULL;
  json_t *object;

  while ((object = nc_qmp_parser_next(p, &error)) != NULL) {
    must(json_is_object(object));
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    must(text != NULL);
    g_string_append_printf(seen, "%s\n", text);
    free(text);
    json_decref(object);
  }
  must(!error || g_error_matches(error, NC_ERROR, NC_ERROR_PROTOCOL));
  return error == NULL;
}

/* All objects in one text, and how it ended. */
static char *
run(const uint8_t *data, size_t size, size_t piece)
{
  g_autoptr(NcQmpParser) p = nc_qmp_parser_new();
  g_autoptr(GString) seen = g_string_new(NULL);
  bool content = true;

  for (size_t at = 0; at < size && content; at += piece) {
    g_autoptr(GError) error = NULL;
    content = nc_qmp_parser_feed(p, data + at, MIN(piece, size - at), &error) && drain(p, seen);
  }
  g_string_append(seen, content ? "more" : "bad");
  return g_strdup(seen->str);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2 || size > 65536)
    return 0;
  size_t piece = data[0] ? data[0] : 1;
  g_autofree char *whole = run(data + 1, size - 1, size - 1);
  g_autofree char *pieces = run(data + 1, size - 1, piece);
  must(strcmp(whole, pieces) == 0);
  return 0;
}
