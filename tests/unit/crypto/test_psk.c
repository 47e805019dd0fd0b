/* SPDX-License-Identifier: Apache-2.0 */
/* Two movers and a key: who gets in, who does not, and what both sides are told. */
#include "support.h"
#include "base/io.h"
#include "crypto/digest.h"
#include "crypto/psk.h"

#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT_MS 5000

static const uint8_t good_key[NC_PSK_BYTES] = { 1, 2, 3 };
static const uint8_t other_key[NC_PSK_BYTES] = { 1, 2, 4 };

typedef struct {
  int fd;
  const uint8_t *key;
  const char *identity;
  int timeout_ms;
  NcTls *tls;
  GError *error;
} Side;

static gpointer
serve(gpointer data)
{
  Side *side = data;
  side->tls = nc_tls_psk_server(side->fd, side->key, side->identity, side->timeout_ms, &side->error);
  return NULL;
}

/* Handshakes both sides at once. The client's refusal by the server shows at the first read. */
static void
meet(Side *server, Side *client)
{
  int pair[2];

  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
  server->fd = pair[0];
  client->fd = pair[1];
  GThread *thread = g_thread_new("server", serve, server);
  client->tls = nc_tls_psk_client(client->fd, client->key, client->identity, client->timeout_ms, &client->error);
  g_thread_join(thread);
}

static void
part(Side *side)
{
  nc_tls_free(side->tls);
  g_clear_error(&side->error);
}

static void
echo(NcTls *from, NcTls *to)
{
  uint8_t got[5] = { 0 };
  g_autoptr(GError) error = NULL;

  g_assert_true(nc_tls_write_all(from, "hello", 5, LIMIT_MS, &error));
  g_assert_true(nc_tls_read_all(to, got, 5, LIMIT_MS, &error));
  g_assert_cmpmem(got, 5, "hello", 5);
}

static void
the_key_opens(void)
{
  Side server = { .key = good_key, .identity = "mig-1", .timeout_ms = LIMIT_MS }, client = server;
  g_autoptr(GError) error = NULL;
  uint8_t byte;

  meet(&server, &client);
  g_assert_no_error(server.error);
  g_assert_no_error(client.error);
  g_assert_cmpstr(nc_tls_cipher(client.tls), ==, "TLS_AES_256_GCM_SHA384");
  echo(client.tls, server.tls);
  echo(server.tls, client.tls);
  nc_tls_close_notify(client.tls);
  g_assert_cmpint(nc_tls_read(server.tls, &byte, 1, LIMIT_MS, &error), ==, 0);
  g_assert_no_error(error);
  part(&server);
  part(&client);
}

typedef struct {
  const char *name;
  Side server, client;
  const char *server_says, *client_says;
} Refusal;

static const Refusal refusal[] = {
  { "wrong_key", { .key = good_key, .identity = "mig-1" }, { .key = other_key, .identity = "mig-1" },
    "the peer holds another key", "the peer refused our key or its identity" },
  { "wrong_identity", { .key = good_key, .identity = "mig-1" }, { .key = good_key, .identity = "mig-2" },
    "another identity than mig-1", "the peer refused our key or its identity" },
  { "identity_is_a_prefix", { .key = good_key, .identity = "mig-1" }, { .key = good_key, .identity = "mig-11" },
    "another identity than mig-1", "the peer refused our key or its identity" },
};

static void
refuse(gconstpointer data)
{
  const Refusal *r = data;
  Side server = r->server, client = r->client;

  server.timeout_ms = client.timeout_ms = LIMIT_MS;
  meet(&server, &client);
  g_assert_null(server.tls);
  g_assert_null(client.tls);
  g_assert_error(server.error, NC_ERROR, NC_ERROR_TRUST);
  g_assert_error(client.error, NC_ERROR, NC_ERROR_TRUST);
  g_assert_nonnull(strstr(server.error->message, r->server_says));
  g_assert_nonnull(strstr(client.error->message, r->client_says));
  part(&server);
  part(&client);
}

static void
identity_must_have_a_length(void)
{
  int pair[2];
  g_autoptr(GError) error = NULL;

  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
  g_assert_null(nc_tls_psk_client(pair[0], good_key, "", 100, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  close(pair[1]);
}

static const struct {
  const char *name, *bytes;
  int code;
} stranger[] = {
  { "plain_text", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", NC_ERROR_PROTOCOL },
  { "binary", "\x7f" "ELF\x01\x02\x03 and so on, and so on", NC_ERROR_PROTOCOL },
  { "json", "{\"type\":\"hello\",\"node\":\"x\"}", NC_ERROR_PROTOCOL },
  { "truncated_hello", "\x16\x03\x01\x02", NC_ERROR_TIMEOUT },
  { "silence", "", NC_ERROR_TIMEOUT },
};

static void
strangers_get_nowhere(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(stranger); i++) {
    int pair[2];
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    g_assert_true(nc_write_all(pair[1], stranger[i].bytes, strlen(stranger[i].bytes), NULL));
    int64_t start = g_get_monotonic_time();
    g_assert_null(nc_tls_psk_server(pair[0], good_key, "mig-1", 300, &error));
    g_assert_error(error, NC_ERROR, stranger[i].code);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 3 * G_USEC_PER_SEC);
    close(pair[1]);
  }
}

static void
cut_in_the_handshake(void)
{
  int pair[2];
  g_autoptr(GError) error = NULL;

  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
  close(pair[1]);
  g_assert_null(nc_tls_psk_client(pair[0], good_key, "mig-1", 1000, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNREACHABLE);
}

static void
cut_is_not_an_orderly_end(void)
{
  Side server = { .key = good_key, .identity = "mig-1", .timeout_ms = LIMIT_MS }, client = server;
  g_autoptr(GError) error = NULL;
  uint8_t byte;

  meet(&server, &client);
  nc_tls_free(g_steal_pointer(&client.tls));
  g_assert_cmpint(nc_tls_read(server.tls, &byte, 1, LIMIT_MS, &error), ==, -1);
  g_assert_error(error, NC_ERROR, NC_ERROR_UNREACHABLE);
  part(&server);
}

static void
altered_record_is_found(void)
{
  Side server = { .key = good_key, .identity = "mig-1", .timeout_ms = LIMIT_MS }, client = server;
  g_autoptr(GError) error = NULL;
  const uint8_t forged[] = { 0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };
  uint8_t byte;

  meet(&server, &client);
  g_assert_true(nc_write_all(nc_tls_fd(client.tls), forged, sizeof forged, &error));
  g_assert_cmpint(nc_tls_read(server.tls, &byte, 1, LIMIT_MS, &error), ==, -1);
  g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
  part(&server);
  part(&client);
}

/* One thread, both directions full at once: as a mover drives it. */
static void
poll_loop_both_ways(void)
{
  Side server = { .key = good_key, .identity = "mig-1", .timeout_ms = LIMIT_MS }, client = server;
  enum { TOTAL = 8 << 20, CHUNK = 60000 };
  g_autofree uint8_t *out = g_malloc(CHUNK), *in = g_malloc(CHUNK);
  g_autoptr(NcSha256) sent = nc_sha256_new(), received = nc_sha256_new();
  size_t written = 0, read = 0;
  NcTls *ends[2];

  meet(&server, &client);
  ends[0] = client.tls;
  ends[1] = server.tls;
  nc_random_bytes(out, CHUNK);
  while (read < TOTAL) {
    g_autoptr(GError) error = NULL;
    size_t n = 0;
    NcTlsResult r = written < TOTAL ? nc_tls_try_write(ends[0], out + written % CHUNK, MIN(CHUNK - written % CHUNK, TOTAL - written), &n, &error)
                                    : NC_TLS_WANT_WRITE;
    g_assert_no_error(error);
    if (r == NC_TLS_DONE) {
      nc_sha256_update(sent, out + written % CHUNK, n);
      written += n;
      continue;
    }
    while ((r = nc_tls_try_read(ends[1], in, CHUNK, &n, &error)) == NC_TLS_DONE) {
      nc_sha256_update(received, in, n);
      read += n;
    }
    g_assert_no_error(error);
    g_assert_cmpint(r, ==, NC_TLS_WANT_READ);
  }
  uint8_t a[NC_SHA256_BYTES], b[NC_SHA256_BYTES];
  nc_sha256_snapshot(sent, a);
  nc_sha256_snapshot(received, b);
  g_assert_cmpmem(a, sizeof a, b, sizeof b);
  part(&server);
  part(&client);
}

static void
preload_twice(void)
{
  g_autoptr(GError) error = NULL;

  for (int i = 0; i < 2; i++) {
    bool ok = nc_tls_preload(&error);
    g_assert_no_error(error);
    g_assert_true(ok);
  }
}

/* --- as the mover does it: nothing can be opened any more --- */

static gpointer
meet_and_echo(gpointer unused)
{
  Side server = { .key = good_key, .identity = "mig-1", .timeout_ms = LIMIT_MS }, client = server;

  meet(&server, &client);
  if (server.tls && client.tls)
    echo(client.tls, server.tls);
  bool met = server.tls && client.tls;
  part(&server);
  part(&client);
  return GINT_TO_POINTER(met);
}

/* A refusal has texts to load, too. */
static bool
refuse_in_the_sandbox(void)
{
  Side server = { .key = good_key, .identity = "mig-1", .timeout_ms = LIMIT_MS }, client = server;

  client.key = other_key;
  meet(&server, &client);
  bool refused = !server.tls && !client.tls && server.error && client.error;
  part(&server);
  part(&client);
  return refused;
}

static bool
forbid_opening(void)
{
  static const int forbidden[] = { SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(stat), SCMP_SYS(newfstatat),
                                   SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(readlink) };
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  bool ok = filter != NULL;

  for (size_t i = 0; ok && i < G_N_ELEMENTS(forbidden); i++)
    ok = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, forbidden[i], 0) == 0;
  ok = ok && seccomp_load(filter) == 0;
  seccomp_release(filter);
  return ok;
}

static void
nothing_is_opened_after_preload(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  g_test_skip("a sanitizer opens files of its own");
  return;
#endif
  if (g_test_subprocess()) {
    g_autoptr(GError) error = NULL;
    g_assert_true(nc_tls_preload(&error));
    if (!forbid_opening())
      _exit(77);
    bool met = GPOINTER_TO_INT(g_thread_join(g_thread_new("mover", meet_and_echo, NULL)));
    _exit(met && refuse_in_the_sandbox() ? 0 : 1);
  }
  g_test_trap_subprocess(NULL, 30 * G_USEC_PER_SEC, 0);
  g_test_trap_assert_passed();
}

int
main(int argc, char **argv)
{
  t_init(&argc, &argv);
  g_test_add_func("/psk/preload_twice", preload_twice);
  g_test_add_func("/psk/the_key_opens", the_key_opens);
  for (size_t i = 0; i < G_N_ELEMENTS(refusal); i++) {
    g_autofree char *path = g_strdup_printf("/psk/refuses/%s", refusal[i].name);
    g_test_add_data_func(path, &refusal[i], refuse);
  }
  g_test_add_func("/psk/identity_must_have_a_length", identity_must_have_a_length);
  g_test_add_func("/psk/strangers_get_nowhere", strangers_get_nowhere);
  g_test_add_func("/psk/cut_in_the_handshake", cut_in_the_handshake);
  g_test_add_func("/psk/cut_is_not_an_orderly_end", cut_is_not_an_orderly_end);
  g_test_add_func("/psk/altered_record_is_found", altered_record_is_found);
  g_test_add_func("/psk/poll_loop_both_ways", poll_loop_both_ways);
  g_test_add_func("/psk/nothing_is_opened_after_preload", nothing_is_opened_after_preload);
  return g_test_run();
}
