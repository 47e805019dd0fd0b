/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of keys and certificates, for trust.c. Private to src/crypto.
 */
#pragma once

#include "crypto/ossl.h"
#include "crypto/pki.h"

struct NcKey {
  EVP_PKEY *pkey;
};

struct NcCert {
  X509 *x509;
  char *pem;
  char *node; /* NULL: none */
  uint64_t since;
  char *serial;
  char *fingerprint;
  int64_t not_before_us;
  int64_t not_after_us;
  bool is_ca;
};

struct NcCa {
  NcCert *cert;
  NcKey *key;
  char *holder; /* NULL: nobody has said */
};

/* Takes a reference of its own to ${x509}. NULL on error. */
NcCert *nc_cert_from_x509(X509 *x509, GError **error);

/* The name in the URI novacron:node:NAME; NULL if there is not exactly one, or an invalid one. Caller frees. */
char *nc_x509_node(X509 *x509);
/* The number in the URI novacron:since:N; 0 if there is not exactly one, or an invalid one. */
uint64_t nc_x509_since(X509 *x509);
/* Lower-case hexadecimal; NULL if it can't be had. Caller frees. */
char *nc_x509_serial(X509 *x509);
