/* SPDX-License-Identifier: Apache-2.0 */
/* Joining over the network, with a server that knows one token; and everything that must not join. */
#include "support.h"
#include "base/bytes.h"
#include "base/io.h"
#include "crypto/digest.h"

#include <string.h>
#include <unistd.h>

typedef enum { HONEST, SILENT_CLOSE, WRONG_NAME, WRONG_KEY, OTHER_CA, OLD_ROSTER, NONSENSE } Manner;

/* What novacrond does, in short: one connection, one token in the "journal". */
typedef struct {
  NcTrust *trust;
  int listener;
  char *address;
  char *token_id, *secret_hash;
  Manner manner;
  char *seen_node; /* of the connection's certificate */
} Server;

/* A certificate for a key that is not the client's. */
static json_t *
issue_other_key(Server *server, const char *name)
{
  g_autoptr(NcKey) key = nc_key_new(NULL);
  g_autofree char *csr = nc_key_make_csr(key, name, NULL);
  return nc_join_issue(server->trust, name, "h:1", csr, 0, NULL);
}

static json_t *
issue_of_other_cluster(const NcJoinRequest *request)
{
  char *dir = t_cluster();
  g_autoptr(NcTrust) other = t_load(dir);
  json_t *joined = nc_join_issue(other, request->name, request->address, request->csr, 0, NULL);

  t_remove_dir(dir);
  return joined;
}

static json_t *
answer(Server *server, json_t *message, GError **error)
{
  NcJoinRequest request;

  if (!nc_join_check_request(message, &request, error))
    return NULL;
  g_autofree char *hash = nc_join_secret_hash(request.secret);
  if (strcmp(request.token_id, server->token_id) != 0 || strcmp(hash, server->secret_hash) != 0) {
    nc_fail(error, NC_ERROR_TRUST, "the token is not valid: used, expired or unknown");
    return NULL;
  }
  g_autoptr(NcRoster) before = nc_trust_roster(server->trust);
  if (server->manner == OTHER_CA)
    return issue_of_other_cluster(&request);
  if (server->manner == WRONG_KEY)
    return issue_other_key(server, request.name);
  if (server->manner == NONSENSE)
    return json_pack("{s:s, s:i}", "type", "joined", "certificate", 7);
  json_t *joined = nc_join_issue(server->trust, server->manner == WRONG_NAME ? "somebody" : request.name, request.address,
                                 request.csr, 0, error);
  if (joined && server->manner == OLD_ROSTER)
    json_object_set_new(joined, "roster", json_pack("{s:s, s:s}", "document", nc_roster_document(before), "signature",
                                                    nc_roster_signature(before)));
  return joined;
}

static gpointer
serve(gpointer data)
{
  Server *server = data;
  g_autoptr(GError) error = NULL;
  int fd = nc_tcp_accept(server->listener, NULL);
  g_autoptr(NcPeer) peer = fd >= 0 ? nc_peer_accept(server->trust, fd, T_LIMIT_MS, &error) : NULL;
  nc_autojson json_t *message = peer ? nc_peer_recv(peer, T_LIMIT_MS, &error) : NULL;

  if (!message || server->manner == SILENT_CLOSE)
    return NULL;
  server->seen_node = g_strdup(nc_peer_node(peer));
  nc_autojson json_t *reply = answer(server, message, &error);
  if (!reply)
    reply = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(error));
  g_clear_error(&error);
  nc_peer_send(peer, reply, &error);
  return NULL;
}

typedef struct {
  Server server;
  char *dir_a, *dir_b;
  char *token;
} Lab;

static void
lab_open(Lab *lab, Manner manner)
{
  *lab = (Lab){ .dir_a = t_cluster(), .dir_b = t_dir() };
  lab->server.trust = t_load(lab->dir_a);
  lab->server.manner = manner;
  lab->server.listener = nc_tcp_listen("127.0.0.1:0", NULL);
  lab->server.address = g_strdup_printf("127.0.0.1:%u", nc_tcp_local_port(lab->server.listener));
  g_autoptr(NcJoinToken) token = nc_join_token_new(lab->server.trust);
  lab->token = nc_join_token_format(token);
  lab->server.token_id = g_strdup(token->id);
  lab->server.secret_hash = nc_join_secret_hash(token->secret);
}

static void
lab_close(Lab *lab)
{
  nc_trust_free(lab->server.trust);
  nc_fd_clear(&lab->server.listener);
  g_free(lab->server.address);
  g_free(lab->server.token_id);
  g_free(lab->server.secret_hash);
  g_free(lab->server.seen_node);
  g_free(lab->token);
  t_remove_dir(lab->dir_a);
  t_remove_dir(lab->dir_b);
}

static bool
join(Lab *lab, const char *token, const char *name, GError **error)
{
  GThread *thread = g_thread_new("serve", serve, &lab->server);
  bool ok = nc_join_request(lab->server.address, token, name, "10.0.0.2:7450", lab->dir_b, error);

  g_thread_join(thread);
  return ok;
}

static void
token_lets_a_node_in(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab, HONEST);
  g_autofree char *pasted = g_strdup_printf("  %s\n", lab.token);
  join(&lab, pasted, "node-b", &error);
  g_assert_no_error(error);
  g_assert_null(lab.server.seen_node);
  g_autoptr(NcTrust) b = t_load(lab.dir_b);
  g_assert_cmpstr(nc_trust_node(b), ==, "node-b");
  g_assert_cmpstr(nc_trust_cluster(b), ==, "lab");
  g_assert_false(nc_trust_has_ca_key(b));
  g_autoptr(NcRoster) roster = nc_trust_roster(b);
  g_assert_cmpstr(nc_roster_find(roster, "node-b")->address, ==, "10.0.0.2:7450");
  g_assert_cmpuint(nc_trust_roster_version(lab.server.trust), ==, 2);

  /* Once is enough. */
  g_assert_false(nc_join_request(lab.server.address, lab.token, "node-b", "h:1", lab.dir_b, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  lab_close(&lab);
}

/* Nothing may be left behind by a failure: no half of an identity, no key. */
static void
assert_empty(const char *path)
{
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  g_assert_null(g_dir_read_name(dir));
}

static const struct {
  Manner manner;
  int code;
  const char *text;
} dishonest[] = {
  { SILENT_CLOSE, NC_ERROR_IO, "closed" },
  { WRONG_NAME, NC_ERROR_TRUST, "another node than node-b" },
  { WRONG_KEY, NC_ERROR_TRUST, "another key than ours" },
  { OTHER_CA, NC_ERROR_TRUST, "another CA than the token's" },
  { OLD_ROSTER, NC_ERROR_TRUST, "does not list this node" },
  { NONSENSE, NC_ERROR_PROTOCOL, "\"certificate\" must be a string" },
};

static void
dishonest_answers_are_refused(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(dishonest); i++) {
    Lab lab;
    g_autoptr(GError) error = NULL;

    lab_open(&lab, dishonest[i].manner);
    g_assert_false(join(&lab, lab.token, "node-b", &error));
    g_assert_error(error, NC_ERROR, dishonest[i].code);
    t_assert_contains(error->message, dishonest[i].text);
    assert_empty(lab.dir_b);
    lab_close(&lab);
  }
}

static void
wrong_secret_is_refused_by_the_cluster(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab, HONEST);
  char *digit = strchr(strchr(lab.token, '.') + 1, '.') + 1;
  *digit = *digit == '0' ? '1' : '0';
  g_assert_false(join(&lab, lab.token, "node-b", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "refused: the token is not valid");
  assert_empty(lab.dir_b);
  lab_close(&lab);
}

static void
taken_name_is_refused(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab, HONEST);
  g_assert_false(join(&lab, lab.token, "node-a", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  assert_empty(lab.dir_b);
  lab_close(&lab);
}

static void
cluster_with_another_ca_is_refused_by_the_node(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab, HONEST);
  char *digit = lab.token + strlen(lab.token) - 1;
  *digit = *digit == '0' ? '1' : '0';
  g_assert_false(join(&lab, lab.token, "node-b", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "does not belong to the cluster that made the token");
  assert_empty(lab.dir_b);
  lab_close(&lab);
}

static void
member_without_the_ca_key_lets_nobody_in(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab, HONEST);
  char *dir_c = t_member(lab.server.trust, "node-c");
  nc_trust_free(lab.server.trust);
  lab.server.trust = t_load(dir_c);
  g_assert_false(join(&lab, lab.token, "node-b", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "it requires a certificate");
  t_remove_dir(dir_c);
  lab_close(&lab);
}

static void
bent_tokens(void)
{
  Lab lab;

  lab_open(&lab, HONEST);
  g_auto(GStrv) part = g_strsplit(lab.token, ".", -1);
  g_autofree char *no_ca = g_strdup_printf("nc1.%s.%s", part[1], part[2]);
  g_autofree char *other_version = g_strdup_printf("nc2.%s.%s.%s", part[1], part[2], part[3]);
  g_autofree char *longer = g_strdup_printf("%s.00", lab.token);
  g_autofree char *swapped = g_strdup_printf("nc1.%s.%s.%s", part[2], part[1], part[3]);
  g_autofree char *huge = g_strnfill(100000, 'a');
  const char *bad[] = { "", "nc1", "nc1...", no_ca, other_version, longer, swapped, huge, "nc1.x.y.z" };
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(nc_join_token_parse(bad[i], &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  }
  g_autoptr(NcJoinToken) good = nc_join_token_parse(lab.token, NULL);
  g_autofree char *again = nc_join_token_format(good);
  g_assert_cmpstr(again, ==, lab.token);
  lab_close(&lab);
}

static void
bent_requests(void)
{
  g_autofree char *long_csr = g_strnfill(NC_PKI_PEM_MAX_BYTES + 1, 'A'), *secret = g_strnfill(64, 'a');
  nc_autojson json_t *good = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "type", "join", "token_id", "0123456789ab", "secret", secret,
                                       "csr", "PEM", "name", "n", "address", "h:1");
  const struct {
    const char *key, *value;
  } bad[] = { { "token_id", NULL },   { "token_id", "zz" }, { "secret", NULL },  { "secret", "aa" },     { "csr", NULL },
              { "csr", long_csr },    { "name", NULL },     { "name", "../etc" }, { "address", "nowhere" }, { "address", NULL } };
  NcJoinRequest request;

  g_assert_true(nc_join_check_request(good, &request, NULL));
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *bent = json_copy(good);
    json_object_set_new(bent, bad[i].key, bad[i].value ? json_string(bad[i].value) : json_integer(7));
    g_assert_false(nc_join_check_request(bent, &request, &error));
    g_assert_nonnull(error);
  }
}

int
main(int argc, char **argv)
{
  t_init(&argc, &argv);
  g_test_add_func("/join/token_lets_a_node_in", token_lets_a_node_in);
  g_test_add_func("/join/dishonest_answers_are_refused", dishonest_answers_are_refused);
  g_test_add_func("/join/wrong_secret_is_refused_by_the_cluster", wrong_secret_is_refused_by_the_cluster);
  g_test_add_func("/join/taken_name_is_refused", taken_name_is_refused);
  g_test_add_func("/join/cluster_with_another_ca_is_refused_by_the_node", cluster_with_another_ca_is_refused_by_the_node);
  g_test_add_func("/join/member_without_the_ca_key_lets_nobody_in", member_without_the_ca_key_lets_nobody_in);
  g_test_add_func("/join/bent_tokens", bent_tokens);
  g_test_add_func("/join/bent_requests", bent_requests);
  return g_test_run();
}
