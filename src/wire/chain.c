/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/chain.h"
#include "base/bytes.h"

#include <string.h>

void
nc_chain_append(NcChain *chain, uint32_t length_bytes, const uint8_t sha256[NC_SHA256_BYTES])
{
  uint8_t link[NC_SHA256_BYTES + 8 + NC_SHA256_BYTES];

  chain->offset += length_bytes;
  memcpy(link, chain->value, NC_SHA256_BYTES);
  nc_store_be64(link + NC_SHA256_BYTES, chain->offset);
  memcpy(link + NC_SHA256_BYTES + 8, sha256, NC_SHA256_BYTES);
  nc_sha256(link, sizeof link, chain->value);
}

bool
nc_chain_equal(const NcChain *a, const NcChain *b)
{
  return a->offset == b->offset && nc_constant_time_equal(a->value, b->value, sizeof a->value);
}
