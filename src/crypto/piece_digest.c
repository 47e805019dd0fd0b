/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/piece_digest.h"
#include "crypto/sha256_lanes.h"

#include <string.h>

#ifdef NC_SHA256_HAS_LANES
#include <cpuid.h>
#endif

typedef void (*NcPieceLanes)(const uint8_t *const data[NC_SHA256_LANES], size_t length_bytes,
                             uint8_t ret_digests[NC_SHA256_LANES][NC_SHA256_BYTES]);

static const struct {
  const char *name;
  NcPieceLanes lanes; /* NULL: one after the other */
} nc_piece_ways[] = {
  [NC_PIECE_BY_OPENSSL] = { "openssl", NULL },
#ifdef NC_SHA256_HAS_LANES
  [NC_PIECE_BY_AVX2] = { "avx2", nc_sha256_lanes_avx2 },
  [NC_PIECE_BY_AVX512] = { "avx512", nc_sha256_lanes_avx512 },
#else
  [NC_PIECE_BY_AVX2] = { "avx2", NULL },
  [NC_PIECE_BY_AVX512] = { "avx512", NULL },
#endif
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_piece_ways) == NC_PIECE_WAY_COUNT);

const char *
nc_piece_way_name(NcPieceWay way)
{
  return nc_piece_ways[way].name;
}

bool
nc_piece_way_is_possible(NcPieceWay way)
{
#ifdef NC_SHA256_HAS_LANES
  if (way == NC_PIECE_BY_AVX512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  if (way == NC_PIECE_BY_AVX2)
    return __builtin_cpu_supports("avx2");
#endif
  return way == NC_PIECE_BY_OPENSSL;
}

/* Instructions for SHA-256, which OpenSSL uses: as fast as 16 lanes, without their size. */
static bool
nc_piece_has_sha_instructions(void)
{
#ifdef NC_SHA256_HAS_LANES
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29));
#else
  return true;
#endif
}

NcPieceWay
nc_piece_way(void)
{
  static gsize once; /* the way + 1 */

  if (g_once_init_enter(&once)) {
    NcPieceWay way = NC_PIECE_BY_OPENSSL;
    if (!nc_piece_has_sha_instructions())
      for (way = NC_PIECE_WAY_COUNT - 1; !nc_piece_way_is_possible(way);)
        way--;
    g_once_init_leave(&once, (gsize)way + 1);
  }
  return (NcPieceWay)(once - 1);
}

/* Digests of full leaves, at most NC_SHA256_LANES. The lanes without one hash the first again. */
static void
nc_piece_hash_lanes(NcPieceLanes lanes, const uint8_t *const *leaves, size_t n, uint8_t (*ret)[NC_SHA256_BYTES])
{
  const uint8_t *data[NC_SHA256_LANES];
  uint8_t digests[NC_SHA256_LANES][NC_SHA256_BYTES];

  for (size_t i = 0; i < NC_SHA256_LANES; i++)
    data[i] = leaves[i < n ? i : 0];
  lanes(data, NC_PIECE_LEAF_BYTES, digests);
  memcpy(ret, digests, n * NC_SHA256_BYTES);
}

/* Fewer leaves than this don't fill enough lanes to pay. */
#define NC_PIECE_LANES_WORTH 4u

/* Of full leaves, however many. */
static void
nc_piece_hash_leaves(NcPieceLanes lanes, const uint8_t *const *leaves, size_t n, uint8_t (*ret)[NC_SHA256_BYTES])
{
  while (lanes && n >= NC_PIECE_LANES_WORTH) {
    size_t now = MIN(n, NC_SHA256_LANES);
    nc_piece_hash_lanes(lanes, leaves, now, ret);
    leaves += now;
    ret += now;
    n -= now;
  }
  for (size_t i = 0; i < n; i++)
    nc_sha256(leaves[i], NC_PIECE_LEAF_BYTES, ret[i]);
}

void
nc_piece_leaves(const uint8_t *const *leaves, size_t n, uint8_t (*ret_digests)[NC_SHA256_BYTES])
{
  nc_piece_hash_leaves(nc_piece_ways[nc_piece_way()].lanes, leaves, n, ret_digests);
}

void
nc_piece_digest_by(NcPieceWay way, const void *data, size_t length_bytes, uint8_t ret_digest[NC_SHA256_BYTES])
{
  uint8_t digests[NC_PIECE_LEAVES_MAX][NC_SHA256_BYTES];
  const uint8_t *leaves[NC_PIECE_LEAVES_MAX];
  size_t full = length_bytes / NC_PIECE_LEAF_BYTES, rest = length_bytes % NC_PIECE_LEAF_BYTES;
  const uint8_t *bytes = data;

  g_assert(length_bytes > 0 && length_bytes <= (size_t)NC_PIECE_LEAVES_MAX * NC_PIECE_LEAF_BYTES);
  for (size_t i = 0; i < full; i++)
    leaves[i] = bytes + i * NC_PIECE_LEAF_BYTES;
  nc_piece_hash_leaves(nc_piece_ways[way].lanes, leaves, full, digests);
  if (rest > 0)
    nc_sha256(bytes + full * NC_PIECE_LEAF_BYTES, rest, digests[full]);
  nc_sha256(digests, (full + (rest > 0)) * NC_SHA256_BYTES, ret_digest);
}

void
nc_piece_digest(const void *data, size_t length_bytes, uint8_t ret_digest[NC_SHA256_BYTES])
{
  nc_piece_digest_by(nc_piece_way(), data, length_bytes, ret_digest);
}
