/* SPDX-License-Identifier: Apache-2.0 */
/* Both halves of joining a cluster, and the token that lets them meet. */
#include "crypto/join.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/msg.h"
#include "base/tcp.h"
#include "crypto/digest.h"
#include "crypto/peer.h"
#include "crypto/pki_stage.h"
#include "crypto/trust_internal.h"

#include <string.h>

#define NC_TOKEN_ID_BYTES 6
#define NC_TOKEN_SECRET_BYTES 32
#define NC_TOKEN_TEXT_MAX 256

/* --- the token --- */

static char *
nc_random_hex(size_t length_bytes)
{
  uint8_t bytes[NC_TOKEN_SECRET_BYTES];

  nc_random_bytes(bytes, length_bytes);
  char *hex = nc_hex_encode(bytes, length_bytes);
  nc_secret_clear(bytes, sizeof bytes);
  return hex;
}

NcJoinToken *
nc_join_token_new(NcTrust *trust)
{
  NcJoinToken *token = g_new0(NcJoinToken, 1);

  token->id = nc_random_hex(NC_TOKEN_ID_BYTES);
  token->secret = nc_random_hex(NC_TOKEN_SECRET_BYTES);
  nc_trust_ca_fingerprint(trust, token->ca_fingerprint);
  return token;
}

char *
nc_join_token_format(const NcJoinToken *token)
{
  g_autofree char *fingerprint = nc_hex_encode(token->ca_fingerprint, sizeof token->ca_fingerprint);
  return g_strdup_printf("nc1.%s.%s.%s", token->id, token->secret, fingerprint);
}

static bool
nc_token_id_is_valid(const char *id)
{
  uint8_t ignored[NC_TOKEN_ID_BYTES];
  return nc_hex_decode(id, ignored, sizeof ignored);
}

static bool
nc_token_secret_is_valid(const char *secret)
{
  uint8_t bytes[NC_TOKEN_SECRET_BYTES];
  bool valid = nc_hex_decode(secret, bytes, sizeof bytes);

  nc_secret_clear(bytes, sizeof bytes);
  return valid;
}

NcJoinToken *
nc_join_token_parse(const char *text, GError **error)
{
  g_autofree char *copy = g_strstrip(g_strndup(text, NC_TOKEN_TEXT_MAX)); /* pasted, with a newline perhaps */
  g_auto(GStrv) part = g_strsplit(copy, ".", 5);
  g_autoptr(NcJoinToken) token = g_new0(NcJoinToken, 1);

  if (g_strv_length(part) != 4 || strcmp(part[0], "nc1") != 0 || !nc_token_id_is_valid(part[1]) ||
      !nc_token_secret_is_valid(part[2]) || !nc_hex_decode(part[3], token->ca_fingerprint, sizeof token->ca_fingerprint)) {
    nc_fail(error, NC_ERROR_TRUST, "this is not a join token: it must be the whole line that `novacron node token` printed");
    return NULL;
  }
  token->id = g_strdup(part[1]);
  token->secret = g_strdup(part[2]);
  return g_steal_pointer(&token);
}

char *
nc_join_secret_hash(const char *secret)
{
  return nc_sha256_hex(secret, strlen(secret));
}

void
nc_join_token_free(NcJoinToken *token)
{
  if (!token)
    return;
  if (token->secret)
    nc_secret_clear(token->secret, strlen(token->secret));
  g_free(token->secret);
  g_free(token->id);
  g_free(token);
}

/* --- the new node's half --- */

typedef struct {
  const char *name;
  const char *address; /* our own */
  const NcJoinToken *token;
  NcKey *key;
} NcJoining;

/* What the cluster gave us. */
typedef struct {
  NcCert *ca;
  NcCert *cert;
  NcRoster *roster;
} NcJoined;

static void
nc_joined_clear(NcJoined *joined)
{
  nc_cert_free(joined->ca);
  nc_cert_free(joined->cert);
  nc_roster_free(joined->roster);
}

static json_t *
nc_join_exchange(const char *cluster_address, const NcJoining *joining, const char *csr, GError **error)
{
  g_autoptr(NcPeer) peer = nc_peer_connect_anonymous(cluster_address, joining->token->ca_fingerprint, NC_JOIN_TIMEOUT_MS, error);
  nc_autojson json_t *request =
      json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "type", "join", "token_id", joining->token->id, "secret", joining->token->secret,
                "csr", csr, "name", joining->name, "address", joining->address);

  if (!peer || !nc_peer_send(peer, request, error))
    return NULL;
  json_t *answer = nc_peer_recv(peer, NC_JOIN_TIMEOUT_MS, error);
  if (answer && g_str_equal(nc_json_string_or(answer, "type", ""), "joined"))
    return answer;
  if (answer && g_str_equal(nc_json_string_or(answer, "type", ""), "refused")) {
    nc_error_set_json(error, json_object_get(answer, "error"));
    g_prefix_error(error, "%s refused: ", cluster_address);
  } else if (answer) {
    nc_fail(error, NC_ERROR_PROTOCOL, "%s answered something else than joined or refused", cluster_address);
  }
  json_decref(answer);
  return NULL;
}

static bool
nc_joined_read(NcJoined *joined, json_t *answer, GError **error)
{
  json_t *roster = json_object_get(answer, "roster");
  const char *cert = nc_json_string(answer, "certificate", error);
  const char *ca = cert ? nc_json_string(answer, "ca", error) : NULL;
  const char *document = ca ? nc_json_string(roster, "document", error) : NULL;
  const char *signature = document ? nc_json_string(roster, "signature", error) : NULL;

  if (!signature || !(joined->cert = nc_cert_parse(cert, error)) || !(joined->ca = nc_cert_parse(ca, error)))
    return false;
  joined->roster = nc_roster_parse(document, signature, joined->ca, error);
  return joined->roster != NULL;
}

/* The server has proved to belong to the CA of the token; did it also give us what we asked for? */
static bool
nc_joined_check(const NcJoined *joined, const NcJoining *joining, GError **error)
{
  g_autofree char *expected = nc_hex_encode(joining->token->ca_fingerprint, NC_SHA256_BYTES);
  const NcRosterNode *entry = nc_roster_find(joined->roster, joining->name);

  if (strcmp(nc_cert_fingerprint(joined->ca), expected) != 0 || !nc_cert_is_ca(joined->ca))
    return nc_fail(error, NC_ERROR_TRUST, "the cluster sent another CA than the token's");
  if (!nc_cert_check_issuer(joined->cert, joined->ca, error))
    return false;
  if (g_strcmp0(nc_cert_node(joined->cert), joining->name) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "the cluster sent a certificate for another node than %s", joining->name);
  if (!nc_cert_fits_key(joined->cert, joining->key))
    return nc_fail(error, NC_ERROR_TRUST, "the cluster sent a certificate for another key than ours");
  if (!entry || entry->state != NC_NODE_JOINED || strcmp(entry->serial, nc_cert_serial(joined->cert)) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "the cluster's roster does not list this node with its certificate");
  if (nc_wall_us() < nc_cert_not_before_us(joined->cert) || nc_wall_us() >= nc_cert_not_after_us(joined->cert))
    return nc_fail(error, NC_ERROR_TRUST, "the certificate is not valid now: do the clocks of both nodes agree?");
  return true;
}

static bool
nc_joined_save(const NcJoined *joined, const NcJoining *joining, const char *stage, GError **error)
{
  g_autofree char *ca_path = g_build_filename(stage, "ca.crt", NULL);

  return nc_cert_save(joined->ca, ca_path, error) && nc_pki_save_node(stage, joining->key, joined->cert, error) &&
         nc_roster_save(joined->roster, NULL, stage, error);
}

static bool
nc_join_into(const char *stage, const char *cluster_address, const NcJoining *joining, GError **error)
{
  NcJoined joined = { 0 };
  g_autofree char *csr = nc_key_make_csr(joining->key, joining->name, error);
  nc_autojson json_t *answer = csr ? nc_join_exchange(cluster_address, joining, csr, error) : NULL;
  bool ok = answer && nc_joined_read(&joined, answer, error) && nc_joined_check(&joined, joining, error) &&
            nc_joined_save(&joined, joining, stage, error);

  nc_joined_clear(&joined);
  return ok;
}

static bool
nc_join_check_names(const char *name, const char *address, int code, GError **error)
{
  if (!nc_name_is_valid(name))
    return nc_fail(error, code, "\"%.64s\" can't name a node: " NC_NAME_RULE, name ? name : "");
  if (!nc_tcp_address_is_valid(address))
    return nc_fail(error, code, "\"%.300s\" is not an address of the form host:port", address ? address : "");
  return true;
}

bool
nc_join_request(const char *cluster_address, const char *token_text, const char *name, const char *own_address,
                const char *data_dir, GError **error)
{
  g_autoptr(NcJoinToken) token = nc_join_token_parse(token_text, error);

  if (!token || !nc_join_check_names(name, own_address, NC_ERROR_INVALID, error))
    return false;
  g_autofree char *stage = nc_pki_stage(data_dir, error);
  g_autoptr(NcKey) key = stage ? nc_key_new(error) : NULL;
  NcJoining joining = { .name = name, .address = own_address, .token = token, .key = key };
  if (key && nc_join_into(stage, cluster_address, &joining, error) && nc_pki_publish(stage, data_dir, error))
    return true;
  if (stage)
    nc_pki_unstage(stage);
  return false;
}

/* --- the cluster's half --- */

bool
nc_join_check_request(json_t *message, NcJoinRequest *ret_request, GError **error)
{
  NcJoinRequest request = { 0 };

  if (!(request.token_id = nc_json_string(message, "token_id", error)) ||
      !(request.secret = nc_json_string(message, "secret", error)) || !(request.csr = nc_json_string(message, "csr", error)) ||
      !(request.name = nc_json_string(message, "name", error)) || !(request.address = nc_json_string(message, "address", error)))
    return false;
  if (!nc_token_id_is_valid(request.token_id) || !nc_token_secret_is_valid(request.secret))
    return nc_fail(error, NC_ERROR_TRUST, "this is not a join token");
  if (strlen(request.csr) > NC_PKI_PEM_MAX_BYTES)
    return nc_fail(error, NC_ERROR_INVALID, "the certificate request is too large");
  if (!nc_join_check_names(request.name, request.address, NC_ERROR_INVALID, error))
    return false;
  *ret_request = request;
  return true;
}

json_t *
nc_join_issue(NcTrust *trust, const char *name, const char *address, const char *csr_pem, int validity_days, GError **error)
{
  g_autoptr(NcCert) cert = NULL;
  g_autoptr(NcRoster) roster = NULL;

  if (!nc_join_check_names(name, address, NC_ERROR_INVALID, error) ||
      !nc_trust_admit(trust, name, address, csr_pem, validity_days, &cert, &roster, error))
    return NULL;
  g_autofree char *ca = nc_trust_ca_pem(trust);
  return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "type", "joined", "certificate", nc_cert_pem(cert), "ca", ca, "roster",
                   "document", nc_roster_document(roster), "signature", nc_roster_signature(roster));
}
