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
typedef struct {
  const char *name;
  const char *serial; /* of the certificate that it came with; NULL: it is this node itself, which proves by the CA's key that it may */
  const char *next;   /* serial number of its next certificate, as its roster has it; "": none */
  const char *csr_pem;
  int validity_days;
} NcNextRequest;

/*
 * With the CA's key: issues the joined node a next certificate, and lists it in a new roster, saved. As nc_trust_admit().
 * NC_ERROR_CONFLICT if it did not come with its present certificate, as of now, or its next one is not the one that it knows of.
 */
bool nc_trust_issue_next(NcTrust *trust, const NcNextRequest *asked, NcCert **ret_cert, NcRoster **ret_roster, GError **error);
/* With the CA's key, if ${serial} is the next certificate of ${name}: makes it the node's, in a new roster, saved. Else *ret_used is false. */
bool nc_trust_use_next(NcTrust *trust, const char *name, const char *serial, bool *ret_used, GError **error);
/* Puts this node's new certificate, whose key is in node.key.next (crypto/pki_pair.h), on the disk and into use. */
bool nc_trust_replace_certificate(NcTrust *trust, NcCert *cert, GError **error);
/* Where it was loaded from; borrowed, never changes. */
const char *nc_trust_pki_dir(NcTrust *trust);
/* May ${name} come with certificate ${serial}, listed since roster version ${since}, to a new connection? NC_ERROR_TRUST if not. */
bool nc_trust_check_newcomer(NcTrust *trust, const char *name, const char *serial, uint64_t since, GError **error);
/* This node's certificate, PEM. Caller frees. */
char *nc_trust_cert_pem(NcTrust *trust);
/* The CA's certificate, PEM. Caller frees. */
char *nc_trust_ca_pem(NcTrust *trust);

/* trust_verify.c: SSL_CTX_set_cert_verify_callback() for the two contexts above. */
int nc_trust_verify(X509_STORE_CTX *store, void *unused);
int nc_trust_verify_joining(X509_STORE_CTX *store, void *unused);
