/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's types taught to our idiom. Private to src/crypto: no header that
 * other directories include may include this one.
 */
#pragma once

#include "base/error.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIGNUM, BN_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SSL, SSL_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SSL_CTX, SSL_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SSL_SESSION, SSL_SESSION_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_REQ, X509_REQ_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_EXTENSION, X509_EXTENSION_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GENERAL_NAMES, GENERAL_NAMES_free)

/*
 * Initialises OpenSSL once, without its configuration file: a line in
 * /etc/ssl/openssl.cnf must not change what NovaCron accepts, and the mover
 * can't open it. Every entry of src/crypto calls it; any thread.
 */
void nc_ossl_init(void);

/* The oldest reason in this thread's error queue, for people; empties the queue. Caller frees. */
char *nc_ossl_reason(void);

/* nc_fail with nc_ossl_reason() appended. Returns false. */
bool nc_ossl_fail(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
