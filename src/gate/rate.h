/* SPDX-License-Identifier: Apache-2.0 */
/* How many requests one client may make: a token bucket per client, a bounded number of clients. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct NcRate NcRate;

/* ${per_s} requests on average, ${burst} at once, ${clients} remembered. Not thread-safe. */
NcRate *nc_rate_new(unsigned per_s, unsigned burst, unsigned clients);
void nc_rate_free(NcRate *rate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRate, nc_rate_free)

/* May ${client} (an address or "uid:N") make a request at ${now_us} (monotonic)? Counts it if so. */
bool nc_rate_take(NcRate *rate, const char *client, int64_t now_us);
/* The same without counting: one whose mistakes are counted may go on as long as it has made few. */
bool nc_rate_has(NcRate *rate, const char *client, int64_t now_us);
