/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches that came wrong and were asked for again: each once.
 *
 * What comes wrong means pages or blocks that differ here, or was damaged. It is asked for, and the answer goes whole: it
 * refers to nothing. A connection that was lost meanwhile may bring the batch once more as it was first sent, before the answer: such a
 * stale copy refers to the same as the first one, is as wrong, and says nothing about the answer. An answer that is wrong ends
 * the attempt. No lock: the caller's.
 */
#pragma once

#include "wire/reorder.h"

#include <stdbool.h>

typedef struct NcAsked NcAsked;

typedef enum {
  NC_ASKED_FIRST, /* ask for it */
  NC_ASKED_STALE, /* it was asked for, and this is not the answer: drop it. Once per batch, so that nobody is kept waiting for ever */
  NC_ASKED_AGAIN, /* the answer is wrong, too */
} NcAskedVerdict;

NcAsked *nc_asked_new(void);
void nc_asked_free(NcAsked *a); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcAsked, nc_asked_free)

/* Batch ${seq} came wrong. ${refers}: it refers to pages or blocks that are kept here (nc_batch_decoder_refers()). */
NcAskedVerdict nc_asked_judge(NcAsked *a, uint64_t seq, bool refers);
/* Was it asked for? */
bool nc_asked_has(NcAsked *a, uint64_t seq);
/*
 * Before work is spent on batch ${seq}: nc_reorder_claim(), or, of one that was asked for, nc_reorder_judge(): no copy of that is a
 * duplicate before one was good.
 */
NcReorderVerdict nc_asked_claim(NcAsked *a, NcReorder *r, uint64_t seq, uint64_t bytes);
/* Was it asked for, and is this copy, which refers to kept pages, to be dropped unread? */
bool nc_asked_is_stale(NcAsked *a, uint64_t seq);
