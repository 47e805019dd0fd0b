/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NcTls: one TLS 1.3 connection on one TCP socket.
 *
 * TLS 1.3 with TLS_AES_256_GCM_SHA384 and nothing else: no tickets, no early
 * data, no compression, no renegotiation. Made by crypto/psk.h (two movers) or
 * inside crypto/peer.h (two agents).
 *
 * The socket is non-blocking underneath. There are two ways to use it: the
 * blocking calls, which poll themselves and take a time limit, and
 * nc_tls_try_read()/nc_tls_try_write() for a poll loop of the caller's.
 *
 * An NcTls is used by one thread at a time (NcPeer adds the lock). It uses
 * recv(2), send(2), poll(2), shutdown(2) and, for nonces, getrandom(2), and
 * never raises SIGPIPE.
 *
 * Errors, of all functions:
 *   NC_ERROR_TRUST        we refuse the peer, or the peer refuses us (the text
 *                         says which). In TLS 1.3 a client is done before the
 *                         server has judged it: the refusal then comes out of
 *                         the first read (or of a write that hits the closed
 *                         connection, which looks for the reason by itself);
 *   NC_ERROR_TIMEOUT      it took longer than allowed;
 *   NC_ERROR_PROTOCOL     what arrives is not TLS;
 *   NC_ERROR_CORRUPT      a record was altered on the way;
 *   NC_ERROR_UNREACHABLE  the connection was cut;
 *   NC_ERROR_IO "closed"  the peer closed it in order (only where said).
 */
#pragma once

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct NcTls NcTls;

typedef enum {
  NC_TLS_DONE,       /* at least one byte moved */
  NC_TLS_WANT_READ,  /* poll for POLLIN, then the same call again */
  NC_TLS_WANT_WRITE, /* poll for POLLOUT, then the same call again */
  NC_TLS_CLOSED,     /* reading only: the peer closed in order */
  NC_TLS_FAILED      /* error set; the connection is of no more use */
} NcTlsResult;

/*
 * Makes OpenSSL load, fetch and seed everything that a PSK connection needs,
 * by holding a handshake with itself in memory. After it, psk.h and digest.h
 * open no file: call it before a sandbox closes.
 */
bool nc_tls_preload(GError **error);

/* For poll() only; owned by ${tls}. */
int nc_tls_fd(const NcTls *tls);
/* "TLS_AES_256_GCM_SHA384" */
const char *nc_tls_cipher(const NcTls *tls);

/*
 * Reads what is there, up to ${capacity} (> 0). Records are read ahead: poll()
 * tells nothing about bytes already inside, so read until NC_TLS_WANT_READ
 * before polling. *ret_length is set with NC_TLS_DONE only.
 */
NcTlsResult nc_tls_try_read(NcTls *tls, void *data, size_t capacity, size_t *ret_length, GError **error);
/*
 * Writes a part of ${data} (length > 0), at most a record of 16 KiB. After
 * NC_TLS_WANT_* the next write must begin with the same bytes (they may have
 * moved, and more may follow): a record is already under way. Reading in
 * between is fine.
 */
NcTlsResult nc_tls_try_write(NcTls *tls, const void *data, size_t length_bytes, size_t *ret_length, GError **error);

/* Blocking: at least one byte, at most ${capacity}; 0 if the peer closed in order; -1 on error. ${timeout_ms} < 0: no limit. */
ssize_t nc_tls_read(NcTls *tls, void *data, size_t capacity, int timeout_ms, GError **error);
/* Exactly ${length_bytes} within ${timeout_ms} all together; an orderly end before the first byte is NC_ERROR_IO "closed". */
bool nc_tls_read_all(NcTls *tls, void *data, size_t length_bytes, int timeout_ms, GError **error);
/* All of ${data} within ${timeout_ms}. */
bool nc_tls_write_all(NcTls *tls, const void *data, size_t length_bytes, int timeout_ms, GError **error);

/* Tells the peer that nothing more comes (close_notify), if the socket takes it now. Does not wait, does not fail. */
void nc_tls_close_notify(NcTls *tls);

/* Closes the socket; NULL is fine. */
void nc_tls_free(NcTls *tls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTls, nc_tls_free)
