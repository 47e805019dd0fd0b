/* SPDX-License-Identifier: Apache-2.0 */
/* The rules by which a request is proper HTTP for us. */
#include "gate/http_check.h"
#include "gate/gate_limits.h"
#include "gate/schema.h"

#include <string.h>

static void
nc_http_head_add_length(NcHttpHead *head, const char *value)
{
  head->lengths++;
  if (strspn(value, "0123456789") != strlen(value) || value[0] == '\0' || strlen(value) > 18)
    head->bad_length = true;
  else
    head->content_length = g_ascii_strtoull(value, NULL, 10);
}

static void
nc_http_head_add_coding(NcHttpHead *head, const char *value)
{
  head->codings++;
  if (g_ascii_strcasecmp(value, "chunked") == 0)
    head->chunked = true;
  else
    head->bad_coding = true;
}

/* "application/json", perhaps with parameters. */
static bool
nc_media_type_is_json(const char *value)
{
  size_t length = strlen("application/json");
  return g_ascii_strncasecmp(value, "application/json", length) == 0 && strchr("; \t", value[length]);
}

void
nc_http_head_add(NcHttpHead *head, const char *name, const char *value)
{
  if (!value)
    value = "";
  head->headers++;
  head->shown_bytes += strlen(name) + strlen(value) + strlen(": \r\n");
  for (const char *c = name; *c; c++) /* "Content-Length : 5" is another header to some and the same to others */
    head->bad_value |= !g_ascii_isalnum(*c) && !strchr("!#$%&'*+-.^_`|~", *c);
  for (const char *c = value; *c; c++)
    head->bad_value |= ((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f;
  if (g_ascii_strcasecmp(name, "Host") == 0) {
    head->hosts++;
    head->host = value;
  } else if (g_ascii_strcasecmp(name, "Origin") == 0) {
    head->origins++;
    head->origin = value;
  } else if (g_ascii_strcasecmp(name, "Authorization") == 0) {
    head->authorizations++;
    head->authorization = value;
  } else if (g_ascii_strcasecmp(name, "Content-Length") == 0) {
    nc_http_head_add_length(head, value);
  } else if (g_ascii_strcasecmp(name, "Transfer-Encoding") == 0) {
    nc_http_head_add_coding(head, value);
  } else if (g_ascii_strcasecmp(name, "Content-Type") == 0) {
    head->content_types++;
    head->json = nc_media_type_is_json(value);
  } else if (g_ascii_strcasecmp(name, NC_KEY_HEADER) == 0) {
    head->keys++;
    head->key = value;
  }
}

static const char *
nc_http_head_find_fault(const NcHttpHead *head)
{
  size_t line = strlen(head->method) + head->uri_bytes + strlen(head->version) + strlen("  \r\n");

  if (!g_str_equal(head->version, "HTTP/1.1") && !g_str_equal(head->version, "HTTP/1.0"))
    return "only HTTP/1.1 and HTTP/1.0 are spoken here";
  if (head->hosts > 1 || (head->hosts == 0 && g_str_equal(head->version, "HTTP/1.1")))
    return "there must be exactly one Host header";
  if (head->lengths > 1 || head->bad_length)
    return "there must be at most one Content-Length, a number";
  if (head->codings > 1 || head->bad_coding)
    return "the only Transfer-Encoding known here is chunked";
  if (head->codings && head->lengths)
    return "Content-Length and Transfer-Encoding contradict each other";
  if (head->codings && !g_str_equal(head->version, "HTTP/1.1"))
    return "HTTP/1.0 has no Transfer-Encoding";
  if (head->content_types > 1)
    return "there must be at most one Content-Type";
  if (head->origins > 1)
    return "there must be at most one Origin";
  if (head->authorizations > 1)
    return "there must be at most one Authorization";
  if (head->bad_value)
    return "a header holds characters that do not belong there";
  /* More bytes came than are shown to us: something hides behind a NUL, a fold or padding. */
  if (head->raw_bytes > line + head->shown_bytes + strlen("\r\n"))
    return "a header holds NUL bytes, folded lines or needless blanks";
  return NULL;
}

bool
nc_http_head_check(const NcHttpHead *head, NcHttpProblem *ret_problem, const char **ret_detail)
{
  const char *fault = nc_http_head_find_fault(head);

  *ret_problem = NC_HTTP_BAD_REQUEST;
  *ret_detail = fault;
  if (fault)
    return false;
  if (head->headers > NC_GATE_HEADERS || head->raw_bytes > NC_GATE_HEADER_BYTES ||
      head->shown_bytes > NC_GATE_HEADER_BYTES) {
    *ret_problem = NC_HTTP_HEADERS;
    *ret_detail = "at most 64 headers of 16 KiB together are read";
    return false;
  }
  return true;
}

static bool
nc_path_has_odd_segment(const char *path)
{
  for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
    const char *segment = slash + 1;
    size_t length = strcspn(segment, "/");
    if (length == 0 && segment[0] == '/')
      return true;
    if ((length == 1 && segment[0] == '.') || (length == 2 && segment[0] == '.' && segment[1] == '.'))
      return true;
  }
  return false;
}

bool
nc_http_path_check(const char *path, NcHttpProblem *ret_problem, const char **ret_detail)
{
  *ret_problem = NC_HTTP_BAD_REQUEST;
  if (strlen(path) > NC_GATE_PATH_BYTES) {
    *ret_problem = NC_HTTP_URI_TOO_LONG;
    *ret_detail = "a path has at most 512 bytes";
    return false;
  }
  for (const char *c = path; *c; c++) {
    if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f || *c == '\\') {
      *ret_detail = "the path holds bytes that are no part of a path";
      return false;
    }
  }
  if (path[0] != '/' || strchr(path, '%') || nc_path_has_odd_segment(path)) {
    *ret_detail = "paths are absolute, without %-escapes, empty segments, \".\" or \"..\": no name needs them";
    return false;
  }
  return true;
}
