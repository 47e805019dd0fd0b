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
 * NC_ERROR_CONFLICT: it runs there, and the right is not ours any more, durably. NC_ERROR_UNREACHABLE: it could not be asked.
 */
bool nc_start_check(gpointer user_data, const NcRight *right, GError **error);
