/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/forecast_memory.h"
#include "fleet/rounds.h"

#include <string.h>

#define NC_FORECAST_RESENT_SHARE 0.5   /* until something is known of it */
#define NC_FORECAST_CONTENT_BPS 1e8    /* everything else takes that much at least, until it was seen to take more */
#define NC_FORECAST_TRUST_BYTES 1e6    /* so much of what is seen weighs as much as what was expected */
#define NC_FORECAST_RATE_SECONDS 3.0   /* rates are those of the last ones; */
#define NC_FORECAST_RATE_LEAST 0.3     /* at first of so many, */
#define NC_FORECAST_RATE_SHARE 0.3     /* then of this share of all there were */
#define NC_FORECAST_LINK_SHARE 0.25    /* of the time, that one waits for the link where it is the limit: often acknowledgements come just in time */
#define NC_FORECAST_UNPROVEN 2         /* a link that nobody had to wait for can do so many times what it has carried, say */

double
nc_forecast_memory_weight(double seconds, double seen_seconds)
{
  return MIN(seconds / CLAMP(seen_seconds * NC_FORECAST_RATE_SHARE, NC_FORECAST_RATE_LEAST, NC_FORECAST_RATE_SECONDS), 1);
}

void
nc_forecast_memory_init(NcForecastMemory *m, const NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES], uint64_t sampled_bytes,
                        uint64_t total_bytes)
{
  memcpy(m->places, places, sizeof m->places);
  m->place_bytes = (double)MIN(sampled_bytes, total_bytes) / NC_MEMORY_SAMPLE_PLACES;
  m->total_bytes = (double)total_bytes;
  if (m->factor > 0)
    return; /* another sample: what was learned still holds */
  m->factor = 1;
  m->resent_share = NC_FORECAST_RESENT_SHARE;
  m->resent_new = 1;
  m->content_rate = m->best_rate = NC_FORECAST_CONTENT_BPS;
}

void
nc_forecast_memory_assume(NcForecastMemory *m, double wire_rate, double content_rate, double factor)
{
  m->wire_rate = wire_rate;
  m->is_link_proven = true;
  m->content_rate = m->best_rate = content_rate > 0 ? content_rate : NC_FORECAST_CONTENT_BPS;
  m->factor = factor > 0 ? factor : 1;
}

bool
nc_forecast_memory_is_known(const NcForecastMemory *m)
{
  return m->place_bytes > 0 && m->wire_rate > 0;
}

double
nc_forecast_memory_changed(const NcForecastMemory *m, const NcMemoryChange *change)
{
  return change->changed * m->place_bytes * NC_MEMORY_SAMPLE_PLACES;
}

double
nc_forecast_memory_sampled_page(const NcForecastMemory *m)
{
  return MAX(m->place_bytes / NC_MEMORY_SAMPLE_PAGES, NC_ROUND_NOTHING);
}

void
nc_forecast_memory_expect_resent(NcForecastMemory *m, const NcMemoryChange *change)
{
  if (change->changed <= 0)
    return;
  m->resent_share = change->coded;
  m->resent_where = change->where;
}

double
nc_forecast_memory_rest_there(const NcForecastMemory *m)
{
  return m->total_bytes - m->resent_where * m->place_bytes * NC_MEMORY_SAMPLE_PLACES;
}

static double
nc_forecast_memory_content(const NcForecastMemory *m, unsigned place)
{
  return m->place_bytes * (double)m->places[place].content;
}

/* Where the first round is, in places. */
static double
nc_forecast_memory_position(const NcForecastMemory *m, double remaining_bytes)
{
  return CLAMP((m->total_bytes - remaining_bytes) / m->place_bytes, 0, NC_MEMORY_SAMPLE_PLACES);
}

/* What the sample lets expect on the wire, for all before ${position}. */
static double
nc_forecast_memory_expected(const NcForecastMemory *m, double position)
{
  double bytes = 0;

  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES && i < position; i++)
    bytes += MIN(position - i, 1) * nc_forecast_memory_content(m, i) * (double)m->places[i].coded;
  return bytes;
}

static NcForecastSpan
nc_forecast_span(const NcForecastSample *before, const NcForecastSample *now, double seconds)
{
  double content = (double)now->sent_bytes - (double)before->sent_bytes;
  double gone = now->rounds <= 1 ? (double)before->remaining_bytes - (double)now->remaining_bytes : 0;
  return (NcForecastSpan){ seconds, content, MAX(gone - content, 0) };
}

static void
nc_forecast_span_add(NcForecastSpan *sum, const NcForecastSpan *span)
{
  sum->seconds += span->seconds;
  sum->content += span->content;
  sum->scanned += span->scanned;
}

/* The link was what all waited for: then that is its rate. Or it was not: then it can do that and more. */
static void
nc_forecast_memory_learn_link(NcForecastMemory *m, double rate, bool is_limit, double weight)
{
  if (m->wire_rate <= 0 || (is_limit && !m->is_link_proven))
    m->wire_rate = rate;
  else
    m->wire_rate += weight * (is_limit ? rate - m->wire_rate : MAX(rate - m->wire_rate, 0));
  m->is_link_proven |= is_limit;
}

/* The same of everything else. Where the link is a limit, too, it is not known which part of a while was whose. */
static void
nc_forecast_memory_learn_rest(NcForecastMemory *m, const NcForecastSpan *span, bool is_first, bool is_limit, double weight)
{
  double seconds = MAX(span->seconds - span->scanned / NC_FORECAST_SCAN_RATE, span->seconds / 4), more = span->content / span->seconds - m->best_rate;

  if (is_limit && !is_first && span->content > NC_FORECAST_TRUST_BYTES)
    m->best_rate += weight * more; /* what is sent again went no faster, and nobody waited for the link */
  else
    m->best_rate += weight * MAX(more, 0);
  if (m->is_link_proven)
    m->content_rate = MAX(m->content_rate, m->best_rate);
  else if (is_first && span->content > NC_FORECAST_TRUST_BYTES)
    m->content_rate += weight * (span->content / seconds - m->content_rate);
}

void
nc_forecast_memory_learn(NcForecastMemory *m, const NcForecastSample *before, const NcForecastSample *now, double seconds)
{
  double wire = (double)now->wire_bytes - (double)before->wire_bytes;
  NcForecastSpan span = nc_forecast_span(before, now, seconds);

  if (m->place_bytes <= 0 || seconds <= 0 || now->wire_bytes == 0)
    return;
  nc_forecast_span_add(&span, &m->silent);
  m->silent = span;
  if (now->wire_bytes == before->wire_bytes) /* no news of the link, which is not the same as nothing on it */
    return;
  m->silent = (NcForecastSpan){ 0 };
  double weight = nc_forecast_memory_weight(span.seconds, m->seen_seconds);
  bool waited = (double)now->link_wait_us - (double)before->link_wait_us >= NC_FORECAST_LINK_SHARE * 1e6 * span.seconds;
  m->seen_seconds += span.seconds;
  nc_forecast_memory_learn_link(m, wire / span.seconds, waited, weight);
  nc_forecast_memory_learn_rest(m, &span, now->rounds <= 1, !waited, weight);
  if (now->rounds > 1 && before->rounds > 1) { /* in between, it is of both */
    m->resent_content += span.content;
    m->resent_wire += wire;
  } else if (now->rounds <= 1) {
    double expected = nc_forecast_memory_expected(m, nc_forecast_memory_position(m, (double)now->remaining_bytes));
    m->is_learned = true;
    m->factor = CLAMP(((double)now->wire_bytes + NC_FORECAST_TRUST_BYTES) / (expected + NC_FORECAST_TRUST_BYTES), 0.1, 3);
  }
}

/* Of one byte that is coded to ${coded}, where everything else takes ${content_rate}. */
static double
nc_forecast_memory_seconds(const NcForecastMemory *m, double coded, double content_rate)
{
  double link = m->is_link_proven ? m->wire_rate : NC_FORECAST_UNPROVEN * m->wire_rate;
  return MAX(coded / link, 1 / content_rate);
}

double
nc_forecast_memory_rest(const NcForecastMemory *m, double remaining_bytes, double *ret_content)
{
  double from = nc_forecast_memory_position(m, remaining_bytes), seconds = remaining_bytes / NC_FORECAST_SCAN_RATE, bytes = 0;

  for (unsigned i = (unsigned)from; i < NC_MEMORY_SAMPLE_PLACES; i++) {
    double content = MIN(i + 1 - from, 1) * nc_forecast_memory_content(m, i);
    bytes += content;
    seconds += content * nc_forecast_memory_seconds(m, m->factor * (double)m->places[i].coded, m->content_rate);
  }
  if (ret_content)
    *ret_content = bytes;
  return seconds;
}

double
nc_forecast_memory_rest_wire(const NcForecastMemory *m, double remaining_bytes)
{
  double from = nc_forecast_memory_position(m, remaining_bytes);
  return m->factor * (nc_forecast_memory_expected(m, NC_MEMORY_SAMPLE_PLACES) - nc_forecast_memory_expected(m, from));
}

double
nc_forecast_memory_rate(const NcForecastMemory *m, double coded)
{
  return 1 / nc_forecast_memory_seconds(m, coded, m->best_rate);
}

double
nc_forecast_memory_resent_share(const NcForecastMemory *m)
{
  double share = (m->resent_share * m->resent_new * NC_FORECAST_TRUST_BYTES + m->resent_wire) / (NC_FORECAST_TRUST_BYTES + m->resent_content);
  return MIN(share, 1); /* what the link still carries of the first round is counted among it, at first */
}

double
nc_forecast_memory_resent_rate(const NcForecastMemory *m)
{
  return nc_forecast_memory_rate(m, nc_forecast_memory_resent_share(m));
}
