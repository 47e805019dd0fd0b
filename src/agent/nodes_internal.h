/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes.c (talking to the others) and node_ops.c (answering people) share. */
#pragma once

#include "agent/nodes.h"

struct NcNodes {
  const NcConfig *config; /* borrowed */
  NcJournal *journal;     /* borrowed */
  NcTrust *trust;

  GMutex lock; /* protects what follows */
  GCond wake;
  bool push_wanted; /* the roster changed, or we have just started */
  bool quitting;
  char *qemu_version; /* NULL until somebody asked */
  GThread *pusher;
};

/* The roster has changed here: tell the others, from the background thread. */
void nc_nodes_push(NcNodes *nodes);
