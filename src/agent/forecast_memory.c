/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/forecast_memory.h"

#include <string.h>

#define NC_FORECAST_RESENT_SHARE 0.5   /* until something is known of it */
#define NC_FORECAST_CONTENT_BPS 1e8    /* everything else takes that much at least, until it was seen to take more */
#define NC_FORECAST_TRUST_BYTES 1e6    /* so much of what is seen weighs as much as what was expected */
#define NC_FORECAST_RATE_SECONDS 3.0   /* rates are those of the last ones; */
#define NC_FORECAST_RATE_LEAST 0.3     /* at first of so many, */
#define NC_FORECAST_RATE_SHARE 0.3     /* then of this share of all there were */
#define NC_FORECAST_SCAN_RATE 1.5e9    /* QEMU looks for untouched pages at about this */

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
  m->content_rate = NC_FORECAST_CONTENT_BPS;
}

void
nc_forecast_memory_assume(NcForecastMemory *m, double wire_rate, double content_rate, double factor)
{
  m->wire_rate = wire_rate;
  m->content_rate = content_rate > 0 ? content_rate : NC_FORECAST_CONTENT_BPS;
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

void
nc_forecast_memory_expect_resent(NcForecastMemory *m, const NcMemoryChange *change)
{
  if (change->changed > 0)
    m->resent_share = change->coded;
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

void
nc_forecast_memory_learn(NcForecastMemory *m, const NcForecastSample *before, const NcForecastSample *now, double seconds)
{
  double wire = (double)now->wire_bytes - (double)before->wire_bytes, content = (double)now->sent_bytes - (double)before->sent_bytes;

  if (m->place_bytes <= 0 || seconds <= 0 || now->wire_bytes == 0)
    return;
  if (now->wire_bytes == before->wire_bytes) { /* no news of the link, which is not the same as nothing on it */
    m->silent_seconds += seconds;
    m->silent_content += content;
    return;
  }
  seconds += m->silent_seconds;
  content += m->silent_content;
  m->silent_seconds = m->silent_content = 0;
  double weight = nc_forecast_memory_weight(seconds, m->seen_seconds);
  m->seen_seconds += seconds;
  m->wire_rate += (m->wire_rate > 0 ? weight : 1) * (wire / seconds - m->wire_rate);
  m->content_rate += weight * MAX(content / seconds - m->content_rate, 0);
  if (now->rounds > 1 && before->rounds > 1) { /* in between, it is of both */
    m->resent_content += content;
    m->resent_wire += wire;
  } else if (now->rounds <= 1) {
    double expected = nc_forecast_memory_expected(m, nc_forecast_memory_position(m, (double)now->remaining_bytes));
    m->is_learned = true;
    m->factor = CLAMP(((double)now->wire_bytes + NC_FORECAST_TRUST_BYTES) / (expected + NC_FORECAST_TRUST_BYTES), 0.1, 3);
  }
}

/* Of one byte that is coded to ${coded}. */
static double
nc_forecast_memory_seconds(const NcForecastMemory *m, double coded)
{
  return MAX(coded / m->wire_rate, 1 / m->content_rate);
}

double
nc_forecast_memory_rest(const NcForecastMemory *m, double remaining_bytes, double *ret_content)
{
  double from = nc_forecast_memory_position(m, remaining_bytes), seconds = remaining_bytes / NC_FORECAST_SCAN_RATE, bytes = 0;

  for (unsigned i = (unsigned)from; i < NC_MEMORY_SAMPLE_PLACES; i++) {
    double content = MIN(i + 1 - from, 1) * nc_forecast_memory_content(m, i);
    bytes += content;
    seconds += content * nc_forecast_memory_seconds(m, m->factor * (double)m->places[i].coded);
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
  return 1 / nc_forecast_memory_seconds(m, coded);
}

double
nc_forecast_memory_resent_share(const NcForecastMemory *m)
{
  double share = (m->resent_share * NC_FORECAST_TRUST_BYTES + m->resent_wire) / (NC_FORECAST_TRUST_BYTES + m->resent_content);
  return MIN(share, 1); /* what the link still carries of the first round is counted among it, at first */
}

double
nc_forecast_memory_resent_rate(const NcForecastMemory *m)
{
  return nc_forecast_memory_rate(m, nc_forecast_memory_resent_share(m));
}
