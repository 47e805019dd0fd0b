/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint in the page store, opened: its manifest, its layout, and what people want to know of it.
 *
 * The manifest's header is "NCCP", u16 version 1, u16 0, u32 bytes of layout, and `meta` as JSON. Its last entries are the
 * layout, those before it what the layout speaks of. While it is open, the store keeps its blocks, whoever deletes it.
 */
#pragma once

#include "base/msg.h"
#include "checkpoint/layout.h"
#include "store/page_store.h"

typedef struct NcImage NcImage;

GByteArray *nc_image_header_encode(json_t *meta, uint32_t layout_bytes, GError **error);
/* `meta` of a manifest's header, a new reference; ${name} is for the error (NC_ERROR_CORRUPT). */
json_t *nc_image_header_decode(const char *name, const void *header, size_t length, uint32_t *ret_layout_bytes, GError **error);

/* Without the layout: cheap, for lists. New reference. ${ret_info} may be NULL. */
json_t *nc_image_read_meta(NcPageStore *store, const char *name, NcManifestInfo *ret_info, GError **error);

NcImage *nc_image_open(NcPageStore *store, const char *name, GError **error);
void nc_image_free(NcImage *image); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcImage, nc_image_free)
json_t *nc_image_meta(const NcImage *image); /* borrowed */
const char *nc_image_name(const NcImage *image); /* borrowed */
NcPageStore *nc_image_store(const NcImage *image); /* borrowed */

/* --- walking: one walk at a time --- */

/* From the first step on. */
void nc_image_rewind(NcImage *image);
/* The next step; before it, the entries of the last one must have been read or skipped. */
NcLayoutOutcome nc_image_next_step(NcImage *image, NcStep *ret, GError **error);
/* The next block, verified, to ${data} with room for NC_PAGE_STORE_BLOCK_MAX. */
bool nc_image_next_block(NcImage *image, void *data, uint32_t *ret_length, GError **error);
/* The same without reading it: what the manifest says. */
bool nc_image_next_entry(NcImage *image, NcManifestEntry *ret, GError **error);
bool nc_image_skip_blocks(NcImage *image, uint64_t count, GError **error);

/* --- checking --- */

/*
 * Reads and checks every block. True: it came to an end. *ret_lost: what can't be had any more, as
 * [{"part":"memory","block":NAME,"offset":N,"length":N}, {"part":"disk","disk":NAME,"offset":N,"length":N},
 * {"part":"devices"}, {"part":"layout"}]; empty if nothing is lost. Needs no opened image: a damaged one can't be.
 */
bool nc_image_verify(NcPageStore *store, const char *name, const gint *cancelled, json_t **ret_lost, uint64_t *ret_bytes,
                     GError **error);
/* "memory of ram0 at 0x12000 (8192 bytes); disk root at ..."; at most five of them. Caller frees. */
char *nc_image_lost_text(json_t *lost);
