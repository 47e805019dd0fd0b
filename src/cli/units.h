/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers for people, and back: sizes, rates, durations. All returned strings are the caller's to free. */
#pragma once

#include "base/error.h"
#include <stdint.h>

char *nc_format_bytes(int64_t bytes);     /* "312.4 MiB" */
char *nc_format_rate(double bytes_per_s); /* "112.3 MB/s" */
char *nc_format_ms(double ms);            /* "312 ms", "4.2 s", "3 min 05 s", "2 h 03 min" */

/*
 * A rate as people write it, to bytes per second: "0" (no limit), "50M",
 * "50MB/s", "64MiB/s" (bytes), "800Mbit" (bits, an eighth of it). Prefixes k,
 * M, G are powers of 1000, Ki, Mi, Gi of 1024. NC_ERROR_INVALID with examples.
 */
bool nc_parse_rate(const char *text, int64_t *ret_bytes_per_s, GError **error);

/* "90" (seconds), "90s", "15min", "2h", "1d" to seconds. NC_ERROR_INVALID. */
bool nc_parse_duration(const char *text, int64_t *ret_s, GError **error);
