/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rollback manager: what people ask to be undone, and what an earlier novacrond left half undone.
 *
 * A migration that is under way is asked to end; its own thread then walks the steps (source_rollback.c), as it does by
 * itself when the destination fails. A completed one is undone on the node where the machine is now, in a thread of its own:
 * the machine moves back (rollback_back.c) or is set back to a checkpoint (rollback_checkpoint.c). Thread-safe.
 */
#pragma once

#include "agent/migrations.h"
#include "agent/rollback_steps.h"

typedef struct NcRollbacks NcRollbacks;

/* ${deps} and ${migrations}: borrowed, outlive it. ${checkpoints} (borrowed): NULL, this node has none. */
NcRollbacks *nc_rollbacks_new(const NcMigrationsDeps *deps, NcMigrations *migrations, const NcRollbackSteps *checkpoints);
/* Once, after nc_migrations_recover() and before nc_machines_release_orphans(): goes on with each at the step it was in. */
void nc_rollbacks_recover(NcRollbacks *rollbacks);
/* novacrond ends: calls that wait for a checkpoint return soon, with NC_ERROR_CANCELLED; from then on nothing is begun. */
void nc_rollbacks_stop_waiting(NcRollbacks *rollbacks);
/* Ends the threads; what is unfinished is left for nc_rollbacks_recover(). Before nc_migrations_free(). NULL is fine. */
void nc_rollbacks_free(NcRollbacks *rollbacks);

/*
 * The control socket's migration.rollback: {id, back, checkpoint, to_checkpoint}; the migration, whose `rollbacks` has the new one's record.
 * NC_ERROR_CONFLICT says what is possible instead, and where. Blocks while all of a checkpoint is read, if it goes back to one.
 */
json_t *nc_rollbacks_start(NcRollbacks *rollbacks, json_t *args, GError **error);

/* Answers a node that asks about, or for, a rollback ("rb_...", rollback_call.h). New reference; NULL with an error. */
json_t *nc_rollbacks_answer(NcRollbacks *rollbacks, NcPeer *peer, json_t *message, GError **error);
