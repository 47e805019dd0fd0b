/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before a machine is started anew that arrived here by a migration whose source never confirmed it: an operator may have
 * taken it back there while this node was away, or its machine lost.
 */
#pragma once

#include "agent/machines.h"
#include "agent/nodes.h"
#include "store/journal.h"

typedef struct {
  NcNodes *nodes;
  NcJournal *journal;
  NcMachines *machines;
} NcStartCheck;

/*
 * An NcStartCheckFunc (machines.h); ${user_data} is an NcStartCheck. Asks the source, for connect_timeout_ms and a few seconds at most.
 * NC_ERROR_CONFLICT: it runs there, and the right is not ours any more, durably; or an operator has just said that it shall, and
 * nothing has changed yet. NC_ERROR_UNREACHABLE: it could not be asked. True obliges to start it at once: the source counts on that for
 * NC_PERMIT_MS (migration.h).
 */
bool nc_start_check(gpointer user_data, const NcRight *right, GError **error);
