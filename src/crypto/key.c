/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys: made here, kept in files of mode 0600, never sent. */
#include "base/ident.h"
#include "base/io.h"
#include "crypto/pki_internal.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>

void
nc_key_free(NcKey *key)
{
  if (!key)
    return;
  EVP_PKEY_free(key->pkey);
  g_free(key);
}

static NcKey *
nc_key_take(EVP_PKEY *pkey)
{
  NcKey *key = g_new0(NcKey, 1);
  key->pkey = pkey;
  return key;
}

NcKey *
nc_key_new(GError **error)
{
  nc_ossl_init();
  EVP_PKEY *pkey = EVP_EC_gen("P-256");

  if (!pkey) {
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "can't make a key");
    return NULL;
  }
  return nc_key_take(pkey);
}

/* Never asks a terminal for a pass phrase, OpenSSL's default for an encrypted key. */
static int
nc_no_pass_phrase(char *buffer, int size, int writing, void *data)
{
  return -1;
}

NcKey *
nc_key_load(const char *path, GError **error)
{
  nc_ossl_init();
  struct stat info;
  size_t length = 0;

  if (stat(path, &info) == 0 && (info.st_mode & 077) != 0) {
    nc_fail(error, NC_ERROR_TRUST, "%s can be read by others than its owner: chmod 600 %s", path, path);
    return NULL;
  }
  g_autofree char *pem = nc_file_read(path, NC_PKI_PEM_MAX_BYTES, &length, error);
  if (!pem)
    return NULL;
  g_autoptr(BIO) memory = BIO_new_mem_buf(pem, (int)length);
  g_autoptr(EVP_PKEY) pkey = memory ? PEM_read_bio_PrivateKey(memory, NULL, nc_no_pass_phrase, NULL) : NULL;
  nc_secret_clear(pem, length);
  if (!pkey || !EVP_PKEY_is_a(pkey, "EC")) {
    nc_ossl_fail(error, NC_ERROR_INVALID, "%s is not an EC private key", path);
    return NULL;
  }
  return nc_key_take(g_steal_pointer(&pkey));
}

bool
nc_key_save(NcKey *key, const char *path, GError **error)
{
  g_autoptr(BIO) memory = BIO_new(BIO_s_secmem());
  char *data = NULL;

  if (!memory || PEM_write_bio_PKCS8PrivateKey(memory, key->pkey, NULL, NULL, 0, NULL, NULL) != 1)
    return nc_ossl_fail(error, NC_ERROR_INTERNAL, "can't encode a key");
  long length = BIO_get_mem_data(memory, &data);
  return nc_file_replace(path, data, (size_t)length, 0600, error);
}

static bool
nc_csr_fill(X509_REQ *request, NcKey *key, const char *node)
{
  X509_NAME *subject = X509_REQ_get_subject_name(request);

  return X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
         X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)node, -1, -1, 0) == 1 &&
         X509_REQ_set_pubkey(request, key->pkey) == 1 && X509_REQ_sign(request, key->pkey, EVP_sha256()) > 0;
}

char *
nc_key_make_csr(NcKey *key, const char *node, GError **error)
{
  if (!nc_name_is_valid(node)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%s\" can't name a node: " NC_NAME_RULE, node ? node : "");
    return NULL;
  }
  g_autoptr(X509_REQ) request = X509_REQ_new();
  g_autoptr(BIO) memory = BIO_new(BIO_s_mem());
  char *data = NULL;
  if (!request || !memory || !nc_csr_fill(request, key, node) || PEM_write_bio_X509_REQ(memory, request) != 1) {
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "can't make a certificate request");
    return NULL;
  }
  long length = BIO_get_mem_data(memory, &data);
  return g_strndup(data, (gsize)length);
}

GBytes *
nc_key_sign(NcKey *key, const void *data, size_t length_bytes, GError **error)
{
  g_autoptr(EVP_MD_CTX) context = EVP_MD_CTX_new();
  unsigned char signature[NC_PKI_MAX_SIGNATURE_BYTES];
  size_t size = sizeof signature;

  if (!context || EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key->pkey) != 1 ||
      EVP_DigestSign(context, signature, &size, data, length_bytes) != 1) {
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "this node's key can't sign");
    return NULL;
  }
  return g_bytes_new(signature, size);
}
