/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rounds of SHA-256 over GCC's vectors. Compiled twice (meson.build): with NC_LANES 16 for
 * AVX-512 and with 8 for AVX2, each time with one vector in one register.
 */
#include "crypto/sha256_lanes.h"

#include <string.h>

#define NC_SHA256_BLOCK 64u
#define NC_SHA256_WORDS 16u /* of a block */

typedef uint32_t NcLanes __attribute__((vector_size(4 * NC_LANES))); /* a word of each lane */
typedef uint8_t NcLanesBytes __attribute__((vector_size(4 * NC_LANES)));

static const uint32_t nc_sha256_start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

static const uint32_t nc_sha256_k[64] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
  0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
  0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
  0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
  0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
  0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static inline NcLanes
nc_lanes_rotate(NcLanes x, int n)
{
  return (x >> n) | (x << (32 - n));
}

/* Big-endian words. */
static inline NcLanes
nc_lanes_swap(NcLanes x)
{
  NcLanesBytes mask;

  for (unsigned i = 0; i < sizeof mask; i++)
    mask[i] = (uint8_t)(i ^ 3u);
  return (NcLanes)__builtin_shuffle((NcLanesBytes)x, mask);
}

/*
 * From a row per lane to a row per word. Interleaving row i with row i + half turns the bits of (row, column), as
 * one number, by one place; as many times as a row's number has bits, and rows have become columns.
 */
static inline void
nc_lanes_transpose(NcLanes rows[NC_LANES])
{
  NcLanes low, high, turned[NC_LANES];

  for (unsigned i = 0; i < NC_LANES; i++) {
    low[i] = i / 2 + (i & 1u) * NC_LANES;
    high[i] = low[i] + NC_LANES / 2;
  }
#pragma GCC unroll 4
  for (unsigned stage = 1; stage < NC_LANES; stage *= 2) {
#pragma GCC unroll 16
    for (unsigned i = 0; i < NC_LANES / 2; i++) {
      turned[2 * i] = __builtin_shuffle(rows[i], rows[i + NC_LANES / 2], low);
      turned[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + NC_LANES / 2], high);
    }
    memcpy(rows, turned, sizeof turned);
  }
}

/* The words of the next block of each lane. */
static inline void
nc_lanes_load(const uint8_t *const *data, size_t at, NcLanes w[NC_SHA256_WORDS])
{
#pragma GCC unroll 2
  for (unsigned part = 0; part < NC_SHA256_WORDS; part += NC_LANES) {
#pragma GCC unroll 16
    for (unsigned lane = 0; lane < NC_LANES; lane++) {
      memcpy(&w[part + lane], data[lane] + at + 4 * (size_t)part, sizeof *w);
      w[part + lane] = nc_lanes_swap(w[part + lane]);
    }
    nc_lanes_transpose(w + part);
  }
}

static inline void
nc_lanes_block(NcLanes state[8], NcLanes w[NC_SHA256_WORDS])
{
  NcLanes a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];

  for (unsigned t = 0; t < 64; t += NC_SHA256_WORDS)
#pragma GCC unroll 16
    for (unsigned i = 0; i < NC_SHA256_WORDS; i++) {
      if (t > 0) {
        NcLanes x = w[(i + 1) % 16], y = w[(i + 14) % 16];
        w[i] += (nc_lanes_rotate(x, 7) ^ nc_lanes_rotate(x, 18) ^ (x >> 3)) + w[(i + 9) % 16] +
                (nc_lanes_rotate(y, 17) ^ nc_lanes_rotate(y, 19) ^ (y >> 10));
      }
      NcLanes t1 = h + (nc_lanes_rotate(e, 6) ^ nc_lanes_rotate(e, 11) ^ nc_lanes_rotate(e, 25)) + (g ^ (e & (f ^ g))) +
                   nc_sha256_k[t + i] + w[i];
      NcLanes t2 = (nc_lanes_rotate(a, 2) ^ nc_lanes_rotate(a, 13) ^ nc_lanes_rotate(a, 22)) + ((a & b) | (c & (a | b)));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

/* NC_LANES messages. */
static void
nc_lanes_digest(const uint8_t *const *data, size_t length_bytes, uint8_t (*ret)[NC_SHA256_BYTES])
{
  NcLanes state[8], w[NC_SHA256_WORDS];

  for (unsigned i = 0; i < 8; i++)
    state[i] = nc_sha256_start[i] + (NcLanes){ 0 };
  for (size_t at = 0; at < length_bytes; at += NC_SHA256_BLOCK) {
    nc_lanes_load(data, at, w);
    nc_lanes_block(state, w);
  }
  /* The padding: a bit, zeros, the length in bits. */
  memset(w, 0, sizeof w);
  w[0] += 0x80000000u;
  w[14] += (uint32_t)((uint64_t)length_bytes >> 29);
  w[15] += (uint32_t)((uint64_t)length_bytes << 3);
  nc_lanes_block(state, w);
  for (unsigned i = 0; i < 8; i++) {
    NcLanes word = nc_lanes_swap(state[i]);
    for (unsigned lane = 0; lane < NC_LANES; lane++) {
      uint32_t one = word[lane];
      memcpy(ret[lane] + 4 * (size_t)i, &one, sizeof one);
    }
  }
}

void
NC_LANES_FUNCTION(const uint8_t *const data[NC_SHA256_LANES], size_t length_bytes, uint8_t ret_digests[NC_SHA256_LANES][NC_SHA256_BYTES])
{
  for (unsigned first = 0; first < NC_SHA256_LANES; first += NC_LANES)
    nc_lanes_digest(data + first, length_bytes, ret_digests + first);
}
