/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.3 with an external pre-shared key: the two callbacks OpenSSL wants, and the preloading. */
#include "crypto/psk.h"
#include "base/io.h"
#include "crypto/digest.h"
#include "crypto/tls_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

typedef struct {
  const uint8_t *key; /* borrowed for the handshake */
  const char *identity;
} NcPsk;

/* OpenSSL takes an external key in the shape of a session that never was. */
static SSL_SESSION *
nc_psk_session(SSL *ssl, const NcPsk *psk)
{
  static const unsigned char aes_256_gcm_sha384[] = { 0x13, 0x02 };
  g_autoptr(SSL_SESSION) session = SSL_SESSION_new();
  const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_256_gcm_sha384);

  if (!session || !cipher || !SSL_SESSION_set1_master_key(session, psk->key, NC_PSK_BYTES) ||
      !SSL_SESSION_set_cipher(session, cipher) || !SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) ||
      !SSL_SESSION_set1_id_context(session, (const unsigned char *)NC_TLS_SESSION_CONTEXT, sizeof NC_TLS_SESSION_CONTEXT - 1))
    return NULL;
  return g_steal_pointer(&session);
}

static int
nc_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_length, SSL_SESSION **ret_session)
{
  NcTls *tls = nc_tls_of(ssl);
  const NcPsk *psk = tls->judge;

  *ret_session = NULL;
  if (md && EVP_MD_get_type(md) != NID_sha384) /* a retry for another hash: we have nothing for it */
    return 1;
  *ret_session = nc_psk_session(ssl, psk);
  *id = (const unsigned char *)psk->identity;
  *id_length = strlen(psk->identity);
  return *ret_session != NULL;
}

static int
nc_psk_find(SSL *ssl, const unsigned char *id, size_t id_length, SSL_SESSION **ret_session)
{
  NcTls *tls = nc_tls_of(ssl);
  const NcPsk *psk = tls->judge;

  *ret_session = NULL;
  if (id_length != strlen(psk->identity) || memcmp(id, psk->identity, id_length) != 0) {
    nc_tls_refuse(tls, "the peer offered a key with another identity than %s", psk->identity);
    return 1; /* go on without: OpenSSL then finds no way to authenticate, and says so to the peer */
  }
  *ret_session = nc_psk_session(ssl, psk);
  return *ret_session != NULL;
}

static NcTls *
nc_psk_new(int fd, const NcPsk *psk, bool server, GError **error)
{
  nc_autofd int owned = fd;
  size_t length = strlen(psk->identity);

  if (length < 1 || length > NC_PSK_IDENTITY_MAX) {
    nc_fail(error, NC_ERROR_INVALID, "the identity of a key must have 1 to %d bytes", NC_PSK_IDENTITY_MAX);
    return NULL;
  }
  g_autoptr(SSL_CTX) context = nc_tls_context_new(error);
  if (!context)
    return NULL;
  if (server)
    SSL_CTX_set_psk_find_session_callback(context, nc_psk_find);
  else
    SSL_CTX_set_psk_use_session_callback(context, nc_psk_use);
  NcTls *tls = nc_tls_new(context, nc_fd_steal(&owned), server, error);
  if (tls) {
    tls->psk = true;
    tls->judge = (gpointer)psk;
  }
  return tls;
}

static NcTls *
nc_psk_connection(int fd, const NcPsk *psk, bool server, int timeout_ms, GError **error)
{
  g_autoptr(NcTls) tls = nc_psk_new(fd, psk, server, error);

  if (!tls || !nc_tls_handshake(tls, timeout_ms, error))
    return NULL;
  tls->judge = NULL;
  if (!SSL_session_reused(tls->ssl)) { /* can't be without a certificate, which nobody here trusts; still, never */
    nc_fail(error, NC_ERROR_TRUST, "the peer did not prove the key");
    return NULL;
  }
  return g_steal_pointer(&tls);
}

NcTls *
nc_tls_psk_client(int fd, const uint8_t key[NC_PSK_BYTES], const char *identity, int timeout_ms, GError **error)
{
  return nc_psk_connection(fd, &(NcPsk){ .key = key, .identity = identity }, false, timeout_ms, error);
}

NcTls *
nc_tls_psk_server(int fd, const uint8_t key[NC_PSK_BYTES], const char *identity, int timeout_ms, GError **error)
{
  return nc_psk_connection(fd, &(NcPsk){ .key = key, .identity = identity }, true, timeout_ms, error);
}

/* Three flights make a handshake; the rest is for whatever a later OpenSSL does differently. */
static bool
nc_preload_handshake(NcTls *client, NcTls *server, GError **error)
{
  for (int i = 0; i < 16; i++) {
    NcTlsResult a = nc_tls_try_handshake(client, error);
    NcTlsResult b = a == NC_TLS_FAILED ? a : nc_tls_try_handshake(server, error);
    if (b == NC_TLS_FAILED)
      return false;
    if (a == NC_TLS_DONE && b == NC_TLS_DONE)
      return true;
  }
  return nc_fail(error, NC_ERROR_INTERNAL, "a TLS handshake with ourselves does not end");
}

static bool
nc_preload_echo(NcTls *from, NcTls *to, GError **error)
{
  uint8_t byte = 0;
  return nc_tls_write_all(from, "x", 1, 1000, error) && nc_tls_read_all(to, &byte, 1, 1000, error);
}

bool
nc_tls_preload(GError **error)
{
  uint8_t key[NC_PSK_BYTES], digest[NC_SHA256_BYTES];
  NcPsk psk = { .key = key, .identity = "preload" };
  int pair[2];

  nc_random_bytes(key, sizeof key);
  nc_sha256(key, sizeof key, digest);
  g_free(nc_ossl_reason()); /* error texts, too */
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "socketpair");
  g_autoptr(NcTls) server = nc_psk_new(pair[0], &psk, true, error);
  g_autoptr(NcTls) client = nc_psk_new(pair[1], &psk, false, server ? error : NULL);
  return server && client && nc_preload_handshake(client, server, error) && nc_preload_echo(client, server, error) &&
         nc_preload_echo(server, client, error);
}
