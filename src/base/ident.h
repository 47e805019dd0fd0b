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
#define NC_ID_TIME_DIGITS 8
/* The first digits of ids of that time; ends with NUL. */
void nc_id_time(int64_t wall_us, char ret[NC_ID_TIME_DIGITS + 1]);

/*
 * What a controller has a migration begun as: "mig-", the 16 digits of its id, '.', and the attempt's number, from 1 to 999 (it
 * has to fit the preface of a mover's connection, which has room for 24 bytes). NULL is none.
 */
bool nc_attempt_name_is_valid(const char *name);
/* "mig-" and no '.': a migration of the fleet, of which attempts are migrations of nodes. */
bool nc_id_is_of_fleet(const char *id);
#define NC_ATTEMPT_ID_BYTES 20 /* of the name's first part, the migration's id; such ids sort by time */
#define NC_ATTEMPT_NAME_RULE "an attempt's name is mig-<16 digits of base 32>.<number>, as a controller makes it"

/* A machine, node or migration name: [A-Za-z0-9][A-Za-z0-9._-]{0,62}, safe in paths, URLs and tables. */
bool nc_name_is_valid(const char *name);

#define NC_NAME_RULE "a name is 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit"

int64_t nc_wall_us(void); /* CLOCK_REALTIME */
int64_t nc_mono_us(void); /* CLOCK_MONOTONIC */

/* RFC 3339 with milliseconds, UTC. Caller frees. */
char *nc_time_format(int64_t wall_us);
