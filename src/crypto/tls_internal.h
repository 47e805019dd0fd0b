/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What psk.c and peer.c need to make an NcTls. Private to src/crypto.
 */
#pragma once

#include "crypto/ossl.h"
#include "crypto/tls.h"

#define NC_TLS_SESSION_CONTEXT "novacron"

struct NcTls {
  int fd; /* owned */
  SSL *ssl;
  bool server;
  bool psk;          /* judged by a key, not by certificates: for error texts */
  bool established;  /* the handshake is over; OpenSSL forgets that with a fatal error */
  bool eof;          /* the peer's FIN was seen */
  int io_errno;      /* of the last recv/send that failed for good; 0: none did */
  char *refusal;     /* why our own callbacks refused the peer; NULL: they did not */
  gpointer judge;    /* for the callbacks of whoever made the context; borrowed */
};

/* A context for either side that allows what crypto/tls.h promises and trusts nobody. */
SSL_CTX *nc_tls_context_new(GError **error);

/* A connection on ${fd} (taken; closed on failure); the context may be released afterwards. No handshake yet. */
NcTls *nc_tls_new(SSL_CTX *context, int fd, bool server, GError **error);

/* The connection inside a callback of OpenSSL's. */
NcTls *nc_tls_of(const SSL *ssl);

/* Remembers why a callback refuses the peer; the first reason stays. */
void nc_tls_refuse(NcTls *tls, const char *format, ...) G_GNUC_PRINTF(2, 3);

/*
 * Handshakes within ${timeout_ms}. On failure the peer has been told (alert,
 * half-close, and time to read it).
 */
bool nc_tls_handshake(NcTls *tls, int timeout_ms, GError **error);

/* One step of it, for nc_tls_preload(). */
NcTlsResult nc_tls_try_handshake(NcTls *tls, GError **error);

/* Sets ${error} from what OpenSSL and the socket said about a call that returned ${ret}. NC_TLS_FAILED or NC_TLS_CLOSED. */
NcTlsResult nc_tls_explain(NcTls *tls, int ret, GError **error);

/* Time limits: -1 is "none", in both directions. */
int64_t nc_deadline_us(int timeout_ms);
int nc_deadline_left_ms(int64_t deadline_us);
