/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the history that blocks of disks refer to, and others than its planner hold. */
#include "wire/blocks.h"
#include "wire/history_internal.h"

void
nc_history_use_blocks(NcHistory *h, NcBlocks *blocks)
{
  h->disk_blocks = blocks;
  h->filled = g_new0(uint32_t, nc_shadow_frames(h->shadow));
  h->holds = g_hash_table_new(NULL, NULL);
  nc_blocks_use_history(blocks, h);
}

void
nc_history_begin_batch(NcHistory *h, uint64_t seq)
{
  pthread_mutex_lock(&h->lock);
  h->batch = seq;
  pthread_mutex_unlock(&h->lock);
}

/* The other side has the same in it, and nothing else is on its way there. */
static bool
nc_history_may_hold(const NcHistory *h, uint32_t frame)
{
  return frame != NC_NO_FRAME && h->filled[frame] > h->trusted && h->filled[frame] <= h->acked;
}

uint32_t
nc_history_hold(NcHistory *h, uint64_t hash, const uint8_t *body)
{
  pthread_mutex_lock(&h->lock);
  uint32_t frame = nc_history_find_content(h, nc_history_slot(h, hash), body);
  if (nc_history_may_hold(h, frame)) {
    gpointer key = GUINT_TO_POINTER(frame + 1);
    g_hash_table_insert(h->holds, key, GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(h->holds, key)) + 1));
  } else {
    frame = NC_NO_FRAME;
  }
  pthread_mutex_unlock(&h->lock);
  return frame;
}

void
nc_history_release(NcHistory *h, const GArray *frames)
{
  pthread_mutex_lock(&h->lock);
  for (guint i = 0; i < frames->len; i++) {
    gpointer key = GUINT_TO_POINTER(g_array_index(frames, uint32_t, i) + 1);
    unsigned left = GPOINTER_TO_UINT(g_hash_table_lookup(h->holds, key)) - 1;
    if (left > 0)
      g_hash_table_insert(h->holds, key, GUINT_TO_POINTER(left));
    else
      g_hash_table_remove(h->holds, key);
  }
  pthread_mutex_unlock(&h->lock);
}

void
nc_history_acked(NcHistory *h, uint64_t seq)
{
  pthread_mutex_lock(&h->lock);
  h->acked = MAX(h->acked, seq + 1);
  pthread_mutex_unlock(&h->lock);
}

void
nc_history_distrust(NcHistory *h)
{
  pthread_mutex_lock(&h->lock);
  h->trusted = h->batch + 1;
  pthread_mutex_unlock(&h->lock);
}
