/* SPDX-License-Identifier: Apache-2.0 */
/* Building answers and giving them to libmicrohttpd. */
#include "gate/answer.h"
#include "base/ident.h"
#include "base/msg.h"
#include "gate/etag.h"

#include <string.h>

void
nc_answer_clear(NcAnswer *answer)
{
  json_decref(answer->body);
  *answer = (NcAnswer){ 0 };
}

void
nc_answer_set_error(NcAnswer *answer, const GError *error, const char *instance)
{
  nc_answer_clear(answer);
  answer->body = nc_problem_from_error(error, instance, &answer->status);
  answer->problem = true;
}

void
nc_answer_set_http(NcAnswer *answer, NcHttpProblem problem, const char *detail, const char *instance)
{
  nc_answer_clear(answer);
  answer->body = nc_problem_from_http(problem, detail, instance, &answer->status);
  answer->problem = true;
  answer->close = problem == NC_HTTP_BAD_REQUEST || problem == NC_HTTP_HEADERS;
}

/* {"items":[...],"next":null}; NULL if ${result} is no list. */
static json_t *
nc_answer_wrap_list(json_t *result, size_t limit)
{
  json_t *next = json_object_get(result, "next");
  if (json_is_array(json_object_get(result, "items")) && (json_is_string(next) || json_is_null(next)))
    return json_incref(result); /* a page: novacrond knows where it ends */
  if (!json_is_array(result))
    return NULL;
  json_t *items = json_array();
  for (size_t i = 0; i < json_array_size(result) && (limit == 0 || i < limit); i++)
    json_array_append(items, json_array_get(result, i));
  return json_pack("{s:o, s:n}", "items", items, "next");
}

static void
nc_answer_set_location(NcAnswer *answer, const NcRoute *route)
{
  const char *name = route->location ? nc_json_string_or(answer->body, route->location_key, "") : "";
  const char *hole = name[0] && nc_name_is_valid(name) ? strstr(route->location, "%s") : NULL;

  if (hole)
    g_snprintf(answer->location, sizeof answer->location, "%.*s%s", (int)(hole - route->location), route->location,
               name);
}

void
nc_answer_set_result(NcAnswer *answer, const NcRoute *route, json_t *result, size_t limit, const char *instance)
{
  nc_answer_clear(answer);
  answer->body = route->list ? nc_answer_wrap_list(result, limit) : json_is_object(result) ? json_incref(result) : NULL;
  answer->status = route->status;
  answer->plain = route->text;
  if (!answer->body) {
    g_autoptr(GError) error =
        g_error_new(NC_ERROR, NC_ERROR_PROTOCOL, "novacrond answered %s with something else than %s", route->op,
                    route->list ? "a list" : "an object");
    nc_answer_set_error(answer, error, instance);
    return;
  }
  nc_answer_set_location(answer, route);
}

void
nc_answer_set_asset(NcAnswer *answer, const NcAsset *asset, const char *if_none_match)
{
  nc_answer_clear(answer);
  answer->asset = asset;
  answer->status = nc_etag_is_known(asset->etag, if_none_match) ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK;
}

/* The answer's JSON as it is sent. If it is tagged, ${ret_etag} gets the tag, and a client that has it gets only that. */
static struct MHD_Response *
nc_answer_make_json(NcAnswer *answer, char ret_etag[NC_ETAG_BYTES])
{
  g_autofree char *json = json_dumps(answer->body, JSON_COMPACT | JSON_REAL_PRECISION(10));
  if (!json)
    return NULL;
  g_autofree char *text = g_strconcat(json, "\n", NULL);
  size_t length = strlen(text);
  if (answer->tagged) {
    nc_etag_of(text, length, ret_etag);
    if (nc_etag_is_known(ret_etag, answer->if_none_match)) {
      answer->status = MHD_HTTP_NOT_MODIFIED;
      length = 0;
    }
  }
  return MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_COPY);
}

static struct MHD_Response *
nc_answer_make_response(NcAnswer *answer, char ret_etag[NC_ETAG_BYTES])
{
  if (answer->asset)
    return MHD_create_response_from_buffer(answer->status == MHD_HTTP_OK ? answer->asset->data_bytes : 0, (void *)answer->asset->data,
                                           MHD_RESPMEM_PERSISTENT);
  if (!answer->body)
    return MHD_create_response_from_buffer(answer->text_bytes, (void *)answer->text, MHD_RESPMEM_PERSISTENT);
  if (answer->plain) {
    const char *plain = nc_json_string_or(answer->body, "text", "");
    return MHD_create_response_from_buffer(strlen(plain), (void *)plain, MHD_RESPMEM_MUST_COPY);
  }
  return nc_answer_make_json(answer, ret_etag);
}

static const char *
nc_answer_media_type(const NcAnswer *answer)
{
  if (answer->problem)
    return NC_PROBLEM_MEDIA_TYPE;
  if (answer->asset)
    return answer->asset->type;
  return answer->plain ? nc_json_string_or(answer->body, "type", "text/plain") : "application/json";
}

/*
 * What a page of ours may do: load its own files, ask its own node. Whatever an injected text could become, it can't
 * reach anybody else, nor can the page be framed for somebody to click through.
 */
static void
nc_answer_add_asset_headers(struct MHD_Response *response, const NcAsset *asset)
{
  MHD_add_response_header(response, "Cache-Control", "no-cache"); /* kept, and asked about each time */
  MHD_add_response_header(response, "ETag", asset->etag);
  MHD_add_response_header(response, "Content-Security-Policy",
                          "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
                          "form-action 'none'; frame-ancestors 'none'");
  MHD_add_response_header(response, "Referrer-Policy", "same-origin"); /* with no-referrer our own POSTs might come without an Origin */
  MHD_add_response_header(response, "Cross-Origin-Opener-Policy", "same-origin");
  MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
}

enum MHD_Result
nc_answer_queue(NcAnswer *answer, struct MHD_Connection *connection, const char *request_id)
{
  char etag[NC_ETAG_BYTES] = "";
  struct MHD_Response *response = nc_answer_make_response(answer, etag);

  if (!response)
    return MHD_NO;
  MHD_add_response_header(response, "Content-Type", nc_answer_media_type(answer));
  if (answer->asset)
    nc_answer_add_asset_headers(response, answer->asset);
  else /* what may be kept is asked about each time, and by nobody else's browser */
    MHD_add_response_header(response, "Cache-Control", etag[0] ? "private, no-cache" : "no-store");
  if (etag[0])
    MHD_add_response_header(response, "ETag", etag);
  MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
  MHD_add_response_header(response, "X-Request-Id", request_id);
  if (answer->allow[0])
    MHD_add_response_header(response, "Allow", answer->allow);
  if (answer->location[0])
    MHD_add_response_header(response, "Location", answer->location);
  if (answer->status == 429 || answer->status == 503)
    MHD_add_response_header(response, "Retry-After", "1");
  if (answer->status == 426) {
    MHD_add_response_header(response, "Upgrade", "websocket");
    MHD_add_response_header(response, "Sec-WebSocket-Version", "13");
  }
  if (answer->status == 401) /* RFC 9110 wants a scheme; certificates have none registered */
    MHD_add_response_header(response, "WWW-Authenticate",
                            answer->authenticate ? answer->authenticate : "ClientCertificate realm=\"novacron\"");
  if (answer->close)
    MHD_add_response_header(response, "Connection", "close");
  enum MHD_Result queued = MHD_queue_response(connection, answer->status, response);
  MHD_destroy_response(response);
  return queued;
}
