/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rollback needs of checkpoints: steps 3 to 5 of the eight (agent/rollback.h), filled in by whoever keeps them.
 *
 * A node whose novacrond has none (NULL) refuses to go back to a checkpoint. All functions block; after a crash in the
 * middle they are called again, and do what is left to do, or all of it. Details are for people, and freed by the caller.
 * ${quitting} (atomic): when it is set they leave it soon, with NC_ERROR_CANCELLED, for the next novacrond to do.
 * The machine is this node's to run (HELD) and not in the hands of a migration.
 */
#pragma once

#include "base/error.h"

typedef struct {
  gpointer data; /* the first argument of all */

  /* Is ${checkpoint} one of ${vm}'s, on this node, and ready? NC_ERROR_NOT_FOUND, _CONFLICT. Asked before anything is begun. */
  bool (*check)(gpointer data, const char *checkpoint, const char *vm, GError **error);

  /* Before step 3: brings it here from node ${from}, if it is not here already. */
  bool (*fetch)(gpointer data, const char *checkpoint, const char *vm, const char *from, gint *quitting, char **ret_detail, GError **error);

  /* Step 3: is all of it there, by its hashes? NC_ERROR_CORRUPT names what is lost. Changes nothing. */
  bool (*verify)(gpointer data, const char *checkpoint, gint *quitting, char **ret_detail, GError **error);

  /*
   * Step 4: the machine's disks as they were, verified; the QEMU that runs it now is ended for that. On error the
   * machine has its disks as they are. One act that can be undone may include the memory: step 5 then finds it done.
   */
  bool (*restore_disks)(gpointer data, const char *checkpoint, const char *vm, gint *quitting, char **ret_detail, GError **error);

  /* Step 5: a QEMU on these disks, which has loaded memory and devices as they were; the guest stands still (or runs already). */
  bool (*restore_memory)(gpointer data, const char *checkpoint, const char *vm, gint *quitting, char **ret_detail, GError **error);
} NcRollbackSteps;
