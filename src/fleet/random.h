/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chance that can be had once more: the same seed, the same numbers, on every machine. Good enough for failures of a simulation, and
 * for nothing that has to be secret.
 */
#pragma once

#include <stdint.h>

typedef struct {
  uint64_t state;
} NcRandom;

/* A counter in steps of 2^64 by the golden ratio, mixed. */
static inline uint64_t
nc_random_next(NcRandom *r)
{
  uint64_t x = r->state += 0x9e3779b97f4a7c15u;

  for (int i = 0; i < 3; i++) {
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15u;
  }
  return x ^ x >> 32;
}

/* At least 0, less than 1. */
static inline double
nc_random_share(NcRandom *r)
{
  return (double)(nc_random_next(r) >> 11) / 9007199254740992.0; /* 2^53 */
}
