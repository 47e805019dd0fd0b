/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 between two movers, with a key made for one migration.
 *
 * The agents have already proved who they are and exchanged 32 random bytes;
 * the movers use them as an external pre-shared key with a fresh Diffie-Hellman
 * exchange (psk_dhe_ke: a key that leaks later does not open what was
 * recorded). No certificate is involved, and none is accepted: a peer without
 * the key fails the handshake. Inside a sandbox call nc_tls_preload() first.
 */
#pragma once

#include "crypto/tls.h"

#define NC_PSK_BYTES 32
#define NC_PSK_IDENTITY_MAX 64 /* bytes; travels in clear: a migration's id, nothing secret */

/*
 * Handshakes on the connected socket ${fd}, which it takes (on failure it is
 * closed). ${identity}, 1 to NC_PSK_IDENTITY_MAX bytes, must be equal on both
 * sides. The handshake has ${timeout_ms} all together. NULL on error: NC_ERROR_TRUST
 * if the other side does not hold the key, else see crypto/tls.h.
 *
 * Both sides have proved the key when these return: the client's side because
 * the server's Finished depends on it, the server's because of the binder.
 */
NcTls *nc_tls_psk_client(int fd, const uint8_t key[NC_PSK_BYTES], const char *identity, int timeout_ms, GError **error);
NcTls *nc_tls_psk_server(int fd, const uint8_t key[NC_PSK_BYTES], const char *identity, int timeout_ms, GError **error);
