/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds, rate samples, minimum RTT, and the window from them. The theory is in flight.h. */
#include "wire/flight.h"

#define NC_FLIGHT_RATE_BUCKETS 10
#define NC_FLIGHT_RATE_WINDOW_US 2000000u
#define NC_FLIGHT_RATE_WINDOW_RTTS 10
/* Acknowledgements come in lumps; in a shorter round a lump more or less is too much of the result. */
#define NC_FLIGHT_MIN_ROUND_US (4 * NC_FLIGHT_ACK_DELAY_US)
/* So do batches: once the link is known, longer rounds, in which one more is less of the result. */
#define NC_FLIGHT_ROUND_RTTS 3
#define NC_FLIGHT_RTT_WINDOW_US 10000000u
#define NC_FLIGHT_DRAIN_US 200000u      /* and two RTTs more: two pings at least find an empty queue */
#define NC_FLIGHT_DRAIN_MAX_US 5000000u /* pings may have got lost */
#define NC_FLIGHT_DRAIN_SAMPLES 2
#define NC_FLIGHT_GROWTH 1.25
#define NC_FLIGHT_FLAT_ROUNDS 3
/* How much one acknowledgement (every 5 ms or so), and one ping (every 100 ms), changes the mean: both remember 0.3 s. */
#define NC_FLIGHT_ANSWER_WEIGHT (1.0 / 64)
#define NC_FLIGHT_PING_WEIGHT (1.0 / 4)

/* The highest rate sample of a tenth of the rate's window. */
typedef struct {
  uint64_t start_us;
  double rate;
} NcFlightBucket;

struct NcFlight {
  unsigned paths;
  double pause_budget_s;
  uint64_t window;

  /* the current round: from an acknowledgement until `round_end` bytes are acknowledged */
  uint64_t acked; /* since the beginning */
  uint64_t round_end, round_start_acked, round_start_us, round_start_sent_us;
  bool round_bound; /* the window was full at some time */
  bool round_idle;  /* nothing was in flight at some time, or the window was drained */
  bool has_round;

  NcFlightBucket rates[NC_FLIGHT_RATE_BUCKETS];
  unsigned newest_rate;
  uint64_t rate_now_us; /* when the last sample came: time stands still without any */

  uint64_t min_rtt_us; /* 0: unknown */
  uint64_t min_rtt_at_us;

  double mean_answer_us, mean_ping_us; /* from sending until acknowledged; both 0 while unknown */

  bool is_draining;
  uint64_t drain_start_us, drain_min_us;
  unsigned drain_samples;

  bool is_starting;
  double start_rate; /* at the last growth */
  unsigned flat_rounds;
};

NcFlight *
nc_flight_new(unsigned pause_budget_ms)
{
  NcFlight *f = g_new0(NcFlight, 1);
  f->pause_budget_s = pause_budget_ms / 1000.0;
  f->paths = 1;
  f->window = NC_FLIGHT_START_BYTES;
  f->is_starting = true;
  return f;
}

void
nc_flight_set_paths(NcFlight *f, unsigned paths)
{
  f->paths = MAX(paths, 1);
}

void
nc_flight_free(NcFlight *f)
{
  g_free(f);
}

uint64_t
nc_flight_window(const NcFlight *f)
{
  return f->window;
}

uint64_t
nc_flight_min_rtt_us(const NcFlight *f)
{
  return f->min_rtt_us;
}

static uint64_t
nc_flight_rate_window_us(const NcFlight *f)
{
  return MAX(NC_FLIGHT_RATE_WINDOW_US, NC_FLIGHT_RATE_WINDOW_RTTS * f->min_rtt_us);
}

double
nc_flight_rate(const NcFlight *f)
{
  double best = 0;

  for (unsigned i = 0; i < NC_FLIGHT_RATE_BUCKETS; i++)
    if (f->rate_now_us - f->rates[i].start_us <= nc_flight_rate_window_us(f))
      best = MAX(best, f->rates[i].rate);
  return best;
}

static void
nc_flight_add_rate(NcFlight *f, double rate, uint64_t now_us)
{
  NcFlightBucket *newest = &f->rates[f->newest_rate];

  f->rate_now_us = now_us;
  if (now_us - newest->start_us > nc_flight_rate_window_us(f) / NC_FLIGHT_RATE_BUCKETS) {
    f->newest_rate = (f->newest_rate + 1) % NC_FLIGHT_RATE_BUCKETS;
    f->rates[f->newest_rate] = (NcFlightBucket){ .start_us = now_us, .rate = rate };
  } else {
    newest->rate = MAX(newest->rate, rate);
  }
}

/*
 * BDP, what may queue beyond it (${most_extra_bdps} of it, but not more than ${most_extra_s} of the rate), and a batch. The
 * ends take ${ends_us} before they answer.
 */
static double
nc_flight_sum(double rate, uint64_t rtt_us, double ends_us, unsigned paths, double most_extra_bdps, double most_extra_s)
{
  double bdp = rate * (double)rtt_us / 1e6;
  double extra = MAX(MIN(bdp * most_extra_bdps, rate * most_extra_s), rate * ends_us / 1e6);

  return bdp + extra + NC_FLIGHT_MIN_BYTES * (paths > 1 ? 2.0 * paths : 1.0);
}

/* How much longer an acknowledgement takes than a ping, which waits in the same queues: that is not the link's doing. */
static double
nc_flight_ends_us(const NcFlight *f)
{
  double most = MAX(f->pause_budget_s * NC_FLIGHT_ENDS_SHARE * 1e6, NC_FLIGHT_ACK_DELAY_US);
  double ends = f->mean_ping_us > 0 ? f->mean_answer_us - f->mean_ping_us : 0;

  return CLAMP(ends, NC_FLIGHT_ACK_DELAY_US, most);
}

static double
nc_flight_target(const NcFlight *f, double most_extra_bdps, double most_extra_s)
{
  return nc_flight_sum(nc_flight_rate(f), f->min_rtt_us, nc_flight_ends_us(f), f->paths, most_extra_bdps, most_extra_s);
}

static void
nc_flight_mean(double *mean, double sample, double weight)
{
  *mean = *mean > 0 ? *mean + weight * (sample - *mean) : sample;
}

uint64_t
nc_flight_expected(double rate, uint64_t rtt_us, unsigned pause_budget_ms)
{
  double bytes = nc_flight_sum(rate, rtt_us, NC_FLIGHT_ACK_DELAY_US, 1, NC_FLIGHT_EXTRA_BDPS, pause_budget_ms / 1000.0 * NC_FLIGHT_PAUSE_SHARE);
  return (uint64_t)CLAMP(bytes, NC_FLIGHT_MIN_BYTES, NC_FLIGHT_MAX_BYTES);
}

static void
nc_flight_set_window(NcFlight *f, double bytes)
{
  uint64_t least =
      f->min_rtt_us < NC_FLIGHT_LOCAL_RTT_US && f->min_rtt_us > 0 ? NC_FLIGHT_MIN_LOCAL_BYTES : NC_FLIGHT_MIN_BYTES;
  if (f->is_draining)
    f->window =
        (uint64_t)CLAMP(nc_flight_rate(f) * (double)f->min_rtt_us / 2e6, NC_FLIGHT_DRAIN_BYTES, NC_FLIGHT_MAX_BYTES);
  else
    f->window = (uint64_t)CLAMP(bytes, (double)least, (double)NC_FLIGHT_MAX_BYTES);
}

static void
nc_flight_update_window(NcFlight *f)
{
  if (f->is_starting)
    nc_flight_set_window(f, (double)f->window); /* grows by rounds; here only the floor may have changed */
  else
    nc_flight_set_window(f, nc_flight_target(f, NC_FLIGHT_EXTRA_BDPS, f->pause_budget_s * NC_FLIGHT_PAUSE_SHARE));
}

/* Start-up, at the end of a round that the window bound. */
static void
nc_flight_grow(NcFlight *f)
{
  double rate = nc_flight_rate(f);

  if (rate >= f->start_rate * NC_FLIGHT_GROWTH) {
    f->start_rate = rate;
    f->flat_rounds = 0;
    double most = f->min_rtt_us > 0 ? nc_flight_target(f, 1, G_MAXUINT32) : (double)f->window;
    f->window = (uint64_t)MAX((double)f->window, MIN(2.0 * (double)f->window, most));
  } else if (++f->flat_rounds >= NC_FLIGHT_FLAT_ROUNDS && f->min_rtt_us > 0) {
    f->is_starting = false;
  }
}

static void
nc_flight_begin_round(NcFlight *f, uint64_t in_flight_bytes, uint64_t sent_us, uint64_t now_us)
{
  f->has_round = true;
  f->round_start_us = now_us;
  f->round_start_sent_us = sent_us;
  f->round_start_acked = f->acked;
  f->round_end = f->acked + MAX(in_flight_bytes, 1);
  f->round_bound = false;
  f->round_idle = in_flight_bytes == 0 || f->is_draining;
}

static void
nc_flight_end_round(NcFlight *f, uint64_t sent_us, uint64_t now_us)
{
  uint64_t sending_us = sent_us > f->round_start_sent_us ? sent_us - f->round_start_sent_us : 0; /* 0: sent once more */
  double rate = (double)(f->acked - f->round_start_acked) * 1e6 / (double)MAX(now_us - f->round_start_us, sending_us);
  bool tells = f->round_bound && !f->round_idle;

  if (tells || rate > nc_flight_rate(f))
    nc_flight_add_rate(f, rate, now_us);
  if (tells && f->is_starting)
    nc_flight_grow(f);
}

static uint64_t
nc_flight_min_round_us(const NcFlight *f)
{
  return MAX(NC_FLIGHT_MIN_ROUND_US, f->min_rtt_us * (f->is_starting ? 1 : NC_FLIGHT_ROUND_RTTS));
}

void
nc_flight_acked(NcFlight *f, uint64_t bytes, uint64_t in_flight_bytes, uint64_t sent_us, uint64_t now_us)
{
  /* Full: there was no room for another batch. */
  if (bytes + in_flight_bytes + MIN(NC_FLIGHT_MIN_BYTES, f->window / 2) >= f->window)
    f->round_bound = true;
  if (in_flight_bytes == 0)
    f->round_idle = true;
  if (sent_us > 0 && sent_us < now_us)
    nc_flight_mean(&f->mean_answer_us, (double)(now_us - sent_us), NC_FLIGHT_ANSWER_WEIGHT);
  f->acked += bytes;
  if (!f->has_round) {
    nc_flight_begin_round(f, in_flight_bytes, sent_us, now_us);
  } else if (f->acked >= f->round_end && now_us - f->round_start_us >= nc_flight_min_round_us(f)) {
    nc_flight_end_round(f, sent_us, now_us);
    nc_flight_begin_round(f, in_flight_bytes, sent_us, now_us);
  }
  nc_flight_update_window(f);
}

/* Near enough to the minimum that our queue can't have hidden it. */
static bool
nc_flight_rtt_confirms(const NcFlight *f, uint64_t rtt_us)
{
  return rtt_us <= f->min_rtt_us + f->min_rtt_us / 8 + 50;
}

static void
nc_flight_begin_drain(NcFlight *f, uint64_t now_us)
{
  f->is_draining = true;
  f->round_idle = true; /* this round's rate is that of the drained window */
  f->drain_start_us = now_us;
  f->drain_min_us = G_MAXUINT64;
  f->drain_samples = 0;
}

/* One sample of the time the window is drained. Those of the first RTT come from the queue before. */
static void
nc_flight_drain_rtt(NcFlight *f, uint64_t rtt_us, uint64_t now_us)
{
  uint64_t elapsed_us = now_us - f->drain_start_us;

  f->drain_min_us = MIN(f->drain_min_us, rtt_us);
  f->drain_samples++;
  if (elapsed_us < MIN(NC_FLIGHT_DRAIN_US + 2 * f->min_rtt_us, NC_FLIGHT_DRAIN_MAX_US) ||
      f->drain_samples < NC_FLIGHT_DRAIN_SAMPLES)
    return;
  f->min_rtt_us = f->drain_min_us;
  f->min_rtt_at_us = now_us;
  f->is_draining = false;
}

void
nc_flight_rtt(NcFlight *f, uint64_t rtt_us, uint64_t now_us)
{
  rtt_us = MAX(rtt_us, 1);
  nc_flight_mean(&f->mean_ping_us, (double)rtt_us, NC_FLIGHT_PING_WEIGHT);
  if (f->is_draining)
    nc_flight_drain_rtt(f, rtt_us, now_us);
  else if (f->min_rtt_us == 0 || nc_flight_rtt_confirms(f, rtt_us))
    f->min_rtt_at_us = now_us;
  else if (now_us - f->min_rtt_at_us > NC_FLIGHT_RTT_WINDOW_US)
    nc_flight_begin_drain(f, now_us);
  if (f->min_rtt_us == 0 || rtt_us < f->min_rtt_us)
    f->min_rtt_us = rtt_us;
  nc_flight_update_window(f);
}
