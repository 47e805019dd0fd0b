/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches in sequence again: items come in any order and leave in order.
 *
 * Bounded by a number of items and a number of bytes ahead of the next
 * expected one. What does not fit is refused and stays the caller's, never
 * kept "just in case": a peer that keeps to the limits of its HELLO is never
 * refused. Two refusals are different news: a duplicate is harmless (after a
 * connection was lost, batches are sent again), too far ahead is a peer that
 * does not keep the rules. No lock: the caller's.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct NcReorder NcReorder;

/*
 * A batch that is claimed is being decoded by somebody: a second copy of it, from a connection that took the place of a lost one, is
 * a duplicate already. Decoded late, when the first one was delivered and acknowledged, it would find other content
 * in what it refers to, and look damaged.
 */
typedef enum {
  NC_REORDER_TAKEN,     /* the item is now the reorder's */
  NC_REORDER_DUPLICATE, /* delivered already, waiting here, or claimed */
  NC_REORDER_TOO_FAR,   /* beyond the number or the bytes that may wait */
} NcReorderVerdict;

/* ${capacity} items at most (at least 1), of ${limit_bytes} together; ${free_item} frees what waits at the end. */
NcReorder *nc_reorder_new(uint32_t capacity, uint64_t limit_bytes, GDestroyNotify free_item);
void nc_reorder_free(NcReorder *r); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcReorder, nc_reorder_free)

/*
 * Before work is spent on a batch: with NC_REORDER_TAKEN it is the caller's to decode, until nc_reorder_put() or
 * nc_reorder_release(). The next expected item is never refused for its bytes: refusing it would stop everything.
 */
NcReorderVerdict nc_reorder_claim(NcReorder *r, uint64_t seq, uint64_t bytes);
/*
 * The same without a claim, and whoever has claimed it: for a batch that was asked for again. Its answer must not be dropped because a stale copy is
 * being decoded, nor the other way round.
 */
NcReorderVerdict nc_reorder_judge(const NcReorder *r, uint64_t seq, uint64_t bytes);
/* Nothing came of what was claimed: the next copy is as good as the first. */
void nc_reorder_release(NcReorder *r, uint64_t seq);
/*
 * ${item} (not NULL), claimed by the caller or by nobody, is taken only with NC_REORDER_TAKEN; the claim ends in any case. ${bytes} counts
 * against the limit while it waits.
 */
NcReorderVerdict nc_reorder_put(NcReorder *r, uint64_t seq, gpointer item, uint64_t bytes);
/* The next item in sequence, now the caller's, or NULL if it is not here yet. */
gpointer nc_reorder_take(NcReorder *r);

uint64_t nc_reorder_next_seq(const NcReorder *r); /* the number the next nc_reorder_take() gives */
uint32_t nc_reorder_count(const NcReorder *r);    /* items waiting */
uint64_t nc_reorder_bytes(const NcReorder *r);    /* bytes of these */
