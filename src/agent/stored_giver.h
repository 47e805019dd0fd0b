/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a checkpoint's memory, by their number in a list of hashes, for a mover that asks (mover/stored_pages.h has
 * the protocol): one request at a time, each page verified by the store. The mover gets no more than it could have been
 * sent: the store and its key stay here.
 */
#pragma once

#include "checkpoint/image.h"
#include "wire/stored.h"

typedef struct NcStoredGiver NcStoredGiver;

/*
 * Gives pages of ${image}, taken also on error, which stays open meanwhile, to whoever asks on *ret_fd. *ret_prefixes:
 * NC_STORED_PREFIX_BYTES for each page, at most NC_STORED_PAGES_MAX of them; the caller unrefs. NULL: the checkpoint
 * can't be read, or (NC_ERROR_NOT_FOUND) there is no page in it.
 */
NcStoredGiver *nc_stored_giver_new(NcImage *image, GByteArray **ret_prefixes, int *ret_fd, GError **error);
/* Ends it, whatever it is doing, and waits for that. NULL is fine. */
void nc_stored_giver_free(NcStoredGiver *giver);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcStoredGiver, nc_stored_giver_free)
