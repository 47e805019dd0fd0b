/* SPDX-License-Identifier: Apache-2.0 */
/* Peer credentials and client certificates turned into a name and a role. */
#include "gate/identity.h"
#include "base/ident.h"
#include "base/msg.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/socket.h>

#define NC_PEER_GROUPS_MAX 256 /* more than Linux users have in practice; the rest is not looked at */

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_crt_t, gnutls_x509_crt_deinit, NULL)

static bool
nc_peer_has_group(int fd, const struct ucred *peer, gid_t group)
{
  gid_t groups[NC_PEER_GROUPS_MAX];
  socklen_t length = sizeof groups;

  if (peer->gid == group)
    return true;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0)
    return false;
  for (size_t i = 0; i < length / sizeof groups[0]; i++)
    if (groups[i] == group)
      return true;
  return false;
}

bool
nc_identity_from_unix(int fd, const NcAccess *access, NcIdentity *ret, GError **error)
{
  struct ucred peer;
  socklen_t length = sizeof peer;

  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
    return nc_fail_errno(error, NC_ERROR_UNAUTHENTICATED, errno, "the kernel does not say who is asking");
  bool admin = peer.uid == 0 || peer.uid == access->own_uid ||
               (access->has_group && nc_peer_has_group(fd, &peer, access->group));
  if (!admin)
    return nc_fail(error, NC_ERROR_FORBIDDEN,
                   "user %u may not use NovaCron on this node: be root or join the group of the API socket", peer.uid);
  *ret = (NcIdentity){ .kind = NC_IDENTITY_UID, .role = NC_ROLE_ADMIN };
  g_snprintf(ret->name, sizeof ret->name, "%u", peer.uid);
  return true;
}

static bool
nc_certificate_check(gnutls_session_t session, GError **error)
{
  gnutls_typed_vdata_st purpose = { .type = GNUTLS_DT_KEY_PURPOSE_OID,
                                    .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT };
  unsigned status = 0;
  gnutls_datum_t text = { 0 };

  int failed = gnutls_certificate_verify_peers(session, &purpose, 1, &status);
  if (failed < 0)
    return nc_fail(error, NC_ERROR_UNAUTHENTICATED, "the client certificate can't be verified: %s",
                   gnutls_strerror(failed));
  if (status == 0)
    return true;
  failed = gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
  nc_fail(error, NC_ERROR_UNAUTHENTICATED, "the client certificate is refused: %s",
          failed < 0 ? "not trusted" : (const char *)text.data);
  gnutls_free(text.data);
  return false;
}

static bool
nc_certificate_get_name(gnutls_session_t session, char ret_name[64], GError **error)
{
  unsigned n = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
  g_auto(gnutls_x509_crt_t) certificate = NULL;
  char name[256] = "";
  size_t length = sizeof name;

  if (!chain || n == 0 || gnutls_x509_crt_init(&certificate) < 0 ||
      gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) < 0 ||
      gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &length) < 0 ||
      strlen(name) != length || !nc_name_is_valid(name))
    return nc_fail(error, NC_ERROR_UNAUTHENTICATED, "the client certificate's common name is not a name: %s",
                   NC_NAME_RULE);
  g_strlcpy(ret_name, name, 64);
  return true;
}

bool
nc_identity_has_certificate(gnutls_session_t session)
{
  unsigned n = 0;
  return session && gnutls_certificate_get_peers(session, &n) && n > 0;
}

static bool
nc_is_listed(char *const *names, const char *name)
{
  return names && g_strv_contains((const gchar *const *)names, name);
}

bool
nc_identity_from_tls(gnutls_session_t session, const NcAccess *access, NcIdentity *ret, GError **error)
{
  NcIdentity identity = { .kind = NC_IDENTITY_CERTIFICATE };

  if (!nc_identity_has_certificate(session))
    return nc_fail(error, NC_ERROR_UNAUTHENTICATED, "a client certificate of this cluster's CA is needed (novacron --cert FILE --key FILE)%s",
                   access->tokens_alone ? ", or a token (--token-file FILE)" : "");
  if (!nc_certificate_check(session, error) || !nc_certificate_get_name(session, identity.name, error))
    return false;
  identity.role = nc_is_listed(access->admins, identity.name)      ? NC_ROLE_ADMIN
                  : nc_is_listed(access->operators, identity.name) ? NC_ROLE_OPERATOR
                                                                   : NC_ROLE_VIEWER;
  *ret = identity;
  return true;
}

bool
nc_identity_from_token(json_t *token, NcIdentity *ret, GError **error)
{
  const char *id = nc_json_string_or(token, "id", ""), *subject = nc_json_string_or(token, "subject", "");
  NcIdentity identity = { .kind = NC_IDENTITY_TOKEN };

  if (!nc_name_is_valid(id) || !nc_name_is_valid(subject) || !nc_role_from_name(nc_json_string_or(token, "role", NULL), &identity.role))
    return nc_fail(error, NC_ERROR_PROTOCOL, "novacrond does not say whose token that is");
  g_strlcpy(identity.name, subject, sizeof identity.name);
  g_strlcpy(identity.token, id, sizeof identity.token);
  *ret = identity;
  return true;
}

const char *
nc_identity_kind_name(NcIdentityKind kind)
{
  static const char *const names[] = { [NC_IDENTITY_UID] = "uid", [NC_IDENTITY_CERTIFICATE] = "certificate", [NC_IDENTITY_TOKEN] = "token" };
  return names[kind];
}

json_t *
nc_identity_to_json(const NcIdentity *identity)
{
  return json_pack("{s:s, s:s, s:s, s:s*}", "kind", nc_identity_kind_name(identity->kind), "name", identity->name, "role",
                   nc_role_name(identity->role), "token", identity->token[0] ? identity->token : NULL);
}
