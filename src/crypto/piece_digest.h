/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digest of a piece of a channel: a SHA-256 tree of two levels.
 *
 *   digest = SHA-256(SHA-256(leaf 0), SHA-256(leaf 1), ...)
 *
 * where the leaves are the piece's successive NC_PIECE_LEAF_BYTES bytes, the last one
 * maybe shorter. Equal digests mean equal bytes as surely as with one SHA-256 over all
 * of it, for pieces of the same length (which travels beside it).
 *
 * Why a tree: leaves don't wait for each other. A processor without SHA
 * instructions, but with AVX-512 or AVX2, hashes 16 or 8 of them at once, in a fraction of
 * the time (docs/decisions/025). One with them is served by OpenSSL, leaf by leaf.
 */
#pragma once

#include "crypto/digest.h"

#define NC_PIECE_LEAF_BYTES 4096u
#define NC_PIECE_LEAVES_MAX 256u /* in one piece: a mebibyte */

/*
 * ${length_bytes}: 1 to NC_PIECE_LEAVES_MAX leaves. Does not fail and allocates nothing.
 * Any thread.
 */
void nc_piece_digest(const void *data, size_t length_bytes, uint8_t ret_digest[NC_SHA256_BYTES]);

/* The SHA-256 of each of ${n} leaves of NC_PIECE_LEAF_BYTES that lie anywhere. Any thread. */
void nc_piece_leaves(const uint8_t *const *leaves, size_t n, uint8_t (*ret_digests)[NC_SHA256_BYTES]);

/* --- for tests and benches: how the leaves are hashed --- */

typedef enum {
  NC_PIECE_BY_OPENSSL,
  NC_PIECE_BY_AVX2,
  NC_PIECE_BY_AVX512,
  NC_PIECE_WAY_COUNT
} NcPieceWay;

/* "openssl", "avx2", "avx512" */
const char *nc_piece_way_name(NcPieceWay way);
/* Can this processor do it? */
bool nc_piece_way_is_possible(NcPieceWay way);
/* What nc_piece_digest() uses here. */
NcPieceWay nc_piece_way(void);
/* The same digest by ${way}, which must be possible. */
void nc_piece_digest_by(NcPieceWay way, const void *data, size_t length_bytes, uint8_t ret_digest[NC_SHA256_BYTES]);
