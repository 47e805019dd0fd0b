/* SPDX-License-Identifier: Apache-2.0 */
/* The wording of problems: a title per code. */
#include "gate/problem.h"

static const struct {
  unsigned status;
  const char *code;
  const char *title;
} nc_http_problems[] = {
  [NC_HTTP_BAD_REQUEST] = { 400, "bad_request", "The request is not proper HTTP" },
  [NC_HTTP_ORIGIN] = { 403, "forbidden", "Not allowed" },
  [NC_HTTP_NO_PATH] = { 404, "not_found", "Not found" },
  [NC_HTTP_NO_METHOD] = { 405, "method_not_allowed", "This resource does not have that method" },
  [NC_HTTP_TOO_LARGE] = { 413, "too_large", "The body is too large" },
  [NC_HTTP_URI_TOO_LONG] = { 414, "uri_too_long", "The path is too long" },
  [NC_HTTP_MEDIA_TYPE] = { 415, "unsupported_media_type", "The body must be JSON" },
  [NC_HTTP_UPGRADE] = { 426, "upgrade_required", "This is a WebSocket" },
  [NC_HTTP_TOO_MANY] = { 429, "too_many_requests", "Too many requests" },
  [NC_HTTP_HEADERS] = { 431, "headers_too_large", "The headers are too large" },
  [NC_HTTP_NOT_IMPLEMENTED] = { 501, "not_implemented", "No resource has that method" },
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_http_problems) == NC_HTTP_PROBLEM_COUNT);

static const char *const nc_error_titles[] = {
  [NC_ERROR_INTERNAL] = "Internal error",
  [NC_ERROR_INVALID] = "The request is not valid",
  [NC_ERROR_UNAUTHENTICATED] = "Who are you?",
  [NC_ERROR_FORBIDDEN] = "Not allowed",
  [NC_ERROR_NOT_FOUND] = "Not found",
  [NC_ERROR_EXISTS] = "The name is taken",
  [NC_ERROR_CONFLICT] = "Not possible in this state",
  [NC_ERROR_UNSUITABLE] = "The destination can't run this machine",
  [NC_ERROR_RESOURCE] = "Not enough resources",
  [NC_ERROR_UNREACHABLE] = "The other side does not answer",
  [NC_ERROR_TIMEOUT] = "It took too long",
  [NC_ERROR_CANCELLED] = "Cancelled",
  [NC_ERROR_TRUST] = "Refused: certificate, roster or token",
  [NC_ERROR_PROTOCOL] = "The other side does not make sense",
  [NC_ERROR_CORRUPT] = "A checksum does not match",
  [NC_ERROR_QEMU] = "QEMU failed",
  [NC_ERROR_IO] = "Reading or writing failed",
  [NC_ERROR_ATTENTION] = "A human has to decide",
  [NC_ERROR_CONVERGENCE] = "The machine dirties its memory faster than it can be sent",
  [NC_ERROR_UNAVAILABLE] = "Nobody can do it at the moment",
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_error_titles) == NC_ERROR_COUNT);

static json_t *
nc_problem_new(unsigned status, const char *code, const char *title, const char *detail, const char *instance)
{
  g_autofree char *type = g_strconcat("urn:novacron:problem:", code, NULL);
  g_autofree char *text = g_utf8_make_valid(detail, -1); /* json_pack refuses anything else */

  return json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "type", type, "title", title, "status", (int)status, "detail",
                   text, "code", code, "instance", instance);
}

json_t *
nc_problem_from_error(const GError *error, const char *instance, unsigned *ret_status)
{
  int code =
      error->domain == NC_ERROR && error->code >= 0 && error->code < NC_ERROR_COUNT ? error->code : NC_ERROR_INTERNAL;

  *ret_status = (unsigned)nc_error_http_status(code);
  return nc_problem_new(*ret_status, nc_error_code_name(code), nc_error_titles[code], error->message, instance);
}

json_t *
nc_problem_from_http(NcHttpProblem problem, const char *detail, const char *instance, unsigned *ret_status)
{
  *ret_status = nc_http_problems[problem].status;
  return nc_problem_new(*ret_status, nc_http_problems[problem].code, nc_http_problems[problem].title, detail, instance);
}
