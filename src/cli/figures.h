/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that follow from a migration's record (docs/protocols.md, end) and are not in it: rates, shares of time, losses, what the
 * forecast was worth. Pure: reads a record, which may be of an older novacrond, or under way, and knows no gate and no clock.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What is not known is NAN. */
typedef struct {
  bool is_source; /* the record is of the side that knows how it went */
  bool has_ended;
  double started_us;                             /* since 1970; when it was asked for if it has not begun */
  double elapsed_ms;                             /* to its end, or to now */
  double flow_ms;                                /* in which movers carried bytes, of the last attempt */
  double memory_began_ms;                        /* since the start, of the last attempt */
  double memory_ms;                              /* from there until the guest ran at the destination, or it ended, or to now */
  double stopped_ms;                             /* since the start, when the guest was stopped */
  double last_event_ms;                          /* since the start */
  double wire_bps;                               /* bytes on the wire per second of flow_ms */
  double memory_bps;                             /* memory copied per second of memory_ms, zero pages and pages sent again included */
  double memory_ratio;                           /* memory copied per byte on the wire */
  double limit_bps;                              /* the least of those that it is held to */
  double link_bps;                               /* what the kernel says that its connections deliver, together */
  double loss_percent;                           /* segments sent again */
  double rtt_ms, min_rtt_ms;                     /* the largest of the last, the smallest ever, of all connections */
  double link_wait, encoder_wait;                /* share of memory_ms that the reader of QEMU's stream waited for them, 0 to 1 */
  double denied;                                 /* share of the encoders' time in which they had no processor, 0 to 1 */
  double mover_cpu;                              /* the source's mover, processors */
  double dirty_bps, effective_bps;               /* by the last forecast; before it, what the record says */
  double promised_pause_ms;                      /* by the last forecast before the guest was stopped */
  double promised_end_ms, promised_end_error_ms; /* by the first forecast, since the start */
} NcFigures;

/* ${now_us}: wall clock; of one that has ended it does not matter. */
void nc_figures_of(json_t *record, int64_t now_us, NcFigures *ret);
/* As an object; what is not known is null. New reference. */
json_t *nc_figures_to_json(const NcFigures *figures);

/* ${key} of ${object}, NAN if it is no number. */
double nc_figure(json_t *object, const char *key);
/* ${at} (as in events), in milliseconds after ${figures}' start; NAN if it is no time. */
double nc_figures_after(const NcFigures *figures, const char *at);
/* The last event of that name (NULL: any) with that detail (NULL: any); borrowed, NULL: there is none. */
json_t *nc_record_last_event(json_t *record, const char *event, const char *detail);
/* The last of the record's forecasts; borrowed, NULL: there is none. */
json_t *nc_record_last_forecast(json_t *record);
