/* SPDX-License-Identifier: Apache-2.0 */
/* Histogram and matches of a sample. */
#include "wire/estimate.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#define NC_ESTIMATE_WINDOW 32u
#define NC_ESTIMATE_WINDOWS 128u /* at most: 4 KiB of 256 */
#define NC_ESTIMATE_STRIDE 2048u
#define NC_ESTIMATE_LEAST_STRIDE 64u
#define NC_ESTIMATE_PROBES 6u /* words looked up per window */
#define NC_ESTIMATE_TABLE_BITS 10
#define NC_ESTIMATE_MATCH_GAIN 0.85 /* of what entropy leaves, where every word was seen before */
#define NC_ESTIMATE_LEAST 0.01

/* What the sample has shown. */
typedef struct {
  uint32_t counts[2][256];                      /* even and odd bytes apart: increments don't wait for each other */
  uint32_t words[1u << NC_ESTIMATE_TABLE_BITS]; /* seen; zeros count as seen */
  uint32_t bytes, probes, matches;
} NcEstimateSample;

static void
nc_estimate_count(NcEstimateSample *s, const uint8_t *at)
{
  for (unsigned i = 0; i < NC_ESTIMATE_WINDOW; i += 2) {
    s->counts[0][at[i]]++;
    s->counts[1][at[i + 1]]++;
  }
  s->bytes += NC_ESTIMATE_WINDOW;
}

static void
nc_estimate_match(NcEstimateSample *s, const uint8_t *at)
{
  for (unsigned i = 0; i < NC_ESTIMATE_PROBES; i++) {
    uint32_t word;
    memcpy(&word, at + 5 * i, sizeof word); /* 5: at every alignment */
    uint32_t *seen = &s->words[word * 2654435761u >> (32 - NC_ESTIMATE_TABLE_BITS)];
    s->matches += *seen == word;
    *seen = word;
  }
  s->probes += NC_ESTIMATE_PROBES;
}

/* Bits per byte, corrected for what a sample this small lacks (Miller and Madow). */
static double
nc_estimate_entropy(const NcEstimateSample *s)
{
  double sum = 0;
  unsigned kinds = 0;

  for (unsigned i = 0; i < 256; i++) {
    uint32_t count = s->counts[0][i] + s->counts[1][i];
    if (count == 0)
      continue;
    kinds++;
    sum += (double)((float)count * log2f((float)count));
  }
  double bits = log2(s->bytes) - sum / s->bytes + (kinds - 1) / (2 * G_LN2 * s->bytes);
  return CLAMP(bits, 0, 8);
}

static double
nc_estimate_judge(const NcEstimateSample *s)
{
  double seen = (double)s->matches / s->probes;
  double guess = nc_estimate_entropy(s) / 8 * (1 - NC_ESTIMATE_MATCH_GAIN * seen);
  return CLAMP(guess, NC_ESTIMATE_LEAST, 1);
}

double
nc_estimate(const uint8_t *data, size_t length)
{
  NcEstimateSample s = { 0 };
  size_t stride = MAX(length / NC_ESTIMATE_WINDOWS, NC_ESTIMATE_LEAST_STRIDE);
  uint32_t place = 1;

  if (length < NC_ESTIMATE_WINDOW)
    return 1;
  stride = MIN(stride, NC_ESTIMATE_STRIDE);
  for (size_t at = 0; at + stride <= length || at == 0; at += stride) {
    size_t slack = MIN(stride, length - at) - NC_ESTIMATE_WINDOW;
    place = place * 1664525u + 1013904223u;
    const uint8_t *window = data + at + (slack > 0 ? (place >> 8) % (slack + 1) : 0);
    nc_estimate_count(&s, window);
    nc_estimate_match(&s, window);
  }
  return nc_estimate_judge(&s);
}
