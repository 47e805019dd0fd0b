/* SPDX-License-Identifier: Apache-2.0 */
/* Digests and randomness by OpenSSL's EVP interface. */
#include "crypto/digest.h"
#include "base/bytes.h"
#include "crypto/ossl.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

struct NcSha256 {
  EVP_MD_CTX *context;
};

/* Fetched once: an implicit fetch per page would take OpenSSL's global lock each time. */
static const EVP_MD *
nc_sha256_method(void)
{
  static gsize once;
  static EVP_MD *method;

  if (g_once_init_enter(&once)) {
    nc_ossl_init();
    method = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!method)
      g_error("OpenSSL has no SHA-256");
    g_once_init_leave(&once, 1);
  }
  return method;
}

/* EVP calls on SHA-256 fail only for want of memory, for which GLib's answer is to end the process. */
static void
nc_evp_must(int ok)
{
  if (ok != 1)
    g_error("OpenSSL could not compute a SHA-256");
}

static EVP_MD_CTX *
nc_sha256_context_new(void)
{
  EVP_MD_CTX *context = EVP_MD_CTX_new();

  nc_evp_must(context != NULL);
  nc_evp_must(EVP_DigestInit_ex2(context, nc_sha256_method(), NULL));
  return context;
}

static void
nc_sha256_context_free(gpointer context)
{
  EVP_MD_CTX_free(context);
}

void
nc_sha256(const void *data, size_t length_bytes, uint8_t ret_digest[NC_SHA256_BYTES])
{
  static GPrivate mine = G_PRIVATE_INIT(nc_sha256_context_free);
  EVP_MD_CTX *context = g_private_get(&mine);

  if (!context) {
    context = nc_sha256_context_new();
    g_private_set(&mine, context);
  } else {
    nc_evp_must(EVP_DigestInit_ex2(context, NULL, NULL));
  }
  nc_evp_must(EVP_DigestUpdate(context, data, length_bytes));
  nc_evp_must(EVP_DigestFinal_ex(context, ret_digest, NULL));
}

char *
nc_sha256_hex(const void *data, size_t length_bytes)
{
  uint8_t digest[NC_SHA256_BYTES];

  nc_sha256(data, length_bytes, digest);
  return nc_hex_encode(digest, sizeof digest);
}

NcSha256 *
nc_sha256_new(void)
{
  NcSha256 *sha = g_new0(NcSha256, 1);
  sha->context = nc_sha256_context_new();
  return sha;
}

void
nc_sha256_update(NcSha256 *sha, const void *data, size_t length_bytes)
{
  nc_evp_must(EVP_DigestUpdate(sha->context, data, length_bytes));
}

void
nc_sha256_snapshot(const NcSha256 *sha, uint8_t ret_digest[NC_SHA256_BYTES])
{
  EVP_MD_CTX *copy = EVP_MD_CTX_new();

  nc_evp_must(copy != NULL);
  nc_evp_must(EVP_MD_CTX_copy_ex(copy, sha->context));
  nc_evp_must(EVP_DigestFinal_ex(copy, ret_digest, NULL));
  EVP_MD_CTX_free(copy);
}

void
nc_sha256_free(NcSha256 *sha)
{
  if (!sha)
    return;
  EVP_MD_CTX_free(sha->context);
  g_free(sha);
}

bool
nc_constant_time_equal(const void *a, const void *b, size_t length_bytes)
{
  return CRYPTO_memcmp(a, b, length_bytes) == 0;
}

void
nc_random_bytes(void *ret_data, size_t length_bytes)
{
  nc_ossl_init();
  if (length_bytes > INT_MAX || RAND_priv_bytes(ret_data, (int)length_bytes) != 1)
    g_error("no random bytes to be had");
}

void
nc_secret_clear(void *data, size_t length_bytes)
{
  OPENSSL_cleanse(data, length_bytes);
}
