/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this node tells controllers, and does for them: its own directly, others by fl_* messages between nodes
 * (docs/protocols.md section 2).
 *
 * Orders are about attempts (agent/attempts.h). Of other nodes they are taken only if the key `controllers` names them,
 * and each that may change something is in the transaction log before it is carried out. Any thread; calls block for
 * the disk.
 */
#pragma once

#include "agent/attempts.h"
#include "agent/fleet_disk_look.h"

/* All borrowed. */
typedef struct {
  const NcConfig *config;
  NcJournal *journal;
  NcNodes *nodes;
  NcMachines *machines;
  NcAttempts *attempts;
  NcFleetDiskLook *disk_look;
} NcFleetSide;

/*
 * ${message}: {directories: [PATH, ...]}; older controllers leave that out, and are told of no disks. {node: {name,
 * address, memory_bytes, vcpus, rate_bps, in_limit, out_limit, labels, links (uplinks.h), file_systems}, machines: [{name, state, right,
 * epoch, memory_mib, vcpus, priority, requires, disks}]}; file_systems and disks: agent/fleet_disks.h; without disks: of
 * that machine, they are not known yet. New reference.
 */
json_t *nc_fleet_side_look(const NcFleetSide *side, json_t *message, GError **error);
/*
 * ${order}: {order: "begin", "cancel", "ask" or "limit", args}; ${actor}: whose it is, for the transaction log. How the
 * attempt stands, a new reference.
 */
json_t *nc_fleet_side_order(const NcFleetSide *side, const char *actor, json_t *order, GError **error);
/* The answer to a message fl_look or fl_order, a new reference. NC_ERROR_FORBIDDEN: not this node's controller. */
json_t *nc_fleet_side_answer(const NcFleetSide *side, NcPeer *peer, json_t *message, GError **error);
