/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the source knows about its shadow: which page is in which frame, which
 * frame holds which content, and which pages are worth their frame.
 *
 * It plans one batch after the other, in stream order, and changes the shadow
 * as the destination will when it takes the batch: so the plan of a batch is
 * good for exactly one place in the stream. A page sent again becomes its delta;
 * a page that some frame holds already becomes a reference (found by a 64-bit
 * hash, decided by comparing all of it: no hash stands for a page); anything else
 * goes as it is.
 *
 * With as many frames as pages every page has its own. With fewer, a page that was
 * never sent again gives its frame to one that was, and one that was seldom
 * to one that was often (second chance, one chance per time it was sent again).
 *
 * One thread at a time.
 */
#pragma once

#include "qemu/stream.h"
#include "wire/shadow.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NC_NO_FRAME UINT32_MAX

typedef enum {
  NC_PLAN_WHOLE,     /* as it is */
  NC_PLAN_REFERENCE, /* equal to frame `reference` */
  NC_PLAN_DELTA,     /* `delta_length` bytes at `delta_at` of the plan's deltas, against the page's own frame */
} NcPlanKind;

/* For one record. */
typedef struct {
  uint8_t kind;          /* NcPlanKind */
  uint16_t delta_length; /* less than a page */
  uint32_t frame;        /* where both sides keep it; NC_NO_FRAME: nowhere */
  uint32_t reference;
  uint32_t delta_at;
} NcPagePlan;

/* For a batch's records. Reused from batch to batch, or one per batch. */
typedef struct {
  GArray *pages;      /* of NcPagePlan, one per record; meaningless for zero records */
  GByteArray *deltas; /* contents of the deltas, one after the other */
  bool uses_history;  /* some page is a reference or delta */
  bool is_ahead;      /* of the stream: pages to be kept by both sides, and nothing for QEMU (nc_history_plan_ahead()) */
} NcPlan;

NcPlan *nc_plan_new(void);
void nc_plan_free(NcPlan *plan); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPlan, nc_plan_free)

typedef struct NcHistory NcHistory;

/* ${shadow} borrowed, and from here on changed by nobody else. */
NcHistory *nc_history_new(NcShadow *shadow);
void nc_history_free(NcHistory *h); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcHistory, nc_history_free)

/*
 * A warm return: the first ${frames} of the shadow hold what an earlier migration of the same machine has left in them, here
 * and, it is hoped, at the other side. Whose they were is not known, or was the other side's to know; so they are owned by
 * nobody until a page is found to be equal to one, or little different from the one behind its predecessor's: the page adopts
 * it. The others go to whoever needs room. Reads all of them. Before the first plan.
 */
void nc_history_begin_kept(NcHistory *h, uint32_t frames);

/*
 * A head start: while the source's QEMU gets ready, pages are sent ahead of its stream, to be kept by both sides as if an
 * earlier migration had left them (see above). ${body} is worth it if it is not one pattern, no frame holds it already, and there is
 * a frame left: then it is put into the next one, whose number is returned; else NC_NO_FRAME. The caller sends what got a frame, in
 * this order, in batches planned by nc_history_plan_ahead(). Before the first plan.
 */
uint32_t nc_history_put_ahead(NcHistory *h, const uint8_t *body);
/* Is there a frame left that nobody has had? */
bool nc_history_has_room(const NcHistory *h);
/* Of ${n} pages that nc_history_put_ahead() has put into the frames from ${frame} on, one behind the other. Replaces what is in ${ret}. */
void nc_history_plan_ahead(uint32_t frame, uint32_t n, NcPlan *ret);

/*
 * Whether pages get a frame the first time they are sent (the default), or only
 * when they are sent again: copying everything costs processor time, which may
 * be what is scarce. Takes effect with the next plan.
 */
void nc_history_set_eager(NcHistory *h, bool eager);

/* The sides differ: nothing is known any more, not what was kept either, until it was sent again. */
void nc_history_forget(NcHistory *h);

/* The next RAM block, of ${bytes}, in the order of NcStreamRecord.block; records of blocks that were not added go as they are. */
void nc_history_add_block(NcHistory *h, uint64_t bytes);
size_t nc_history_block_count(const NcHistory *h);

/* Replaces what is in ${ret}. ${records} lie in ${raw}. */
void nc_history_plan(NcHistory *h, const uint8_t *raw, const NcStreamRecord *records, size_t n_records, NcPlan *ret);
