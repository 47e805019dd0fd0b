/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing bytes at rest: AES-256-GCM under keys derived from one master key.
 *
 * A master key never encrypts anything. Each NcSealer has a key of its own,
 * derived from the master key and 32 random bytes (the salt, which whoever
 * stores the bytes stores beside them), and counts its nonces from a random
 * start. So a nonce can't come twice under a key, whatever happens to the files:
 * a sealer never lives longer than its process, and what a crash cut off is
 * sealed again by another one. A reader gets by with salt and nonce.
 *
 * All functions may be called from any thread, except that a sealer serves one at a time.
 */
#pragma once

#include "base/error.h"
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NC_SEAL_KEY_BYTES 32
#define NC_SEAL_SALT_BYTES 32
#define NC_SEAL_NONCE_BYTES 12
#define NC_SEAL_TAG_BYTES 16

typedef struct NcSealKey NcSealKey;

/*
 * Opens a file that holds a key, any: of this user or root, with no permission for group and others (NC_ERROR_TRUST otherwise).
 * -1 on error.
 */
int nc_key_file_open(const char *path, size_t *ret_bytes, GError **error);

/* ${bytes} are copied. */
NcSealKey *nc_seal_key_new(const uint8_t bytes[NC_SEAL_KEY_BYTES]);
/*
 * Reads a key file: exactly 32 bytes, of this user or root, with no permission
 * for group and others (NC_ERROR_TRUST otherwise). NULL on error.
 */
NcSealKey *nc_seal_key_load(const char *path, GError **error);
/* Creates ${path} (0600, durable) with 32 random bytes and loads it. NC_ERROR_EXISTS if it is there. */
NcSealKey *nc_seal_key_create(const char *path, GError **error);
NcSealKey *nc_seal_key_copy(const NcSealKey *key);
void nc_seal_key_free(NcSealKey *key); /* clears the memory; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcSealKey, nc_seal_key_free)

/* HMAC-SHA-256 under a key derived for that alone: names for things whose content the name must not give away. */
void nc_seal_key_mac(const NcSealKey *key, const void *data, size_t length_bytes, uint8_t ret_mac[32]);

typedef struct NcSealer NcSealer;

/* A sealer with a new random salt, stored at ${ret_salt}. */
NcSealer *nc_sealer_new(const NcSealKey *key, uint8_t ret_salt[NC_SEAL_SALT_BYTES]);
/*
 * Seals ${length_bytes} at ${plain}, bound to ${aad} (what must be the same
 * when opening: where it belongs). ${ret_sealed} gets as many bytes and then the tag. The nonce, stored at
 * ${ret_nonce}, is used up also if the bytes are thrown away.
 */
void nc_sealer_seal(NcSealer *sealer, const void *aad, size_t aad_bytes, const void *plain, size_t length_bytes,
                    uint8_t ret_nonce[NC_SEAL_NONCE_BYTES], uint8_t *ret_sealed);
/* The nonce that the next nc_sealer_seal() will use; for an ${aad} that holds it. */
void nc_sealer_peek_nonce(const NcSealer *sealer, uint8_t ret_nonce[NC_SEAL_NONCE_BYTES]);
void nc_sealer_free(NcSealer *sealer); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcSealer, nc_sealer_free)

typedef struct NcOpener NcOpener;

/* Opens what the sealer with ${salt} sealed. */
NcOpener *nc_opener_new(const NcSealKey *key, const uint8_t salt[NC_SEAL_SALT_BYTES]);
/*
 * Opens ${sealed_bytes} (tag included) to ${ret_plain}, which has room for
 * that many less the tag. False: not what was sealed, or under another key, or for another place; ${ret_plain} is then undefined.
 */
bool nc_opener_open(const NcOpener *opener, const void *aad, size_t aad_bytes, const uint8_t nonce[NC_SEAL_NONCE_BYTES],
                    const uint8_t *sealed, size_t sealed_bytes, void *ret_plain);
void nc_opener_free(NcOpener *opener); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcOpener, nc_opener_free)
