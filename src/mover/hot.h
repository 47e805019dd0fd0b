/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot pages first: which pages the source asks its own QEMU for in post-copy, before the
 * guest at the destination misses them.
 *
 * Before the switch the reader counts how often each page was sent: a page that the
 * guest keeps writing will be wanted soon. Behind the package only discarded pages are sent, each
 * once; those of them that were sent before are asked for, the most often sent first; of those sent equally often the lonely ones: a
 * working set is dense, but what every guest touches at once (stacks, page tables, a kernel's tables) is here and there, and
 * little. What lies about a page that the guest does wait for comes before all of them.
 *
 * A real fault queues behind what was asked, so no more than NC_HOT_OUTSTANDING pages are
 * asked and not seen leaving. QEMU drops silently what it has sent already; so what was
 * not seen after NC_HOT_EXPIRE_US is no longer waited for.
 *
 * QEMU 7.2 does not survive a request that makes no sense (its return path ends, and no
 * recovery brings that back). So: only blocks of the setup list with pages of 4096 bytes, whole
 * pages inside them, nothing before the package is complete and the run right has left, nothing once
 * nc_hot_stop() was called. How requests reach QEMU is requests.h.
 *
 * Thread-safe behind nc_hot_enter(); what comes before is the reader's.
 */
#pragma once

#include "qemu/stream.h"

#define NC_HOT_OUTSTANDING 16u                  /* pages: 64 KiB, half a millisecond at 1 Gbit/s */
#define NC_HOT_NEAR 16u                         /* pages about one that the guest waits for; besides those */
#define NC_HOT_EXPIRE_US 200000                 /* twice the time that QEMU sleeps when its rate is limited */
#define NC_HOT_PAGES_MAX (256u << 10)           /* 1 GiB; after that much the sweep will have come by */
#define NC_HOT_BLOCK_PAGES_MAX (1ull << 32)     /* a byte each; larger blocks are left alone */

typedef struct NcHot NcHot;

NcHot *nc_hot_new(void);
void nc_hot_free(NcHot *h); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcHot, nc_hot_free)

/* The next RAM block, in the order of NcStreamRecord.block. */
void nc_hot_add_block(NcHot *h, const NcStreamBlock *block);
size_t nc_hot_block_count(const NcHot *h);
/* Pages that were sent before post-copy. */
void nc_hot_count(NcHot *h, const NcStreamRecord *records, size_t n_records);
/* Post-copy begins: ${discards} (of NcStreamRange, copied) is all that will still be sent. Once. */
void nc_hot_enter(NcHot *h, const GArray *discards);

/* Pages that are sent in post-copy. True: some of them had been asked for, so there is room for others. */
bool nc_hot_sent(NcHot *h, const NcStreamRecord *records, size_t n_records);
/* The same of another channel, whose blocks ${parser} has numbered in its own way. */
bool nc_hot_sent_elsewhere(NcHot *h, const NcStreamParser *parser, const NcStreamRecord *records, size_t n_records);

/* The run right has left: QEMU may be asked. */
void nc_hot_permit(NcHot *h);
/* The guest waits for the page at ${offset} of ${block}: what it needs next is often beside it. */
void nc_hot_missed(NcHot *h, const char *block, uint64_t offset);
/* Never again. */
void nc_hot_stop(NcHot *h);

/* Will nc_hot_next() have something, now or later, as far as can be known? */
bool nc_hot_is_asking(NcHot *h);

typedef struct {
  const char *block; /* lives as long as the NcHot */
  uint64_t offset;   /* in it, bytes */
  uint32_t bytes;
} NcHotRequest;

/*
 * What to ask for now; it counts as asked. False: nothing; *ret_again_us is when that may change by itself, 0: only by
 * one of the functions above.
 */
bool nc_hot_next(NcHot *h, int64_t now_us, NcHotRequest *ret, int64_t *ret_again_us);

/* Pages that were asked for, and how many of them were seen leaving in time. Either may be NULL. */
void nc_hot_totals(NcHot *h, uint64_t *ret_asked, uint64_t *ret_seen);
