/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ladder of codings that adaptive coding chooses from, and what is known of
 * each: processor time per byte and what a byte becomes.
 *
 * A batch's bytes are of two sorts: those worth compressing ("codable"), and
 * the rest (headers, patterns, what looks random), which costs the same on each
 * rung. So what is learned of a rung is about codable bytes only, and relative to what the
 * estimate (wire/estimate.h) said of the same bytes; the current mix is measured
 * from every batch, whatever its rung. That way a change of content is known
 * for all rungs at once. A rung that was not tried yet, or not for a while, is taken to relate to
 * the nearest one that was as it does on our own machine (the table in rungs.c).
 *
 * Pure computation: one thread at a time; times are the caller's CLOCK_MONOTONIC in microseconds.
 */
#pragma once

#include "wire/batch.h"

#include <stdbool.h>
#include <stdint.h>

#define NC_RUNGS 10 /* none, lz4, zstd:-5, -3, -1, 1, 3, 5, 7, 9: lightest first */
#define NC_RUNG_START 1 /* lz4: what keeps up with most networks, */
#define NC_RUNG_FAR 5   /* and zstd:1: what is worth it on most that lead far away */

/* How to code on ${rung} (below NC_RUNGS). Static. */
const NcBatchPolicy *nc_rung_policy(unsigned rung);
/* As nc_compression_parse() reads it. Static. */
const char *nc_rung_name(unsigned rung);

/* One encoded batch. */
typedef struct {
  unsigned rung;
  uint32_t raw_bytes, wire_bytes;
  uint32_t codable_bytes; /* worth compressing: what was, or would have been on another rung */
  uint32_t coded_bytes;   /* what these became */
  double estimate;        /* nc_estimate() of them */
  uint32_t encode_us;     /* in all */
  uint32_t coding_us;     /* of it, in the compressor */
} NcRungBatch;

/* Decayed sums. */
typedef struct {
  double codable, coded, estimated; /* bytes; the last as estimated */
  double us;
  uint64_t at_us; /* of the last one; 0: never */
} NcRungSums;

typedef struct {
  NcRungSums rungs[NC_RUNGS];
  struct {
    double raw, plain, codable, estimated; /* bytes; plain: on the wire, whatever the rung */
    double us;                             /* beside the compressor */
    uint64_t at_us;
  } mix;
} NcRungs;

/* Learns from ${batch}. */
void nc_rungs_add(NcRungs *r, const NcRungBatch *batch, uint64_t now_us);
/* Is what is known of ${rung} younger than ${age_us}? */
bool nc_rungs_is_fresh(const NcRungs *r, unsigned rung, uint64_t age_us, uint64_t now_us);
/* Has any batch been seen? The following are for after that. */
bool nc_rungs_has_mix(const NcRungs *r);
/* Seconds of one core per raw byte of what passes now. */
double nc_rungs_cost(const NcRungs *r, unsigned rung, uint64_t now_us);
/* Wire bytes per raw byte of what passes now. */
double nc_rungs_share(const NcRungs *r, unsigned rung, uint64_t now_us);
/* The same as estimated, without respect of rungs: changes when the content does. */
double nc_rungs_signature(const NcRungs *r);
/* Wire bytes that ${batch} would have if the estimate were true: its size, whatever rung it was coded on. */
double nc_rungs_work(const NcRungBatch *batch);
