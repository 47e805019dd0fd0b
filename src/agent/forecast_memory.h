/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of a forecast, what is known of the memory: its pages differ. What the first round has still to send may
 * get smaller than what it has sent, and pages that are sent again differ from both.
 *
 * By a sample (memory_sample.h), each place of the memory has a share that is no zeros, and a size that it is
 * coded to. A migration's own coding differs from the sample's by a factor, which is learned as the first round goes on. A byte
 * takes what takes longer: the link, for its coded size, or everything else (reading, compressing, writing), for itself.
 */
#pragma once

#include "agent/forecast.h"

#define NC_FORECAST_SCAN_RATE 1.5e9 /* QEMU looks for untouched pages at about this, bytes per second */

/* What was seen in a while. */
typedef struct {
  double seconds;
  double content; /* sent, bytes */
  double scanned; /* untouched memory that QEMU went past, bytes; in the first round */
} NcForecastSpan;

typedef struct {
  double place_bytes;  /* of memory, at each place; 0: nothing is known */
  double total_bytes;  /* as QEMU counts; what is behind the last place is taken for zeros */
  NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES];
  double wire_rate;    /* of the link, bytes per second: what it carried in the last seconds, if it was what all waited for; else it can do at least that */
  bool is_link_proven; /* it was */
  double seen_seconds; /* of sending */
  NcForecastSpan silent; /* since the mover last told what is on the wire: it does so now and then */
  double content_rate; /* of everything else, in the first round; */
  double best_rate;    /* and the best seen: what takes long in the first round, such as a high level, is not needed for what is sent again */
  double factor;       /* wire bytes of the first round, to what the sample lets expect */
  bool is_learned;     /* that was seen */
  double resent_share; /* wire bytes per byte of a page that is sent again, by the sample, if it has changed; */
  double resent_new;   /* share of these pages that has: others were written before they were sent for the first time; */
  double resent_where; /* and where in the memory they are, in the middle, 0 to 1 */
  double resent_content, resent_wire; /* and what was seen of that */
} NcForecastMemory;

/*
 * The weight of ${seconds} in a rate that is one of the last seconds, after ${seen_seconds} of sending: at first of fewer, since a
 * connection begins slowly, and what it did then is soon not true any more.
 */
double nc_forecast_memory_weight(double seconds, double seen_seconds);
/* ${sampled_bytes} of ${total_bytes} are behind the places. */
void nc_forecast_memory_init(NcForecastMemory *m, const NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES], uint64_t sampled_bytes,
                             uint64_t total_bytes);
/* Before the link has carried anything, what is expected of it (see NcForecastPrior); after nc_forecast_memory_init(), if there is a sample. */
void nc_forecast_memory_assume(NcForecastMemory *m, double wire_rate, double content_rate, double factor);
/* Is there a sample, and has the link carried something? Else nothing below but nc_forecast_memory_rate() is of use. */
bool nc_forecast_memory_is_known(const NcForecastMemory *m);
/* What is dirtied, if ${change} is the share of what was sampled; bytes. */
double nc_forecast_memory_changed(const NcForecastMemory *m, const NcMemoryChange *change);
/* For how much of the memory one page of the sample stands; at least a page. */
double nc_forecast_memory_sampled_page(const NcForecastMemory *m);
void nc_forecast_memory_expect_resent(NcForecastMemory *m, const NcMemoryChange *change);
/* From ${before} to ${now}, in ${seconds}. */
void nc_forecast_memory_learn(NcForecastMemory *m, const NcForecastSample *before, const NcForecastSample *now, double seconds);
/* Seconds for the last ${remaining_bytes} of all memory, sent for the first time; *ret_content (may be NULL): what of it is no zeros. */
double nc_forecast_memory_rest(const NcForecastMemory *m, double remaining_bytes, double *ret_content);
/* What they are on the wire, zeros not counted. */
double nc_forecast_memory_rest_wire(const NcForecastMemory *m, double remaining_bytes);
/* Of content that is coded to a share of ${coded}, bytes per second. */
double nc_forecast_memory_rate(const NcForecastMemory *m, double coded);
/* Where the middle of what is dirtied is: how much of all memory is to be sent when it is sent. */
double nc_forecast_memory_rest_there(const NcForecastMemory *m);
/* What becomes of a byte that is sent again. */
double nc_forecast_memory_resent_share(const NcForecastMemory *m);
/* Content per second of what is sent again. */
double nc_forecast_memory_resent_rate(const NcForecastMemory *m);
