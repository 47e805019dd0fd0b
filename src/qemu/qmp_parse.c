/* SPDX-License-Identifier: Apache-2.0 */
/* Kept apart from the socket, so that it can be fuzzed. */
#include "qemu/qmp_parse.h"
#include "qemu/qmp.h"

#include <string.h>

struct NcQmpParser {
  GByteArray *pending;
  guint scanned; /* of pending: known to hold no line's end */
};

NcQmpParser *
nc_qmp_parser_new(void)
{
  NcQmpParser *p = g_new0(NcQmpParser, 1);
  p->pending = g_byte_array_new();
  return p;
}

void
nc_qmp_parser_free(NcQmpParser *p)
{
  if (!p)
    return;
  g_byte_array_unref(p->pending);
  g_free(p);
}

bool
nc_qmp_parser_feed(NcQmpParser *p, const void *data, size_t length_bytes, GError **error)
{
  if (length_bytes > NC_QMP_LINE_MAX - MIN(p->pending->len, NC_QMP_LINE_MAX))
    return nc_fail(error, NC_ERROR_PROTOCOL, "QEMU sent a QMP line of more than %u bytes", NC_QMP_LINE_MAX);
  g_byte_array_append(p->pending, data, (guint)length_bytes);
  return true;
}

static bool
nc_line_is_blank(const uint8_t *line, size_t length)
{
  for (size_t i = 0; i < length; i++)
    if (!g_ascii_isspace(line[i]))
      return false;
  return true;
}

json_t *
nc_qmp_parser_next(NcQmpParser *p, GError **error)
{
  for (;;) {
    guint left = p->pending->len - p->scanned;
    const uint8_t *end = left ? memchr(p->pending->data + p->scanned, '\n', left) : NULL;
    if (!end) {
      p->scanned = p->pending->len;
      return NULL;
    }
    guint length = (guint)(end - p->pending->data);
    json_t *object = NULL;
    bool blank = nc_line_is_blank(p->pending->data, length);
    if (!blank)
      object = nc_msg_decode(p->pending->data, length, error);
    g_byte_array_remove_range(p->pending, 0, length + 1);
    p->scanned = 0;
    if (!blank)
      return object;
  }
}
