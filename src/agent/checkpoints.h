/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: a machine's memory, device state and disks at one instant, in the node's page store.
 *
 * A checkpoint is a manifest of the store, with a description in its header (src/checkpoint/image.h): there is no other record of
 * it. It is whole or it is not there. What is under way and must be undone after a crash is in the journal (setting
 * "checkpoint.work"): a machine that was stopped for a checkpoint runs on, one whose restore was cut short is as it was before.
 *
 * States: "making", "ready", "failed" and "cancelled" (kept in memory for whoever asks, not over a restart), "damaged" (its
 * description can't be read; can be deleted). One thing at a time happens to a checkpoint (`activity`): verify, restore or copy.
 * One that arrives from another node is "making" until all of it is durable here (checkpoint/copy.h).
 *
 * Thread-safe. The functions for the control socket return quickly; the work is done by threads of this module.
 */
#pragma once

#include "agent/config.h"
#include "agent/machines.h"
#include "agent/nodes.h"
#include "checkpoint/image.h"
#include "store/journal.h"
#include "store/page_store.h"

typedef struct NcCheckpoints NcCheckpoints;

typedef struct {
  const NcConfig *config;
  NcJournal *journal;
  NcMachines *machines;
  NcNodes *nodes;
  NcPageStore *store;        /* NULL: there is none, and */
  const char *store_problem; /* why; copied */
} NcCheckpointsDeps;

/* ${deps}' objects are borrowed and outlive it. */
NcCheckpoints *nc_checkpoints_new(const NcCheckpointsDeps *deps);
/* Cancels what is under way and waits for its end. */
void nc_checkpoints_free(NcCheckpoints *checkpoints);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcCheckpoints, nc_checkpoints_free)
/* Once at start, before nc_machines_reconcile(): reads on what QEMUs are writing, that would not answer before. */
void nc_checkpoints_unblock(NcCheckpoints *checkpoints);
/* Once at start, after nc_machines_reconcile() and before anybody may take a machine: those that are to be undone something in are kept. */
void nc_checkpoints_claim(NcCheckpoints *checkpoints);
/*
 * Once at start, after that: reads the store's list and undoes what a crash has left half done. What can't be undone, since QEMU or a disk
 * does not let it or a migration has the machine, stays on record and is tried again every minute.
 */
void nc_checkpoints_recover(NcCheckpoints *checkpoints);
/* False, NC_ERROR_RESOURCE: the QEMU of ${vm} still has something of a checkpoint in it: it can't make another, or migrate. Any thread. */
bool nc_checkpoints_have_let_go(NcCheckpoints *checkpoints, const char *vm, GError **error);

/*
 * The control socket's checkpoint.* operations (docs/protocols.md section 5); new references.
 *
 * create: {name, mode: "auto"|"background"|"stop", label}: returns at once, state "making".
 * list: {name}: of that machine, and damaged ones that do not say whose they are, else all; oldest first. get: {id}.
 * verify: {id}: begins to read and check all of it. restore: {id, as, force, paused, disk_dir, take, on}: begins; on: another
 * node, to which what is missing there is copied first.
 * copy: {id, to}: begins to send what node ${to} lacks of it. cancel: {id}: ends a copy, or one that is being made or arrives.
 * delete: {id}: also cancels one that is being made.
 */
json_t *nc_checkpoints_create(NcCheckpoints *checkpoints, json_t *args, GError **error);
json_t *nc_checkpoints_list(NcCheckpoints *checkpoints, json_t *args, GError **error);
json_t *nc_checkpoints_get(NcCheckpoints *checkpoints, json_t *args, GError **error);
json_t *nc_checkpoints_verify(NcCheckpoints *checkpoints, json_t *args, GError **error);
json_t *nc_checkpoints_restore(NcCheckpoints *checkpoints, json_t *args, GError **error);
json_t *nc_checkpoints_copy(NcCheckpoints *checkpoints, json_t *args, GError **error);
json_t *nc_checkpoints_cancel(NcCheckpoints *checkpoints, json_t *args, GError **error);
json_t *nc_checkpoints_delete(NcCheckpoints *checkpoints, json_t *args, GError **error);
/* {name, every_s, keep}: from now on; ${every_s} 0: not any more. The machine. */
json_t *nc_checkpoints_schedule(NcCheckpoints *checkpoints, json_t *args, GError **error);

/*
 * The newest checkpoint of ${vm} that is ready, opened: it can be read until it is freed, whoever deletes it. Opening takes time by its entries (pages
 * and blocks). NULL: there is none, or it has more than ${most_entries} or can't be read, which is logged.
 */
NcImage *nc_checkpoints_open_last(NcCheckpoints *checkpoints, const char *vm, uint64_t most_entries);

/* --- other nodes (docs/protocols.md section 2, messages "cp_...") --- */

/* Serves a session whose first message was read already; returns when it has ended. Both are borrowed. */
void nc_checkpoints_serve_peer(NcCheckpoints *checkpoints, NcPeer *peer, json_t *first_message);
/*
 * Begins to fetch ${id}, a checkpoint of ${vm}, from node ${from}, unless it is here or on its way; its view, a new reference: it
 * is "making" until it is "ready", or "failed".
 */
json_t *nc_checkpoints_fetch(NcCheckpoints *checkpoints, const char *id, const char *vm, const char *from, GError **error);
