/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a migration will take and how long its pause will be, from what it
 * has shown so far; and, since long rounds hide how fast memory is dirtied, from
 * a sample of that.
 *
 * Theory. Of the memory still to send, QEMU counts every page; but untouched ones
 * cost next to nothing, so what counts is the content that is left. It goes at
 * the effective rate: page bytes QEMU got rid of per second, whatever
 * coding made of them, over the last seconds. What the guest dirties in a time t
 * follows, for a working set W written at a rate r,
 *
 *   D(t) = W (1 - exp(-r t / W))
 *
 * since a page written twice is sent once. Each round shows one D(t): the short
 * rounds tell r, the long ones W. The future is then played: send what is
 * left, find what was dirtied meanwhile, until as much is left as the pause may
 * carry, which is when QEMU switches over; if the rounds stop shrinking, they
 * never will.
 *
 * The error band is what the last rounds were wrong by, at least a tenth.
 *
 * Pure computation: one thread at a time; times are the caller's
 * CLOCK_MONOTONIC in microseconds, never going backwards.
 */
#pragma once

#include "agent/memory_sample.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct NcForecast NcForecast;

/* What QEMU says at one moment. */
typedef struct {
  uint64_t rounds;          /* dirty syncs so far; the first is before anything was sent */
  uint64_t remaining_bytes; /* all pages that are still dirty */
  uint64_t sent_bytes;      /* content sent so far, pages of zeros not counted */
  uint64_t wire_bytes;      /* what the link has carried for that; 0: not known */
  uint64_t link_wait_us;    /* known with wire_bytes: how long everything waited for the link to do so */
} NcForecastSample;

typedef struct {
  bool is_known; /* half a second has passed, and content was sent in it; else nothing below is */
  bool converges;
  double effective_bps; /* content per second, bytes */
  double dirty_bps;     /* of new dirt in a short time; 0: not known */
  uint64_t working_set_bytes;   /* 0: not known */
  double eta_ms, eta_error_ms;  /* from now to the end; +- */
  double pause_ms, pause_error_ms;
  double needed_bps; /* the effective rate at which it would converge; as now if it does */
  double content_bytes, wire_bytes; /* of memory, from now to the end: what is sent, and what becomes of that on the wire; 0: not known */
} NcForecastResult;

/* What is expected of a migration that has not begun. */
typedef struct {
  uint64_t total_bytes; /* of memory */
  double link_bps;      /* on the wire, more than 0 */
  double content_bps;   /* the most that all else takes; 0: what forecasts begin with */
  double factor;        /* what a sample of the memory is coded to gets so many times larger; 0: it does not */
  double ratio;         /* content per wire byte, where there is no sample; 0: 1 */
  double error;         /* so wrong that may be, as a share */
} NcForecastPrior;

/* ${content_bytes}: of the machine's memory, what is no untouched page; 0: not known, all of it. */
NcForecast *nc_forecast_new(uint64_t content_bytes, uint64_t now_us);
void nc_forecast_free(NcForecast *f); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcForecast, nc_forecast_free)

/* What a sample of the memory (${sampled_bytes} of ${total_bytes}) has shown: then forecasts tell what is sent first from what is left, and from what is sent again. */
void nc_forecast_know_memory(NcForecast *f, const NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES], uint64_t sampled_bytes,
                             uint64_t total_bytes);
/* And what of it has changed since. */
void nc_forecast_see_change(NcForecast *f, const NcMemoryChange *change);
/* In place of samples, for a plan: all memory is to be sent, as ${prior} says. Forecasts are known from then on. */
void nc_forecast_assume(NcForecast *f, const NcForecastPrior *prior);
/* So much is dirtied per second, by a sample of a second. */
void nc_forecast_expect_dirt(NcForecast *f, double bps);
/* True if a round has ended since the last sample. */
bool nc_forecast_sample(NcForecast *f, const NcForecastSample *sample, uint64_t now_us);
/*
 * The guest is asked for its free pages. Its driver takes them first, and most kernels clear what is taken: pages of zeros, which
 * look like dirt at the end of the first round and go in no time in the second.
 */
void nc_forecast_expect_free_pages(NcForecast *f);
/*
 * From now on QEMU is kept from its last round, and sends no faster than the guest dirties: what is seen then tells nothing of how fast it
 * could be sent. Until the opposite is said.
 */
void nc_forecast_hold(NcForecast *f, bool is_held);
/* How much larger the first round's content gets on the wire than its sample did, so far; 0: not known. For NcForecastPrior. */
double nc_forecast_coding_factor(const NcForecast *f);
/* The guest is another from now on, say slowed down: what it dirtied before tells nothing. */
void nc_forecast_forget_dirt(NcForecast *f);
/*
 * ${budget_ms}: what of the pause QEMU may spend on pages (its downtime limit);
 * ${overhead_ms}: what the pause holds besides.
 */
void nc_forecast_get(const NcForecast *f, double budget_ms, double overhead_ms, NcForecastResult *ret);
/*
 * The same for post-copy: as it was told to switch now (${at_once}), or will be at the end of this round. It always comes to its
 * end, and its pause holds no pages.
 */
void nc_forecast_get_postcopy(const NcForecast *f, bool at_once, double overhead_ms, NcForecastResult *ret);
