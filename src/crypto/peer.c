/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between two agents.
 *
 * OpenSSL allows one thread at a time inside a connection. Its calls never
 * block here (the socket is non-blocking), so a lock around each is short;
 * waiting is done by poll(2) outside of it. Order of locks: ${sending}, which
 * keeps one message's bytes together, then ${lock}. The receiver takes ${lock}
 * only, and alone touches ${inbox}.
 */
#include "crypto/peer.h"
#include "base/bytes.h"
#include "base/lock.h"
#include "crypto/pki_internal.h"
#include "crypto/trust_internal.h"

#include <errno.h>
#include <linux/tcp.h> /* newer than <netinet/tcp.h>: what the kernel counts */
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define NC_PEER_READ_BYTES 16384 /* a TLS record */
#define NC_PEER_DRAIN_READS 64      /* of 4 KiB: a few messages */

struct NcPeer {
  NcTrust *trust; /* NULL: joining */
  char *node;     /* NULL: anonymous */
  char *serial;
  char *address;
  char *whom; /* for errors: "host-b (10.0.0.2:7450)" */
  size_t limit_bytes;
  gint ended; /* atomic: nc_peer_shutdown() was called */
  pthread_mutex_t sending;
  pthread_mutex_t lock; /* protects ${tls} */
  NcTls *tls;
  GByteArray *inbox; /* the receiver's: the message that is coming in, header first */
};

/* --- beginning --- */

static void
nc_peer_name(NcPeer *peer)
{
  g_autoptr(X509) x509 = SSL_get1_peer_certificate(peer->tls->ssl);

  if (x509) {
    peer->node = nc_x509_node(x509);
    peer->serial = nc_x509_serial(x509);
  }
  peer->whom = peer->node ? g_strdup_printf("%s (%s)", peer->node, peer->address) : g_strdup(peer->address);
}

static NcPeer *
nc_peer_new(NcTls *tls, NcTrust *trust, const char *address)
{
  NcPeer *peer = g_new0(NcPeer, 1);

  pthread_mutex_init(&peer->sending, NULL);
  pthread_mutex_init(&peer->lock, NULL);
  peer->tls = tls;
  peer->trust = trust ? nc_trust_ref(trust) : NULL;
  peer->address = g_strdup(address);
  peer->inbox = g_byte_array_new();
  nc_peer_name(peer);
  peer->limit_bytes = peer->node ? NC_MSG_MAX_BYTES : NC_PEER_ANONYMOUS_MAX_BYTES;
  return peer;
}

/* ${fd} is taken. */
static NcPeer *
nc_peer_handshake(SSL_CTX *context, int fd, bool server, NcTrustJudge *judge, const char *address, int timeout_ms, GError **error)
{
  g_autoptr(NcTls) tls = nc_tls_new(context, fd, server, error);

  if (!tls)
    return NULL;
  tls->judge = judge;
  if (server && nc_trust_allows_anonymous(judge->trust))
    SSL_set_verify(tls->ssl, SSL_VERIFY_PEER, NULL);
  bool ok = nc_tls_handshake(tls, timeout_ms, error);
  tls->judge = NULL;
  if (!ok && judge->expected_node)
    g_prefix_error(error, "%s (%s): ", judge->expected_node, address);
  else if (!ok)
    g_prefix_error(error, "%s: ", address);
  if (!ok)
    return NULL;
  return nc_peer_new(g_steal_pointer(&tls), judge->trust, address);
}

static NcPeer *
nc_peer_connect_with(SSL_CTX *context, const char *address, NcTrustJudge *judge, int timeout_ms, GError **error)
{
  int64_t deadline_us = nc_deadline_us(timeout_ms);
  int fd = nc_tcp_connect(address, timeout_ms, error);

  if (fd < 0)
    return NULL;
  return nc_peer_handshake(context, fd, false, judge, address, nc_deadline_left_ms(deadline_us), error);
}

NcPeer *
nc_peer_connect(NcTrust *trust, const char *address, const char *expected_node, int timeout_ms, GError **error)
{
  NcTrustJudge judge = { .trust = trust, .expected_node = expected_node };
  g_autoptr(SSL_CTX) context = nc_trust_context(trust, false);
  return nc_peer_connect_with(context, address, &judge, timeout_ms, error);
}

NcPeer *
nc_peer_connect_anonymous(const char *address, const uint8_t ca_fingerprint[32], int timeout_ms, GError **error)
{
  NcTrustJudge judge = { .ca_fingerprint = ca_fingerprint };
  g_autoptr(SSL_CTX) context = nc_trust_joining_context(error);
  return context ? nc_peer_connect_with(context, address, &judge, timeout_ms, error) : NULL;
}

NcPeer *
nc_peer_accept(NcTrust *trust, int fd, int timeout_ms, GError **error)
{
  NcTrustJudge judge = { .trust = trust };
  g_autoptr(SSL_CTX) context = nc_trust_context(trust, true);
  g_autofree char *address = nc_tcp_peer_address(fd);
  return nc_peer_handshake(context, fd, true, &judge, address, timeout_ms, error);
}

const char *
nc_peer_node(const NcPeer *peer)
{
  return peer->node;
}

const char *
nc_peer_serial(const NcPeer *peer)
{
  return peer->serial;
}

const char *
nc_peer_address(const NcPeer *peer)
{
  return peer->address;
}

static bool
nc_peer_check_shown(NcPeer *peer, GError **error)
{
  return (peer->trust && peer->node) || nc_fail(error, NC_ERROR_TRUST, "%s has shown no certificate", peer->whom);
}

bool
nc_peer_check_trusted(NcPeer *peer, GError **error)
{
  return nc_peer_check_shown(peer, error) && nc_trust_check_node(peer->trust, peer->node, peer->serial, error);
}

bool
nc_peer_check_present(NcPeer *peer, GError **error)
{
  return nc_peer_check_shown(peer, error) && nc_trust_check_newcomer(peer->trust, peer->node, peer->serial, 0, error);
}

/* --- waiting --- */

static bool
nc_peer_ended(NcPeer *peer, GError **error)
{
  if (!g_atomic_int_get(&peer->ended))
    return false;
  g_clear_error(error);
  nc_fail(error, NC_ERROR_CANCELLED, "the connection to %s was ended by this side", peer->whom);
  return true;
}

/* Sets ${error}, in the peer's name, from what a TLS call left in ${failure} (taken). Returns false. */
static bool
nc_peer_fail(NcPeer *peer, GError *failure, GError **error)
{
  if (nc_peer_ended(peer, error))
    g_error_free(failure);
  else
    g_propagate_prefixed_error(error, failure, "%s: ", peer->whom);
  return false;
}

/* A shutdown(2) by nc_peer_shutdown() wakes every poll(2). */
static bool
nc_peer_wait(NcPeer *peer, NcTlsResult want, int64_t deadline_us, const char *what, GError **error)
{
  struct pollfd p = { .fd = nc_tls_fd(peer->tls), .events = want == NC_TLS_WANT_WRITE ? POLLOUT : POLLIN };

  for (;;) {
    int n = poll(&p, 1, nc_deadline_left_ms(deadline_us));
    if (nc_peer_ended(peer, error))
      return false;
    if (n > 0)
      return true;
    if (n == 0 && nc_deadline_left_ms(deadline_us) == 0)
      return nc_fail(error, NC_ERROR_TIMEOUT, "%s: %s in the time allowed", peer->whom, what);
    if (n < 0 && errno != EINTR)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "poll");
  }
}

/* --- sending --- */

static bool
nc_peer_send_bytes(NcPeer *peer, const uint8_t *data, size_t length, GError **error)
{
  /* What is large takes its time on a slow link. */
  int64_t deadline_us = nc_deadline_us(NC_PEER_SEND_TIMEOUT_MS + (int)MIN(length / NC_PEER_LEAST_BYTES_PER_MS, INT_MAX / 2));

  while (length > 0) {
    GError *failure = NULL;
    size_t n = 0;
    pthread_mutex_lock(&peer->lock);
    NcTlsResult result = nc_tls_try_write(peer->tls, data, length, &n, &failure);
    pthread_mutex_unlock(&peer->lock);
    if (result == NC_TLS_FAILED)
      return nc_peer_fail(peer, failure, error);
    if (result == NC_TLS_DONE) {
      data += n;
      length -= n;
    } else if (!nc_peer_wait(peer, result, deadline_us, "it did not read a message", error)) {
      nc_peer_shutdown(peer); /* half a message is out: nothing can follow it */
      return false;
    }
  }
  return true;
}

bool
nc_peer_send_with(NcPeer *peer, json_t *message, const void *data, size_t length, GError **error)
{
  g_autoptr(GByteArray) frame = nc_msg_encode(message, error);

  if (!frame)
    return false;
  nc_hold(&peer->sending);
  return !nc_peer_ended(peer, error) && nc_peer_send_bytes(peer, frame->data, frame->len, error) &&
         nc_peer_send_bytes(peer, data, length, error);
}

bool
nc_peer_send(NcPeer *peer, json_t *message, GError **error)
{
  return nc_peer_send_with(peer, message, NULL, 0, error);
}

/* --- receiving --- */

/* How many bytes the message in ${inbox} still lacks, as far as is known; -1 if it is refused. */
static int64_t
nc_peer_lacks(NcPeer *peer, GError **error)
{
  GByteArray *inbox = peer->inbox;

  if (inbox->len < 4)
    return 4 - (int64_t)inbox->len;
  uint32_t length = nc_be32(inbox->data);
  if (length == 0 || length > peer->limit_bytes) {
    nc_fail(error, NC_ERROR_PROTOCOL, "%s: a message announces %u bytes, %zu are allowed", peer->whom, length, peer->limit_bytes);
    return -1;
  }
  return (int64_t)length - (inbox->len - 4);
}

/* Appends up to ${most} bytes to the inbox, which so grows with what came, not with what was announced. */
static NcTlsResult
nc_peer_read_some(NcPeer *peer, size_t most, GError **error)
{
  uint8_t chunk[NC_PEER_READ_BYTES];
  GError *failure = NULL;
  size_t n = 0;

  pthread_mutex_lock(&peer->lock);
  NcTlsResult result = nc_tls_try_read(peer->tls, chunk, MIN(most, sizeof chunk), &n, &failure);
  pthread_mutex_unlock(&peer->lock);
  if (result == NC_TLS_DONE)
    g_byte_array_append(peer->inbox, chunk, (guint)n);
  else if (result == NC_TLS_FAILED)
    nc_peer_fail(peer, failure, error);
  else if (result == NC_TLS_CLOSED && !nc_peer_ended(peer, error))
    nc_fail(error, NC_ERROR_IO, peer->inbox->len ? "closed in the middle of a message" : "closed");
  return result;
}

/* Waits for the first byte or, with some of a message here, for the rest: a peer that stops there is lost. */
static bool
nc_peer_wait_message(NcPeer *peer, NcTlsResult want, int64_t first_us, int64_t body_us, GError **error)
{
  GError *failure = NULL;

  if (peer->inbox->len == 0)
    return nc_peer_wait(peer, want, first_us, "no message came", error);
  if (nc_peer_wait(peer, want, body_us, "no message came", &failure))
    return true;
  if (!g_error_matches(failure, NC_ERROR, NC_ERROR_TIMEOUT)) {
    g_propagate_error(error, failure);
    return false;
  }
  g_error_free(failure);
  nc_peer_shutdown(peer);
  return nc_fail(error, NC_ERROR_UNREACHABLE, "%s: it stopped in the middle of a message", peer->whom);
}

static json_t *
nc_peer_take_message(NcPeer *peer, GError **error)
{
  json_t *message = nc_msg_decode(peer->inbox->data + 4, peer->inbox->len - 4, error);

  if (!message)
    g_prefix_error(error, "%s: ", peer->whom);
  /* Not truncated but replaced: one large message must not cost its size for ever. */
  g_byte_array_unref(peer->inbox);
  peer->inbox = g_byte_array_new();
  return message;
}

json_t *
nc_peer_recv(NcPeer *peer, int timeout_ms, GError **error)
{
  int64_t first_us = nc_deadline_us(timeout_ms), body_us = -1;

  for (;;) {
    int64_t lacks = nc_peer_lacks(peer, error);
    if (lacks < 0 || nc_peer_ended(peer, error))
      return NULL;
    if (lacks == 0 && peer->inbox->len > 4)
      return nc_peer_take_message(peer, error);
    NcTlsResult result = nc_peer_read_some(peer, (size_t)lacks, error);
    if (result == NC_TLS_FAILED || result == NC_TLS_CLOSED)
      return NULL;
    if (body_us < 0 && peer->inbox->len > 0)
      body_us = nc_deadline_us(NC_PEER_BODY_TIMEOUT_MS);
    if (result != NC_TLS_DONE && !nc_peer_wait_message(peer, result, first_us, body_us, error))
      return NULL;
  }
}

bool
nc_peer_recv_bytes(NcPeer *peer, void *data, size_t length, GError **error)
{
  int64_t deadline_us = nc_deadline_us(NC_PEER_BODY_TIMEOUT_MS);
  uint8_t *at = data;

  while (length > 0) {
    GError *failure = NULL;
    size_t n = 0;
    if (nc_peer_ended(peer, error))
      return false;
    pthread_mutex_lock(&peer->lock);
    NcTlsResult result = nc_tls_try_read(peer->tls, at, length, &n, &failure);
    pthread_mutex_unlock(&peer->lock);
    if (result == NC_TLS_FAILED)
      return nc_peer_fail(peer, failure, error);
    if (result == NC_TLS_CLOSED)
      return !nc_peer_ended(peer, error) && nc_fail(error, NC_ERROR_IO, "closed in the middle of a message");
    if (result == NC_TLS_DONE) {
      at += n;
      length -= n;
    } else if (!nc_peer_wait(peer, result, deadline_us, "the bytes of a message did not come", error)) {
      nc_peer_shutdown(peer);
      return false;
    }
  }
  return true;
}

/* --- ending --- */

void
nc_peer_shutdown(NcPeer *peer)
{
  if (g_atomic_int_exchange(&peer->ended, 1))
    return;
  pthread_mutex_lock(&peer->lock);
  nc_tls_close_notify(peer->tls);
  shutdown(nc_tls_fd(peer->tls), SHUT_RDWR);
  pthread_mutex_unlock(&peer->lock);
}

bool
nc_peer_loss(const NcPeer *peer, double *ret_percent)
{
  struct tcp_info info = { 0 };
  socklen_t length = sizeof info;

  if (getsockopt(nc_tls_fd(peer->tls), IPPROTO_TCP, TCP_INFO, &info, &length) < 0 || info.tcpi_segs_out == 0)
    return false;
  *ret_percent = 100.0 * info.tcpi_total_retrans / info.tcpi_segs_out;
  return true;
}

/* Closing with unread bytes would make the kernel throw away what we sent last. */
static void
nc_peer_drain(NcPeer *peer)
{
  uint8_t ignored[4096];

  for (int i = 0; i < NC_PEER_DRAIN_READS; i++)
    if (recv(nc_tls_fd(peer->tls), ignored, sizeof ignored, MSG_DONTWAIT) <= 0)
      return;
}

void
nc_peer_free(NcPeer *peer)
{
  if (!peer)
    return;
  nc_peer_shutdown(peer);
  nc_peer_drain(peer);
  nc_tls_free(peer->tls);
  nc_trust_free(peer->trust);
  pthread_mutex_destroy(&peer->sending);
  pthread_mutex_destroy(&peer->lock);
  g_byte_array_unref(peer->inbox);
  g_free(peer->node);
  g_free(peer->serial);
  g_free(peer->address);
  g_free(peer->whom);
  g_free(peer);
}
