/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of disk blocks that both movers hold: memory that was read from a disk, and blocks that are on the disks
 * twice, cross the link once.
 *
 * An array of frames of one block each. The source says which block goes into which frame, and later that a page or a
 * block is equal to what a frame holds. Channels are not ordered among each other, so order is not what makes the two
 * sides equal, but this:
 *
 *   - a frame is referred to only when the batch that brought its content was acknowledged: the destination fills
 * frames before it acknowledges, so a batch that refers to one can be decoded at any time, by any thread;
 *   - a frame is filled anew only when every batch that refers to it was acknowledged.
 *
 * Blocks that equal a page in the shadow refer to that, by the same rules: the frame is held meanwhile (wire/history.h).
 *
 * No hash stands for a block: the source finds a frame by one and compares all of it with its own copy. That the copies
 * are equal is proven by the SHA-256 of each batch; where it is wrong, that batch comes once more without references,
 * and the source forgets. Frames belong to one migration: nothing of another machine's is ever in them.
 *
 * Frames are given out in turn, the oldest content goes first. Memory is used as frames are filled for the first time.
 * Any thread: there is a lock, which is a leaf, also under that of the history.
 */
#pragma once

#include "wire/history.h"

#define NC_BLOCK_BYTES NC_STREAM_PAGE_BYTES

/* For either side; the source has an index besides. */
NcBlocks *nc_blocks_new(uint32_t frames, bool is_source, GError **error);
void nc_blocks_free(NcBlocks *b); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcBlocks, nc_blocks_free)

uint32_t nc_blocks_frames(const NcBlocks *b);

/* --- the source: each plan must be followed by nc_blocks_note() of it --- */

/*
 * Of a disk's batch: which blocks go into frames, and which are there. Replaces what is in ${ret}. ${records}, of
 * NC_RECORD_BLOCK, lie in ${raw}. Not too many batches of disks refer to frames at a time: the source has to keep
 * these, to send them whole if need be.
 */
void nc_blocks_plan(NcBlocks *b, const uint8_t *raw, const NcStreamRecord *records, size_t n_records, NcPlan *ret);
/* The frame that holds ${body}, whose XXH3 (64 bits) is ${hash}, noted in ${plan}; NC_NO_FRAME: none that may be
 * referred to. */
uint32_t nc_blocks_find(NcBlocks *b, uint64_t hash, const uint8_t *body, NcPlan *plan);
/* ${plan} is that of batch ${seq} of ${channel}, which is submitted next. Takes its lists of frames. */
void nc_blocks_note(NcBlocks *b, uint8_t channel, uint64_t seq, NcPlan *plan);
/* The destination has taken all batches of ${channel} up to ${seq}, which the outbox has found possible. */
void nc_blocks_acked(NcBlocks *b, uint8_t channel, uint64_t seq);
/* The sides differ: nothing is referred to any more that was sent before. */
void nc_blocks_forget(NcBlocks *b);

/* For nc_history_use_blocks(). */
void nc_blocks_use_history(NcBlocks *b, NcHistory *history);

/* --- the destination --- */

/*
 * Pages are put into the shadow by one thread, while others read those that are held. Both copy the rest without a lock: that
 * thread comes by here before and after it has put some.
 */
void nc_blocks_meet(NcBlocks *b);
/* A held page's content. */
void nc_blocks_read_page(NcBlocks *b, const uint8_t *page, uint8_t *to);

/* The content of ${frame}, NC_BLOCK_BYTES to ${to}. False: there is no such frame. */
bool nc_blocks_read(NcBlocks *b, uint32_t frame, uint8_t *to);
/* ${frame} below nc_blocks_frames(). */
void nc_blocks_fill(NcBlocks *b, uint32_t frame, const uint8_t *body);
