/* SPDX-License-Identifier: Apache-2.0 */
/* What ended long ago leaves the database: some rows at a time, so that nobody waits for it. */
#include "base/ident.h"
#include "controller/controller_internal.h"

#define NC_PRUNE_FIRST_US (60 * (int64_t)G_USEC_PER_SEC) /* after the model was loaded: first things first */
#define NC_PRUNE_EVERY_US (3600 * (int64_t)G_USEC_PER_SEC)
#define NC_PRUNE_AGAIN_US (1 * (int64_t)G_USEC_PER_SEC) /* while there is more */
#define NC_PRUNE_ROWS 200
/* Nobody repeats a request after so long. */
#define NC_PRUNE_KEYS_US (7 * 86400 * (int64_t)G_USEC_PER_SEC)

typedef struct {
  NcPrune what;
  uint64_t removed;
} NcPruning;

static bool
nc_prune_rows(NcFleetDb *db, gpointer data, GError **error)
{
  NcPruning *pruning = data;
  return nc_fleetdb_prune(db, &pruning->what, &pruning->removed, error);
}

bool
nc_prune(NcController *c, GError **error)
{
  if (c->prune_at_us == 0)
    c->prune_at_us = c->now_us + NC_PRUNE_FIRST_US;
  if (c->now_us < c->prune_at_us)
    return true;
  int64_t wall_us = nc_wall_us(), ended_us = c->options.history_us > 0 ? wall_us - c->options.history_us : 0; /* 0: all of it stays, but not keys */
  NcPruning pruning = { .what = { .events_before_us = ended_us, .keys_before_us = wall_us - NC_PRUNE_KEYS_US, .history_before_us = ended_us, .limit = NC_PRUNE_ROWS } };
  c->prune_at_us = c->now_us + NC_PRUNE_EVERY_US;
  if (!nc_flush(c, nc_prune_rows, &pruning, error))
    return false;
  if (pruning.removed > 0)
    c->prune_at_us = c->now_us + NC_PRUNE_AGAIN_US;
  return true;
}
