/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another attempt, where the first one has failed and the machine runs on here: what
 * was interrupted, or lacked something that may be there in a while, is tried again under the next
 * epoch, after a pause that doubles. What would fail again in the same way, and what
 * somebody should look at (a wrong checksum, an untrusted peer), is not.
 *
 * All attempts are one migration: one record, in which `attempt` counts and `attempts`
 * says why each one ended. Between two of them the machine is not leased: it can be stopped, and
 * then that ends the migration.
 */
#pragma once

#include "agent/source_migration.h"

/* May what failed with this code pass: is it worth another attempt? */
bool nc_source_is_passing(int code);
/* Is ${reason} worth another attempt, and is one left? */
bool nc_source_may_retry(NcMigration *m, const GError *reason);
/* ABORTING or RECLAIMING, undone, without lease: notes why and goes to WAITING. */
void nc_source_plan_retry(NcMigration *m, const GError *reason);
/* The end of a migration that was undone; after several attempts the error says so. ${problem}: what the undoing met; NULL: nothing. */
void nc_source_finish_undone(NcMigration *m, const char *outcome, const GError *reason, const GError *problem);
/* The end of one that is in nobody's hands: PREPARING or WAITING, without lease. ${code}: NC_ERROR_CANCELLED, it was cancelled. */
void nc_source_end_waiting(NcMigration *m, int code, const char *text);
/* Takes the machine's lease (again), and notes the epoch under which it is held. */
bool nc_source_lease_again(NcMigration *m, GError **error);
/*
 * WAITING: returns with the machine leased again and the state PREPARING; false if the migration has ended instead (cancelled, or the
 * machine can't be had any more), or novacrond stops.
 */
bool nc_source_await_retry(NcMigration *m);
