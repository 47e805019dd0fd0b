/* SPDX-License-Identifier: Apache-2.0 */
/* The table of error kinds, and their JSON form. */
#include "base/error.h"

static const struct {
  const char *name;
  int http_status;
  int exit_status;
} nc_error_table[] = {
  [NC_ERROR_INTERNAL] = { "internal", 500, 1 },
  [NC_ERROR_INVALID] = { "invalid", 400, 2 },
  [NC_ERROR_UNAUTHENTICATED] = { "unauthenticated", 401, 3 },
  [NC_ERROR_FORBIDDEN] = { "forbidden", 403, 3 },
  [NC_ERROR_NOT_FOUND] = { "not_found", 404, 4 },
  [NC_ERROR_EXISTS] = { "exists", 409, 5 },
  [NC_ERROR_CONFLICT] = { "conflict", 409, 5 },
  [NC_ERROR_UNSUITABLE] = { "unsuitable", 422, 6 },
  [NC_ERROR_RESOURCE] = { "resource", 503, 7 },
  [NC_ERROR_UNREACHABLE] = { "unreachable", 502, 8 },
  [NC_ERROR_TIMEOUT] = { "timeout", 504, 8 },
  [NC_ERROR_CANCELLED] = { "cancelled", 409, 9 },
  [NC_ERROR_TRUST] = { "trust", 502, 3 },
  [NC_ERROR_PROTOCOL] = { "protocol", 502, 10 },
  [NC_ERROR_CORRUPT] = { "corrupt", 500, 10 },
  [NC_ERROR_QEMU] = { "qemu", 500, 10 },
  [NC_ERROR_IO] = { "io", 500, 10 },
  [NC_ERROR_ATTENTION] = { "needs_attention", 409, 11 },
  [NC_ERROR_CONVERGENCE] = { "convergence", 503, 12 },
  [NC_ERROR_UNAVAILABLE] = { "unavailable", 503, 8 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_error_table) == NC_ERROR_COUNT);

G_DEFINE_QUARK(nc-error, nc_error)

static int
nc_error_index(int code)
{
  return code >= 0 && code < NC_ERROR_COUNT ? code : NC_ERROR_INTERNAL;
}

const char *
nc_error_code_name(int code)
{
  return nc_error_table[nc_error_index(code)].name;
}

int
nc_error_code_from_name(const char *name)
{
  for (int i = 0; name && i < NC_ERROR_COUNT; i++)
    if (g_str_equal(nc_error_table[i].name, name))
      return i;
  return NC_ERROR_INTERNAL;
}

int
nc_error_http_status(int code)
{
  return nc_error_table[nc_error_index(code)].http_status;
}

int
nc_error_exit_status(int code)
{
  return nc_error_table[nc_error_index(code)].exit_status;
}

json_t *
nc_error_to_json(const GError *error)
{
  int code = error->domain == NC_ERROR ? error->code : NC_ERROR_INTERNAL;
  g_autofree char *text = g_utf8_make_valid(error->message, -1);
  return json_pack("{s:s, s:s}", "code", nc_error_code_name(code), "message", text);
}

void
nc_error_set_json(GError **error, json_t *object)
{
  const char *name = json_string_value(json_object_get(object, "code"));
  const char *message = json_string_value(json_object_get(object, "message"));

  if (!name || !message)
    g_set_error(error, NC_ERROR, NC_ERROR_PROTOCOL, "the other side reported a failure without saying which");
  else
    g_set_error_literal(error, NC_ERROR, nc_error_code_from_name(name), message);
}

bool
nc_fail_errno(GError **error, int code, int errnum, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  g_set_error(error, NC_ERROR, code, "%s: %s", text, g_strerror(errnum));
  return false;
}

bool
nc_fail(GError **error, int code, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  g_set_error_literal(error, NC_ERROR, code, text);
  return false;
}
