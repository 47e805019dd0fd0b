/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other nodes: who belongs to the cluster, how to talk to them, and how
 * the list of them spreads.
 *
 * Every connection between two agents begins with hello in both directions;
 * whoever has the older roster then fetches the newer one. A node that changes
 * the roster (the one with the CA's key) also tells all others at once, from a
 * thread of its own. Thread-safe.
 */
#pragma once

#include "agent/config.h"
#include "crypto/peer.h"
#include "crypto/trust.h"
#include "store/journal.h"

#define NC_AGENT_PROTOCOL 1

typedef struct NcNodes NcNodes;

/* Loads this node's certificate and roster from config->data_dir. ${config} and ${journal}: borrowed, outlive it. */
NcNodes *nc_nodes_new(const NcConfig *config, NcJournal *journal, GError **error);
/* Ends the background thread (within the time limit of one connection). */
void nc_nodes_free(NcNodes *nodes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcNodes, nc_nodes_free)

NcTrust *nc_nodes_trust(NcNodes *nodes);      /* borrowed */
const char *nc_nodes_self(NcNodes *nodes);    /* this node's name, from its certificate; borrowed */
/* "host:port" of a joined node; NC_ERROR_NOT_FOUND for an unknown or removed one. Caller frees. */
char *nc_nodes_address(NcNodes *nodes, const char *name, GError **error);

/*
 * Connects to the joined node ${name}: TLS, hello, roster if theirs is newer.
 * A refusal of the other side comes with its code and text.
 */
NcPeer *nc_nodes_connect(NcNodes *nodes, const char *name, int timeout_ms, GError **error);

/* The hello of a connection, for each end: sends ours, reads theirs, checks the protocol's version and the name. */
bool nc_nodes_hello_client(NcNodes *nodes, NcPeer *peer, int timeout_ms, GError **error);
/* ${first}: what the peer sent first, if it was read already (borrowed), else NULL. */
bool nc_nodes_hello_server(NcNodes *nodes, NcPeer *peer, json_t *first, int timeout_ms, GError **error);

/*
 * Messages that any node may send at any time after hello: roster_get, clock, audit_ask, renew.
 * The answer, a new reference; NULL without error if ${message} is none of these.
 */
json_t *nc_nodes_answer(NcNodes *nodes, NcPeer *peer, json_t *message, GError **error);
/* A `join` message: checks and uses up its token; the `joined` message, a new reference. */
json_t *nc_nodes_join(NcNodes *nodes, json_t *message, GError **error);

/* SIGHUP: certificate and roster from the disk again. */
bool nc_nodes_reload(NcNodes *nodes, GError **error);

/* The control socket's node.* operations (docs/protocols.md section 5). New references. */
json_t *nc_nodes_info(NcNodes *nodes, json_t *args, GError **error);
json_t *nc_nodes_list(NcNodes *nodes, json_t *args, GError **error);
json_t *nc_nodes_token(NcNodes *nodes, json_t *args, GError **error);
json_t *nc_nodes_remove(NcNodes *nodes, json_t *args, GError **error);
/* Gives this node a new key and certificate, by itself or by the node with the CA's key: crypto/renew.h. Blocks. */
json_t *nc_nodes_renew(NcNodes *nodes, json_t *args, GError **error);
