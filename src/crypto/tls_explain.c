/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a TLS connection failed, for people.
 *
 * There are four sources, asked in this order: what our own callbacks refused,
 * the alert the peer sent, what OpenSSL found wrong, what the socket said.
 */
#include "crypto/tls_internal.h"

#include <errno.h>
#include <openssl/sslerr.h>

#define NC_ALERT_REASON_BASE SSL_AD_REASON_OFFSET /* OpenSSL: reason = 1000 + alert received */

typedef struct {
  int reason; /* of ERR_LIB_SSL */
  int code;
  const char *text;
} NcTlsProblem;

/* Found by us during the handshake. */
static const NcTlsProblem nc_handshake_problem[] = {
  { SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, NC_ERROR_TRUST, "the peer showed no certificate" },
  { SSL_R_UNSUPPORTED_PROTOCOL, NC_ERROR_TRUST, "the peer does not offer TLS 1.3" },
  { SSL_R_NO_SHARED_CIPHER, NC_ERROR_TRUST, "the peer does not offer TLS_AES_256_GCM_SHA384" },
  { SSL_R_WRONG_CIPHER_RETURNED, NC_ERROR_TRUST, "the peer chose a cipher that was not offered" },
  { SSL_R_NO_SUITABLE_KEY_SHARE, NC_ERROR_TRUST, "the peer offers no key exchange that is allowed here" },
  { SSL_R_NO_SHARED_GROUPS, NC_ERROR_TRUST, "the peer offers no key exchange that is allowed here" },
  { SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, NC_ERROR_TRUST, "the peer accepts no signature that can be made here" },
  { SSL_R_WRONG_SIGNATURE_TYPE, NC_ERROR_TRUST, "the peer signs with an algorithm that is not allowed here" },
  { SSL_R_BAD_SIGNATURE, NC_ERROR_TRUST, "the peer does not hold the key of the certificate it showed" },
  { SSL_R_BINDER_DOES_NOT_VERIFY, NC_ERROR_TRUST, "the peer holds another key" },
  { SSL_R_DIGEST_CHECK_FAILED, NC_ERROR_TRUST, "the handshake was altered on the way" },
  { SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, NC_ERROR_CORRUPT, "the handshake was altered on the way" },
  { SSL_R_WRONG_VERSION_NUMBER, NC_ERROR_PROTOCOL, "the other side does not speak TLS" },
  { SSL_R_WRONG_SSL_VERSION, NC_ERROR_PROTOCOL, "the other side does not speak TLS" },
  { SSL_R_UNKNOWN_PROTOCOL, NC_ERROR_PROTOCOL, "the other side does not speak TLS" },
  { SSL_R_HTTP_REQUEST, NC_ERROR_PROTOCOL, "the other side speaks HTTP, not TLS" },
  { SSL_R_HTTPS_PROXY_REQUEST, NC_ERROR_PROTOCOL, "the other side speaks HTTP, not TLS" },
  { SSL_R_BAD_RECORD_TYPE, NC_ERROR_PROTOCOL, "the other side does not speak TLS" },
  { SSL_R_PACKET_LENGTH_TOO_LONG, NC_ERROR_PROTOCOL, "the other side does not speak TLS" },
  { SSL_R_ENCRYPTED_LENGTH_TOO_LONG, NC_ERROR_PROTOCOL, "the other side does not speak TLS" },
};

/* Alerts that say something about us; with the reason a person can act on. */
static const struct {
  int alert;
  const char *text;
} nc_certificate_alert[] = {
  { SSL_AD_BAD_CERTIFICATE, "bad certificate (not valid yet, or of another node than it expected)" },
  { SSL_AD_UNSUPPORTED_CERTIFICATE, "certificate made for another purpose" },
  { SSL_AD_CERTIFICATE_REVOKED, "certificate revoked (this node was removed from the cluster, never joined it, or has another certificate now)" },
  { SSL_AD_CERTIFICATE_EXPIRED, "certificate expired" },
  { SSL_AD_CERTIFICATE_UNKNOWN, "certificate not acceptable" },
  { SSL_AD_UNKNOWN_CA, "unknown CA (it belongs to another cluster)" },
  { SSL_AD_ACCESS_DENIED, "access denied" },
};

static NcTlsResult
nc_tls_explain_alert(NcTls *tls, int alert, GError **error)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_certificate_alert); i++) {
    if (nc_certificate_alert[i].alert == alert) {
      nc_fail(error, NC_ERROR_TRUST, "the peer refused our certificate: %s", nc_certificate_alert[i].text);
      return NC_TLS_FAILED;
    }
  }
  if (alert == SSL_AD_CERTIFICATE_REQUIRED)
    nc_fail(error, NC_ERROR_TRUST, "the peer refused the connection: it requires a certificate");
  else if (alert == SSL_AD_PROTOCOL_VERSION)
    nc_fail(error, NC_ERROR_TRUST, "the peer refused the connection: it does not offer TLS 1.3");
  else if (alert == SSL_AD_BAD_RECORD_MAC)
    nc_fail(error, NC_ERROR_CORRUPT, "the peer received an altered record");
  else if (tls->psk && !tls->established)
    nc_fail(error, NC_ERROR_TRUST, "the peer refused our key or its identity (%s)", SSL_alert_desc_string_long(alert));
  else
    nc_fail(error, NC_ERROR_TRUST, "the peer refused the connection: %s", SSL_alert_desc_string_long(alert));
  return NC_TLS_FAILED;
}

static NcTlsResult
nc_tls_explain_cut(NcTls *tls, GError **error)
{
  const char *when = tls->established ? "" : " during the TLS handshake";

  if (tls->io_errno && tls->io_errno != ECONNRESET && tls->io_errno != EPIPE)
    nc_fail_errno(error, tls->io_errno == ETIMEDOUT ? NC_ERROR_TIMEOUT : NC_ERROR_UNREACHABLE, tls->io_errno,
                  "the connection was lost%s", when);
  else
    nc_fail(error, NC_ERROR_UNREACHABLE, "the connection was closed by the other side%s", when);
  return NC_TLS_FAILED;
}

static NcTlsResult
nc_tls_explain_handshake(NcTls *tls, int reason, GError **error)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_handshake_problem); i++) {
    const NcTlsProblem *problem = &nc_handshake_problem[i];
    if (problem->reason != reason)
      continue;
    /* Without a key that fits, OpenSSL goes on to certificates, finds none and says so in many ways. */
    if (tls->psk && tls->server && (reason == SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM))
      break;
    nc_fail(error, problem->code, "%s", problem->text);
    return NC_TLS_FAILED;
  }
  if (tls->psk) {
    nc_fail(error, NC_ERROR_TRUST, "the peer did not prove the key: %s", ERR_reason_error_string(ERR_peek_error()));
    return NC_TLS_FAILED;
  }
  const char *text = ERR_reason_error_string(ERR_peek_error());
  nc_fail(error, NC_ERROR_PROTOCOL, "the TLS handshake failed: %s", text ? text : "no reason given");
  return NC_TLS_FAILED;
}

NcTlsResult
nc_tls_explain(NcTls *tls, int ret, GError **error)
{
  int kind = SSL_get_error(tls->ssl, ret);
  unsigned long first = ERR_peek_error();
  int reason = ERR_GET_LIB(first) == ERR_LIB_SSL ? ERR_GET_REASON(first) : 0;

  if (kind == SSL_ERROR_ZERO_RETURN)
    return NC_TLS_CLOSED;
  if (tls->refusal) {
    nc_fail(error, NC_ERROR_TRUST, "%s", tls->refusal);
    return NC_TLS_FAILED;
  }
  if (reason > NC_ALERT_REASON_BASE)
    return nc_tls_explain_alert(tls, reason - NC_ALERT_REASON_BASE, error);
  if (kind == SSL_ERROR_SYSCALL || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING || first == 0)
    return nc_tls_explain_cut(tls, error);
  if (!tls->established)
    return nc_tls_explain_handshake(tls, reason, error);
  const char *text = ERR_reason_error_string(first);
  nc_fail(error, NC_ERROR_CORRUPT, "a TLS record was altered on the way (%s)", text ? text : "no reason given");
  return NC_TLS_FAILED;
}
