/* SPDX-License-Identifier: Apache-2.0 */
/* Both halves of renewing a certificate. */
#include "crypto/renew.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/msg.h"
#include "crypto/pki_pair.h"
#include "crypto/trust_internal.h"

/* --- the node's half --- */

static bool
nc_renew_can_ask(NcTrust *trust, GError **error)
{
  int64_t expires_us = nc_trust_expires_us(trust);

  if (nc_trust_has_ca_key(trust) || nc_wall_us() < expires_us)
    return true;
  g_autofree char *at = nc_time_format(expires_us);
  return nc_fail(error, NC_ERROR_TRUST,
                 "the certificate of node %s ended at %s, and nobody believes it any more: let the node join again (novacron node remove %s "
                 "and novacron node token on the node with the CA's key; here, with %s set aside, novacrond join and a reload)",
                 nc_trust_node(trust), at, nc_trust_node(trust), nc_trust_pki_dir(trust));
}

json_t *
nc_renew_ask(NcTrust *trust, int validity_days, GError **error)
{
  g_autoptr(NcKey) key = nc_renew_can_ask(trust, error) ? nc_key_new(error) : NULL;
  g_autofree char *csr = key ? nc_key_make_csr(key, nc_trust_node(trust), error) : NULL;

  if (!csr || !nc_pki_pair_propose(nc_trust_pki_dir(trust), key, error))
    return NULL;
  json_t *ask = json_pack("{s:s, s:s, s:i}", "type", "renew", "csr", csr, "days", validity_days);
  nc_renew_name_next(trust, ask);
  return ask;
}

void
nc_renew_name_next(NcTrust *trust, json_t *ask)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(trust);
  const NcRosterNode *node = nc_roster_find(roster, nc_trust_node(trust));

  json_object_set_new(ask, "next", json_string(node && node->next.serial ? node->next.serial : ""));
}

/* Whether its key is the one that we have made is looked at when it is saved. */
static bool
nc_renew_check(NcTrust *trust, const NcCert *cert, GError **error)
{
  g_autofree char *ca_pem = nc_trust_ca_pem(trust);
  g_autoptr(NcCert) ca = nc_cert_parse(ca_pem, error);

  if (!ca || !nc_cert_check_issuer(cert, ca, error))
    return false;
  if (g_strcmp0(nc_cert_node(cert), nc_trust_node(trust)) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "the new certificate is for another node than %s", nc_trust_node(trust));
  if (nc_wall_us() < nc_cert_not_before_us(cert) || nc_wall_us() >= nc_cert_not_after_us(cert))
    return nc_fail(error, NC_ERROR_TRUST, "the new certificate is not valid now: do the clocks of both nodes agree?");
  if (!nc_trust_check_newcomer(trust, nc_trust_node(trust), nc_cert_serial(cert), 0, NULL))
    return nc_fail(error, NC_ERROR_TRUST, "the cluster's roster does not list the new certificate");
  return true;
}

bool
nc_renew_take(NcTrust *trust, json_t *renewed, GError **error)
{
  json_t *roster = json_object_get(renewed, "roster");
  const char *pem = nc_json_string(renewed, "certificate", error);
  const char *document = pem ? nc_json_string(roster, "document", error) : NULL;
  const char *signature = document ? nc_json_string(roster, "signature", error) : NULL;
  g_autoptr(NcCert) cert = signature ? nc_cert_parse(pem, error) : NULL;

  /* The roster first: what is on the disk with the new certificate must list it. */
  if (!cert || !nc_trust_replace_roster(trust, document, signature, NULL, error) || !nc_renew_check(trust, cert, error))
    return false;
  nc_fault_point("renew-roster-written");
  return nc_trust_replace_certificate(trust, cert, error);
}

void
nc_renew_withdraw(NcTrust *trust)
{
  /* What can't be done now is done by the next attempt, or the next start. */
  if (nc_pki_pair_settle(nc_trust_pki_dir(trust), NULL))
    nc_trust_reload(trust, NULL);
}

bool
nc_renew_keeps_old(const char *data_dir)
{
  g_autofree char *pki = nc_pki_dir(data_dir), *path = g_build_filename(pki, "node.crt", NULL),
                  *before_path = g_build_filename(pki, NC_PKI_CERT_BEFORE, NULL);
  g_autoptr(NcCert) before = nc_cert_load(before_path, NULL);
  g_autoptr(NcCert) cert = before ? nc_cert_load(path, NULL) : NULL;

  return cert && !g_str_equal(nc_cert_fingerprint(cert), nc_cert_fingerprint(before));
}

/* --- the CA's half --- */

static bool
nc_renew_check_days(NcTrust *trust, const char *node, int64_t days, GError **error)
{
  if (days <= NC_PKI_NODE_DAYS || g_str_equal(node, nc_trust_node(trust)))
    return true;
  return nc_fail(error, NC_ERROR_INVALID, "node %s asks for a certificate of %d days: %d is the most that a node gets which does not have the "
                 "CA's key", node, (int)days, NC_PKI_NODE_DAYS);
}

json_t *
nc_renew_issue(NcTrust *trust, const char *node, const char *serial, json_t *renew, GError **error)
{
  g_autoptr(NcCert) cert = NULL;
  g_autoptr(NcRoster) roster = NULL;
  int64_t days;
  const char *csr = nc_json_string(renew, "csr", error), *next;

  if (!csr || !nc_json_int(renew, "days", 0, NC_PKI_CA_DAYS, &days, error) || !nc_renew_check_days(trust, node, days, error) ||
      !(next = nc_json_string(renew, "next", error)))
    return NULL;
  const NcNextRequest asked = { .name = node, .serial = serial, .next = next, .csr_pem = csr, .validity_days = (int)days };
  if (!nc_trust_issue_next(trust, &asked, &cert, &roster, error))
    return NULL;
  nc_fault_point("renew-issued");
  return json_pack("{s:s, s:s, s:{s:s, s:s}}", "type", "renewed", "certificate", nc_cert_pem(cert), "roster", "document",
                   nc_roster_document(roster), "signature", nc_roster_signature(roster));
}

bool
nc_renew_seen(NcTrust *trust, const char *node, const char *serial, bool *ret_used, GError **error)
{
  return nc_trust_use_next(trust, node, serial, ret_used, error);
}

/* --- after a crash --- */

bool
nc_renew_settle_files(const char *data_dir, GError **error)
{
  g_autofree char *pki_dir = nc_pki_dir(data_dir);
  return nc_pki_pair_settle(pki_dir, error);
}

bool
nc_renew_settle(NcTrust *trust, bool *ret_used, GError **error)
{
  g_autofree char *pem = nc_trust_cert_pem(trust);
  g_autoptr(NcCert) cert = nc_cert_parse(pem, error);

  *ret_used = false;
  return cert && nc_trust_use_next(trust, nc_trust_node(trust), nc_cert_serial(cert), ret_used, error);
}
