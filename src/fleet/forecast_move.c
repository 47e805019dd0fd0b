/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/forecast_move.h"
#include "fleet/rounds.h"

double
nc_move_content_bps(const NcGuest *guest, double wire_bps)
{
  return MIN(wire_bps * guest->ratio, NC_MOVE_MOST_CONTENT_BPS);
}

double
nc_move_prepare_s(int64_t rtt_us)
{
  return NC_MOVE_PREPARE_S + NC_MOVE_PREPARE_TRIPS * (double)rtt_us / 1e6;
}

double
nc_move_pause_overhead_s(int64_t rtt_us)
{
  return NC_MOVE_PAUSE_S + NC_MOVE_PAUSE_TRIPS * (double)rtt_us / 1e6;
}

double
nc_move_budget_s(const NcGuest *guest, int64_t rtt_us)
{
  return MAX(guest->max_downtime_s - nc_move_pause_overhead_s(rtt_us), guest->max_downtime_s / 10);
}

/* The rounds; *ret_sent is the content of all of them, *ret_last what is sent in the pause or after a switch. */
static NcRoundVerdict
nc_move_play(const NcGuest *guest, double rate, double budget_s, NcMoveForecast *ret, double *ret_sent, double *ret_last)
{
  NcRoundTerms terms = { .dirty_rate = guest->dirty_bps,
                         .working_set = MIN(guest->working_set_bytes, guest->content_bytes),
                         .budget_bytes = rate * budget_s,
                         .is_first = true };
  double left = guest->content_bytes;

  for (*ret_sent = 0; ret->rounds < NC_MOVE_MOST_ROUNDS; terms.is_first = false, terms.may_stall = true) {
    double kept = MIN(left, terms.budget_bytes), seconds = (left - kept) / rate;
    NcRoundEnd end = nc_rounds_end(&terms, left, kept, seconds);
    ret->rounds++;
    ret->seconds += seconds;
    *ret_sent += left - kept;
    *ret_last = left = end.next;
    if (end.verdict != NC_ROUND_ON)
      return end.verdict;
  }
  return NC_ROUND_STALL;
}

void
nc_move_forecast(const NcGuest *guest, double wire_bps, int64_t rtt_us, NcMoveForecast *ret)
{
  double rate = nc_move_content_bps(guest, wire_bps), sent = 0, last = 0;

  *ret = (NcMoveForecast){ 0 };
  NcRoundVerdict verdict = nc_move_play(guest, rate, nc_move_budget_s(guest, rtt_us), ret, &sent, &last);
  ret->postcopy = verdict == NC_ROUND_STALL && guest->may_postcopy;
  ret->converges = verdict == NC_ROUND_LAST || ret->postcopy;
  if (!ret->converges) {
    *ret = (NcMoveForecast){ .rounds = ret->rounds };
    return;
  }
  ret->pause_s = nc_move_pause_overhead_s(rtt_us) + (ret->postcopy ? 0 : MIN(last / rate, nc_move_budget_s(guest, rtt_us)));
  ret->seconds += nc_move_prepare_s(rtt_us) + nc_move_pause_overhead_s(rtt_us) + last / rate + NC_MOVE_END_S;
  ret->wire_bytes = (sent + last) / guest->ratio;
}

void
nc_move_forecast_disks(NcMoveForecast *forecast, double bytes, double wire_bps)
{
  forecast->seconds += bytes / MIN(wire_bps, NC_MOVE_MOST_CONTENT_BPS);
  forecast->wire_bytes += bytes;
}
