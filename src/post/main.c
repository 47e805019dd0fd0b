/* SPDX-License-Identifier: Apache-2.0 */
/* novacron-post: makes HTTP POSTs for novacrond, one at a time, in a sandbox; keeps nothing. */
#include "base/log.h"
#include "base/msg.h"
#include "mover/sandbox_options.h"
#include "post/seal.h"

#include <curl/curl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NC_POST_CONNECT_MS 5000L
#define NC_POST_TOTAL_MS 15000L

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CURL, curl_easy_cleanup)

static const char nc_post_purpose[] = "Sends alerts to a webhook. novacrond starts it, with a socket as descriptor 3; there is\n"
                                      "nothing to gain from starting it by hand.\n";

/* What the other side has to say is of no interest. */
static size_t
nc_post_on_data(char *data, size_t size, size_t n, void *user)
{
  return size * n;
}

static struct curl_slist *
nc_post_headers(json_t *order)
{
  struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* it is small: no asking first */
  json_t *header;
  size_t i;

  json_array_foreach(json_object_get(order, "headers"), i, header) if (json_is_string(header)) list = curl_slist_append(list, json_string_value(header));
  return list;
}

/* ${order} into ${curl}; false: something of it is not known to this libcurl. */
static bool
nc_post_set(CURL *curl, json_t *order, struct curl_slist *headers, char *problem)
{
  const char *ca = nc_json_string_or(order, "ca", NULL);
  struct curl_blob blob = { .data = (void *)ca, .len = ca ? strlen(ca) : 0, .flags = CURL_BLOB_NOCOPY };

  return curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_URL, nc_json_string_or(order, "url", "")) == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_USERAGENT, "novacron/" NC_VERSION) == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, NC_POST_CONNECT_MS) == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, NC_POST_TOTAL_MS) == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
         (!ca || (curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &blob) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_CAPATH, NULL) == CURLE_OK)) &&
         curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, nc_post_on_data) == CURLE_OK &&
         curl_easy_setopt(curl, CURLOPT_POSTFIELDS, nc_json_string_or(order, "body", "")) == CURLE_OK;
}

/* The answer to ${order}. New reference. */
static json_t *
nc_post_do(json_t *order)
{
  g_autoptr(CURL) curl = curl_easy_init();
  struct curl_slist *headers = nc_post_headers(order);
  char problem[CURL_ERROR_SIZE] = "";
  long status = 0;
  CURLcode code = curl && nc_post_set(curl, order, headers, problem) ? curl_easy_perform(curl) : CURLE_FAILED_INIT;

  if (code == CURLE_OK)
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  curl_slist_free_all(headers);
  if (code == CURLE_OK && status > 0)
    return json_pack("{s:I}", "status", (json_int_t)status);
  g_autofree char *text = g_utf8_make_valid(problem[0] ? problem : curl_easy_strerror(code), -1);
  return json_pack("{s:s}", "error", text);
}

static bool
nc_post_run(const NcSandboxOptions *options, GError **error)
{
  g_autoptr(GError) closed = NULL;

  signal(SIGPIPE, SIG_IGN);
  if (!nc_sandbox_isolate(error))
    return false;
  json_object_seed(0); /* jansson would open /dev/urandom at the first object */
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
    return nc_fail(error, NC_ERROR_INTERNAL, "libcurl does not start");
  if (!nc_sandbox_demote(options->uid, options->gid, !options->no_sandbox, error) ||
      (!options->no_sandbox && !NC_SANDBOX_SANITIZED && !nc_post_seal(error)))
    return false;
  for (;;) {
    nc_autojson json_t *order = nc_msg_recv(NC_SANDBOX_LAST_FD, -1, NULL, &closed);
    if (!order)
      return true; /* novacrond has closed it */
    nc_autojson json_t *answer = nc_post_do(order);
    if (!nc_msg_send(NC_SANDBOX_LAST_FD, answer, -1, error))
      return false;
  }
}

int
main(int argc, char **argv)
{
  NcSandboxOptions options;
  g_autoptr(GError) error = NULL;

  nc_sandbox_options_parse("novacron-post", nc_post_purpose, argc, argv, &options);
  nc_log_init("novacron-post", NC_LOG_TEXT, NC_LOG_INFO);
  if (nc_post_run(&options, &error))
    return EXIT_SUCCESS;
  nc_log(NC_LOG_ERR, "post", "%s", error->message);
  return EXIT_FAILURE;
}
