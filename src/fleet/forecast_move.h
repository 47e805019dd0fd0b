/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a move of a machine is like that nobody has seen yet: from what is known of its guest and of the way, by the
 * mathematics of rounds.h, the same by which a node forecasts a migration under way.
 *
 * Pure computation; any thread.
 */
#pragma once

#include "fleet/inventory.h"

#define NC_MOVE_PREPARE_S 0.5    /* the destination's QEMU, movers, dirty tracking; */
#define NC_MOVE_PREPARE_TRIPS 6  /* and round trips */
#define NC_MOVE_PAUSE_S 0.02     /* in a pause besides its pages, and one and a half round trips */
#define NC_MOVE_PAUSE_TRIPS 1.5
#define NC_MOVE_END_S 0.3        /* verification, goodbyes */
#define NC_MOVE_MOST_CONTENT_BPS 1.5e9 /* what QEMU and the movers carry at most, however wide the link is */
#define NC_MOVE_MOST_ROUNDS 200u

typedef struct {
  bool converges; /* else it does not come to its end, and the rest is 0 */
  bool postcopy;  /* it would end in that */
  unsigned rounds;
  double seconds, pause_s;
  double wire_bytes;
} NcMoveForecast;

/* Content per second where ${wire_bps} can be had. */
double nc_move_content_bps(const NcGuest *guest, double wire_bps);
/* What of a pause pages may have; a tenth of the promise at least. */
double nc_move_budget_s(const NcGuest *guest, int64_t rtt_us);
double nc_move_prepare_s(int64_t rtt_us);
double nc_move_pause_overhead_s(int64_t rtt_us);
/* Plays it with ${wire_bps} (more than 0) all the time. */
void nc_move_forecast(const NcGuest *guest, double wire_bps, int64_t rtt_us, NcMoveForecast *ret);
/* ${bytes} of disks go before: as they are, since what they can be compressed to is not known. Only of one that converges. */
void nc_move_forecast_disks(NcMoveForecast *forecast, double bytes, double wire_bps);
