/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which coding the next batch gets: as light as the processors need, as heavy as
 * the link needs.
 *
 * Theory. A rung of the ladder (wire/rungs.h) passes, in raw bytes per second,
 *
 *   min(cores / cost(rung), link rate / share(rung))
 *
 * with cost and share as measured and the link's rate from acknowledgements while
 * encoded batches waited for it. While they do not, the link may do more than is
 * known, and its rate is assumed to grow. Every 50 ms the lightest rung within 1.5 %
 * of the best one is looked for, and taken if it is better than the current one, or as good and lighter.
 *
 * A model is wrong where something else is scarce (TLS, the destination, another
 * process on these cores). So every move is a trial: what was acknowledged
 * at the new rung, measured in sizes that don't depend on the rung, is compared with what
 * was before. For a heavier rung it is also enough that all wait for the link as before, and that it passes as many bytes as
 * it ever did: they are fewer per page now. If neither holds the tuner goes back, and stays away from there
 * for a second, two, four ... 32, unless link or content change meanwhile. Moves
 * to and fro make it patient in the same way. And whatever happens, no more than 8 trials follow
 * one another, and in the long run one in three seconds: a link that trembles is no cause to go to and fro with it.
 *
 * Estimates stay fresh by exploring: every other second a few batches, one in 8, are coded on
 * neighbouring rungs, heavier ones first while the link is scarce.
 *
 * Pure computation: one thread at a time; times are the caller's CLOCK_MONOTONIC in
 * microseconds, never going backwards.
 */
#pragma once

#include "wire/rungs.h"

typedef struct NcTuner NcTuner;

/* What the batches wait for. */
typedef enum {
  NC_TUNER_NOTHING,  /* there are none: QEMU has nothing to send */
  NC_TUNER_ENCODERS, /* the next one is not encoded yet */
  NC_TUNER_LINK,     /* the next one is, and waits for the window or for a connection */
  NC_TUNER_WAITS,
} NcTunerWait;

/* ${cores}: what coding may use, at most as many as there are encoders; 0.5 is half a processor. */
NcTuner *nc_tuner_new(double cores, uint64_t now_us);
void nc_tuner_free(NcTuner *t); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTuner, nc_tuner_free)

/* The other side is far away, so the link is most likely slow: begin heavier. Without effect once anything was delivered. */
void nc_tuner_begin_far(NcTuner *t);
/* The rung for the next batch. */
unsigned nc_tuner_next(NcTuner *t, uint64_t now_us);
/* A batch was encoded. Returns its size for nc_tuner_acked(). */
double nc_tuner_encoded(NcTuner *t, const NcRungBatch *batch, uint64_t now_us);
/* From now on batches wait for ${wait}. */
void nc_tuner_waits(NcTuner *t, NcTunerWait wait, uint64_t now_us);
/* A batch encoded on ${rung}, of ${wire_bytes} and the size ${work}, was delivered. */
void nc_tuner_acked(NcTuner *t, unsigned rung, uint32_t wire_bytes, double work, uint64_t now_us);

/* The current rung, exploration aside. */
unsigned nc_tuner_rung(const NcTuner *t);
/* How often the rung has changed. */
uint64_t nc_tuner_switches(const NcTuner *t);
