/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates are renewed: nobody is locked out at any moment, and no crash leaves a key without its certificate. */
#include "support.h"
#include "base/io.h"
#include "crypto/pki_pair.h"
#include "crypto/renew.h"
#include "crypto/trust_internal.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

static NcCert *
cert_of(const char *data_dir, const char *name)
{
  g_autofree char *pki = nc_pki_dir(data_dir), *path = g_build_filename(pki, name, NULL);
  return nc_cert_load(path, NULL);
}

static char *
serial_of(const char *data_dir)
{
  g_autoptr(NcCert) cert = cert_of(data_dir, "node.crt");
  return g_strdup(nc_cert_serial(cert));
}

static bool
is_there(const char *data_dir, const char *name)
{
  g_autofree char *pki = nc_pki_dir(data_dir), *path = g_build_filename(pki, name, NULL);
  return g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool
lets_in(NcTrust *trust, const char *node, const char *serial)
{
  return nc_trust_check_newcomer(trust, node, serial, 0, NULL);
}

static json_t *
issue(TPair *pair)
{
  g_autoptr(GError) error = NULL;
  t_share_roster(pair->a, pair->b); /* as hello does */
  nc_autojson json_t *ask = nc_renew_ask(pair->b, 0, &error);
  g_assert_no_error(error);
  g_autofree char *serial = serial_of(pair->dir_b);
  json_t *renewed = nc_renew_issue(pair->a, "node-b", serial, ask, &error);
  g_assert_no_error(error);
  return renewed;
}

static void
see(NcTrust *ca, const char *node, const char *serial, bool is_news)
{
  bool used = !is_news;

  g_assert_true(nc_renew_seen(ca, node, serial, &used, NULL));
  g_assert_cmpint(used, ==, is_news);
}

static void
old_and_new_are_good_until_the_new_is_seen(void)
{
  TPair pair;
  g_autoptr(GError) error = NULL;

  t_pair_open(&pair);
  g_autofree char *old = serial_of(pair.dir_b);
  nc_autojson json_t *renewed = issue(&pair);
  g_assert_true(lets_in(pair.a, "node-b", old)); /* it may never hear of the new one */
  see(pair.a, "node-b", old, false);
  g_assert_true(nc_renew_take(pair.b, renewed, &error));
  g_assert_no_error(error);
  g_autofree char *new = serial_of(pair.dir_b);
  g_assert_cmpstr(old, !=, new);
  g_assert_true(lets_in(pair.a, "node-b", old));
  g_assert_true(lets_in(pair.a, "node-b", new));
  g_assert_true(lets_in(pair.b, "node-b", new));

  see(pair.a, "node-b", new, true);
  see(pair.a, "node-b", new, false);
  g_assert_false(nc_trust_check_newcomer(pair.a, "node-b", old, 0, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "renewed");
  g_clear_error(&error);
  g_assert_true(nc_trust_check_node(pair.a, "node-b", old, &error)); /* what was connected goes on */
  g_assert_true(lets_in(pair.a, "node-b", new));

  nc_autojson json_t *again = issue(&pair);
  g_assert_true(nc_renew_take(pair.b, again, &error));
  g_autofree char *third = serial_of(pair.dir_b);
  see(pair.a, "node-b", third, true);
  g_assert_false(nc_trust_check_node(pair.a, "node-b", old, NULL));
  g_assert_true(nc_trust_check_node(pair.a, "node-b", new, NULL));
  g_assert_true(nc_trust_remove_node(pair.a, "node-b", NULL));
  g_assert_false(nc_trust_check_node(pair.a, "node-b", new, NULL));
  g_assert_false(nc_trust_check_node(pair.a, "node-b", third, NULL));
  t_pair_close(&pair);
}

static void
files_are_a_new_pair(void)
{
  TPair pair;
  struct stat info;

  t_pair_open(&pair);
  g_autoptr(NcCert) old = cert_of(pair.dir_b, "node.crt");
  nc_autojson json_t *renewed = issue(&pair);
  g_assert_true(is_there(pair.dir_b, "node.key.next"));
  g_assert_true(nc_renew_take(pair.b, renewed, NULL));
  g_autoptr(NcCert) new = cert_of(pair.dir_b, "node.crt"), before = cert_of(pair.dir_b, NC_PKI_CERT_BEFORE);
  g_autofree char *pki = nc_pki_dir(pair.dir_b), *key_path = g_build_filename(pki, "node.key", NULL);
  g_autoptr(NcKey) key = nc_key_load(key_path, NULL);
  g_assert_cmpstr(nc_cert_fingerprint(before), ==, nc_cert_fingerprint(old));
  g_assert_true(nc_cert_fits_key(new, key));
  g_assert_false(nc_cert_fits_key(old, key));
  g_assert_cmpstr(nc_cert_node(new), ==, "node-b");
  g_assert_cmpint(g_stat(key_path, &info), ==, 0);
  g_assert_cmpint(info.st_mode & 0777, ==, 0600);
  g_assert_false(is_there(pair.dir_b, "node.key.next"));
  g_assert_cmpint(nc_trust_expires_us(pair.b), ==, nc_cert_not_after_us(new)); /* in use, without a word */
  g_autoptr(NcRoster) roster = nc_trust_roster(pair.b);
  g_assert_cmpstr(nc_roster_signer(roster), ==, "node-a");
  g_assert_cmpuint(nc_cert_since(new), ==, nc_roster_version(roster));
  t_pair_close(&pair);
}

static void
an_answer_that_is_lost(void)
{
  TPair pair;
  g_autoptr(GError) error = NULL;

  t_pair_open(&pair);
  g_autofree char *old = serial_of(pair.dir_b);
  nc_autojson json_t *lost = issue(&pair), *renewed = issue(&pair);
  g_autoptr(NcCert) nobody = nc_cert_parse(json_string_value(json_object_get(lost, "certificate")), NULL);
  g_assert_false(lets_in(pair.a, "node-b", nc_cert_serial(nobody)));
  g_assert_true(lets_in(pair.a, "node-b", old));
  g_assert_false(nc_renew_take(pair.b, lost, &error)); /* late: its key is gone, and it is listed no more */
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  g_clear_error(&error);
  g_assert_true(nc_renew_take(pair.b, renewed, &error));
  g_assert_no_error(error);
  g_autofree char *new = serial_of(pair.dir_b);
  see(pair.a, "node-b", new, true);
  t_pair_close(&pair);
}

/* --- who must not --- */

static void
refuses(NcTrust *ca, const char *node, const char *serial, json_t *ask, int code, const char *why)
{
  g_autoptr(GError) error = NULL;
  uint64_t version = nc_trust_roster_version(ca);

  g_assert_null(nc_renew_issue(ca, node, serial, ask, &error));
  g_assert_error(error, NC_ERROR, code);
  t_assert_contains(error->message, why);
  g_assert_cmpuint(nc_trust_roster_version(ca), ==, version);
}

static void
wrong_askers_are_refused(void)
{
  TPair pair;

  t_pair_open(&pair);
  nc_autojson json_t *ask = nc_renew_ask(pair.b, 0, NULL), *nonsense = json_pack("{s:s, s:i, s:s}", "csr", "hello", "days", 0, "next", "");
  nc_autojson json_t *long_life = nc_renew_ask(pair.b, NC_PKI_NODE_DAYS + 1, NULL), *bad_days = json_deep_copy(ask);
  json_object_set_new(bad_days, "days", json_integer(-1));
  g_autofree char *serial = serial_of(pair.dir_b);
  refuses(pair.b, "node-b", serial, ask, NC_ERROR_FORBIDDEN, "does not hold the cluster's CA key");
  refuses(pair.a, "node-c", serial, ask, NC_ERROR_TRUST, "node-c is no node of the cluster");
  refuses(pair.a, "node-b", serial, nonsense, NC_ERROR_INVALID, "not a certificate request");
  refuses(pair.a, "node-b", serial, long_life, NC_ERROR_INVALID, "825");
  refuses(pair.a, "node-b", serial, bad_days, NC_ERROR_PROTOCOL, "days");
  g_assert_true(nc_trust_remove_node(pair.a, "node-b", NULL));
  refuses(pair.a, "node-b", serial, ask, NC_ERROR_TRUST, "node-b is no node of the cluster");
  t_pair_close(&pair);
}

/* Connections that were made with a certificate go on when it is renewed: who has stolen it gets no other by them. */
static void
only_the_present_certificate_gets_another(void)
{
  TPair pair;

  t_pair_open(&pair);
  g_autofree char *old = serial_of(pair.dir_b);
  nc_autojson json_t *renewed = issue(&pair);
  g_assert_true(nc_renew_take(pair.b, renewed, NULL));
  g_autofree char *new = serial_of(pair.dir_b);
  nc_autojson json_t *ask = nc_renew_ask(pair.b, 0, NULL);
  refuses(pair.a, "node-b", new, ask, NC_ERROR_CONFLICT, "ask again"); /* not seen yet */
  see(pair.a, "node-b", new, true);
  g_assert_true(nc_trust_check_node(pair.a, "node-b", old, NULL));
  refuses(pair.a, "node-b", old, ask, NC_ERROR_CONFLICT, "not its present one");
  nc_autojson json_t *again = issue(&pair);
  g_assert_nonnull(again);

  const TBadCert late = { .node = "node-b", .usage = "serverAuth,clientAuth", .from_s = -100, .until_s = -10 };
  g_autoptr(NcCert) ended = NULL;
  g_autoptr(NcKey) key = NULL;
  t_forge(pair.dir_a, &late, &ended, &key);
  g_assert_true(nc_trust_reload(pair.a, NULL));
  refuses(pair.a, "node-b", nc_cert_serial(ended), ask, NC_ERROR_CONFLICT, "has ended since it connected");
  t_pair_close(&pair);
}

/* Sent again by a network, or read late: what it would replace is on the asker's disk. */
static void
a_request_that_comes_late_replaces_nothing(void)
{
  TPair pair;

  t_pair_open(&pair);
  g_autofree char *old = serial_of(pair.dir_b);
  nc_autojson json_t *late = nc_renew_ask(pair.b, 0, NULL);
  nc_renew_withdraw(pair.b);
  nc_autojson json_t *renewed = issue(&pair);
  g_assert_true(nc_renew_take(pair.b, renewed, NULL));
  g_autofree char *new = serial_of(pair.dir_b);
  refuses(pair.a, "node-b", old, late, NC_ERROR_CONFLICT, "ask again");
  g_assert_true(lets_in(pair.a, "node-b", new));
  json_object_del(late, "next");
  refuses(pair.a, "node-b", old, late, NC_ERROR_PROTOCOL, "next");
  t_pair_close(&pair);
}

/* What a request says of names is nobody's business: a certificate is for who has asked. */
static void
a_name_comes_from_the_connection(void)
{
  TPair pair;

  t_pair_open(&pair);
  g_autoptr(NcKey) key = nc_key_new(NULL);
  g_autofree char *csr = nc_key_make_csr(key, "node-a", NULL);
  nc_autojson json_t *ask = json_pack("{s:s, s:i, s:s}", "csr", csr, "days", 0, "next", "");
  g_autofree char *serial = serial_of(pair.dir_b);
  nc_autojson json_t *renewed = nc_renew_issue(pair.a, "node-b", serial, ask, NULL);
  g_autoptr(NcCert) cert = nc_cert_parse(json_string_value(json_object_get(renewed, "certificate")), NULL);
  g_assert_cmpstr(nc_cert_node(cert), ==, "node-b");
  t_pair_close(&pair);
}

/* Takes ${renewed} with ${certificate} in it; the pair and what is in use stay. */
static void
does_not_take(TPair *pair, json_t *renewed, const char *certificate, const char *why)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *before = serial_of(pair->dir_b);
  int64_t expires_us = nc_trust_expires_us(pair->b);
  nc_autojson json_t *bent = json_deep_copy(renewed);

  json_object_set_new(bent, "certificate", json_string(certificate));
  g_assert_false(nc_renew_take(pair->b, bent, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, why);
  nc_renew_withdraw(pair->b);
  g_autofree char *after = serial_of(pair->dir_b);
  g_assert_cmpstr(before, ==, after);
  g_assert_cmpint(nc_trust_expires_us(pair->b), ==, expires_us);
  g_assert_false(is_there(pair->dir_b, "node.key.next"));
  nc_trust_free(t_load(pair->dir_b));
}

static void
wrong_certificates_are_not_taken(void)
{
  TPair pair;

  t_pair_open(&pair);
  char *other_dir = t_cluster();
  g_autoptr(NcTrust) other = t_load(other_dir);
  char *stranger_dir = t_member(other, "node-b");
  g_autoptr(NcCert) own = cert_of(pair.dir_b, "node.crt"), of_a = cert_of(pair.dir_a, "node.crt"), foreign = cert_of(stranger_dir, "node.crt");
  const TBadCert late = { .node = "node-b", .usage = "serverAuth,clientAuth", .from_s = -100, .until_s = -10, .unlisted = true };
  const TBadCert unlisted = { .node = "node-b", .usage = "serverAuth,clientAuth", .from_s = -100, .until_s = 1000, .unlisted = true };
  g_autoptr(NcCert) ended = NULL, nobodys = NULL;
  g_autoptr(NcKey) key = NULL, key_2 = NULL;
  t_forge(pair.dir_a, &late, &ended, &key);
  t_forge(pair.dir_a, &unlisted, &nobodys, &key_2);
  nc_autojson json_t *renewed = issue(&pair);
  does_not_take(&pair, renewed, nc_cert_pem(of_a), "another node");
  does_not_take(&pair, renewed, nc_cert_pem(foreign), "not issued by the cluster's CA");
  does_not_take(&pair, renewed, nc_cert_pem(ended), "not valid now");
  does_not_take(&pair, renewed, nc_cert_pem(nobodys), "does not list");
  nc_autojson json_t *again = issue(&pair);
  does_not_take(&pair, again, nc_cert_pem(own), "not for the key");
  t_remove_dir(other_dir);
  t_remove_dir(stranger_dir);
  t_pair_close(&pair);
}

static void
who_has_expired_joins_again(void)
{
  TPair pair;
  g_autoptr(GError) error = NULL;
  const TBadCert late = { .node = "node-b", .usage = "serverAuth,clientAuth", .from_s = -100, .until_s = -10, .unlisted = true };
  g_autoptr(NcCert) ended = NULL;
  g_autoptr(NcKey) key = NULL;

  t_pair_open(&pair);
  g_autofree char *pki = nc_pki_dir(pair.dir_b), *cert_path = g_build_filename(pki, "node.crt", NULL),
                  *key_path = g_build_filename(pki, "node.key", NULL);
  t_forge(pair.dir_a, &late, &ended, &key);
  g_assert_true(nc_cert_save(ended, cert_path, NULL) && nc_key_save(key, key_path, NULL));
  g_assert_true(nc_trust_reload(pair.b, &error));
  g_assert_null(nc_renew_ask(pair.b, 0, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "join again");
  g_assert_false(is_there(pair.dir_b, "node.key.next"));
  t_pair_close(&pair);
}

/* --- the node with the CA's key, and crashes --- */

static bool
renew_self(NcTrust *trust, GError **error)
{
  nc_autojson json_t *ask = nc_renew_ask(trust, 30, error);
  nc_autojson json_t *renewed = ask ? nc_renew_issue(trust, nc_trust_node(trust), NULL, ask, error) : NULL;
  bool used;

  return renewed && nc_renew_take(trust, renewed, error) && nc_renew_settle(trust, &used, error) && used;
}

/* Its own certificate is the only one that its roster has of it, and it has one pair. */
static void
is_settled(NcTrust *trust, const char *data_dir)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(trust);
  const NcRosterNode *node = nc_roster_find(roster, nc_trust_node(trust));
  g_autofree char *serial = serial_of(data_dir);

  g_assert_cmpstr(node->serial, ==, serial);
  g_assert_false(is_there(data_dir, "node.key.next"));
}

static void
the_node_with_the_ca_key(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_cluster();
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autofree char *old = serial_of(dir);

  g_assert_true(renew_self(trust, &error));
  g_assert_no_error(error);
  int64_t days = (nc_trust_expires_us(trust) - g_get_real_time()) / G_USEC_PER_SEC / 86400;
  g_assert_cmpint(days, >=, 29);
  g_assert_cmpint(days, <=, 30);
  g_assert_false(lets_in(trust, "node-a", old));
  is_settled(trust, dir);
  t_remove_dir(dir);
}

/* Two renewals old, beside the newest roster: refused by all, but the CA's key is there. */
static void
the_node_with_the_ca_key_from_an_old_backup(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_cluster();
  g_autofree char *pki = nc_pki_dir(dir), *cert_path = g_build_filename(pki, "node.crt", NULL), *key_path = g_build_filename(pki, "node.key", NULL);
  g_autoptr(NcCert) cert = nc_cert_load(cert_path, NULL);
  g_autoptr(NcKey) key = nc_key_load(key_path, NULL);
  g_autoptr(NcTrust) before = t_load(dir);

  g_assert_true(renew_self(before, NULL) && renew_self(before, NULL));
  g_assert_true(nc_cert_save(cert, cert_path, NULL) && nc_key_save(key, key_path, NULL));
  g_autoptr(NcTrust) trust = t_load(dir);
  g_assert_false(lets_in(trust, "node-a", nc_cert_serial(cert)));
  g_assert_true(renew_self(trust, &error));
  g_assert_no_error(error);
  is_settled(trust, dir);
  t_remove_dir(dir);
}

/* In a process of its own, which dies at the fault point that its environment names. */
static void
renew_and_die(void)
{
  g_autoptr(NcTrust) trust = nc_trust_load(g_getenv("T_RENEW_DIR"), NULL);

  if (trust)
    renew_self(trust, NULL);
}

static void
a_crash_at_any_line(gconstpointer point)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *fault = g_strconcat(point, ":kill", NULL);
  char *dir = t_cluster();
  g_autofree char *old = serial_of(dir);
  bool used;

  g_setenv("T_RENEW_DIR", dir, TRUE);
  g_setenv("NOVACRON_FAULT", fault, TRUE);
  g_test_trap_subprocess("/renew/subprocess/renew_and_die", 0, 0);
  g_unsetenv("NOVACRON_FAULT");
  g_test_trap_assert_failed(); /* it has reached the point */
  nc_trust_free(t_load(dir));  /* a relay, say, beside a novacrond that is down */
  g_assert_true(nc_renew_settle_files(dir, &error));
  g_assert_no_error(error);
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autofree char *serial = serial_of(dir);
  g_assert_true(lets_in(trust, "node-a", serial)); /* others' judgement is the same */
  g_assert_true(nc_renew_settle(trust, &used, &error));
  g_assert_cmpint(used, ==, strcmp(serial, old) != 0);
  is_settled(trust, dir);
  g_assert_true(renew_self(trust, &error));
  g_assert_no_error(error);
  is_settled(trust, dir);
  t_remove_dir(dir);
}

/* --- two that meet --- */

typedef struct {
  NcTrust *trust;
  int listener;
  NcPeer *peer;
  GError *error;
} Accepting;

static gpointer
accept_one(gpointer data)
{
  Accepting *accepting = data;
  int fd = nc_tcp_accept(accepting->listener, NULL);

  accepting->peer = nc_peer_accept(accepting->trust, fd, T_LIMIT_MS, &accepting->error);
  return NULL;
}

/* ${from} connects to ${to}, which it takes for ${node}. NULL: refused in the handshake, for ${ret_error}. */
static NcPeer *
meet(NcTrust *from, NcTrust *to, const char *node, NcPeer **ret_server, GError **ret_error)
{
  nc_autofd int listener = nc_tcp_listen("127.0.0.1:0", NULL);
  g_autofree char *address = g_strdup_printf("127.0.0.1:%u", nc_tcp_local_port(listener));
  Accepting accepting = { .trust = to, .listener = listener };
  GThread *thread = g_thread_new("accept", accept_one, &accepting);

  NcPeer *client = nc_peer_connect(from, address, node, T_LIMIT_MS, ret_error);
  g_thread_join(thread);
  g_clear_error(&accepting.error);
  *ret_server = accepting.peer;
  return client;
}

static void
does_not_meet(NcTrust *from, NcTrust *to, const char *node, const char *why)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPeer) server = NULL;
  g_autoptr(NcPeer) client = meet(from, to, node, &server, &error);

  g_assert_null(client);
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, why);
}

/* The roster that lists the renewed certificate comes from the very node that has it. */
static void
who_was_away_learns_it_from_the_renewed_node(void)
{
  TPair pair;
  NcPeer *server;

  t_pair_open(&pair);
  g_assert_true(renew_self(pair.a, NULL));
  does_not_meet(pair.b, pair.a, "node-a", "let novacrond run here until"); /* who exchanges no rosters */
  nc_trust_allow_newer(pair.b, true);
  does_not_meet(pair.b, pair.a, "node-c", "the peer is node node-a, not node-c");

  NcPeer *client = meet(pair.b, pair.a, "node-a", &server, NULL);
  g_assert_nonnull(client);
  g_assert_false(nc_peer_check_trusted(client, NULL)); /* it may talk about rosters */
  t_share_roster(pair.a, pair.b);
  g_assert_true(nc_peer_check_trusted(client, NULL));
  nc_peer_free(client);
  nc_peer_free(server);
  t_pair_close(&pair);
}

/* Else one that was let in and put out again while we were away could bring us the roster in which it was still joined. */
static void
a_newer_certificate_is_let_in_of_joined_nodes_only(void)
{
  TPair pair;
  uint64_t since;

  t_pair_open(&pair);
  char *dir_c = t_member(pair.a, "node-c");
  g_autoptr(NcTrust) c = t_load(dir_c);
  g_assert_true(nc_trust_remove_node(pair.a, "node-b", NULL));
  t_share_roster(pair.a, c);
  nc_trust_allow_newer(c, true);
  since = nc_trust_roster_version(c) + 1;
  g_assert_true(nc_trust_check_newcomer(c, "node-a", "abcd", since, NULL));
  g_assert_false(nc_trust_check_newcomer(c, "node-a", "abcd", since - 1, NULL));
  g_assert_false(nc_trust_check_newcomer(c, "node-b", "abcd", since, NULL)); /* removed */
  g_assert_false(nc_trust_check_newcomer(c, "node-d", "abcd", since, NULL)); /* unknown */
  t_remove_dir(dir_c);
  t_pair_close(&pair);
}

/* Let in by an older roster, and the newer one that hello has brought says that it was replaced: a thief's, say. */
static void
what_was_replaced_does_not_begin(void)
{
  TPair pair;
  NcPeer *server;

  t_pair_open(&pair);
  NcPeer *client = meet(pair.b, pair.a, "node-a", &server, NULL);
  g_assert_true(nc_peer_check_present(client, NULL));
  g_assert_true(renew_self(pair.a, NULL));
  t_share_roster(pair.a, pair.b);
  g_assert_false(nc_peer_check_present(client, NULL));
  g_assert_true(nc_peer_check_trusted(client, NULL)); /* had it begun before */
  nc_peer_free(client);
  nc_peer_free(server);
  t_pair_close(&pair);
}

static void
who_has_the_roster_lets_no_old_certificate_in(void)
{
  TPair pair;
  NcPeer *server;

  t_pair_open(&pair);
  nc_trust_allow_newer(pair.a, true);
  nc_trust_allow_newer(pair.b, true);
  char *dir = t_dir(); /* what a thief has */
  g_autofree char *pki = nc_pki_dir(pair.dir_a), *copy = nc_pki_dir(dir), *command = g_strdup_printf("cp -r %s %s", pki, copy);
  g_assert_true(g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL));
  g_autoptr(NcTrust) thief = t_load(dir);
  g_assert_true(renew_self(pair.a, NULL));
  t_share_roster(pair.a, pair.b);
  does_not_meet(pair.b, thief, "node-a", "node node-a has another certificate now");
  NcPeer *client = meet(pair.b, pair.a, "node-a", &server, NULL);
  g_assert_true(nc_peer_check_trusted(client, NULL));
  nc_peer_free(client);
  nc_peer_free(server);
  t_remove_dir(dir);
  t_pair_close(&pair);
}

int
main(int argc, char **argv)
{
  static const char *const points[] = { "renew-key-proposed",     "renew-issued",              "renew-roster-written",
                                        "renew-certificate-kept", "renew-certificate-written", "renew-key-written" };

  t_init(&argc, &argv);
  g_test_add_func("/renew/old_and_new_are_good_until_the_new_is_seen", old_and_new_are_good_until_the_new_is_seen);
  g_test_add_func("/renew/files_are_a_new_pair", files_are_a_new_pair);
  g_test_add_func("/renew/an_answer_that_is_lost", an_answer_that_is_lost);
  g_test_add_func("/renew/wrong_askers_are_refused", wrong_askers_are_refused);
  g_test_add_func("/renew/only_the_present_certificate_gets_another", only_the_present_certificate_gets_another);
  g_test_add_func("/renew/a_request_that_comes_late_replaces_nothing", a_request_that_comes_late_replaces_nothing);
  g_test_add_func("/renew/a_name_comes_from_the_connection", a_name_comes_from_the_connection);
  g_test_add_func("/renew/wrong_certificates_are_not_taken", wrong_certificates_are_not_taken);
  g_test_add_func("/renew/who_has_expired_joins_again", who_has_expired_joins_again);
  g_test_add_func("/renew/the_node_with_the_ca_key", the_node_with_the_ca_key);
  g_test_add_func("/renew/the_node_with_the_ca_key_from_an_old_backup", the_node_with_the_ca_key_from_an_old_backup);
  g_test_add_func("/renew/subprocess/renew_and_die", renew_and_die);
  for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
    g_autofree char *path = g_strconcat("/renew/a_crash_at_any_line/", points[i], NULL);
    g_test_add_data_func(path, points[i], a_crash_at_any_line);
  }
  g_test_add_func("/renew/who_was_away_learns_it_from_the_renewed_node", who_was_away_learns_it_from_the_renewed_node);
  g_test_add_func("/renew/a_newer_certificate_is_let_in_of_joined_nodes_only", a_newer_certificate_is_let_in_of_joined_nodes_only);
  g_test_add_func("/renew/what_was_replaced_does_not_begin", what_was_replaced_does_not_begin);
  g_test_add_func("/renew/who_has_the_roster_lets_no_old_certificate_in", who_has_the_roster_lets_no_old_certificate_in);
  return g_test_run();
}
