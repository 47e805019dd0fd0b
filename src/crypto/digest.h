/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256, random bytes and comparison in constant time.
 *
 * Everything NovaCron verifies (batches, channels, pages, certificates, token
 * secrets) is a SHA-256; nobody else in the tree talks to a hash library.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NC_SHA256_BYTES 32

/*
 * SHA-256 of ${length_bytes} at ${data} (NULL is fine for 0). Any thread; each
 * thread keeps one context, so that hashing a page costs no allocation.
 */
void nc_sha256(const void *data, size_t length_bytes, uint8_t ret_digest[NC_SHA256_BYTES]);

/* Lower-case hexadecimal of the same. Caller frees. */
char *nc_sha256_hex(const void *data, size_t length_bytes);

/* A running digest. One thread at a time. */
typedef struct NcSha256 NcSha256;

NcSha256 *nc_sha256_new(void);
void nc_sha256_update(NcSha256 *sha, const void *data, size_t length_bytes);
/* The digest of everything so far, which does not disturb it: updates may follow. */
void nc_sha256_snapshot(const NcSha256 *sha, uint8_t ret_digest[NC_SHA256_BYTES]);
void nc_sha256_free(NcSha256 *sha); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcSha256, nc_sha256_free)

/* Takes the same time wherever the two differ. */
bool nc_constant_time_equal(const void *a, const void *b, size_t length_bytes);

/* ${length_bytes} fit for keys and secrets. Does not fail: without randomness the process ends. */
void nc_random_bytes(void *ret_data, size_t length_bytes);

/* Overwrites a secret that is about to be freed; the compiler can't leave it out. */
void nc_secret_clear(void *data, size_t length_bytes);
