/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/blocks.h"
#include "wire/delta.h"
#include "wire/history_internal.h"

#include <string.h>
#include <xxhash.h>

/* A longer delta is no gain over the compressed page. */
#define NC_HISTORY_DELTA_MAX 3072u
#define NC_HISTORY_HEAT_MAX 15u
/* Frames looked at for one that may be taken; then the page goes without. */
#define NC_HISTORY_SEARCH 64u
/* Pages in a row that match no kept frame, after which none is looked for by its place. */
#define NC_HISTORY_MISSED_MAX 8u
/*
 * Of so many kept frames the pages may have become zero, or copies of others, between two that were adopted. A longer way is a leap to where
 * the stream's order goes on: pages of an earlier head start are kept before all others.
 */
#define NC_HISTORY_PASSED_MAX 8u
/* Kept frames looked at beyond where a page is expected: pages between may have become zero. */
#define NC_HISTORY_AHEAD 2u

NcPlan *
nc_plan_new(void)
{
  NcPlan *plan = g_new0(NcPlan, 1);
  plan->pages = g_array_new(FALSE, FALSE, sizeof(NcPagePlan));
  plan->deltas = g_byte_array_new();
  return plan;
}

void
nc_plan_free(NcPlan *plan)
{
  if (!plan)
    return;
  g_array_unref(plan->pages);
  g_byte_array_unref(plan->deltas);
  g_clear_pointer(&plan->blocks_used, g_array_unref);
  g_clear_pointer(&plan->blocks_filled, g_array_unref);
  g_clear_pointer(&plan->pages_held, g_array_unref);
  g_free(plan);
}

void
nc_plan_reset(NcPlan *plan)
{
  g_array_set_size(plan->pages, 0);
  g_byte_array_set_size(plan->deltas, 0);
  g_clear_pointer(&plan->blocks_used, g_array_unref);
  g_clear_pointer(&plan->blocks_filled, g_array_unref);
  g_clear_pointer(&plan->pages_held, g_array_unref);
  plan->uses_history = plan->is_ahead = false;
}

/* Frames rounded up to a power of two: with each frame in it once, half of what is looked for is still there. */
static uint32_t
nc_history_table_size(uint32_t frames)
{
  uint32_t size = 1024;
  while (size < frames && size < (1u << 30))
    size <<= 1;
  return size;
}

NcHistory *
nc_history_new(NcShadow *shadow)
{
  NcHistory *h = g_new0(NcHistory, 1);
  uint32_t size = nc_history_table_size(nc_shadow_frames(shadow));

  h->shadow = shadow;
  h->eager = true;
  h->blocks = g_array_new(FALSE, FALSE, sizeof(NcHistoryBlock));
  h->owners = g_ptr_array_new();
  h->chances = g_array_new(FALSE, TRUE, sizeof(uint8_t));
  h->stale = g_queue_new();
  h->by_hash = g_new0(uint32_t, size);
  h->hash_mask = size - 1;
  pthread_mutex_init(&h->lock, NULL);
  return h;
}

void
nc_history_free(NcHistory *h)
{
  if (!h)
    return;
  for (guint i = 0; i < h->blocks->len; i++)
    g_free(g_array_index(h->blocks, NcHistoryBlock, i).pages);
  g_array_unref(h->blocks);
  g_ptr_array_unref(h->owners);
  g_array_unref(h->chances);
  g_queue_free(h->stale);
  g_free(h->by_hash);
  g_free(h->filled);
  g_clear_pointer(&h->holds, g_hash_table_unref);
  pthread_mutex_destroy(&h->lock);
  g_free(h);
}

void
nc_history_set_eager(NcHistory *h, bool eager)
{
  h->eager = eager;
}

/* Takes ${frame} from whoever has it. */
static void
nc_history_disown(NcHistory *h, uint32_t frame)
{
  NcHistoryPage *owner = h->owners->pdata[frame];
  if (owner)
    owner->frame_plus_1 = 0;
  h->owners->pdata[frame] = NULL;
}

void
nc_history_forget(NcHistory *h)
{
  pthread_mutex_lock(&h->lock);
  for (guint i = 0; i < h->owners->len; i++)
    nc_history_disown(h, i);
  g_ptr_array_set_size(h->owners, 0);
  g_array_set_size(h->chances, 0);
  g_queue_clear(h->stale);
  h->hand = h->kept = h->next = h->missed = 0;
  memset(h->by_hash, 0, ((size_t)h->hash_mask + 1) * sizeof *h->by_hash);
  pthread_mutex_unlock(&h->lock);
}

/* --- pages --- */

void
nc_history_add_block(NcHistory *h, uint64_t bytes)
{
  NcHistoryBlock block = { .count = bytes / NC_STREAM_PAGE_BYTES };

  if (block.count > NC_SHADOW_FRAMES_MAX || !(block.pages = g_try_new0(NcHistoryPage, block.count)))
    block.count = 0; /* its pages have no history */
  g_array_append_val(h->blocks, block);
}

size_t
nc_history_block_count(const NcHistory *h)
{
  return h->blocks->len;
}

/* The page of a record; NULL if it has no history. */
static NcHistoryPage *
nc_history_page(const NcHistory *h, const NcStreamRecord *rec)
{
  if (rec->kind != NC_RECORD_PAGE || rec->block >= h->blocks->len)
    return NULL;
  const NcHistoryBlock *block = &g_array_index(h->blocks, NcHistoryBlock, rec->block);
  uint64_t index = rec->page_offset / NC_STREAM_PAGE_BYTES;
  return index < block->count ? &block->pages[index] : NULL;
}

/* --- frames --- */

bool
nc_history_has_room(const NcHistory *h)
{
  return h->owners->len < nc_shadow_frames(h->shadow);
}

static uint32_t
nc_history_new_frame(NcHistory *h, NcHistoryPage *page)
{
  uint32_t frame = h->owners->len;
  uint8_t none = 0;

  g_ptr_array_add(h->owners, page);
  g_array_append_val(h->chances, none);
  return frame;
}

/* Looks for a frame whose page has used up its chances; each look costs it one. */
static uint32_t
nc_history_take_frame(NcHistory *h, NcHistoryPage *page)
{
  for (uint32_t i = 0; i < NC_HISTORY_SEARCH; i++) {
    uint32_t frame = h->hand;
    uint8_t *chances = &g_array_index(h->chances, uint8_t, frame);
    h->hand = (h->hand + 1) % h->owners->len;
    if (nc_history_is_held(h, frame))
      continue;
    if (*chances > 0) {
      (*chances)--;
      continue;
    }
    nc_history_disown(h, frame);
    h->owners->pdata[frame] = page;
    return frame;
  }
  return NC_NO_FRAME;
}

/* A kept frame that pages have passed by without adopting it: what was in it has changed. */
static uint32_t
nc_history_take_stale(NcHistory *h, NcHistoryPage *page)
{
  while (!g_queue_is_empty(h->stale)) {
    uint32_t frame = GPOINTER_TO_UINT(g_queue_pop_head(h->stale));
    if (h->owners->pdata[frame] || nc_history_is_held(h, frame))
      continue;
    h->owners->pdata[frame] = page;
    return frame;
  }
  return NC_NO_FRAME;
}

/* A frame for a page that has none, or NC_NO_FRAME. */
static uint32_t
nc_history_find_frame(NcHistory *h, NcHistoryPage *page)
{
  if (!h->eager && page->sent == 0)
    return NC_NO_FRAME;
  uint32_t stale = nc_history_take_stale(h, page);
  if (stale != NC_NO_FRAME)
    return stale;
  while (nc_history_has_room(h) && nc_history_is_held(h, h->owners->len)) /* since before all was forgotten */
    nc_history_new_frame(h, NULL);
  if (nc_history_has_room(h))
    return nc_history_new_frame(h, page);
  return page->sent > 0 ? nc_history_take_frame(h, page) : NC_NO_FRAME;
}

/* --- contents --- */

static uint64_t
nc_history_hash(const uint8_t *body)
{
  return XXH3_64bits(body, NC_STREAM_PAGE_BYTES);
}

/* A page of one repeated pattern is 8 bytes on the wire: nothing beats that. */
static bool
nc_history_is_fill(const uint8_t *body)
{
  return memcmp(body, body + 8, NC_STREAM_PAGE_BYTES - 8) == 0;
}

/* Against what is in the page's own frame. */
static void
nc_history_plan_again(NcHistory *h, const uint8_t *body, NcPagePlan *p, NcPlan *plan)
{
  guint at = plan->deltas->len;

  g_byte_array_set_size(plan->deltas, at + NC_HISTORY_DELTA_MAX);
  size_t n = nc_delta_encode(nc_shadow_frame(h->shadow, p->frame), body, plan->deltas->data + at, NC_HISTORY_DELTA_MAX);
  g_byte_array_set_size(plan->deltas, at + (guint)(n == SIZE_MAX ? 0 : n));
  if (n == 0) {
    p->kind = NC_PLAN_REFERENCE;
    p->reference = p->frame;
  } else if (n != SIZE_MAX) {
    p->kind = NC_PLAN_DELTA;
    p->delta_at = at;
    p->delta_length = (uint16_t)n;
  }
}

/* --- kept frames --- */

/* Sparser than usual, for ${frames}: what is not found is not referred to, however equal. Empties the table. */
static void
nc_history_widen_table(NcHistory *h, uint32_t frames)
{
  uint32_t size = nc_history_table_size(MIN(frames, NC_SHADOW_FRAMES_MAX / 4) * 4);

  if (size <= h->hash_mask)
    return;
  g_free(h->by_hash);
  h->by_hash = g_new0(uint32_t, size);
  h->hash_mask = size - 1;
}

static void
nc_history_begin_kept_locked(NcHistory *h, uint32_t frames)
{
  h->kept = MIN(frames, nc_shadow_frames(h->shadow));
  h->in_order = true;
  nc_history_widen_table(h, h->kept);
  g_ptr_array_set_size(h->owners, (gint)h->kept);
  g_array_set_size(h->chances, h->kept);
  for (uint32_t frame = 0; frame < h->kept; frame++) {
    const uint8_t *body = nc_shadow_frame(h->shadow, frame);
    if (!nc_history_is_fill(body))
      *nc_history_slot(h, nc_history_hash(body)) = frame + 1;
  }
}

void
nc_history_begin_kept(NcHistory *h, uint32_t frames)
{
  pthread_mutex_lock(&h->lock);
  nc_history_begin_kept_locked(h, frames);
  pthread_mutex_unlock(&h->lock);
}

static uint32_t
nc_history_put_ahead_locked(NcHistory *h, const uint8_t *body)
{
  if (h->owners->len == 0)
    nc_history_widen_table(h, nc_shadow_frames(h->shadow));
  if (nc_history_is_fill(body) || !nc_history_has_room(h))
    return NC_NO_FRAME;
  uint32_t *slot = nc_history_slot(h, nc_history_hash(body));
  if (nc_history_find_content(h, slot, body) != NC_NO_FRAME)
    return NC_NO_FRAME;
  uint32_t frame = nc_history_new_frame(h, NULL);
  memcpy(nc_shadow_frame(h->shadow, frame), body, NC_STREAM_PAGE_BYTES);
  *slot = frame + 1;
  h->kept = h->owners->len;
  return frame;
}

uint32_t
nc_history_put_ahead(NcHistory *h, const uint8_t *body)
{
  pthread_mutex_lock(&h->lock);
  uint32_t frame = nc_history_put_ahead_locked(h, body);
  pthread_mutex_unlock(&h->lock);
  return frame;
}

void
nc_history_plan_ahead(uint32_t frame, uint32_t n, NcPlan *ret)
{
  nc_plan_reset(ret);
  ret->is_ahead = true;
  for (uint32_t i = 0; i < n; i++) {
    NcPagePlan p = { .kind = NC_PLAN_WHOLE, .frame = frame + i };
    g_array_append_val(ret->pages, p);
  }
}

static bool
nc_history_is_nobodys(const NcHistory *h, uint32_t frame)
{
  return frame < h->kept && !h->owners->pdata[frame];
}

/* The stream goes on at ${frame}: what was in those before it has changed, as had the pages that found none, or is gone. */
static void
nc_history_pass(NcHistory *h, uint32_t frame)
{
  if (!h->in_order || frame < h->next || frame - h->next > h->missed + NC_HISTORY_PASSED_MAX)
    return;
  for (uint32_t passed = h->next; passed < frame; passed++)
    if (nc_history_is_nobodys(h, passed))
      g_queue_push_tail(h->stale, GUINT_TO_POINTER(passed));
}

static void
nc_history_adopt(NcHistory *h, uint32_t frame, NcHistoryPage *page)
{
  nc_history_pass(h, frame);
  h->owners->pdata[frame] = page;
  page->frame_plus_1 = frame + 1;
  h->next = frame + 1;
  h->missed = 0;
}

/*
 * For a page without a frame. The kept frame behind the last adopted one most likely holds an older version of it; if pages
 * between went without, one a little further on does. Where that holds something else entirely, the delta is too long.
 */
static void
nc_history_adopt_next(NcHistory *h, const uint8_t *body, NcHistoryPage *page, NcPagePlan *p, NcPlan *plan)
{
  uint32_t end = h->missed <= NC_HISTORY_MISSED_MAX ? h->next + h->missed + NC_HISTORY_AHEAD + 1 : 0;

  for (uint32_t frame = h->next; frame < end && p->kind == NC_PLAN_WHOLE; frame++) {
    if (!nc_history_is_nobodys(h, frame) || nc_history_is_held(h, frame))
      continue;
    p->frame = frame;
    nc_history_plan_again(h, body, p, plan);
  }
  if (p->kind != NC_PLAN_WHOLE) {
    nc_history_adopt(h, p->frame, page);
    return;
  }
  p->frame = NC_NO_FRAME;
  h->missed++;
}

/* For a page without a frame: is a kept one equal to it? The next one is, mostly; else it is found by its hash. */
static void
nc_history_adopt_equal(NcHistory *h, const uint8_t *body, NcHistoryPage *page, NcPagePlan *p)
{
  uint32_t frame = h->next;

  if (!nc_history_is_nobodys(h, frame) || memcmp(nc_shadow_frame(h->shadow, frame), body, NC_STREAM_PAGE_BYTES) != 0)
    frame = nc_history_find_content(h, nc_history_slot(h, nc_history_hash(body)), body);
  if (frame == NC_NO_FRAME || !nc_history_is_nobodys(h, frame))
    return;
  nc_history_adopt(h, frame, page);
  p->frame = p->reference = frame;
  p->kind = NC_PLAN_REFERENCE;
}

/* For a page that would go whole: does a frame of anybody's hold the same, or a disk's block? Returns its slot, for what it becomes. */
static uint32_t *
nc_history_plan_copy(NcHistory *h, const uint8_t *body, NcPagePlan *p, NcPlan *plan)
{
  uint64_t hash = nc_history_hash(body);
  uint32_t *slot = nc_history_slot(h, hash);

  p->reference = nc_history_find_content(h, slot, body);
  if (p->reference != NC_NO_FRAME) {
    p->kind = NC_PLAN_REFERENCE;
    return slot;
  }
  if (h->disk_blocks)
    p->reference = nc_blocks_find(h->disk_blocks, hash, body, plan);
  if (p->reference != NC_NO_FRAME)
    p->kind = NC_PLAN_BLOCK;
  return slot;
}

static void
nc_history_plan_page(NcHistory *h, const uint8_t *body, NcHistoryPage *page, NcPagePlan *p, NcPlan *plan)
{
  bool is_fill = nc_history_is_fill(body);
  uint32_t *slot = NULL;

  p->frame = page->frame_plus_1 - 1; /* 0 wraps to NC_NO_FRAME */
  if (p->frame != NC_NO_FRAME && nc_history_is_held(h, p->frame) && memcmp(nc_shadow_frame(h->shadow, p->frame), body, NC_STREAM_PAGE_BYTES) != 0) {
    nc_history_disown(h, p->frame);
    p->frame = NC_NO_FRAME;
  }
  if (!is_fill && p->frame != NC_NO_FRAME)
    nc_history_plan_again(h, body, p, plan);
  else if (!is_fill && h->kept > 0)
    nc_history_adopt_equal(h, body, page, p);
  if (!is_fill && p->kind == NC_PLAN_WHOLE)
    slot = nc_history_plan_copy(h, body, p, plan);
  if (!is_fill && p->kind == NC_PLAN_WHOLE && p->frame == NC_NO_FRAME && h->kept > 0)
    nc_history_adopt_next(h, body, page, p, plan);
  if (p->frame == NC_NO_FRAME)
    p->frame = nc_history_find_frame(h, page);
  else
    g_array_index(h->chances, uint8_t, p->frame) = page->sent;
  page->frame_plus_1 = p->frame + 1;
  page->sent = (uint8_t)MIN(page->sent + 1u, NC_HISTORY_HEAT_MAX);
  if (p->frame == NC_NO_FRAME)
    return;
  if (p->kind != NC_PLAN_REFERENCE || p->reference != p->frame) {
    memmove(nc_shadow_frame(h->shadow, p->frame), body, NC_STREAM_PAGE_BYTES);
    if (h->filled)
      h->filled[p->frame] = (uint32_t)h->batch + 1;
  }
  if (slot)
    *slot = p->frame + 1;
}

static void
nc_history_plan_batch(NcHistory *h, const uint8_t *raw, const NcStreamRecord *records, size_t n_records, NcPlan *ret)
{
  for (size_t i = 0; i < n_records; i++) {
    NcPagePlan p = { .kind = NC_PLAN_WHOLE, .frame = NC_NO_FRAME };
    NcHistoryPage *page = nc_history_page(h, &records[i]);
    if (page)
      nc_history_plan_page(h, raw + records[i].start + records[i].header_bytes, page, &p, ret);
    ret->uses_history = ret->uses_history || p.kind != NC_PLAN_WHOLE;
    g_array_append_val(ret->pages, p);
  }
}

void
nc_history_plan(NcHistory *h, const uint8_t *raw, const NcStreamRecord *records, size_t n_records, NcPlan *ret)
{
  nc_plan_reset(ret);
  pthread_mutex_lock(&h->lock);
  nc_history_plan_batch(h, raw, records, n_records, ret);
  pthread_mutex_unlock(&h->lock);
}
