/* SPDX-License-Identifier: Apache-2.0 */
/* What the list of migrations (migrations.c) and those who arrive over the network (migrations_peers.c) share. */
#pragma once

#include "agent/migration.h"
#include "agent/migrations.h"

struct NcMigrations {
  NcMigrationsDeps deps;
  GMutex lock;     /* protects live, quitting */
  GHashTable *keepers; /* id -> NcKeeper*, between unblock and recover; of the starting thread */
  GPtrArray *live; /* NcMigration*; finished ones are swept by the next caller */
  bool quitting;
};

/* Frees what has finished. */
void nc_migrations_sweep_locked(NcMigrations *ms);
/* At a destination each attempt has one of its own: the present one, if there is one. */
NcMigration *nc_migrations_find_locked(NcMigrations *ms, const char *id);
/* Those under way of which this node is source, or destination. */
unsigned nc_migrations_count_locked(NcMigrations *ms, bool is_source);
