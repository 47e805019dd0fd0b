/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of collecting garbage: what is live, and copying that out of a pack. Private to src/store/page_store_*.c. */
#pragma once

#include "store/page_store_internal.h"

/*
 * The addresses that manifests name, as a filter: `has` is never false for one
 * of them, and true for three in a thousand others, which then stay until the next
 * time (the filter is salted). 12 bits per block of the store, so that a large store needs little memory.
 */
typedef struct NcMarks NcMarks;

NcMarks *nc_marks_new(uint64_t blocks);
void nc_marks_add(NcMarks *marks, const uint8_t address[NC_ADDRESS_BYTES]);
bool nc_marks_has(const NcMarks *marks, const uint8_t address[NC_ADDRESS_BYTES]);
void nc_marks_free(NcMarks *marks);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMarks, nc_marks_free)

/* Marks what all manifests name. False: one can't be read, or ${cancelled}. */
bool nc_marks_add_manifests(NcMarks *marks, NcPageStore *store, const gint *cancelled, GError **error);

/*
 * Marks all that lies in ${pack}, which somebody holds. The index may know a newer copy of such a block, in a pack that
 * nobody holds; if that went, the holder would not find the block any more.
 */
void nc_marks_add_pack(NcMarks *marks, NcPageStore *store, const NcPack *pack);

/*
 * Copies the blocks of ${pack} that are marked, and nowhere newer, to the open pack, durably.
 * *ret_damaged: something in it can't be read, so it has to stay. False: an error, or cancelled.
 */
bool nc_gc_copy_pack(NcPageStore *store, const NcPack *pack, const NcMarks *marks, const gint *cancelled, bool *ret_damaged,
                     GError **error);
