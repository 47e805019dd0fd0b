/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gets how much of a bandwidth: weighted max-min fairness. A node divides its own by it, budget.h that of a whole fleet.
 *
 * Each migration has a class of service with a weight, and perhaps a limit of its own.
 * What is there is divided by weight; whoever can't use its part because of its own limit gets
 * the limit, and the rest is divided again among the others.
 *
 * Pure computation; any thread. Rates are wire bytes per second, 0 means no limit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { NC_QOS_BACKGROUND, NC_QOS_NORMAL, NC_QOS_HIGH, NC_QOS_CRITICAL, NC_QOS_COUNT } NcQos;

#define NC_QOS_NAMES "\"background\", \"normal\", \"high\" or \"critical\"" /* for messages */

/* Interned. */
const char *nc_qos_name(NcQos qos);
/* false: ${name} (may be NULL) is none. */
bool nc_qos_from_name(const char *name, NcQos *ret);
/* 1, 2, 4, 8 */
unsigned nc_qos_weight(NcQos qos);

typedef struct {
  NcQos qos;
  uint64_t limit_bps; /* its own; 0: none */
  uint64_t rate_bps;  /* the result; 0: no limit */
} NcBandwidthShare;

/* What migrations may use of ${total_bps} if ${reserve_percent} is kept for others; 0 of 0. */
uint64_t nc_bandwidth_usable(uint64_t total_bps, unsigned reserve_percent);
/*
 * Fills in rate_bps of all ${count} ${shares}. With a ${usable_bps}, everybody gets at least 1 byte per second, even if
 * there is less than that.
 */
void nc_bandwidth_divide(uint64_t usable_bps, NcBandwidthShare *shares, size_t count);
