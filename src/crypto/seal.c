/* SPDX-License-Identifier: Apache-2.0 */
/* AES-256-GCM and key derivation by OpenSSL's EVP interface. */
#include "crypto/seal.h"
#include "base/bytes.h"
#include "base/io.h"
#include "crypto/digest.h"
#include "crypto/ossl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <sys/stat.h>
#include <unistd.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MAC_CTX, EVP_MAC_CTX_free)

#define NC_SEAL_LABEL_NAMES "novacron seal v1: names"
#define NC_SEAL_LABEL_BYTES "novacron seal v1: bytes"

struct NcSealKey {
  uint8_t bytes[NC_SEAL_KEY_BYTES];
  EVP_MAC_CTX *derive; /* HMAC under the master key, ready to be duplicated; never changes */
  EVP_MAC_CTX *names;  /* HMAC under the key for nc_seal_key_mac() */
};

struct NcSealer {
  EVP_CIPHER_CTX *context; /* holds the derived key */
  uint8_t nonce[NC_SEAL_NONCE_BYTES];
};

struct NcOpener {
  EVP_CIPHER_CTX *context; /* holds the derived key; never used itself, only copied */
};

/* What fails here fails for want of memory, or because OpenSSL was built without; as in digest.c. */
static void
nc_seal_must(int ok)
{
  if (ok != 1)
    g_error("OpenSSL could not do AES-256-GCM or HMAC-SHA-256");
}

/* Fetched once: implicit fetches take OpenSSL's global lock each time. */
static const EVP_CIPHER *
nc_seal_cipher(void)
{
  static gsize once;
  static EVP_CIPHER *cipher;

  if (g_once_init_enter(&once)) {
    nc_ossl_init();
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    nc_seal_must(cipher != NULL);
    g_once_init_leave(&once, 1);
  }
  return cipher;
}

static EVP_MAC_CTX *
nc_seal_hmac_new(const uint8_t key[32])
{
  static gsize once;
  static EVP_MAC *hmac;
  const OSSL_PARAM parameters[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
                                    OSSL_PARAM_construct_end() };

  if (g_once_init_enter(&once)) {
    nc_ossl_init();
    hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    nc_seal_must(hmac != NULL);
    g_once_init_leave(&once, 1);
  }
  EVP_MAC_CTX *context = EVP_MAC_CTX_new(hmac);
  nc_seal_must(context != NULL);
  nc_seal_must(EVP_MAC_init(context, key, 32, parameters));
  return context;
}

/* HMAC of two pieces under the key of ${template}. */
static void
nc_seal_hmac(const EVP_MAC_CTX *template, const void *a, size_t a_bytes, const void *b, size_t b_bytes, uint8_t ret[32])
{
  g_autoptr(EVP_MAC_CTX) context = EVP_MAC_CTX_dup(template);
  size_t written;

  nc_seal_must(context != NULL);
  nc_seal_must(EVP_MAC_update(context, a, a_bytes));
  nc_seal_must(EVP_MAC_update(context, b, b_bytes));
  nc_seal_must(EVP_MAC_final(context, ret, &written, 32));
}

NcSealKey *
nc_seal_key_new(const uint8_t bytes[NC_SEAL_KEY_BYTES])
{
  NcSealKey *key = g_new0(NcSealKey, 1);
  uint8_t names[32];

  memcpy(key->bytes, bytes, sizeof key->bytes);
  key->derive = nc_seal_hmac_new(bytes);
  nc_seal_hmac(key->derive, NC_SEAL_LABEL_NAMES, strlen(NC_SEAL_LABEL_NAMES), "", 0, names);
  key->names = nc_seal_hmac_new(names);
  nc_secret_clear(names, sizeof names);
  return key;
}

static bool
nc_key_file_is_private(const struct stat *st)
{
  return S_ISREG(st->st_mode) && (st->st_mode & 077) == 0 && (st->st_uid == geteuid() || st->st_uid == 0);
}

int
nc_key_file_open(const char *path, size_t *ret_bytes, GError **error)
{
  nc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  struct stat st;

  if (fd < 0) {
    nc_fail_errno(error, errno == ENOENT ? NC_ERROR_NOT_FOUND : NC_ERROR_IO, errno, "can't open key file %s", path);
    return -1;
  }
  if (fstat(fd, &st) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't look at key file %s", path);
    return -1;
  }
  if (!nc_key_file_is_private(&st)) {
    nc_fail(error, NC_ERROR_TRUST,
            "key file %s is not private: it must be a file of this user's or root's that nobody else can read "
            "(chmod 600)", path);
    return -1;
  }
  *ret_bytes = (size_t)st.st_size;
  return nc_fd_steal(&fd);
}

NcSealKey *
nc_seal_key_load(const char *path, GError **error)
{
  uint8_t bytes[NC_SEAL_KEY_BYTES];
  size_t size;
  nc_autofd int fd = nc_key_file_open(path, &size, error);

  if (fd < 0)
    return NULL;
  if (size != NC_SEAL_KEY_BYTES) {
    nc_fail(error, NC_ERROR_TRUST, "key file %s has %zu bytes, a key has %d", path, size, NC_SEAL_KEY_BYTES);
    return NULL;
  }
  if (!nc_read_all(fd, bytes, sizeof bytes, -1, error)) {
    g_prefix_error(error, "key file %s: ", path);
    return NULL;
  }
  NcSealKey *key = nc_seal_key_new(bytes);
  nc_secret_clear(bytes, sizeof bytes);
  return key;
}

/* Under a temporary name until it is durable: a key that is half on disk would lose the store. */
NcSealKey *
nc_seal_key_create(const char *path, GError **error)
{
  uint8_t bytes[NC_SEAL_KEY_BYTES];

  if (access(path, F_OK) == 0) {
    nc_fail(error, NC_ERROR_EXISTS, "key file %s is there already", path);
    return NULL;
  }
  nc_random_bytes(bytes, sizeof bytes);
  bool ok = nc_file_replace(path, bytes, sizeof bytes, 0600, error);
  nc_secret_clear(bytes, sizeof bytes);
  return ok ? nc_seal_key_load(path, error) : NULL;
}

NcSealKey *
nc_seal_key_copy(const NcSealKey *key)
{
  return nc_seal_key_new(key->bytes);
}

void
nc_seal_key_free(NcSealKey *key)
{
  if (!key)
    return;
  EVP_MAC_CTX_free(key->derive);
  EVP_MAC_CTX_free(key->names);
  nc_secret_clear(key->bytes, sizeof key->bytes);
  g_free(key);
}

void
nc_seal_key_mac(const NcSealKey *key, const void *data, size_t length_bytes, uint8_t ret_mac[32])
{
  nc_seal_hmac(key->names, data, length_bytes, "", 0, ret_mac);
}

/* A context that holds the key for ${salt}. */
static EVP_CIPHER_CTX *
nc_seal_context(const NcSealKey *key, const uint8_t salt[NC_SEAL_SALT_BYTES], int encrypt)
{
  uint8_t derived[32];
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

  nc_seal_must(context != NULL);
  nc_seal_hmac(key->derive, NC_SEAL_LABEL_BYTES, strlen(NC_SEAL_LABEL_BYTES), salt, NC_SEAL_SALT_BYTES, derived);
  nc_seal_must(EVP_CipherInit_ex2(context, nc_seal_cipher(), derived, NULL, encrypt, NULL));
  nc_secret_clear(derived, sizeof derived);
  return context;
}

NcSealer *
nc_sealer_new(const NcSealKey *key, uint8_t ret_salt[NC_SEAL_SALT_BYTES])
{
  NcSealer *sealer = g_new0(NcSealer, 1);

  nc_random_bytes(ret_salt, NC_SEAL_SALT_BYTES);
  nc_random_bytes(sealer->nonce, sizeof sealer->nonce);
  sealer->context = nc_seal_context(key, ret_salt, 1);
  return sealer;
}

/* The last 64 bits count, and may wrap: 2^64 seals under one key do not happen. */
static void
nc_sealer_count(NcSealer *sealer)
{
  uint8_t *low = sealer->nonce + NC_SEAL_NONCE_BYTES - 8;
  uint64_t next = nc_be64(low) + 1;

  nc_store_be32(low, (uint32_t)(next >> 32));
  nc_store_be32(low + 4, (uint32_t)next);
}

void
nc_sealer_peek_nonce(const NcSealer *sealer, uint8_t ret_nonce[NC_SEAL_NONCE_BYTES])
{
  memcpy(ret_nonce, sealer->nonce, NC_SEAL_NONCE_BYTES);
}

/* Callers' limits are far below what one call of EVP takes. */
static int
nc_seal_int(size_t bytes)
{
  g_assert(bytes <= (1u << 30));
  return (int)bytes;
}

void
nc_sealer_seal(NcSealer *sealer, const void *aad, size_t aad_bytes, const void *plain, size_t length_bytes,
               uint8_t ret_nonce[NC_SEAL_NONCE_BYTES], uint8_t *ret_sealed)
{
  EVP_CIPHER_CTX *context = sealer->context;
  int n = 0, last = 0;

  memcpy(ret_nonce, sealer->nonce, NC_SEAL_NONCE_BYTES);
  nc_sealer_count(sealer);
  nc_seal_must(EVP_EncryptInit_ex2(context, NULL, NULL, ret_nonce, NULL));
  nc_seal_must(EVP_EncryptUpdate(context, NULL, &n, aad, nc_seal_int(aad_bytes)));
  n = 0;
  if (length_bytes > 0)
    nc_seal_must(EVP_EncryptUpdate(context, ret_sealed, &n, plain, nc_seal_int(length_bytes)));
  nc_seal_must(EVP_EncryptFinal_ex(context, ret_sealed + n, &last));
  nc_seal_must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, NC_SEAL_TAG_BYTES, ret_sealed + length_bytes));
}

void
nc_sealer_free(NcSealer *sealer)
{
  if (!sealer)
    return;
  EVP_CIPHER_CTX_free(sealer->context);
  g_free(sealer);
}

NcOpener *
nc_opener_new(const NcSealKey *key, const uint8_t salt[NC_SEAL_SALT_BYTES])
{
  NcOpener *opener = g_new0(NcOpener, 1);
  opener->context = nc_seal_context(key, salt, 0);
  return opener;
}

bool
nc_opener_open(const NcOpener *opener, const void *aad, size_t aad_bytes, const uint8_t nonce[NC_SEAL_NONCE_BYTES],
               const uint8_t *sealed, size_t sealed_bytes, void *ret_plain)
{
  g_autoptr(EVP_CIPHER_CTX) context = EVP_CIPHER_CTX_new();
  uint8_t *plain = ret_plain;
  int n = 0, last = 0;

  if (sealed_bytes < NC_SEAL_TAG_BYTES)
    return false;
  size_t length = sealed_bytes - NC_SEAL_TAG_BYTES;
  nc_seal_must(context != NULL);
  nc_seal_must(EVP_CIPHER_CTX_copy(context, opener->context));
  nc_seal_must(EVP_DecryptInit_ex2(context, NULL, NULL, nonce, NULL));
  nc_seal_must(EVP_DecryptUpdate(context, NULL, &n, aad, nc_seal_int(aad_bytes)));
  n = 0;
  if (length > 0)
    nc_seal_must(EVP_DecryptUpdate(context, plain, &n, sealed, nc_seal_int(length)));
  nc_seal_must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, NC_SEAL_TAG_BYTES, (void *)(sealed + length)));
  return EVP_DecryptFinal_ex(context, plain + n, &last) == 1;
}

void
nc_opener_free(NcOpener *opener)
{
  if (!opener)
    return;
  EVP_CIPHER_CTX_free(opener->context);
  g_free(opener);
}
