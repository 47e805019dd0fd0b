/* SPDX-License-Identifier: Apache-2.0 */
/* Rates, rounds, and the future played from them. The theory is in forecast.h. */
#include "agent/forecast.h"
#include "agent/forecast_dirt.h"
#include "agent/forecast_memory.h"
#include "fleet/rounds.h"

#include <math.h>

#define NC_FORECAST_KNOWN_US 500000u
#define NC_FORECAST_ROUNDS 16           /* remembered */
#define NC_FORECAST_MIN_ROUND_US 20000u /* in less, a sample more or less is all of it */
#define NC_FORECAST_PLAYED_ROUNDS 200
#define NC_FORECAST_END_MS 300.0  /* from the start at the destination to the end: verification, goodbyes */
#define NC_FORECAST_LEAST_ERROR 0.1
#define NC_FORECAST_LEAST_NEW 0.2  /* of what is dirty; what is not quite so costs something, too */
#define NC_FORECAST_WORKING_SHARE 0.5 /* of the content; until a round has shown the working set */
#define NC_FORECAST_FIRST_ERROR 0.3   /* and so long the error is this */

/* How far off they may be: a round is counted by QEMU, of a look each sampled page stands for many, and QEMU's own sample is a coarse one. */
#define NC_FORECAST_ROUND_VARIANCE 0.02
#define NC_FORECAST_LOOK_VARIANCE 0.02
#define NC_FORECAST_SAMPLE_VARIANCE 0.3
#define NC_FORECAST_FRESH_S 5.0

typedef struct {
  NcDirtPoint point;
  uint64_t at_us; /* when it was over */
} NcForecastSeen;

struct NcForecast {
  double content_bytes;
  NcForecastMemory memory;
  uint64_t start_us, last_us, round_us;
  NcForecastSample last;
  double rate;    /* content bytes per second */
  double seconds; /* of sending seen */
  NcForecastSeen rounds[NC_FORECAST_ROUNDS];
  unsigned round_count;
  NcForecastSeen changes[NC_FORECAST_ROUNDS]; /* seen by sampling */
  unsigned change_count;
  NcDirt dirt; /* what explains them */
  double expected_dirt; /* bytes per second, of a sample of a second */
  double round_error; /* of the last round's dirt, relative */
  bool free_pages;    /* the guest names its free pages */
  bool is_held;       /* kept from its last round */
  bool is_assumed;
  double assumed_share; /* wire bytes per byte of content, without a sample of the memory; 0: not known */
};

NcForecast *
nc_forecast_new(uint64_t content_bytes, uint64_t now_us)
{
  NcForecast *f = g_new0(NcForecast, 1);
  f->content_bytes = (double)content_bytes;
  f->start_us = f->last_us = f->round_us = now_us;
  f->round_error = NC_FORECAST_FIRST_ERROR;
  return f;
}

void
nc_forecast_free(NcForecast *f)
{
  g_free(f);
}

/* The guest may have become another since: by a round, or by some seconds if rounds are short, it is half as good as new. */
static NcDirtPoint
nc_forecast_aged(const NcForecast *f, NcDirtPoint point, uint64_t at_us, double round_s)
{
  double age = (double)(f->last_us - MIN(at_us, f->last_us)) / 1e6 / MAX(round_s, NC_FORECAST_FRESH_S);

  point.variance *= 1 + age * age;
  return point;
}

/* What was seen so far, in one place; returns how much of ${points} that is. */
static unsigned
nc_forecast_gather(const NcForecast *f, NcDirtPoint points[2 * NC_FORECAST_ROUNDS + 1])
{
  double round_s = f->round_count > 0 ? f->rounds[(f->round_count - 1) % NC_FORECAST_ROUNDS].point.seconds : INFINITY;
  unsigned count = 0;

  for (unsigned i = 0; i < MIN(f->round_count, NC_FORECAST_ROUNDS); i++)
    points[count++] = nc_forecast_aged(f, f->rounds[i].point, f->rounds[i].at_us, round_s);
  for (unsigned i = 0; i < MIN(f->change_count, NC_FORECAST_ROUNDS); i++)
    points[count++] = nc_forecast_aged(f, f->changes[i].point, f->changes[i].at_us, round_s);
  if (f->expected_dirt > 0)
    points[count++] = nc_forecast_aged(f, (NcDirtPoint){ 1, f->expected_dirt, NC_FORECAST_SAMPLE_VARIANCE }, f->start_us, round_s);
  return count;
}

/* To be called when something was seen of what the guest dirties. */
static void
nc_forecast_fit(NcForecast *f)
{
  NcDirtPoint points[2 * NC_FORECAST_ROUNDS + 1];
  f->dirt = nc_dirt_fit(points, nc_forecast_gather(f, points));
}

static double
nc_forecast_dirty_rate(const NcForecast *f)
{
  return f->dirt.rate;
}

/* 0: what was seen was not long enough to tell. */
static double
nc_forecast_working_set(const NcForecast *f)
{
  return f->round_count + f->change_count > 0 ? f->dirt.working_set : f->content_bytes * NC_FORECAST_WORKING_SHARE;
}

/* Between the first round and the second, of the pages that are left many are free ones, cleared: they show nothing. */
static bool
nc_forecast_has_cleared(const NcForecast *f, uint64_t rounds)
{
  return f->free_pages && rounds == 2;
}

static void
nc_forecast_end_round(NcForecast *f, const NcForecastSample *sample, uint64_t now_us)
{
  double seconds = (double)(now_us - f->round_us) / 1e6;
  /* What was left of this round is no new dirt, unless it was sent since: exact but for pages of zeros. */
  double sent = MAX((double)sample->sent_bytes - (double)f->last.sent_bytes, 0);
  double old = CLAMP((double)f->last.remaining_bytes - sent, 0, 0.9 * (double)sample->remaining_bytes);
  double bytes = (double)sample->remaining_bytes - old;

  f->round_us = now_us;
  if (sample->rounds < 2 || seconds * 1e6 < NC_FORECAST_MIN_ROUND_US)
    return;
  if (nc_forecast_has_cleared(f, sample->rounds)) { /* the rest of what is left is content no more than untouched pages are */
    f->content_bytes = (double)sample->sent_bytes + nc_rounds_dirt(nc_forecast_dirty_rate(f), nc_forecast_working_set(f), seconds);
    return;
  }
  double expected = nc_rounds_dirt(nc_forecast_dirty_rate(f), nc_forecast_working_set(f), seconds);
  if (f->round_count > 0 && bytes > 0)
    f->round_error += 0.5 * (MIN(fabs(expected - bytes) / bytes, 1.0) - f->round_error);
  f->rounds[f->round_count++ % NC_FORECAST_ROUNDS] = (NcForecastSeen){ { seconds, MAX(bytes, NC_ROUND_NOTHING), NC_FORECAST_ROUND_VARIANCE }, now_us };
  nc_forecast_fit(f);
}

/* Seconds from the beginning until ${rest} of all memory is left to be sent for the first time. */
static double
nc_forecast_first_seconds(const NcForecast *f, double rest, double remaining)
{
  double elapsed = (double)(f->last_us - f->start_us) / 1e6;

  if (rest > remaining) /* that is over */
    return elapsed * (f->memory.total_bytes - rest) / MAX(f->memory.total_bytes - remaining, 1);
  return elapsed + nc_forecast_memory_rest(&f->memory, remaining, NULL) - nc_forecast_memory_rest(&f->memory, rest, NULL);
}

/* Which share of what the first round leaves dirty was written after it had been sent. The rest is sent again as it was, which costs nothing. */
static void
nc_forecast_expect_new(NcForecast *f)
{
  double remaining = (double)f->last.remaining_bytes;

  if (f->last.rounds != 1 || f->change_count == 0 || !nc_forecast_memory_is_known(&f->memory))
    return;
  double rate = nc_forecast_dirty_rate(f), working_set = nc_forecast_working_set(f);
  double all_s = nc_forecast_first_seconds(f, 0, remaining);
  double before_s = nc_forecast_first_seconds(f, nc_forecast_memory_rest_there(&f->memory), remaining);
  double dirty = nc_rounds_dirt(rate, working_set, all_s), fresh = nc_rounds_dirt(rate, working_set, MAX(all_s - before_s, 0));
  f->memory.resent_new = dirty > 0 ? CLAMP(fresh / dirty, NC_FORECAST_LEAST_NEW, 1) : 1;
}

bool
nc_forecast_sample(NcForecast *f, const NcForecastSample *sample, uint64_t now_us)
{
  double seconds = (double)(now_us - f->last_us) / 1e6;
  bool ended = sample->rounds > f->last.rounds;

  if (!f->is_held && sample->sent_bytes > f->last.sent_bytes && seconds > 0 && !nc_forecast_has_cleared(f, sample->rounds)) {
    double rate = (double)(sample->sent_bytes - f->last.sent_bytes) / seconds;
    f->rate += (f->rate > 0 ? nc_forecast_memory_weight(seconds, f->seconds) : 1) * (rate - f->rate);
    f->seconds += seconds;
  }
  if (!f->is_held && !nc_forecast_has_cleared(f, sample->rounds))
    nc_forecast_memory_learn(&f->memory, &f->last, sample, seconds);
  if (ended)
    nc_forecast_end_round(f, sample, now_us);
  f->last = *sample;
  f->last_us = now_us;
  nc_forecast_expect_new(f);
  return ended;
}

void
nc_forecast_expect_dirt(NcForecast *f, double bps)
{
  f->expected_dirt = MAX(bps, 0);
  nc_forecast_fit(f);
}

void
nc_forecast_know_memory(NcForecast *f, const NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES], uint64_t sampled_bytes,
                        uint64_t total_bytes)
{
  nc_forecast_memory_init(&f->memory, places, sampled_bytes, total_bytes);
}

void
nc_forecast_see_change(NcForecast *f, const NcMemoryChange *change)
{
  double page = nc_forecast_memory_sampled_page(&f->memory), bytes = MAX(nc_forecast_memory_changed(&f->memory, change), page);

  if (change->changed <= 0)
    return; /* of a large guest a page of the sample stands for megabytes: less than that is not seen */
  f->changes[f->change_count++ % NC_FORECAST_ROUNDS] = (NcForecastSeen){ { change->seconds, bytes, NC_FORECAST_LOOK_VARIANCE + page / bytes }, f->last_us };
  nc_forecast_fit(f);
  nc_forecast_memory_expect_resent(&f->memory, change);
}

void
nc_forecast_expect_free_pages(NcForecast *f)
{
  f->free_pages = true;
}

void
nc_forecast_assume(NcForecast *f, const NcForecastPrior *prior)
{
  double content = 0, total = (double)prior->total_bytes;

  f->last = (NcForecastSample){ .rounds = 1, .remaining_bytes = prior->total_bytes };
  f->round_error = prior->error;
  f->is_assumed = true;
  f->assumed_share = 1 / (prior->ratio > 0 ? prior->ratio : 1);
  nc_forecast_memory_assume(&f->memory, prior->link_bps, prior->content_bps, prior->factor);
  nc_forecast_expect_new(f);
  double seconds = nc_forecast_memory_is_known(&f->memory) ? nc_forecast_memory_rest(&f->memory, total, &content) : 0;
  f->rate = content > 0 ? content / seconds : nc_forecast_memory_rate(&f->memory, f->assumed_share);
}

void
nc_forecast_hold(NcForecast *f, bool is_held)
{
  f->is_held = is_held;
}

double
nc_forecast_coding_factor(const NcForecast *f)
{
  return f->memory.is_learned ? f->memory.factor : 0;
}

void
nc_forecast_forget_dirt(NcForecast *f)
{
  f->round_count = f->change_count = 0;
  f->expected_dirt = 0;
  nc_forecast_fit(f);
}

/* Content that is left to send in this round. */
static double
nc_forecast_content_left(const NcForecast *f)
{
  double remaining = (double)f->last.remaining_bytes;
  if ((f->last.rounds > 1 && !nc_forecast_has_cleared(f, f->last.rounds)) || f->content_bytes <= 0)
    return remaining;
  return CLAMP(f->content_bytes - (double)f->last.sent_bytes, 0, remaining);
}

/* What is ahead, for a rate of ${speed} times the present one. */
typedef struct {
  double seconds;     /* for the rest of this round, if all of it is sent */
  double bytes;       /* content in it */
  double rate;        /* on average */
  double resent_rate; /* of what is dirtied from now on */
  double speed;
} NcForecastAhead;

static NcForecastAhead
nc_forecast_ahead(const NcForecast *f, double speed)
{
  double left = nc_forecast_content_left(f), remaining = (double)f->last.remaining_bytes, rate = f->rate * speed;
  double scan = (remaining - left) / NC_FORECAST_SCAN_RATE;

  if (!nc_forecast_memory_is_known(&f->memory))
    return (NcForecastAhead){ left / rate + scan, left, rate, rate, speed };
  double resent_rate = nc_forecast_memory_resent_rate(&f->memory) * speed;
  if (f->last.rounds > 1)
    return (NcForecastAhead){ left / resent_rate, left, resent_rate, resent_rate, speed };
  double seconds = nc_forecast_memory_rest(&f->memory, remaining, &left) / speed;
  return (NcForecastAhead){ seconds, left, rate, resent_rate, speed };
}

/*
 * The seconds that the last pages take when QEMU has ${kept} left of a round, which took ${seconds}, and ${dirt} came in it. The first round
 * ends with what is last in memory, often zeros; later rounds end anywhere between what is dirtied in no time and what fits.
 */
static double
nc_forecast_last_seconds(const NcForecast *f, const NcForecastAhead *ahead, bool is_first, double kept, double dirt, double budget_s)
{
  double dirt_s = dirt / ahead->resent_rate;

  if (!nc_forecast_memory_is_known(&f->memory))
    return MIN(kept / ahead->rate + dirt_s, budget_s);
  if (is_first)
    return MIN(nc_forecast_memory_rest(&f->memory, kept, NULL) / ahead->speed + dirt_s, budget_s);
  return (budget_s + MIN(dirt_s, budget_s)) / 2;
}

/* How the rounds to come went. */
typedef struct {
  double pause_s; /* of the time, what is sent last */
  double dirt;    /* sent after what is left now, bytes */
} NcForecastPlay;

/* Plays them at ${speed} times the present rate; the time they take, in seconds, or a negative number if they don't shrink. */
static double
nc_forecast_play(const NcForecast *f, double speed, double budget_s, NcForecastPlay *ret)
{
  NcForecastAhead ahead = nc_forecast_ahead(f, speed);
  double dirty_rate = nc_forecast_dirty_rate(f), working_set = nc_forecast_working_set(f);
  double left = ahead.bytes, left_s = ahead.seconds, rate = ahead.rate, total = 0;
  /* Dirtied since the round began, and not seen yet. */
  double unseen = (double)(f->last_us - f->round_us) / 1e6;

  ret->dirt = 0;
  for (int i = 0; i < NC_FORECAST_PLAYED_ROUNDS; i++) {
    bool is_first = f->last.rounds <= 1 && i == 0;
    double budget_bytes = rate * budget_s, kept = MIN(left, budget_bytes), seconds = MAX(left_s - kept / rate, 0);
    total += seconds;
    const NcRoundTerms terms = { dirty_rate, working_set, budget_bytes, is_first, .may_stall = i > 0 };
    NcRoundEnd end = nc_rounds_end(&terms, left, kept, seconds + unseen);
    ret->dirt += MAX(end.next - kept, 0);
    if (end.verdict == NC_ROUND_LAST) {
      ret->pause_s = nc_forecast_last_seconds(f, &ahead, is_first, kept, end.next - kept, budget_s);
      return total;
    }
    if (end.verdict == NC_ROUND_STALL)
      break;
    left_s = kept / rate + MAX(end.next - kept, 0) / ahead.resent_rate;
    left = end.next;
    rate = ahead.resent_rate;
    unseen = 0;
  }
  ret->pause_s = left / rate;
  return -1;
}

/* The lowest rate at which the rounds shrink. */
static double
nc_forecast_needed_rate(const NcForecast *f, double budget_s)
{
  double low = 1, high = 1000;
  NcForecastPlay ignored;

  for (int i = 0; i < 40; i++) {
    double middle = sqrt(low * high);
    *(nc_forecast_play(f, middle, budget_s, &ignored) < 0 ? &low : &high) = middle;
  }
  return high * f->rate;
}

/* Of ${content} in what is left of this round, and ${dirt} sent after it. */
static double
nc_forecast_wire_bytes(const NcForecast *f, double content, double dirt)
{
  if (nc_forecast_memory_is_known(&f->memory)) {
    double resent_share = nc_forecast_memory_resent_share(&f->memory);
    double first = f->last.rounds > 1 ? content * resent_share
                                      : nc_forecast_memory_rest_wire(&f->memory, (double)f->last.remaining_bytes);
    return first + dirt * resent_share;
  }
  double share = f->last.sent_bytes > 0 ? (double)f->last.wire_bytes / (double)f->last.sent_bytes : f->assumed_share;
  return (content + dirt) * share;
}

static bool
nc_forecast_begin(const NcForecast *f, NcForecastResult *ret)
{
  *ret = (NcForecastResult){ .effective_bps = f->rate };
  ret->is_known = f->rate > 0 && (f->is_assumed || f->last_us - f->start_us >= NC_FORECAST_KNOWN_US);
  if (!ret->is_known)
    return false;
  ret->dirty_bps = nc_forecast_dirty_rate(f);
  ret->working_set_bytes = (uint64_t)nc_forecast_working_set(f);
  return true;
}

/* It ends after ${seconds} and the pause, with ${dirt} sent after what is left of this round. */
static void
nc_forecast_end(const NcForecast *f, double seconds, double dirt, NcForecastResult *ret)
{
  double error = MAX(f->round_error, NC_FORECAST_LEAST_ERROR), content = nc_forecast_ahead(f, 1).bytes;

  ret->pause_error_ms = MAX(error * ret->pause_ms, 10);
  if (!ret->converges)
    return;
  ret->eta_ms = seconds * 1000 + ret->pause_ms + NC_FORECAST_END_MS;
  ret->eta_error_ms = error * ret->eta_ms;
  ret->content_bytes = content + dirt;
  ret->wire_bytes = nc_forecast_wire_bytes(f, content, dirt);
}

void
nc_forecast_get(const NcForecast *f, double budget_ms, double overhead_ms, NcForecastResult *ret)
{
  NcForecastPlay play;

  if (!nc_forecast_begin(f, ret))
    return;
  double seconds = nc_forecast_play(f, 1, budget_ms / 1000, &play);
  ret->converges = seconds >= 0;
  ret->needed_bps = ret->converges ? f->rate : nc_forecast_needed_rate(f, budget_ms / 1000);
  ret->pause_ms = play.pause_s * 1000 + overhead_ms;
  nc_forecast_end(f, seconds, play.dirt, ret);
}

void
nc_forecast_get_postcopy(const NcForecast *f, bool at_once, double overhead_ms, NcForecastResult *ret)
{
  if (!nc_forecast_begin(f, ret))
    return;
  NcForecastAhead ahead = nc_forecast_ahead(f, 1);
  double unseen = (double)(f->last_us - f->round_us) / 1e6;
  double dirt = at_once ? 0 : nc_rounds_dirt(ret->dirty_bps, (double)ret->working_set_bytes, ahead.seconds + unseen);
  ret->converges = true;
  ret->needed_bps = f->rate;
  ret->pause_ms = overhead_ms;
  nc_forecast_end(f, ahead.seconds + dirt / ahead.resent_rate, dirt, ret);
}
