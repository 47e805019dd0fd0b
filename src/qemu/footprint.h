/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a guest's memory has been touched, by what the kernel has given its QEMU. */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Bytes present in the mappings that may hold the guest's memory: of ${least_bytes} at least, writable, not executable (a TCG
 * code buffer is), not the heap. Untouched pages, and those only read, are not present: QEMU sends them as a few bytes
 * each. An upper bound, since a page of zeros that was written is present. ${smaps}: the text of /proc/PID/smaps (proc(5)).
 */
uint64_t nc_footprint_parse(const char *smaps, uint64_t least_bytes);
/* The ${least_bytes} for a guest of ${ram_bytes}. */
uint64_t nc_footprint_least_bytes(uint64_t ram_bytes);
typedef struct {
  uint64_t from, to; /* addresses in QEMU's process */
} NcFootprintRange;

/* Those mappings, of NcFootprintRange, in the order of their addresses; empty if they can't be read. New array. */
GArray *nc_footprint_ranges(pid_t pid, uint64_t least_bytes);
/* Of process ${pid}; 0 if it can't be read. Takes milliseconds per GiB. */
uint64_t nc_footprint_bytes(pid_t pid, uint64_t least_bytes);
