/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sample of a guest's memory, read out of its QEMU while it runs: how much of it is there, how small
 * that gets, and what changes in a while. A migration knows by it beforehand what its
 * later pages will be like, and how fast they are written, which the first round would tell only at its end.
 *
 * Clusters of some pages are read at places spread evenly over the memory, in the order of its addresses, which is about that in which QEMU
 * sends it. Pages that the kernel has not given to QEMU are not touched. Compression is zstd's lightest; what others make of the same
 * pages differs by a factor that a migration learns (forecast.h).
 *
 * One thread at a time.
 */
#pragma once

#include "base/error.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NC_MEMORY_SAMPLE_PLACES 256u
#define NC_MEMORY_SAMPLE_PAGES 8 /* at each: compressors see that many together, as they do later */

typedef struct {
  float content; /* share of it that is no page of zeros, 0 to 1 */
  float coded;   /* its coded size, as a share of it */
} NcMemoryPlace;

typedef struct {
  double seconds; /* since the sample was taken */
  double changed; /* share of all memory that is not as it was */
  double coded;   /* size of the changes to it, as a share of what changed; 1 if nothing did */
  double where;   /* the middle of what changed, of all memory in the order in which it is sent; 0 to 1 */
} NcMemoryChange;

typedef struct NcMemorySample NcMemorySample;

/* Of process ${pid}; ${least_bytes}: see footprint.h. NULL if it may not be read. Takes some 50 ms. */
NcMemorySample *nc_memory_sample_new(pid_t pid, uint64_t least_bytes, GError **error);
void nc_memory_sample_free(NcMemorySample *s); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMemorySample, nc_memory_sample_free)

/* NC_MEMORY_SAMPLE_PLACES of them, of the memory at k / NC_MEMORY_SAMPLE_PLACES of all. */
const NcMemoryPlace *nc_memory_sample_places(const NcMemorySample *s);
/* Memory that they stand for. What QEMU counts besides (video memory, firmware) is small and mostly zeros. */
uint64_t nc_memory_sample_bytes(const NcMemorySample *s);
/* Reads the same pages once more. */
bool nc_memory_sample_again(NcMemorySample *s, NcMemoryChange *ret, GError **error);
