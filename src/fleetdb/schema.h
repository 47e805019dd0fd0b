/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of the fleet's database, step by step; the same for both back ends. docs/fleet-database.md says what is in them. */
#pragma once

#define NC_FLEETDB_VERSION 5 /* the newest */

/* Step N brings version N to N+1. A published step is never changed: a new one is appended. */
extern const char *const nc_fleetdb_steps_sqlite[NC_FLEETDB_VERSION];
extern const char *const nc_fleetdb_steps_postgres[NC_FLEETDB_VERSION];
