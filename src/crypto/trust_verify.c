/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judgement on a peer's certificate, inside the handshake.
 *
 * Two steps: X.509 says whether our CA issued it, for this end of a connection,
 * for now; the roster says whether its node still belongs to us. The error
 * left in the store chooses the alert the peer receives, the text left in the
 * NcTls is what our side reports.
 */
#include "base/bytes.h"
#include "base/ident.h"
#include "crypto/pki_internal.h"
#include "crypto/trust_internal.h"

#include <string.h>

static NcTls *
nc_store_tls(X509_STORE_CTX *store)
{
  return nc_tls_of(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
}

/* "node-a's certificate", "the CA's certificate" or "the peer's certificate". Caller frees. */
static char *
nc_store_whose(X509_STORE_CTX *store)
{
  X509 *x509 = X509_STORE_CTX_get_current_cert(store);
  g_autofree char *node = x509 ? nc_x509_node(x509) : NULL;

  if (X509_STORE_CTX_get_error_depth(store) > 0)
    return g_strdup("the CA's certificate");
  return node ? g_strdup_printf("the certificate of node %s", node) : g_strdup("the peer's certificate");
}

static char *
nc_store_time(X509_STORE_CTX *store, bool end)
{
  X509 *x509 = X509_STORE_CTX_get_current_cert(store);
  g_autoptr(NcCert) cert = x509 ? nc_cert_from_x509(x509, NULL) : NULL;

  if (!cert)
    return g_strdup("an unknown time");
  return nc_time_format(end ? cert->not_after_us : cert->not_before_us);
}

static void
nc_store_explain(X509_STORE_CTX *store, NcTls *tls)
{
  int problem = X509_STORE_CTX_get_error(store);
  g_autofree char *whose = nc_store_whose(store);
  g_autofree char *from = nc_store_time(store, false);
  g_autofree char *until = nc_store_time(store, true);

  switch (problem) {
  case X509_V_ERR_CERT_HAS_EXPIRED:
    nc_tls_refuse(tls, "%s expired at %s", whose, until);
    break;
  case X509_V_ERR_CERT_NOT_YET_VALID:
    nc_tls_refuse(tls, "%s is not valid before %s: is a clock wrong?", whose, from);
    break;
  case X509_V_ERR_INVALID_PURPOSE:
    nc_tls_refuse(tls, "%s was made for another purpose", whose);
    break;
  case X509_V_ERR_CERT_CHAIN_TOO_LONG: /* it sends its CA along, which is not ours */
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
  case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    nc_tls_refuse(tls, "the peer's certificate was issued by an unknown CA: it belongs to another cluster");
    /* A CA of the same name fails by its signature, for which the alert would be "decrypt error". */
    X509_STORE_CTX_set_error(store, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
    break;
  default:
    nc_tls_refuse(tls, "%s is not acceptable: %s", whose, X509_verify_cert_error_string(problem));
  }
}

static int
nc_store_refuse(X509_STORE_CTX *store, int problem)
{
  X509_STORE_CTX_set_error(store, problem);
  return 0;
}

/* The second step: is this node one of us? */
static int
nc_trust_verify_node(X509_STORE_CTX *store, NcTls *tls, const NcTrustJudge *judge)
{
  X509 *x509 = X509_STORE_CTX_get0_cert(store);
  g_autofree char *node = nc_x509_node(x509);
  g_autofree char *serial = nc_x509_serial(x509);
  g_autoptr(GError) error = NULL;

  if (!node || !serial) {
    nc_tls_refuse(tls, "the peer's certificate names no node");
    return nc_store_refuse(store, X509_V_ERR_INVALID_PURPOSE);
  }
  if (!nc_trust_check_newcomer(judge->trust, node, serial, nc_x509_since(x509), &error)) {
    nc_tls_refuse(tls, "%s", error->message);
    return nc_store_refuse(store, X509_V_ERR_CERT_REVOKED);
  }
  if (judge->expected_node && strcmp(judge->expected_node, node) != 0) {
    nc_tls_refuse(tls, "the peer is node %s, not %s", node, judge->expected_node);
    return nc_store_refuse(store, X509_V_ERR_HOSTNAME_MISMATCH);
  }
  return 1;
}

int
nc_trust_verify(X509_STORE_CTX *store, void *unused)
{
  NcTls *tls = nc_store_tls(store);

  if (X509_verify_cert(store) <= 0) {
    nc_store_explain(store, tls);
    return 0;
  }
  return nc_trust_verify_node(store, tls, tls->judge);
}

/* The certificate in what the peer sent that has our fingerprint; NULL if there is none. Borrowed. */
static X509 *
nc_store_find(X509_STORE_CTX *store, const uint8_t fingerprint[NC_SHA256_BYTES])
{
  STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);

  for (int i = 0; i < sk_X509_num(sent); i++) {
    unsigned char digest[NC_SHA256_BYTES];
    X509 *x509 = sk_X509_value(sent, i);
    if (X509_digest(x509, EVP_sha256(), digest, NULL) == 1 && nc_constant_time_equal(digest, fingerprint, sizeof digest))
      return x509;
  }
  return NULL;
}

int
nc_trust_verify_joining(X509_STORE_CTX *store, void *unused)
{
  NcTls *tls = nc_store_tls(store);
  const NcTrustJudge *judge = tls->judge;
  X509 *ca = nc_store_find(store, judge->ca_fingerprint);

  if (!ca || X509_check_ca(ca) != 1) {
    nc_tls_refuse(tls, "the other side does not belong to the cluster that made the token: its CA has another fingerprint");
    return nc_store_refuse(store, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
  }
  STACK_OF(X509) *trusted = sk_X509_new_null();
  int verdict = 0;
  if (trusted && sk_X509_push(trusted, ca) > 0) {
    X509_STORE_CTX_set0_trusted_stack(store, trusted);
    verdict = X509_verify_cert(store) > 0;
  }
  if (!verdict)
    nc_store_explain(store, tls);
  sk_X509_free(trusted);
  return verdict;
}
