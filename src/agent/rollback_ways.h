/* SPDX-License-Identifier: Apache-2.0 */
/* The two ways back from a completed migration, of rollbacks.c, which runs them in a thread. */
#pragma once

#include "agent/migrations.h"
#include "agent/rollback.h"
#include "agent/rollback_steps.h"

typedef struct {
  const NcMigrationsDeps *deps;       /* borrowed, as all here */
  NcMigrations *migrations;
  const NcRollbackSteps *checkpoints; /* NULL: none */
  NcRollback *r;
  gint *quitting; /* atomic: leave it where it is */
} NcRollbackWay;

/* All steps, from the one it is in. On error (unless quitting) the caller gives the rollback up; ${ret_choice}: with what words. */
bool nc_rollback_move_back(const NcRollbackWay *way, char **ret_choice, GError **error);
bool nc_rollback_to_checkpoint(const NcRollbackWay *way, char **ret_choice, GError **error);
