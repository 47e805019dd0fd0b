/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a pause is left for pages. QEMU counts the time that its last pages take at its own socket, and nothing
 * else; a pause holds besides what is on its way already, half a round trip, and our own steps. So QEMU is given
 * max_downtime less that.
 *
 * Pure computation.
 */
#pragma once

#include <stdint.h>

typedef struct {
  int64_t max_downtime_ms;
  int64_t rate_bps;     /* of the wire; 0: not known */
  int64_t flight_bytes; /* unacknowledged */
  int64_t rtt_us;
} NcPauseFacts;

/* QEMU's downtime limit, to be on the safe side; a tenth of max_downtime_ms at least. */
int64_t nc_pause_limit_ms(const NcPauseFacts *facts);
/* What the pause is likely to hold besides pages. */
int64_t nc_pause_likely_overhead_ms(const NcPauseFacts *facts);
/* What one holds in post-copy: all that is in flight is in front of the machine, and it does not run before some round trips. */
int64_t nc_pause_postcopy_ms(const NcPauseFacts *facts);
