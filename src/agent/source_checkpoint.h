/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint before a migration (`checkpoint_wanted`): the machine as it was, for a rollback after the migration has completed.
 *
 * It is taken in the background before anything else, once per migration, not per attempt. Meanwhile the migration is PREPARING and
 * the machine in the checkpoint's hands: nobody has leased it. Without it the machine is not moved. What becomes of it
 * afterwards: checkpoint_schedule.c.
 */
#pragma once

#include "agent/migration.h"

/*
 * PREPARING, leased. True: the checkpoint is there, or none is wanted, and the machine is leased. False: the migration has ended
 * (it failed, or was cancelled; the machine runs on), or novacrond stops. Blocks.
 */
bool nc_source_checkpoint_take(NcMigration *m);
/* After a restart: true if it was in the middle of that, and has ended now, as failed. */
bool nc_source_checkpoint_settle(NcMigration *m);
