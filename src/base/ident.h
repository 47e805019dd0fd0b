/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers, names and clocks. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * "<prefix>-" + 16 base-32 digits: 40 bits of milliseconds (so that ids sort
 * by time, for 34 years) and 40 bits of randomness. Caller frees.
 */
char *nc_id_new(const char *prefix);

/* A machine, node or migration name: [A-Za-z0-9][A-Za-z0-9._-]{0,62}, safe in paths, URLs and tables. */
bool nc_name_is_valid(const char *name);

#define NC_NAME_RULE "a name is 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit"

int64_t nc_wall_us(void); /* CLOCK_REALTIME */
int64_t nc_mono_us(void); /* CLOCK_MONOTONIC */

/* RFC 3339 with milliseconds, UTC. Caller frees. */
char *nc_time_format(int64_t wall_us);
