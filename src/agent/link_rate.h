/* SPDX-License-Identifier: Apache-2.0 */
/* What a link was seen to carry: the best seconds of one migration. Pure. */
#pragma once

#include <stdint.h>

typedef struct {
  int64_t at_us; /* when the window began; 0: none has */
  int64_t wire_bytes;
  int64_t best_bps; /* 0: not known yet */
} NcLinkRate;

/* ${wire_bytes} had been carried at ${now_us} (CLOCK_MONOTONIC); they may begin at 0 again. The best rate so far, bytes per second. */
int64_t nc_link_rate_take(NcLinkRate *rate, int64_t wire_bytes, int64_t now_us);
