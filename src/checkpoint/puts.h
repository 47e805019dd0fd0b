/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks into the page store, by several threads, and into a manifest in the order in which they came.
 *
 * Who adds is kept waiting as little as possible: QEMU's guest waits for whoever reads its memory, at every page that it
 * writes to first. So up to a quarter of the node's free memory is filled (within NC_PUTS_WAITING_*), and the threads that hash
 * and compress give way to others.
 */
#pragma once

#include "store/page_store.h"

#define NC_PUTS_WAITING_LEAST (64u << 20) /* bytes */
#define NC_PUTS_WAITING_MOST (1u << 30)

typedef struct NcPuts NcPuts;

typedef struct {
  uint64_t blocks, bytes;         /* added */
  uint64_t new_blocks, new_bytes; /* of them, what was not in the store yet; before compression */
} NcPutsTotals;

/* ${writer} and ${manifest} are borrowed and outlive it. */
NcPuts *nc_puts_new(NcPageStoreWriter *writer, NcManifestWriter *manifest);
/* Waits for what is under way. NULL is fine. */
void nc_puts_free(NcPuts *puts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPuts, nc_puts_free)

/* One thread at a time. ${data} is copied. False: the store's error, also of an earlier block. */
bool nc_puts_add(NcPuts *puts, const void *data, uint32_t length, GError **error);
/* A block that is in the store already, and stays there as long as somebody else holds it: only into the manifest. It counts as added. */
bool nc_puts_add_known(NcPuts *puts, const uint8_t hash[NC_SHA256_BYTES], uint32_t length, GError **error);
/* Everything that was added is in the store and in the manifest. Totals count from the last call. More may be added. */
bool nc_puts_finish(NcPuts *puts, NcPutsTotals *ret_totals, GError **error);
