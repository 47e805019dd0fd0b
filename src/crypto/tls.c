/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 over one non-blocking socket.
 *
 * OpenSSL's own socket BIO would write(2), which raises SIGPIPE, and keep the
 * error to itself; ours uses send(2) and remembers errno and FIN for
 * tls_explain.c.
 */
#include "crypto/tls_internal.h"
#include "base/ident.h"
#include "base/io.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NC_TLS_CIPHER "TLS_AES_256_GCM_SHA384"
#define NC_TLS_GROUPS "X25519:P-256"
#define NC_TLS_SIGNATURES "ECDSA+SHA256" /* all our keys are P-256 (crypto/pki.h) */
/* Several records per recv(2): a record alone would cost two calls. */
#define NC_TLS_READ_AHEAD_BYTES (128u << 10)
/* After refusing a peer: how long, and for how much of its data, we stay so that it can read why. */
#define NC_TLS_LINGER_MS 500
#define NC_TLS_LINGER_BYTES (64u << 10)

int64_t
nc_deadline_us(int timeout_ms)
{
  return timeout_ms < 0 ? -1 : nc_mono_us() + (int64_t)timeout_ms * 1000;
}

int
nc_deadline_left_ms(int64_t deadline_us)
{
  if (deadline_us < 0)
    return -1;
  int64_t left_us = deadline_us - nc_mono_us();
  return left_us <= 0 ? 0 : (int)((left_us + 999) / 1000);
}

static int
nc_tls_bio_done(BIO *bio, ssize_t n, bool reading)
{
  NcTls *tls = BIO_get_data(bio);

  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    if (reading)
      BIO_set_retry_read(bio);
    else
      BIO_set_retry_write(bio);
  } else if (n < 0) {
    tls->io_errno = errno;
  } else if (n == 0 && reading) {
    tls->eof = true;
  }
  return (int)n;
}

static int
nc_tls_bio_read(BIO *bio, char *data, int length)
{
  NcTls *tls = BIO_get_data(bio);
  return nc_tls_bio_done(bio, recv(tls->fd, data, (size_t)length, 0), true);
}

static int
nc_tls_bio_write(BIO *bio, const char *data, int length)
{
  NcTls *tls = BIO_get_data(bio);
  return nc_tls_bio_done(bio, send(tls->fd, data, (size_t)length, MSG_NOSIGNAL), false);
}

static long
nc_tls_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
  NcTls *tls = BIO_get_data(bio);

  if (command == BIO_CTRL_FLUSH)
    return 1;
  return command == BIO_CTRL_EOF && tls->eof;
}

static BIO_METHOD *
nc_tls_bio_method(void)
{
  static gsize once;
  static BIO_METHOD *method;

  if (g_once_init_enter(&once)) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "novacron socket");
    if (!method || !BIO_meth_set_read(method, nc_tls_bio_read) || !BIO_meth_set_write(method, nc_tls_bio_write) ||
        !BIO_meth_set_ctrl(method, nc_tls_bio_ctrl))
      g_error("OpenSSL could not register a BIO");
    g_once_init_leave(&once, 1);
  }
  return method;
}

SSL_CTX *
nc_tls_context_new(GError **error)
{
  nc_ossl_init();
  g_autoptr(SSL_CTX) context = SSL_CTX_new(TLS_method());

  if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
      !SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_ciphersuites(context, NC_TLS_CIPHER) ||
      !SSL_CTX_set1_groups_list(context, NC_TLS_GROUPS) || !SSL_CTX_set1_sigalgs_list(context, NC_TLS_SIGNATURES) ||
      !SSL_CTX_set_num_tickets(context, 0) ||
      /* An external key counts as a session, and OpenSSL wants to know sessions of one purpose by a name. */
      !SSL_CTX_set_session_id_context(context, (const unsigned char *)NC_TLS_SESSION_CONTEXT, sizeof NC_TLS_SESSION_CONTEXT - 1)) {
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "can't set up TLS");
    return NULL;
  }
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_default_read_buffer_len(context, NC_TLS_READ_AHEAD_BYTES);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  return g_steal_pointer(&context);
}

NcTls *
nc_tls_new(SSL_CTX *context, int fd, bool server, GError **error)
{
  g_autoptr(NcTls) tls = g_new0(NcTls, 1);
  tls->fd = fd;
  tls->server = server;
  if (!nc_fd_set_nonblocking(fd, true, error))
    return NULL;
  tls->ssl = SSL_new(context);
  BIO *bio = BIO_new(nc_tls_bio_method());
  if (!tls->ssl || !bio || !SSL_set_app_data(tls->ssl, tls)) {
    BIO_free(bio);
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "can't set up a TLS connection");
    return NULL;
  }
  BIO_set_data(bio, tls);
  BIO_set_init(bio, 1);
  SSL_set_bio(tls->ssl, bio, bio);
  if (server)
    SSL_set_accept_state(tls->ssl);
  else
    SSL_set_connect_state(tls->ssl);
  return g_steal_pointer(&tls);
}

NcTls *
nc_tls_of(const SSL *ssl)
{
  return SSL_get_app_data(ssl);
}

void
nc_tls_refuse(NcTls *tls, const char *format, ...)
{
  va_list args;

  if (tls->refusal)
    return;
  va_start(args, format);
  tls->refusal = g_strdup_vprintf(format, args);
  va_end(args);
}

void
nc_tls_free(NcTls *tls)
{
  if (!tls)
    return;
  SSL_free(tls->ssl);
  nc_fd_clear(&tls->fd);
  g_free(tls->refusal);
  g_free(tls);
}

int
nc_tls_fd(const NcTls *tls)
{
  return tls->fd;
}

const char *
nc_tls_cipher(const NcTls *tls)
{
  return SSL_get_cipher_name(tls->ssl);
}

/* The outcome of an OpenSSL call that did not succeed. */
static NcTlsResult
nc_tls_outcome(NcTls *tls, int ret, GError **error)
{
  NcTlsResult result;

  switch (SSL_get_error(tls->ssl, ret)) {
  case SSL_ERROR_WANT_READ:
    return NC_TLS_WANT_READ;
  case SSL_ERROR_WANT_WRITE:
    return NC_TLS_WANT_WRITE;
  default:
    result = nc_tls_explain(tls, ret, error);
    ERR_clear_error();
    return result;
  }
}

NcTlsResult
nc_tls_try_handshake(NcTls *tls, GError **error)
{
  ERR_clear_error();
  int ret = SSL_do_handshake(tls->ssl);
  tls->established = ret == 1;
  return ret == 1 ? NC_TLS_DONE : nc_tls_outcome(tls, ret, error);
}

NcTlsResult
nc_tls_try_read(NcTls *tls, void *data, size_t capacity, size_t *ret_length, GError **error)
{
  ERR_clear_error();
  int ret = SSL_read_ex(tls->ssl, data, capacity, ret_length);
  return ret == 1 ? NC_TLS_DONE : nc_tls_outcome(tls, ret, error);
}

/*
 * A write hit a closed connection. If the peer refused us, its alert lies
 * unread in our socket: that is the reason people need to see.
 */
static NcTlsResult
nc_tls_find_alert(NcTls *tls, GError *failure, GError **error)
{
  g_autoptr(GError) found = NULL;
  uint8_t ignored[4096];
  size_t n;
  NcTlsResult result = NC_TLS_DONE;

  for (int i = 0; result == NC_TLS_DONE && i < 16; i++)
    result = nc_tls_try_read(tls, ignored, sizeof ignored, &n, &found);
  if (result == NC_TLS_FAILED && g_error_matches(found, NC_ERROR, NC_ERROR_TRUST)) {
    g_error_free(failure);
    g_propagate_error(error, g_steal_pointer(&found));
  } else {
    g_propagate_error(error, failure);
  }
  return NC_TLS_FAILED;
}

NcTlsResult
nc_tls_try_write(NcTls *tls, const void *data, size_t length_bytes, size_t *ret_length, GError **error)
{
  GError *failure = NULL;

  ERR_clear_error();
  int ret = SSL_write_ex(tls->ssl, data, length_bytes, ret_length);
  if (ret == 1)
    return NC_TLS_DONE;
  NcTlsResult result = nc_tls_outcome(tls, ret, &failure);
  if (result == NC_TLS_CLOSED) { /* only reading can find that; a write that says so is as good as cut */
    nc_fail(error, NC_ERROR_UNREACHABLE, "the connection was closed by the other side");
    return NC_TLS_FAILED;
  }
  if (result != NC_TLS_FAILED)
    return result;
  return nc_tls_find_alert(tls, failure, error);
}

/* Waits for what ${result} asks for. ${ready} 0: the time is up. */
static bool
nc_tls_wait(NcTls *tls, NcTlsResult result, int64_t deadline_us, const char *doing, GError **error)
{
  struct pollfd p = { .fd = tls->fd, .events = result == NC_TLS_WANT_WRITE ? POLLOUT : POLLIN };

  for (;;) {
    int left_ms = nc_deadline_left_ms(deadline_us);
    int n = poll(&p, 1, left_ms);
    if (n > 0)
      return true;
    if (n == 0 && nc_deadline_left_ms(deadline_us) == 0)
      return nc_fail(error, NC_ERROR_TIMEOUT, "%s in the time allowed", doing);
    if (n < 0 && errno != EINTR)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "poll");
  }
}

/*
 * Closing a socket with unread data makes the kernel reset the connection,
 * and the alert that says why may die with it: stop writing, and let the peer
 * read and close first, for a moment.
 */
static void
nc_tls_linger(NcTls *tls)
{
  int64_t deadline_us = nc_deadline_us(NC_TLS_LINGER_MS);
  size_t drained = 0;
  uint8_t ignored[4096];

  if (tls->eof || tls->io_errno || shutdown(tls->fd, SHUT_WR) < 0)
    return;
  while (drained < NC_TLS_LINGER_BYTES) {
    struct pollfd p = { .fd = tls->fd, .events = POLLIN };
    if (poll(&p, 1, nc_deadline_left_ms(deadline_us)) <= 0)
      return;
    ssize_t n = recv(tls->fd, ignored, sizeof ignored, 0);
    if (n <= 0)
      return;
    drained += (size_t)n;
  }
}

bool
nc_tls_handshake(NcTls *tls, int timeout_ms, GError **error)
{
  int64_t deadline_us = nc_deadline_us(timeout_ms);

  for (;;) {
    NcTlsResult result = nc_tls_try_handshake(tls, error);
    if (result == NC_TLS_DONE)
      return true;
    if (result == NC_TLS_CLOSED)
      return nc_fail(error, NC_ERROR_UNREACHABLE, "the connection was closed by the other side during the TLS handshake");
    if (result == NC_TLS_FAILED) {
      nc_tls_linger(tls);
      return false;
    }
    if (!nc_tls_wait(tls, result, deadline_us, "the other side did not finish the TLS handshake", error))
      return false;
  }
}

static ssize_t
nc_tls_read_until(NcTls *tls, void *data, size_t capacity, int64_t deadline_us, GError **error)
{
  for (;;) {
    size_t n = 0;
    NcTlsResult result = nc_tls_try_read(tls, data, capacity, &n, error);
    if (result == NC_TLS_DONE)
      return (ssize_t)n;
    if (result == NC_TLS_CLOSED)
      return 0;
    if (result == NC_TLS_FAILED || !nc_tls_wait(tls, result, deadline_us, "nothing came from the other side", error))
      return -1;
  }
}

ssize_t
nc_tls_read(NcTls *tls, void *data, size_t capacity, int timeout_ms, GError **error)
{
  return nc_tls_read_until(tls, data, capacity, nc_deadline_us(timeout_ms), error);
}

bool
nc_tls_read_all(NcTls *tls, void *data, size_t length_bytes, int timeout_ms, GError **error)
{
  int64_t deadline_us = nc_deadline_us(timeout_ms);

  for (size_t have = 0; have < length_bytes;) {
    ssize_t n = nc_tls_read_until(tls, (uint8_t *)data + have, length_bytes - have, deadline_us, error);
    if (n < 0)
      return false;
    if (n == 0)
      return nc_fail(error, NC_ERROR_IO, have ? "closed in the middle of a message" : "closed");
    have += (size_t)n;
  }
  return true;
}

bool
nc_tls_write_all(NcTls *tls, const void *data, size_t length_bytes, int timeout_ms, GError **error)
{
  int64_t deadline_us = nc_deadline_us(timeout_ms);

  for (size_t done = 0; done < length_bytes;) {
    size_t n = 0;
    NcTlsResult result = nc_tls_try_write(tls, (const uint8_t *)data + done, length_bytes - done, &n, error);
    if (result == NC_TLS_DONE)
      done += n;
    else if (result == NC_TLS_FAILED || !nc_tls_wait(tls, result, deadline_us, "the other side did not read", error))
      return false;
  }
  return true;
}

void
nc_tls_close_notify(NcTls *tls)
{
  ERR_clear_error();
  if (tls->established)
    SSL_shutdown(tls->ssl);
  ERR_clear_error();
}
