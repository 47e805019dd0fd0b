/* SPDX-License-Identifier: Apache-2.0 */
/* Peer credentials and client certificates turned into a name and a role. */
#include "gate/identity.h"
#include "base/ident.h"

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
nc_identity_from_tls(gnutls_session_t session, const NcAccess *access, NcIdentity *ret, GError **error)
{
  unsigned n = 0;
  NcIdentity identity = { .kind = NC_IDENTITY_CERTIFICATE, .role = NC_ROLE_VIEWER };

  if (!session || !gnutls_certificate_get_peers(session, &n) || n == 0)
    return nc_fail(error, NC_ERROR_UNAUTHENTICATED,
                   "a client certificate of this cluster's CA is needed (novacron --cert FILE --key FILE)");
  if (!nc_certificate_check(session, error) || !nc_certificate_get_name(session, identity.name, error))
    return false;
  if (access->admins && g_strv_contains((const gchar *const *)access->admins, identity.name))
    identity.role = NC_ROLE_ADMIN;
  *ret = identity;
  return true;
}

json_t *
nc_identity_to_json(const NcIdentity *identity)
{
  return json_pack("{s:s, s:s, s:s}", "kind", identity->kind == NC_IDENTITY_UID ? "uid" : "certificate", "name",
                   identity->name, "role", nc_role_name(identity->role));
}
