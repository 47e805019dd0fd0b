/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rollback needs of checkpoints: steps 3 to 5 of the eight (agent/rollback.h), filled in by whoever keeps them.
 *
 * A node whose novacrond has none (NULL) refuses to go back to a checkpoint. All functions block, may be called again
 * after a crash in the middle of them, and then do what is left to do. Details are for people, and freed by the caller.
 */
#pragma once

#include "agent/machines.h"

typedef struct {
  gpointer data; /* the first argument of all */

  /*
   * The checkpoint of ${vm} on this node that is meant: ${wanted}, or with NULL the last one taken before ${migration}.
   * NC_ERROR_NOT_FOUND if there is none. Caller frees.
   */
  char *(*find)(gpointer data, const char *vm, const char *migration, const char *wanted, GError **error);

  /* Step 3: is all of it there, by its hashes? NC_ERROR_CORRUPT names what is lost. */
  bool (*verify)(gpointer data, const char *checkpoint, char **ret_detail, GError **error);

  /* Step 4: the machine's disks as they were. Its QEMU is gone. Verified by hashes. */
  bool (*restore_disks)(gpointer data, const char *checkpoint, NcMachineLease *lease, char **ret_detail, GError **error);

  /* Step 5: a QEMU of the lease, stopped, which has loaded memory and devices as they were. There is none when it is called. */
  bool (*restore_memory)(gpointer data, const char *checkpoint, NcMachineLease *lease, char **ret_detail, GError **error);
} NcRollbackSteps;
