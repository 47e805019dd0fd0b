/* SPDX-License-Identifier: Apache-2.0 */
/* What history.c (planning) and history_hold.c (what blocks of disks refer to) share. */
#pragma once

#include "wire/history.h"

#include <pthread.h>
#include <string.h>

/* A page of the machine. All zero at first, so that those that are never sent cost no memory. */
typedef struct {
  uint32_t frame_plus_1; /* 0: none */
  uint8_t sent;          /* how often, up to NC_HISTORY_HEAT_MAX */
} NcHistoryPage;

/* A RAM block. */
typedef struct {
  NcHistoryPage *pages;
  uint64_t count;
} NcHistoryBlock;

struct NcHistory {
  NcShadow *shadow;
  NcBlocks *disk_blocks; /* borrowed; NULL: no disks are copied, and the next group is not used */
  pthread_mutex_t lock;  /* protects everything here and the shadow from those who hold frames */
  uint32_t *filled;      /* by frame: the number of the batch that filled it, plus 1; 0: not one of this migration */
  GHashTable *holds;     /* frame + 1 to how often it is held */
  uint64_t batch;        /* that is being planned */
  uint64_t acked;        /* so many were taken by the other side, */
  uint64_t trusted;      /* and what the first so many have filled is not held */
  bool eager;

  GArray *blocks;    /* of NcHistoryBlock, by the parser's index */
  GPtrArray *owners; /* NcHistoryPage*: whose is each frame that was given out so far; NULL: kept, and nobody's yet */
  GArray *chances;   /* of uint8_t, likewise */
  uint32_t hand;     /* of the clock */
  uint32_t *by_hash; /* frame + 1 by hash; 0: none. A hint: the frame may hold something else by now */
  uint32_t hash_mask;

  /* Kept frames were filled in the order in which pages were sent, and that was much the order in which they come now. */
  uint32_t kept;   /* so many there were; 0: none, or forgotten */
  uint32_t next;   /* the frame behind the last that was adopted */
  uint32_t missed; /* pages since then that had no frame and found none */
  GQueue *stale;   /* of frames: those that the stream has passed without adopting them, what it passed first in front */
  bool in_order;   /* as the stream is: of a head start, which goes over the memory in passes, none is passed for good */
};

/* With the lock held. Where a frame with content of ${hash} is noted. */
static inline uint32_t *
nc_history_slot(const NcHistory *h, uint64_t hash)
{
  return &h->by_hash[hash & h->hash_mask];
}

/* A frame that holds ${body}, or NC_NO_FRAME. */
static inline uint32_t
nc_history_find_content(NcHistory *h, const uint32_t *slot, const uint8_t *body)
{
  uint32_t frame = *slot - 1; /* 0 wraps to NC_NO_FRAME */
  if (*slot == 0 || memcmp(nc_shadow_frame(h->shadow, frame), body, NC_STREAM_PAGE_BYTES) != 0)
    return NC_NO_FRAME;
  return frame;
}

/* Does a block's reference to it need its content? */
static inline bool
nc_history_is_held(const NcHistory *h, uint32_t frame)
{
  return h->holds && g_hash_table_size(h->holds) > 0 && g_hash_table_contains(h->holds, GUINT_TO_POINTER(frame + 1));
}
