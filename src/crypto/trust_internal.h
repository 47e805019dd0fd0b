/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How trust becomes a TLS handshake, for peer.c and join.c. Private to src/crypto.
 */
#pragma once

#include "crypto/tls_internal.h"
#include "crypto/trust.h"

/* What a handshake's callback judges by; NcTls.judge, during the handshake only. */
typedef struct {
  NcTrust *trust;                /* borrowed; NULL when joining */
  const char *expected_node;     /* NULL: any joined node */
  const uint8_t *ca_fingerprint; /* when joining: of the only CA to believe */
} NcTrustJudge;

/* The context for connections of ${trust}; a new reference. Its callback needs an NcTrustJudge. */
SSL_CTX *nc_trust_context(NcTrust *trust, bool server);
/* The context of a node that has nothing yet but a fingerprint. */
SSL_CTX *nc_trust_joining_context(GError **error);
bool nc_trust_allows_anonymous(NcTrust *trust);

/*
 * With the CA's key: issues a certificate and puts the node into a new roster,
 * saved. New references in *ret_cert and *ret_roster, on success.
 */
bool nc_trust_admit(NcTrust *trust, const char *name, const char *address, const char *csr_pem, int validity_days,
                    NcCert **ret_cert, NcRoster **ret_roster, GError **error);
/* The CA's certificate, PEM. Caller frees. */
char *nc_trust_ca_pem(NcTrust *trust);

/* trust_verify.c: SSL_CTX_set_cert_verify_callback() for the two contexts above. */
int nc_trust_verify(X509_STORE_CTX *store, void *unused);
int nc_trust_verify_joining(X509_STORE_CTX *store, void *unused);
