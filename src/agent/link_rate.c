/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link_rate.h"

#include <glib.h>

#define NC_LINK_WINDOW_US (INT64_C(5) * G_USEC_PER_SEC) /* long enough that what buffers take at first counts little */

int64_t
nc_link_rate_take(NcLinkRate *rate, int64_t wire_bytes, int64_t now_us)
{
  int64_t elapsed_us = now_us - rate->at_us, carried = wire_bytes - rate->wire_bytes;

  if (rate->at_us > 0 && carried >= 0 && elapsed_us < NC_LINK_WINDOW_US)
    return rate->best_bps;
  if (rate->at_us > 0 && carried >= 0)
    rate->best_bps = MAX(rate->best_bps, (int64_t)((double)carried * G_USEC_PER_SEC / (double)elapsed_us));
  rate->at_us = wire_bytes > 0 ? now_us : 0; /* what goes before the first byte is no time of the link's */
  rate->wire_bytes = wire_bytes;
  return rate->best_bps;
}
