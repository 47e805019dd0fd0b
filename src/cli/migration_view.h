/* SPDX-License-Identifier: Apache-2.0 */
/* A migration as people see it: one progress line, a summary, a story. */
#pragma once

#include "cli/cli.h"

/* "memory_copy  43 %  112.3 MB/s  ratio 3.2  620.0 MiB left  ETA 12 s"; short enough for 80 columns. Caller frees. */
char *nc_migration_progress(json_t *migration);

/* Of its disks that are copied, the number ${key} of each, together; 0: it has none. */
double nc_migration_sum_disks(json_t *migration, const char *key);

/* "web1, host-a -> host-b"; clean. Caller frees. */
char *nc_migration_title(json_t *migration);

/* What it cost, for one that ended: time, pause, memory, wire, checksum. To standard output. */
void nc_migration_print_summary(json_t *migration);

/* Everything about it, with its history. To standard output. */
void nc_migration_print_story(json_t *migration);

/* Is there nothing more to come: an outcome, or only an operator can go on? */
bool nc_migration_has_ended(json_t *migration);
/* What was expected at the end of each round, and what came of it. */
void nc_migration_print_forecasts(json_t *migration);
/* Its rollbacks with their steps; nothing if it has none. */
void nc_migration_print_rollbacks(json_t *migration);
bool nc_migration_needs_attention(json_t *migration);

/* Exit status for how it ended: 0, 9, 11, or that of its error (10 if it has none). */
int nc_migration_exit_status(json_t *migration);

/* {"code","message"} of a failed one as an error in words; never NULL. Caller frees. */
char *nc_migration_reason(json_t *migration);
