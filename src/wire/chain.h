/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digest of a channel: a chain over the SHA-256 of its batches.
 *
 *   value(0) = 32 zero bytes
 *   value(n) = SHA-256(value(n-1), u64 big-endian offset behind batch n, SHA-256 of batch n)
 *
 * Two sides with the same value and offset have seen the same bytes, cut at the
 * same places (a batch is delivered as it was sent). Each byte is hashed once per side,
 * on whatever thread encodes or decodes its batch, and only the chain goes in order:
 * docs/decisions/009.
 */
#pragma once

#include "crypto/digest.h"

#include <stdbool.h>
#include <stdint.h>

/* Begins as { 0 }. Belongs to whoever holds the lock of what it is part of. */
typedef struct {
  uint64_t offset; /* bytes of the channel that it covers */
  uint8_t value[NC_SHA256_BYTES];
} NcChain;

/* Adds a batch of ${length_bytes} whose SHA-256 is ${sha256}. */
void nc_chain_append(NcChain *chain, uint32_t length_bytes, const uint8_t sha256[NC_SHA256_BYTES]);
bool nc_chain_equal(const NcChain *a, const NcChain *b);
