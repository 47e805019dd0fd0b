/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP port of a node: other agents (TLS), movers (a preface of 32 bytes),
 * and nodes that want to join (TLS without certificate).
 */
#pragma once

#include "agent/checkpoints.h"
#include "agent/fleet_host.h"
#include "agent/migrations.h"
#include "agent/rollbacks.h"

typedef struct NcPeerServer NcPeerServer;

/* Listens at config->listen; all borrowed, outlive it; ${controller} NULL: this node has none. */
NcPeerServer *nc_peer_server_new(const NcConfig *config, NcNodes *nodes, NcMigrations *migrations, NcCheckpoints *checkpoints,
                                 NcRollbacks *rollbacks, const NcFleetSide *fleet, NcFleetHost *controller, GError **error);
/* Shuts all connections down and waits for their threads. */
void nc_peer_server_free(NcPeerServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPeerServer, nc_peer_server_free)
