/* SPDX-License-Identifier: Apache-2.0 */
#include "mover/congestion.h"

#define NC_SECOND_US 1000000
/* A queue that overflows holds more than this share of the shortest round trip, or the path's routers have hardly any: then BBR is right, too. */
#define NC_SHORT_QUEUE 1.25
/* A burst of losses (a route that changed, a host that stood still) is one second, or two at its edge. */
#define NC_LOSSY_SECONDS 3
#define NC_LOSSY_WINDOW 0x3ffu /* of the last ten */

void
nc_congestion_begin(NcCongestion *c, bool bbr)
{
  *c = (NcCongestion){ .watches = !bbr && !c->advised, .advised = c->advised };
}

bool
nc_congestion_look(NcCongestion *c, uint64_t lost, uint64_t rtt_us, uint64_t min_rtt_us, int64_t now_us)
{
  if (!c->watches)
    return false;
  c->longest_rtt_us = rtt_us > c->longest_rtt_us ? rtt_us : c->longest_rtt_us;
  if (c->second_us > 0 && now_us - c->second_us < NC_SECOND_US)
    return false;
  bool is_lossy = c->second_us > 0 && lost > c->lost && (double)c->longest_rtt_us < NC_SHORT_QUEUE * (double)min_rtt_us;

  c->lossy = c->lossy << 1 | is_lossy;
  c->second_us = now_us;
  c->lost = lost;
  c->longest_rtt_us = 0;
  if (__builtin_popcount(c->lossy & NC_LOSSY_WINDOW) < NC_LOSSY_SECONDS)
    return false;
  c->advised = true;
  c->watches = false;
  return true;
}
