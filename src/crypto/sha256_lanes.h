/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 (FIPS 180-4) of 16 messages of the same length at once, one in each lane of a
 * vector. For processors without SHA instructions; private to src/crypto/piece_digest.c. There only where
 * NC_SHA256_HAS_LANES is defined (meson.build: x86-64, and GCC).
 */
#pragma once

#include "crypto/digest.h"

#define NC_SHA256_LANES 16u

/*
 * Digests of the 16 messages at ${data}[...], each ${length_bytes}, a multiple of 64. The
 * processor must have AVX-512 F and BW, or AVX2.
 */
void nc_sha256_lanes_avx512(const uint8_t *const data[NC_SHA256_LANES], size_t length_bytes,
                            uint8_t ret_digests[NC_SHA256_LANES][NC_SHA256_BYTES]);
void nc_sha256_lanes_avx2(const uint8_t *const data[NC_SHA256_LANES], size_t length_bytes,
                          uint8_t ret_digests[NC_SHA256_LANES][NC_SHA256_BYTES]);
