/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NcPeer: JSON messages between two agents, over mutual TLS 1.3.
 *
 * The framing is that of base/msg.h, inside TLS. The other side is always
 * known by its certificate, except where a node asks to join (anonymous): then
 * only the server is known, by the fingerprint of its CA, and messages are
 * small.
 *
 * Threads: any number may send, one may receive, at the same time;
 * nc_peer_shutdown() may be called by any. Free it when none is inside.
 *
 * Errors are those of crypto/tls.h, with the peer's name or address in front.
 * A client whose certificate the server refuses learns it from its first
 * nc_peer_recv() (or nc_peer_send()): NC_ERROR_TRUST "... refused our certificate: ...".
 * A dead network ends a connection after NC_TCP_USER_TIMEOUT_MS.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"
#include "base/tcp.h"
#include "crypto/trust.h"
#include <stdint.h>

#define NC_PEER_ANONYMOUS_MAX_BYTES (64u << 10) /* a CSR is under 1 KiB */
#define NC_PEER_SEND_TIMEOUT_MS 60000           /* for one message, to a peer that does not read, */
#define NC_PEER_LEAST_BYTES_PER_MS 64u          /* and this for what comes with it: 512 kbit/s */
#define NC_PEER_BODY_TIMEOUT_MS 60000           /* from a message's first byte to its last */

typedef struct NcPeer NcPeer;

/*
 * Connects to the agent at ${address} ("host:port", "1.2.3.4:7450",
 * "[::1]:7450") and checks that it is ${expected_node} (NULL: any joined
 * node). ${timeout_ms} for everything. NULL on error.
 */
NcPeer *nc_peer_connect(NcTrust *trust, const char *address, const char *expected_node, int timeout_ms, GError **error);

/*
 * Connects without a certificate, for joining: believes the server if its
 * chain ends in a CA certificate with SHA-256 ${ca_fingerprint}. To what the
 * server answers the limit of NC_MSG_MAX_BYTES applies: it is authenticated.
 */
NcPeer *nc_peer_connect_anonymous(const char *address, const uint8_t ca_fingerprint[32], int timeout_ms, GError **error);

/* Serves the accepted socket ${fd}: taken, closed on failure. Blocks until the handshake ends or ${timeout_ms} are over. */
NcPeer *nc_peer_accept(NcTrust *trust, int fd, int timeout_ms, GError **error);

/* The name in the peer's certificate; NULL if it has shown none. */
const char *nc_peer_node(const NcPeer *peer);
/* "1.2.3.4:7450" */
const char *nc_peer_address(const NcPeer *peer);
/* The serial number of the peer's certificate, hexadecimal; NULL if it has shown none. */
const char *nc_peer_serial(const NcPeer *peer);
/* Of the TCP segments we have sent, the percentage that had to be sent again; false if the kernel does not say. */
bool nc_peer_loss(const NcPeer *peer, double *ret_percent);
/* Is the peer still in the roster? (Connections live on when the roster changes: ask where it matters.) */
bool nc_peer_check_trusted(NcPeer *peer, GError **error);
/* And is the certificate that it came with its present or next one, not only the one before? For connections that have just begun. */
bool nc_peer_check_present(NcPeer *peer, GError **error);

/* Sends one message; ${message} is borrowed. After an error the connection is of no more use. */
bool nc_peer_send(NcPeer *peer, json_t *message, GError **error);

/*
 * The next message, a new reference. ${timeout_ms} until its first byte, < 0:
 * no limit; NC_ERROR_TIMEOUT then leaves the connection usable. An orderly end
 * is NC_ERROR_IO "closed"; after nc_peer_shutdown() NC_ERROR_CANCELLED.
 */
json_t *nc_peer_recv(NcPeer *peer, int timeout_ms, GError **error);

/*
 * The same, with ${length} bytes as they are behind the message, which must tell of them: for content that is too much for
 * JSON. The receiver of such a message reads them with nc_peer_recv_bytes() before anything else.
 */
bool nc_peer_send_with(NcPeer *peer, json_t *message, const void *data, size_t length, GError **error);
/* Exactly ${length} bytes, within NC_PEER_BODY_TIMEOUT_MS; ended or late in between, the connection is of no more use. */
bool nc_peer_recv_bytes(NcPeer *peer, void *data, size_t length, GError **error);

/* Ends the connection: senders and the receiver, also blocked ones, return with an error. May be repeated. */
void nc_peer_shutdown(NcPeer *peer);

void nc_peer_free(NcPeer *peer); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPeer, nc_peer_free)
