/* SPDX-License-Identifier: Apache-2.0 */
/* Values of the controller's answers as text, for those who print them (fleet_view.c, fleet_lists.c). */
#pragma once

#include "base/msg.h"

/* "" if it is not there, or no text; borrowed from ${object}. */
const char *nc_fleet_text(json_t *object, const char *key);
double nc_fleet_number(json_t *object, const char *key);
/* "2026-01-02T03:04:05Z" of microseconds since 1970; NULL for 0. Caller frees. */
char *nc_fleet_time(json_t *object, const char *key);
/* Of a number of seconds, for people. Caller frees. */
char *nc_fleet_seconds(json_t *object, const char *key);
/* The texts of an array, with commas. Caller frees. */
char *nc_fleet_join(json_t *texts);
