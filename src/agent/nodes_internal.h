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

  GMutex renewing;     /* held while this node's certificate is renewed; taken before ${lock} */
  int64_t renewed_us;  /* when it was last, monotonic; 0: not since novacrond was started. Protected by ${renewing} */
};

/* The roster has changed here: tell the others, from the background thread. */
void nc_nodes_push(NcNodes *nodes);

/* The next message if it is of ${type}; a "refused" becomes its error. New reference. */
json_t *nc_nodes_expect(NcPeer *peer, const char *type, int timeout_ms, GError **error);
/* Asks ${peer} for its roster and takes it, if it is newer than ours. */
bool nc_nodes_fetch_roster(NcNodes *nodes, NcPeer *peer, int timeout_ms, GError **error);

/* node_renew.c: a node that is trusted has come with its certificate; if that is its next one, the old one is over. */
void nc_nodes_see_certificate(NcNodes *nodes, const char *node, const char *serial);
/* A `renew` message; the `renewed` message, a new reference. */
json_t *nc_nodes_renew_peer(NcNodes *nodes, NcPeer *peer, json_t *message, GError **error);
/* What a crash has left of a renewal: before the trust is loaded, and after it. */
void nc_nodes_settle_files(const NcConfig *config);
void nc_nodes_settle(NcNodes *nodes);
