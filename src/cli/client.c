/* SPDX-License-Identifier: Apache-2.0 */
/* Requests by libcurl, and what its failures mean to people. */
#include "cli/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>

#define NC_CLIENT_ANSWER_MAX_BYTES (8u << 20) /* twice what novacrond can send */
#define NC_CLIENT_CONNECT_S 10L
#define NC_CLIENT_TOTAL_S 200L /* stopping a guest may take 180 s at the gate */
#define NC_CLIENT_PAGE 500u /* rows */
#define NC_CLIENT_TRIES 5
#define NC_CLIENT_AGAIN_US 200000u /* before the second try; twice as long before each further one */
/* While no controller leads, which may be ten seconds. */
#define NC_CLIENT_LEADER_TRIES 15
#define NC_CLIENT_LEADER_US 1000000u

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CURL, curl_easy_cleanup)

/* How far a request has come. */
typedef enum { NC_FATE_ANSWERED, NC_FATE_UNSENT /* there was no connection */, NC_FATE_LOST } NcFate;

typedef struct {
  GByteArray *body;
  char problem[CURL_ERROR_SIZE];
  long status;
  NcFate fate;
} NcAnswer;

bool
nc_client_init(GError **error)
{
  CURLcode failed = curl_global_init(CURL_GLOBAL_DEFAULT);
  return failed == CURLE_OK ||
         nc_fail(error, NC_ERROR_INTERNAL, "libcurl does not start: %s", curl_easy_strerror(failed));
}

static size_t
nc_client_on_data(char *data, size_t size, size_t n, void *user)
{
  NcAnswer *answer = user;

  if (answer->body->len + size * n > NC_CLIENT_ANSWER_MAX_BYTES)
    return 0;
  g_byte_array_append(answer->body, (const guint8 *)data, (guint)(size * n));
  return size * n;
}

static bool
nc_client_fail_socket(const NcCli *cli, long os_error, GError **error)
{
  if (os_error == EACCES || os_error == EPERM)
    return nc_fail(error, NC_ERROR_FORBIDDEN,
                   "you may not use NovaCron's socket %s: be root or join its group (ls -l %s)", cli->socket,
                   cli->socket);
  return nc_fail(
      error, NC_ERROR_UNREACHABLE,
      "can't reach NovaCron at %s: is novacrond (and novacron-gate) running? (systemctl status novacron-gate)",
      cli->socket);
}

static bool
nc_client_fail(const NcCli *cli, CURL *curl, CURLcode failed, const NcAnswer *answer, GError **error)
{
  const char *text = answer->problem[0] ? answer->problem : curl_easy_strerror(failed);
  const char *where = cli->url ? cli->url : cli->socket;
  long os_error = 0;

  curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
  switch (failed) {
  case CURLE_COULDNT_CONNECT:
  case CURLE_COULDNT_RESOLVE_HOST:
    if (!cli->url)
      return nc_client_fail_socket(cli, os_error, error);
    return nc_fail(error, NC_ERROR_UNREACHABLE, "can't reach NovaCron at %s: %s", where, text);
  case CURLE_OPERATION_TIMEDOUT:
    return nc_fail(error, NC_ERROR_TIMEOUT,
                   "NovaCron at %s did not answer in time: look at the result before repeating", where);
  case CURLE_PEER_FAILED_VERIFICATION:
    return nc_fail(error, NC_ERROR_TRUST, "%s is not the NovaCron you trust: %s (is --cacert the cluster's CA?)", where,
                   text);
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CONNECT_ERROR:
    return nc_fail(error, NC_ERROR_TRUST, "no trusted connection to %s: %s", where, text);
  case CURLE_ABORTED_BY_CALLBACK:
    return nc_fail(error, NC_ERROR_CANCELLED, "not asked to the end");
  case CURLE_WRITE_ERROR:
    return nc_fail(error, NC_ERROR_PROTOCOL, "the answer of %s is too large", where);
  default:
    return nc_fail(error, NC_ERROR_UNREACHABLE, "the connection to NovaCron at %s broke: %s", where, text);
  }
}

/* Called by libcurl at least once a second; not 0 ends the request. */
static int
nc_client_is_stopped(void *stop, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
  return g_atomic_int_get((const int *)stop);
}

static void
nc_client_setup(CURL *curl, const NcCli *cli, const char *method, const char *url, NcAnswer *answer)
{
  curl_easy_setopt(curl, CURLOPT_URL, url);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, cli->url ? "https" : "http");
  curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* the environment's proxy has no business here */
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, NC_CLIENT_CONNECT_S);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, NC_CLIENT_TOTAL_S);
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, answer->problem);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, nc_client_on_data);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "novacron/" NC_VERSION);
  if (cli->stop) {
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, nc_client_is_stopped);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, (void *)cli->stop);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  }
  if (!cli->url) {
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, cli->socket);
    return;
  }
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
  if (cli->cacert)
    curl_easy_setopt(curl, CURLOPT_CAINFO, cli->cacert);
  if (cli->cert)
    curl_easy_setopt(curl, CURLOPT_SSLCERT, cli->cert);
  if (cli->key)
    curl_easy_setopt(curl, CURLOPT_SSLKEY, cli->key);
}

static struct curl_slist *
nc_client_headers(const NcCli *cli, const char *body, const char *key)
{
  g_autofree char *line = key ? g_strconcat("Idempotency-Key: ", key, NULL) : NULL;
  g_autofree char *token = cli->token ? g_strconcat("Authorization: Bearer ", cli->token, NULL) : NULL;
  struct curl_slist *headers = line ? curl_slist_append(NULL, line) : NULL;

  if (token)
    headers = curl_slist_append(headers, token);
  if (!body)
    return headers;
  headers = curl_slist_append(headers, "Content-Type: application/json");
  return curl_slist_append(headers, "Expect:");
}

/* ${body}, ${key}: NULL for none. */
static bool
nc_client_perform(const NcCli *cli, const char *method, const char *url, const char *body, const char *key,
                  NcAnswer *answer, GError **error)
{
  g_autoptr(CURL) curl = curl_easy_init();
  struct curl_slist *headers = nc_client_headers(cli, body, key);

  if (!curl) {
    curl_slist_free_all(headers);
    return nc_fail(error, NC_ERROR_INTERNAL, "libcurl does not start");
  }
  nc_client_setup(curl, cli, method, url, answer);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  if (body)
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
  CURLcode failed = curl_easy_perform(curl);
  curl_slist_free_all(headers);
  answer->fate = failed == CURLE_OK                                                        ? NC_FATE_ANSWERED
                 : failed == CURLE_COULDNT_CONNECT || failed == CURLE_COULDNT_RESOLVE_HOST ? NC_FATE_UNSENT
                                                                                           : NC_FATE_LOST;
  if (failed != CURLE_OK)
    return nc_client_fail(cli, curl, failed, answer, error);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);
  return true;
}

/* Problems of HTTP itself have codes of their own; to the caller they are one of ours. */
static int
nc_client_error_code(const char *code, long status)
{
  int known = nc_error_code_from_name(code);

  if (known != NC_ERROR_INTERNAL || status >= 500)
    return known;
  return status == 404 ? NC_ERROR_NOT_FOUND : status == 429 ? NC_ERROR_RESOURCE : NC_ERROR_INVALID;
}

static json_t *
nc_client_read_answer(const NcCli *cli, const NcAnswer *answer, GError **error)
{
  const char *where = cli->url ? cli->url : cli->socket;
  json_t *object = json_loadb((const char *)answer->body->data, answer->body->len, JSON_REJECT_DUPLICATES, NULL);

  if (!json_is_object(object)) {
    json_decref(object);
    nc_fail(error, NC_ERROR_PROTOCOL, "what answers at %s (HTTP status %ld) is not NovaCron's API", where,
            answer->status);
    return NULL;
  }
  if (answer->status >= 200 && answer->status < 300)
    return object;
  int code = nc_client_error_code(nc_json_string_or(object, "code", ""), answer->status);
  nc_fail(error, code, "%s", nc_json_string_or(object, "detail", "NovaCron refused without saying why"));
  json_decref(object);
  return NULL;
}

static json_t *
nc_client_ask(const NcCli *cli, const char *method, const char *path, json_t *body, const char *key, NcFate *ret_fate,
              GError **error)
{
  g_autofree char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
  g_autofree char *url = g_strconcat(cli->url ? cli->url : "http://localhost", path, NULL);
  g_autoptr(GByteArray) data = g_byte_array_new();
  NcAnswer answer = { .body = data };
  bool ok = nc_client_perform(cli, method, url, text, key, &answer, error);

  *ret_fate = answer.fate;
  return ok ? nc_client_read_answer(cli, &answer, error) : NULL;
}

json_t *
nc_client_call(const NcCli *cli, const char *method, const char *path, json_t *body, GError **error)
{
  NcFate fate;
  return nc_client_ask(cli, method, path, body, NULL, &fate, error);
}

/* 32 digits that nobody else has. Caller frees. */
static char *
nc_client_new_key(GError **error)
{
  uint64_t random[2];

  if (getrandom(random, sizeof random, 0) == sizeof random)
    return g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x", random[0], random[1]);
  nc_fail(error, NC_ERROR_INTERNAL, "no random numbers");
  return NULL;
}

json_t *
nc_client_change(const NcCli *cli, const char *path, json_t *body, GError **error)
{
  g_autofree char *key = nc_client_new_key(error);
  bool was_lost = false;

  for (unsigned n = 1; key; n++) {
    g_autoptr(GError) problem = NULL;
    NcFate fate;
    json_t *answer = nc_client_ask(cli, "POST", path, body, key, &fate, &problem);
    if (answer)
      return answer;
    was_lost = was_lost || fate == NC_FATE_LOST;
    bool lacks_leader = problem->code == NC_ERROR_UNAVAILABLE;
    bool may_pass = lacks_leader || (problem->code == NC_ERROR_UNREACHABLE && (n > 1 || fate != NC_FATE_UNSENT));
    if (may_pass && n < (lacks_leader ? NC_CLIENT_LEADER_TRIES : NC_CLIENT_TRIES)) {
      g_usleep(lacks_leader ? NC_CLIENT_LEADER_US : NC_CLIENT_AGAIN_US << (n - 1));
      continue;
    }
    if (may_pass) /* if the gate has lost novacrond, it says itself what that means */
      g_prefix_error(&problem, "asked %u times%s: ", n,
                     was_lost ? ", and it is not known whether it was done (look before repeating)" : "");
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
  }
  return NULL;
}

json_t *
nc_client_callf(const NcCli *cli, const char *method, json_t *body, GError **error, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  g_autofree char *path = g_strdup_vprintf(format, args);
  va_end(args);
  return nc_client_call(cli, method, path, body, error);
}

/* --- lists --- */

/* Cursors go into URLs as they are. */
static bool
nc_client_check_cursor(const char *cursor, GError **error)
{
  static const char *const allowed = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:._-";

  return (cursor[0] && strspn(cursor, allowed) == strlen(cursor)) ||
         nc_fail(error, NC_ERROR_PROTOCOL, "NovaCron answered with a strange cursor, \"%s\"", cursor);
}

json_t *
nc_client_list(const NcCli *cli, const char *path, size_t most, GError **error)
{
  nc_autojson json_t *items = json_array(), *next = json_null();
  const char separator = strchr(path, '?') ? '&' : '?';

  do {
    size_t left = most > 0 ? MIN(most - json_array_size(items), NC_CLIENT_PAGE) : NC_CLIENT_PAGE;
    const char *cursor = json_string_value(next);
    if (cursor && !nc_client_check_cursor(cursor, error))
      return NULL;
    nc_autojson json_t *page = nc_client_callf(cli, "GET", NULL, error, "%s%climit=%zu%s%s", path, separator, left,
                                               cursor ? "&cursor=" : "", cursor ? cursor : "");
    if (!page)
      return NULL;
    size_t before = json_array_size(items);
    json_array_extend(items, json_object_get(page, "items"));
    json_t *more = json_object_get(page, "next");
    json_decref(next);
    next = json_is_string(more) && json_array_size(items) > before ? json_incref(more) : json_null();
  } while (json_is_string(next) && (most == 0 || json_array_size(items) < most));
  return json_pack("{s:O, s:O}", "items", items, "next", next);
}

/* --- a bare connection --- */

struct NcClientConnection {
  const NcCli *cli;
  CURL *curl;
  curl_socket_t socket;
  NcAnswer answer; /* its place for texts of errors */
};

NcClientConnection *
nc_client_connect(const NcCli *cli, GError **error)
{
  NcClientConnection *c = g_new0(NcClientConnection, 1);

  c->cli = cli;
  c->curl = curl_easy_init();
  if (!c->curl) {
    g_free(c);
    nc_fail(error, NC_ERROR_INTERNAL, "libcurl does not start");
    return NULL;
  }
  nc_client_setup(c->curl, cli, "GET", cli->url ? cli->url : "http://localhost", &c->answer);
  curl_easy_setopt(c->curl, CURLOPT_CONNECT_ONLY, 1L);
  curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 0L); /* it may last */
  CURLcode failed = curl_easy_perform(c->curl);
  if (failed == CURLE_OK)
    failed = curl_easy_getinfo(c->curl, CURLINFO_ACTIVESOCKET, &c->socket);
  if (failed == CURLE_OK)
    return c;
  nc_client_fail(cli, c->curl, failed, &c->answer, error);
  nc_client_disconnect(c);
  return NULL;
}

void
nc_client_disconnect(NcClientConnection *c)
{
  curl_easy_cleanup(c->curl);
  g_free(c);
}

bool
nc_client_send(NcClientConnection *c, const void *data, size_t length_bytes, GError **error)
{
  const uint8_t *at = data;

  while (length_bytes > 0) {
    size_t n = 0;
    CURLcode failed = curl_easy_send(c->curl, at, length_bytes, &n);
    struct pollfd p = { .fd = c->socket, .events = POLLOUT };
    if (failed == CURLE_AGAIN && poll(&p, 1, (int)(NC_CLIENT_CONNECT_S * 1000)) == 0)
      failed = CURLE_OPERATION_TIMEDOUT;
    if (failed != CURLE_OK && failed != CURLE_AGAIN)
      return nc_client_fail(c->cli, c->curl, failed, &c->answer, error);
    at += n;
    length_bytes -= n;
  }
  return true;
}

bool
nc_client_receive(NcClientConnection *c, void *data, size_t size, int wait_ms, size_t *ret_n, GError **error)
{
  struct pollfd p = { .fd = c->socket, .events = POLLIN };
  CURLcode failed = curl_easy_recv(c->curl, data, size, ret_n); /* TLS may hold what poll() does not see */

  if (failed == CURLE_AGAIN && poll(&p, 1, wait_ms) > 0)
    failed = curl_easy_recv(c->curl, data, size, ret_n);
  if (failed == CURLE_AGAIN) {
    *ret_n = 0;
    return true;
  }
  if (failed == CURLE_OK && *ret_n == 0)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "the gate closed the connection");
  return failed == CURLE_OK || nc_client_fail(c->cli, c->curl, failed, &c->answer, error);
}
