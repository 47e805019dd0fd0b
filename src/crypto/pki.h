/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and certificates: the cluster's CA and the nodes it vouches for.
 *
 * Everything is ECDSA on P-256: whatever reads certificates can read these. A node's
 * certificate says its name three times: CN, DNS name and the URI
 * novacron:node:NAME, of which NovaCron believes the last; it is good for both
 * ends of a connection. A second URI, novacron:since:N, says which version of the
 * roster listed it first: who has an older one can't know it yet. Layout, below
 * the data directory, all files mode 0600 except certificates and roster (0644),
 * the directory 0700:
 *
 *   pki/ca.crt           the CA's certificate; its SHA-256 is in every join token
 *   pki/ca.key           the CA's key; only on the node where the cluster was made
 *   pki/node.crt         this node's certificate
 *   pki/node.crt.before  the one that it replaced, until the transaction log is sealed with the new key
 *   pki/node.key         this node's key; made here, never leaves
 *   pki/node.key.next    while the certificate is being renewed (crypto/pki_pair.h)
 *   pki/roster.json      crypto/roster.h
 *   pki/roster.sig
 *
 * The directory appears whole or not at all (made aside, then renamed).
 * Types are immutable after creation and may be shared between threads.
 */
#pragma once

#include "base/error.h"
#include "crypto/digest.h"
#include <stddef.h>
#include <stdint.h>

#define NC_PKI_CA_DAYS 7300          /* 20 years: changing a CA means joining every node again */
#define NC_PKI_NODE_DAYS 825         /* what browsers and auditors accept at most */
#define NC_PKI_PEM_MAX_BYTES 16384   /* a P-256 certificate or CSR is under 1 KiB */
#define NC_PKI_MAX_SIGNATURE_BYTES 256 /* ECDSA P-256 in DER: 72 */
#define NC_PKI_CERT_BEFORE "node.crt.before"
#define NC_PKI_BACKDATE_S 300        /* a new certificate must not be "not yet valid" to a slow clock */

typedef struct NcKey NcKey;
typedef struct NcCert NcCert;
typedef struct NcCa NcCa; /* a CA certificate together with its key */

/*
 * Makes a cluster on this node: CA, node certificate, roster with this node,
 * below ${data_dir}/pki. ${node} is this node's name, ${address} ("host:port")
 * where other nodes reach it, ${validity_days} the node certificate's life (0:
 * NC_PKI_NODE_DAYS). Refuses with NC_ERROR_EXISTS if there is a pki directory
 * with anything in it.
 */
bool nc_pki_init(const char *data_dir, const char *cluster, const char *node, const char *address, int validity_days,
                 GError **error);
/* ${data_dir}/pki. Caller frees. */
char *nc_pki_dir(const char *data_dir);

NcKey *nc_key_new(GError **error);
NcKey *nc_key_load(const char *path, GError **error);
bool nc_key_save(NcKey *key, const char *path, GError **error); /* mode 0600, durable */
void nc_key_free(NcKey *key);                                   /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcKey, nc_key_free)

/* A request for a certificate for ${node}, PEM. Caller frees. */
char *nc_key_make_csr(NcKey *key, const char *node, GError **error);

/* ECDSA-SHA256 over ${data}, DER: nc_cert_check_signature() of the certificate that fits. */
GBytes *nc_key_sign(NcKey *key, const void *data, size_t length_bytes, GError **error);

/* From PEM: exactly one certificate. NC_ERROR_INVALID if it is none. */
NcCert *nc_cert_parse(const char *pem, GError **error);
NcCert *nc_cert_load(const char *path, GError **error);
bool nc_cert_save(NcCert *cert, const char *path, GError **error); /* mode 0644, durable */
void nc_cert_free(NcCert *cert);                                   /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcCert, nc_cert_free)

/* All borrowed from the certificate. */
const char *nc_cert_node(const NcCert *cert);            /* NULL: not a node's certificate */
uint64_t nc_cert_since(const NcCert *cert);              /* the first version of the roster that listed it; 0: not said */
const char *nc_cert_serial(const NcCert *cert);          /* lower-case hexadecimal */
const char *nc_cert_fingerprint(const NcCert *cert);     /* SHA-256 of the DER form, 64 hexadecimal digits */
const char *nc_cert_pem(const NcCert *cert);
int64_t nc_cert_not_before_us(const NcCert *cert);       /* wall clock */
int64_t nc_cert_not_after_us(const NcCert *cert);
bool nc_cert_is_ca(const NcCert *cert);
bool nc_cert_fits_key(const NcCert *cert, const NcKey *key);
/* Issued by ${ca} (signature, not time). NC_ERROR_TRUST if not. */
bool nc_cert_check_issuer(const NcCert *cert, const NcCert *ca, GError **error);
/* Checks an ECDSA signature by the certificate's key over ${data}. NC_ERROR_TRUST if it does not fit. */
bool nc_cert_check_signature(const NcCert *cert, const void *data, size_t length_bytes, const void *signature,
                             size_t signature_bytes, GError **error);

/* A new CA for ${cluster}. */
NcCa *nc_ca_new(const char *cluster, GError **error);
/* ca.crt and ca.key of ${pki_dir}; NC_ERROR_NOT_FOUND without the key. */
NcCa *nc_ca_load(const char *pki_dir, GError **error);
bool nc_ca_save(NcCa *ca, const char *pki_dir, GError **error);
void nc_ca_free(NcCa *ca); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcCa, nc_ca_free)

NcCert *nc_ca_cert(const NcCa *ca); /* borrowed */
/* Whose CA it is: the node that rosters signed with it name. NULL: not said; borrowed. */
void nc_ca_set_holder(NcCa *ca, const char *node);
const char *nc_ca_holder(const NcCa *ca);
/*
 * Issues a certificate for ${node}. Of the foreign ${csr_pem} only the public
 * key is used (P-256, its owner proved by the CSR's signature): names come
 * from us. ${validity_days} 0: NC_PKI_NODE_DAYS; cut at the CA's own end.
 * ${since}: the version of the roster that will list it first.
 */
NcCert *nc_ca_issue(const NcCa *ca, const char *csr_pem, const char *node, uint64_t since, int validity_days, GError **error);
/* ECDSA-SHA256 over ${data}, DER. */
GBytes *nc_ca_sign(const NcCa *ca, const void *data, size_t length_bytes, GError **error);
