/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who must not get in, at either end, and what both sides are told. The
 * attacker is a bare TLS connection that checks nothing.
 */
#include "support.h"
#include "base/io.h"
#include "crypto/pki_internal.h"
#include "crypto/tls_internal.h"

#include <string.h>
#include <unistd.h>

#define HOUR 3600
#define BOTH "serverAuth,clientAuth"

typedef struct {
  const char *name;
  bool as_server;
  TBadCert cert;
  const char *we_say, *it_hears;
} Attack;

static const Attack attack[] = {
  { "expired_client", false, { "node-x", BOTH, -2 * HOUR, -HOUR }, "the certificate of node node-x expired at ",
    "the peer refused our certificate: certificate expired" },
  { "expired_server", true, { "node-x", BOTH, -2 * HOUR, -HOUR }, "the certificate of node node-x expired at ",
    "the peer refused our certificate: certificate expired" },
  { "not_yet_valid_client", false, { "node-x", BOTH, HOUR, 2 * HOUR }, "is not valid before ",
    "the peer refused our certificate: bad certificate (not valid yet" },
  { "not_yet_valid_server", true, { "node-x", BOTH, HOUR, 2 * HOUR }, "is not valid before ",
    "the peer refused our certificate: bad certificate (not valid yet" },
  { "server_certificate_as_client", false, { "node-x", "serverAuth", -HOUR, HOUR }, "was made for another purpose",
    "the peer refused our certificate: certificate made for another purpose" },
  { "client_certificate_as_server", true, { "node-x", "clientAuth", -HOUR, HOUR }, "was made for another purpose",
    "the peer refused our certificate: certificate made for another purpose" },
  { "mail_certificate_as_client", false, { "node-x", "emailProtection", -HOUR, HOUR }, "was made for another purpose",
    "the peer refused our certificate: certificate made for another purpose" },
  { "self_signed_client", false, { "node-x", BOTH, -HOUR, HOUR, .self_signed = true }, "issued by an unknown CA",
    "the peer refused our certificate: unknown CA" },
  { "self_signed_server", true, { "node-x", BOTH, -HOUR, HOUR, .self_signed = true }, "issued by an unknown CA",
    "the peer refused our certificate: unknown CA" },
  { "nameless_client", false, { NULL, BOTH, -HOUR, HOUR }, "names no node", "another purpose" },
  { "nameless_server", true, { NULL, BOTH, -HOUR, HOUR }, "names no node", "another purpose" },
  { "unsafe_name_client", false, { "../x", BOTH, -HOUR, HOUR, .unlisted = true }, "names no node", "another purpose" },
  { "unlisted_client", false, { "node-x", BOTH, -HOUR, HOUR, .unlisted = true }, "node node-x is not in the cluster's roster",
    "the peer refused our certificate: certificate revoked" },
  { "unlisted_server", true, { "node-x", BOTH, -HOUR, HOUR, .unlisted = true }, "node node-x is not in the cluster's roster",
    "the peer refused our certificate: certificate revoked" },
  { "old_certificate_of_a_member", false, { "node-a", BOTH, -HOUR, HOUR, .unlisted = true }, "has another certificate now",
    "the peer refused our certificate: certificate revoked" },
};

typedef struct {
  NcTls *tls;
  GError *error;
} Attacker;

static SSL_CTX *
naive_context(NcCert *cert, NcKey *key)
{
  SSL_CTX *context = nc_tls_context_new(NULL);

  SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
  if (cert) {
    g_assert_cmpint(SSL_CTX_use_certificate(context, cert->x509), ==, 1);
    g_assert_cmpint(SSL_CTX_use_PrivateKey(context, key->pkey), ==, 1);
  }
  return context;
}

/* Handshakes, and reads: in TLS 1.3 a refused client hears of it only then. */
static gpointer
attack_it(gpointer data)
{
  Attacker *attacker = data;
  uint8_t byte;

  if (nc_tls_handshake(attacker->tls, T_LIMIT_MS, &attacker->error))
    g_assert_cmpint(nc_tls_read(attacker->tls, &byte, 1, T_LIMIT_MS, &attacker->error), <=, 0);
  return NULL;
}

typedef struct {
  int listener;
  SSL_CTX *context;
  Attacker attacker;
} Trap;

static gpointer
accept_and_attack(gpointer data)
{
  Trap *trap = data;
  int fd = nc_tcp_accept(trap->listener, NULL);

  g_assert_cmpint(fd, >=, 0);
  trap->attacker.tls = nc_tls_new(trap->context, fd, true, NULL);
  return attack_it(&trap->attacker);
}

/* We connect to ${context}. Returns what we say; *ret_heard is what the other hears. */
static GError *
face_server(NcTrust *trust, SSL_CTX *context, const char *expected_node, GError **ret_heard)
{
  nc_autofd int listener = nc_tcp_listen("127.0.0.1:0", NULL);
  g_autofree char *address = g_strdup_printf("127.0.0.1:%u", nc_tcp_local_port(listener));
  Trap trap = { .listener = listener, .context = context };
  GThread *thread = g_thread_new("attacker", accept_and_attack, &trap);
  GError *error = NULL;
  NcPeer *peer = nc_peer_connect(trust, address, expected_node, T_LIMIT_MS, &error);

  g_thread_join(thread);
  g_assert_null(peer);
  nc_tls_free(trap.attacker.tls);
  *ret_heard = trap.attacker.error;
  return error;
}

/* ${context} connects to us. */
static GError *
face_client(NcTrust *trust, SSL_CTX *context, GError **ret_heard)
{
  Attacker attacker = { 0 };
  GError *error = NULL;
  int fd[2];

  t_tcp_pair(fd);
  attacker.tls = nc_tls_new(context, fd[0], false, NULL);
  GThread *thread = g_thread_new("attacker", attack_it, &attacker);
  NcPeer *peer = nc_peer_accept(trust, fd[1], T_LIMIT_MS, &error);
  g_thread_join(thread);
  g_assert_null(peer);
  nc_tls_free(attacker.tls);
  *ret_heard = attacker.error;
  return error;
}

static void
bad_certificate(gconstpointer data)
{
  const Attack *a = data;
  g_autoptr(GError) error = NULL, heard = NULL;
  g_autoptr(NcCert) cert = NULL;
  g_autoptr(NcKey) key = NULL;
  char *dir = t_cluster();

  t_forge(dir, &a->cert, &cert, &key);
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autoptr(SSL_CTX) context = naive_context(cert, key);
  error = a->as_server ? face_server(trust, context, NULL, &heard) : face_client(trust, context, &heard);
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  g_assert_error(heard, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, a->we_say);
  t_assert_contains(heard->message, a->it_hears);
  t_remove_dir(dir);
}

static void
certificate_of_another_cluster(void)
{
  for (int as_server = 0; as_server < 2; as_server++) {
    g_autoptr(GError) error = NULL, heard = NULL;
    g_autoptr(NcCert) cert = NULL;
    g_autoptr(NcKey) key = NULL;
    char *dir = t_cluster(), *other = t_cluster(); /* even of the same name */
    const TBadCert good = { "node-a", BOTH, -HOUR, HOUR };

    t_forge(other, &good, &cert, &key);
    g_autoptr(NcTrust) trust = t_load(dir);
    g_autoptr(SSL_CTX) context = naive_context(cert, key);
    error = as_server ? face_server(trust, context, NULL, &heard) : face_client(trust, context, &heard);
    g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
    t_assert_contains(error->message, "issued by an unknown CA");
    t_assert_contains(heard->message, "the peer refused our certificate: unknown CA");
    t_remove_dir(dir);
    t_remove_dir(other);
  }
}

static void
server_is_another_node_than_expected(void)
{
  g_autoptr(GError) error = NULL, heard = NULL;
  g_autoptr(NcCert) cert = NULL;
  g_autoptr(NcKey) key = NULL;
  char *dir = t_cluster();
  const TBadCert good = { "node-b", BOTH, -HOUR, HOUR };

  t_forge(dir, &good, &cert, &key);
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autoptr(SSL_CTX) context = naive_context(cert, key);
  error = face_server(trust, context, "node-c", &heard);
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "the peer is node node-b, not node-c");
  t_assert_contains(heard->message, "of another node than it expected");
  t_remove_dir(dir);
}

static void
no_certificate_where_one_is_needed(void)
{
  g_autoptr(GError) error = NULL, heard = NULL;
  char *dir = t_cluster();
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autoptr(SSL_CTX) context = naive_context(NULL, NULL);

  nc_trust_allow_anonymous(trust, false);
  error = face_client(trust, context, &heard);
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "the peer showed no certificate");
  t_assert_contains(heard->message, "it requires a certificate");
  t_remove_dir(dir);
}

static void
bad_certificate_where_none_is_needed(void)
{
  g_autoptr(GError) error = NULL, heard = NULL;
  g_autoptr(NcCert) cert = NULL;
  g_autoptr(NcKey) key = NULL;
  char *dir = t_cluster();
  const TBadCert bad = { "node-x", BOTH, -HOUR, HOUR, .self_signed = true };

  t_forge(dir, &bad, &cert, &key);
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autoptr(SSL_CTX) context = naive_context(cert, key);
  nc_trust_allow_anonymous(trust, true);
  error = face_client(trust, context, &heard);
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_remove_dir(dir);
}

static void
older_tls_is_refused(void)
{
  for (int as_server = 0; as_server < 2; as_server++) {
    g_autoptr(GError) error = NULL, heard = NULL;
    g_autoptr(NcCert) cert = NULL;
    g_autoptr(NcKey) key = NULL;
    char *dir = t_cluster();
    const TBadCert good = { "node-b", BOTH, -HOUR, HOUR };

    t_forge(dir, &good, &cert, &key);
    g_autoptr(NcTrust) trust = t_load(dir);
    g_autoptr(SSL_CTX) context = naive_context(cert, key);
    g_assert_cmpint(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION), ==, 1);
    g_assert_cmpint(SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION), ==, 1);
    error = as_server ? face_server(trust, context, NULL, &heard) : face_client(trust, context, &heard);
    g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
    t_assert_contains(error->message, "TLS 1.3");
    t_remove_dir(dir);
  }
}

static void
other_cipher_is_refused(void)
{
  for (int as_server = 0; as_server < 2; as_server++) {
    g_autoptr(GError) error = NULL, heard = NULL;
    g_autoptr(NcCert) cert = NULL;
    g_autoptr(NcKey) key = NULL;
    char *dir = t_cluster();
    const TBadCert good = { "node-b", BOTH, -HOUR, HOUR };

    t_forge(dir, &good, &cert, &key);
    g_autoptr(NcTrust) trust = t_load(dir);
    g_autoptr(SSL_CTX) context = naive_context(cert, key);
    g_assert_cmpint(SSL_CTX_set_ciphersuites(context, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"), ==, 1);
    error = as_server ? face_server(trust, context, NULL, &heard) : face_client(trust, context, &heard);
    g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
    g_assert_nonnull(heard);
    if (!as_server)
      t_assert_contains(error->message, "does not offer TLS_AES_256_GCM_SHA384");
    t_remove_dir(dir);
  }
}

/* --- strangers that speak no TLS --- */

static const struct {
  const char *bytes;
  int code;
  const char *we_say;
} stranger[] = {
  { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", NC_ERROR_PROTOCOL, "speaks HTTP, not TLS" },
  { "SSH-2.0-OpenSSH_9.2p1\r\n", NC_ERROR_PROTOCOL, "does not speak TLS" },
  { "\x16\x03\x01\xff\xff....", NC_ERROR_PROTOCOL, "does not speak TLS" },
  { "\x16\x03\x01", NC_ERROR_TIMEOUT, "did not finish the TLS handshake" },
  { "", NC_ERROR_TIMEOUT, "did not finish the TLS handshake" },
};

static void
plain_bytes_and_silence(void)
{
  char *dir = t_cluster();
  g_autoptr(NcTrust) trust = t_load(dir);

  for (size_t i = 0; i < G_N_ELEMENTS(stranger); i++) {
    g_autoptr(GError) error = NULL;
    int fd[2];

    t_tcp_pair(fd);
    g_assert_true(nc_write_all(fd[0], stranger[i].bytes, strlen(stranger[i].bytes), NULL));
    int64_t start_us = g_get_monotonic_time();
    g_assert_null(nc_peer_accept(trust, fd[1], 300, &error));
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 3 * G_USEC_PER_SEC);
    g_assert_error(error, NC_ERROR, stranger[i].code);
    t_assert_contains(error->message, stranger[i].we_say);
    close(fd[0]);
  }
  t_remove_dir(dir);
}

static gpointer
drip(gpointer data)
{
  const uint8_t hello[] = { 0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3 };
  int fd = GPOINTER_TO_INT(data);

  for (size_t i = 0; i < 200; i++) {
    if (!nc_write_all(fd, i < sizeof hello ? &hello[i] : hello, 1, NULL))
      break;
    g_usleep(20000);
  }
  return NULL;
}

static void
one_byte_at_a_time_does_not_stretch_the_limit(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_cluster();
  g_autoptr(NcTrust) trust = t_load(dir);
  int fd[2];

  t_tcp_pair(fd);
  GThread *thread = g_thread_new("drip", drip, GINT_TO_POINTER(fd[0]));
  int64_t start_us = g_get_monotonic_time();
  g_assert_null(nc_peer_accept(trust, fd[1], 400, &error));
  g_assert_cmpint(g_get_monotonic_time() - start_us, <, 2 * G_USEC_PER_SEC);
  g_assert_error(error, NC_ERROR, NC_ERROR_TIMEOUT);
  g_thread_join(thread);
  close(fd[0]);
  t_remove_dir(dir);
}

/* --- a member that misbehaves --- */

typedef struct {
  NcTls *tls;
  const uint8_t *header;
} Boaster;

static gpointer
announce(gpointer data)
{
  Boaster *boaster = data;
  uint8_t byte;

  if (nc_tls_handshake(boaster->tls, T_LIMIT_MS, NULL) && nc_tls_write_all(boaster->tls, boaster->header, 4, T_LIMIT_MS, NULL))
    nc_tls_read(boaster->tls, &byte, 1, T_LIMIT_MS, NULL);
  return NULL;
}

static const struct {
  uint8_t header[4];
  bool anonymous;
} boast[] = {
  { { 0, 0x40, 0, 1 }, false },          /* NC_MSG_MAX_BYTES + 1 */
  { { 0xff, 0xff, 0xff, 0xff }, false },
  { { 0, 0, 0, 0 }, false },
  { { 0, 1, 0, 1 }, true },              /* NC_PEER_ANONYMOUS_MAX_BYTES + 1 */
};

static void
oversize_message(void)
{
  g_autoptr(NcCert) cert = NULL;
  g_autoptr(NcKey) key = NULL;
  char *dir = t_cluster();
  const TBadCert good = { "node-b", BOTH, -HOUR, HOUR };

  t_forge(dir, &good, &cert, &key);
  g_autoptr(NcTrust) trust = t_load(dir);
  for (size_t i = 0; i < G_N_ELEMENTS(boast); i++) {
    g_autoptr(GError) error = NULL;
    g_autoptr(SSL_CTX) context = naive_context(boast[i].anonymous ? NULL : cert, key);
    int fd[2];

    t_tcp_pair(fd);
    Boaster boaster = { .tls = nc_tls_new(context, fd[0], false, NULL), .header = boast[i].header };
    GThread *thread = g_thread_new("boaster", announce, &boaster);
    NcPeer *peer = nc_peer_accept(trust, fd[1], T_LIMIT_MS, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(nc_peer_node(peer), ==, boast[i].anonymous ? NULL : "node-b");
    g_assert_null(nc_peer_recv(peer, T_LIMIT_MS, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
    nc_peer_free(peer);
    g_thread_join(thread);
    nc_tls_free(boaster.tls);
  }
  t_remove_dir(dir);
}

int
main(int argc, char **argv)
{
  t_init(&argc, &argv);
  for (size_t i = 0; i < G_N_ELEMENTS(attack); i++) {
    g_autofree char *path = g_strdup_printf("/peer/attack/%s", attack[i].name);
    g_test_add_data_func(path, &attack[i], bad_certificate);
  }
  g_test_add_func("/peer/attack/certificate_of_another_cluster", certificate_of_another_cluster);
  g_test_add_func("/peer/attack/server_is_another_node_than_expected", server_is_another_node_than_expected);
  g_test_add_func("/peer/attack/no_certificate_where_one_is_needed", no_certificate_where_one_is_needed);
  g_test_add_func("/peer/attack/bad_certificate_where_none_is_needed", bad_certificate_where_none_is_needed);
  g_test_add_func("/peer/attack/older_tls_is_refused", older_tls_is_refused);
  g_test_add_func("/peer/attack/other_cipher_is_refused", other_cipher_is_refused);
  g_test_add_func("/peer/attack/plain_bytes_and_silence", plain_bytes_and_silence);
  g_test_add_func("/peer/attack/one_byte_at_a_time_does_not_stretch_the_limit", one_byte_at_a_time_does_not_stretch_the_limit);
  g_test_add_func("/peer/attack/oversize_message", oversize_message);
  return g_test_run();
}
