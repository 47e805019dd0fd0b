/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's page store as a whole, for people: what it holds and costs, all of it verified, what nobody needs collected.
 *
 * One verify or gc at a time, in a thread of this module. How it ended is remembered until the next one begins, or novacrond ends:
 * nothing of it is on disk, since a verify changes nothing and a gc that was cut short is gone on with by the next one. The gc that
 * follows the deletion of a checkpoint is not shown here; what is asked for here waits for it.
 *
 * Thread-safe. The functions for the control socket return quickly.
 */
#pragma once

#include "agent/checkpoints.h"

typedef struct NcStoreWork NcStoreWork;

/* All borrowed, all outlive it. ${store} NULL: there is none, and ${problem} (copied) says why. */
NcStoreWork *nc_store_work_new(const NcConfig *config, NcPageStore *store, const char *problem, NcCheckpoints *checkpoints);
/* Cancels what is under way and waits for its end. NULL is fine. */
void nc_store_work_free(NcStoreWork *work);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcStoreWork, nc_store_work_free)

/*
 * The control socket's store.* operations (docs/protocols.md section 5): all return the store's status, a new reference.
 *
 * verify: {rebuild_index}: begins to read and check everything; with rebuild_index the index is first made again from the packs.
 * gc: {dry_run}: begins to free what nothing refers to, or only counts it.
 * cancel: asks the one that is under way to end; NC_ERROR_CONFLICT if none is.
 */
json_t *nc_store_work_status(NcStoreWork *work, json_t *args, GError **error);
json_t *nc_store_work_verify(NcStoreWork *work, json_t *args, GError **error);
json_t *nc_store_work_gc(NcStoreWork *work, json_t *args, GError **error);
json_t *nc_store_work_cancel(NcStoreWork *work, json_t *args, GError **error);
