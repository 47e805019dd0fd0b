/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/blocks.h"
#include "wire/frame.h"
#include "wire/shadow.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

/* Frames looked at for one that may be filled; then the block goes without. */
#define NC_BLOCKS_SEARCH 32u
/* Blocks in batches of disks with references, at a time: the source keeps these batches until they are acknowledged. A
 * disk alone never has so many on their way (NC_MOVER_DISK_AHEAD_BYTES). */
#define NC_BLOCKS_REFERRING_MAX ((24u << 20) / NC_BLOCK_BYTES)

typedef enum {
  NC_BLOCK_EMPTY,   /* or what is in it is not to be relied on */
  NC_BLOCK_PENDING, /* on its way */
  NC_BLOCK_LOST,    /* likewise, and forgotten meanwhile */
  NC_BLOCK_KNOWN,   /* the other side has it */
} NcBlockState;

typedef struct {
  uint32_t pins;        /* references on their way */
  uint32_t slot_plus_1; /* where it is found; 0: nowhere */
  uint8_t state;        /* NcBlockState */
} NcBlockFrame;

/* Of the index. Buckets of eight, which are a line of the processor's cache. */
typedef struct {
  uint32_t frame_plus_1; /* 0: none */
  uint32_t tag;          /* of its content's hash, what does not choose the bucket */
} NcBlockSlot;
#define NC_BLOCKS_BUCKET 8u

/* A batch on its way. */
typedef struct {
  uint64_t seq;
  GArray *used, *filled; /* of uint32_t: frames; NULL: none */
  GArray *held;          /* likewise, of the shadow */
  unsigned referring;    /* so many blocks it counts for there */
} NcBlocksBatch;

struct NcBlocks {
  NcShadow *contents;
  uint32_t frames;
  pthread_mutex_t lock; /* protects the contents, and everything below */

  /* the source's */
  NcBlockFrame *states; /* NULL at the destination */
  uint32_t hand;
  NcBlockSlot *index;
  uint32_t buckets;                 /* a power of two */
  NcHistory *history;               /* borrowed; NULL: the memory has not begun */
  GQueue batches[NC_CHANNEL_COUNT]; /* of NcBlocksBatch, by channel, in order */
  unsigned referring;               /* blocks in disks' batches on their way that refer to some */
};

/* With two frames in one of eight slots, on average, there is hardly one that is full. */
static uint32_t
nc_blocks_buckets(uint32_t frames)
{
  uint32_t buckets = 16;
  while (buckets < frames / 2 && buckets < (1u << 28))
    buckets <<= 1;
  return buckets;
}

NcBlocks *
nc_blocks_new(uint32_t frames, bool is_source, GError **error)
{
  NcShadow *contents = nc_shadow_new(-1, frames, error);
  if (!contents)
    return NULL;
  NcBlocks *b = g_new0(NcBlocks, 1);
  b->contents = contents;
  b->frames = frames;
  pthread_mutex_init(&b->lock, NULL);
  if (is_source) {
    b->states = g_new0(NcBlockFrame, frames);
    b->buckets = nc_blocks_buckets(frames);
    b->index = g_new0(NcBlockSlot, (size_t)b->buckets * NC_BLOCKS_BUCKET);
  }
  return b;
}

static void
nc_blocks_batch_free(NcBlocksBatch *batch)
{
  g_clear_pointer(&batch->used, g_array_unref);
  g_clear_pointer(&batch->filled, g_array_unref);
  g_clear_pointer(&batch->held, g_array_unref);
  g_free(batch);
}

void
nc_blocks_free(NcBlocks *b)
{
  if (!b)
    return;
  for (unsigned i = 0; i < NC_CHANNEL_COUNT; i++)
    g_queue_clear_full(&b->batches[i], (GDestroyNotify)nc_blocks_batch_free);
  pthread_mutex_destroy(&b->lock);
  nc_shadow_free(b->contents);
  g_free(b->states);
  g_free(b->index);
  g_free(b);
}

uint32_t
nc_blocks_frames(const NcBlocks *b)
{
  return b->frames;
}

/* --- the source --- */

static void
nc_blocks_list(GArray **list, uint32_t frame)
{
  if (!*list)
    *list = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  g_array_append_val(*list, frame);
}

static NcBlockSlot *
nc_blocks_bucket_locked(NcBlocks *b, uint64_t hash)
{
  return &b->index[(size_t)(hash & (b->buckets - 1)) * NC_BLOCKS_BUCKET];
}

static bool
nc_blocks_holds_locked(NcBlocks *b, uint32_t frame, const uint8_t *body)
{
  uint8_t state = b->states[frame].state;
  return (state == NC_BLOCK_KNOWN || state == NC_BLOCK_PENDING) &&
         memcmp(nc_shadow_frame(b->contents, frame), body, NC_BLOCK_BYTES) == 0;
}

/* A frame with this content, known to the other side or on its way there; NC_NO_FRAME: none. */
static uint32_t
nc_blocks_look_up_locked(NcBlocks *b, uint64_t hash, const uint8_t *body)
{
  const NcBlockSlot *bucket = nc_blocks_bucket_locked(b, hash);

  for (uint32_t i = 0; i < NC_BLOCKS_BUCKET; i++)
    if (bucket[i].frame_plus_1 > 0 && bucket[i].tag == (uint32_t)(hash >> 32) &&
        nc_blocks_holds_locked(b, bucket[i].frame_plus_1 - 1, body))
      return bucket[i].frame_plus_1 - 1;
  return NC_NO_FRAME;
}

/* ${frame} is found by ${hash} from now on, and not any more by what it had. One may have to give way, and is not found
 * then. */
static void
nc_blocks_enter_locked(NcBlocks *b, uint32_t frame, uint64_t hash)
{
  NcBlockFrame *f = &b->states[frame];
  NcBlockSlot *bucket = nc_blocks_bucket_locked(b, hash);
  uint32_t at = 0;

  if (f->slot_plus_1 > 0)
    b->index[f->slot_plus_1 - 1] = (NcBlockSlot){ 0 };
  while (at < NC_BLOCKS_BUCKET && bucket[at].frame_plus_1 > 0)
    at++;
  if (at == NC_BLOCKS_BUCKET) {
    at = frame % NC_BLOCKS_BUCKET;
    b->states[bucket[at].frame_plus_1 - 1].slot_plus_1 = 0;
  }
  bucket[at] = (NcBlockSlot){ .frame_plus_1 = frame + 1, .tag = (uint32_t)(hash >> 32) };
  f->slot_plus_1 = (uint32_t)(&bucket[at] - b->index) + 1;
}

static void
nc_blocks_refer_locked(NcBlocks *b, uint32_t frame, NcPlan *plan)
{
  b->states[frame].pins++;
  nc_blocks_list(&plan->blocks_used, frame);
}

/* The next frame in turn that nothing on its way means or fills, or NC_NO_FRAME. */
static uint32_t
nc_blocks_take_frame_locked(NcBlocks *b)
{
  for (uint32_t i = 0; i < NC_BLOCKS_SEARCH; i++) {
    uint32_t frame = b->hand;
    const NcBlockFrame *f = &b->states[frame];
    b->hand = (b->hand + 1) % b->frames;
    if (f->pins == 0 && f->state != NC_BLOCK_PENDING && f->state != NC_BLOCK_LOST)
      return frame;
  }
  return NC_NO_FRAME;
}

/* Is there a frame with this content, so that it need not be kept? What is only on its way there goes again. */
static bool
nc_blocks_plan_known_locked(NcBlocks *b, const uint8_t *body, uint64_t hash, bool may_refer, NcPagePlan *p,
                            NcPlan *plan)
{
  uint32_t frame = nc_blocks_look_up_locked(b, hash, body);

  if (frame != NC_NO_FRAME && may_refer && b->states[frame].state == NC_BLOCK_KNOWN) {
    p->kind = NC_PLAN_BLOCK;
    p->reference = frame;
    nc_blocks_refer_locked(b, frame, plan);
  }
  return frame != NC_NO_FRAME;
}

/* Is there a page with this content? */
static bool
nc_blocks_plan_held(NcHistory *history, const uint8_t *body, uint64_t hash, NcPagePlan *p, NcPlan *plan)
{
  p->reference = nc_history_hold(history, hash, body);
  if (p->reference == NC_NO_FRAME)
    return false;
  p->kind = NC_PLAN_HELD;
  nc_blocks_list(&plan->pages_held, p->reference);
  return true;
}

static void
nc_blocks_plan_new_locked(NcBlocks *b, const uint8_t *body, uint64_t hash, NcPagePlan *p, NcPlan *plan)
{
  p->frame = nc_blocks_take_frame_locked(b);
  if (p->frame == NC_NO_FRAME)
    return;
  memcpy(nc_shadow_frame(b->contents, p->frame), body, NC_BLOCK_BYTES);
  b->states[p->frame].state = NC_BLOCK_PENDING;
  nc_blocks_enter_locked(b, p->frame, hash);
  nc_blocks_list(&plan->blocks_filled, p->frame);
}

static void
nc_blocks_plan_block(NcBlocks *b, const uint8_t *body, bool may_refer, NcPagePlan *p, NcPlan *plan)
{
  uint64_t hash = XXH3_64bits(body, NC_BLOCK_BYTES);

  pthread_mutex_lock(&b->lock);
  bool done = nc_blocks_plan_known_locked(b, body, hash, may_refer, p, plan);
  NcHistory *history = b->history;
  pthread_mutex_unlock(&b->lock);
  if (done || (may_refer && history && nc_blocks_plan_held(history, body, hash, p, plan)))
    return;
  pthread_mutex_lock(&b->lock);
  nc_blocks_plan_new_locked(b, body, hash, p, plan);
  pthread_mutex_unlock(&b->lock);
}

/* A block of one repeated pattern is 8 bytes on the wire: nothing beats that. */
static bool
nc_blocks_is_pattern(const uint8_t *body)
{
  return memcmp(body, body + 8, NC_BLOCK_BYTES - 8) == 0;
}

void
nc_blocks_plan(NcBlocks *b, const uint8_t *raw, const NcStreamRecord *records, size_t n_records, NcPlan *ret)
{
  pthread_mutex_lock(&b->lock);
  bool may_refer = b->referring < NC_BLOCKS_REFERRING_MAX;
  pthread_mutex_unlock(&b->lock);
  nc_plan_reset(ret);
  for (size_t i = 0; i < n_records; i++) {
    NcPagePlan p = { .kind = NC_PLAN_WHOLE, .frame = NC_NO_FRAME };
    const uint8_t *body = raw + records[i].start;
    if (!nc_blocks_is_pattern(body))
      nc_blocks_plan_block(b, body, may_refer, &p, ret);
    ret->uses_history = ret->uses_history || p.kind != NC_PLAN_WHOLE;
    g_array_append_val(ret->pages, p);
  }
}

uint32_t
nc_blocks_find(NcBlocks *b, uint64_t hash, const uint8_t *body, NcPlan *plan)
{
  pthread_mutex_lock(&b->lock);
  uint32_t frame = nc_blocks_look_up_locked(b, hash, body);
  if (frame != NC_NO_FRAME && b->states[frame].state != NC_BLOCK_KNOWN)
    frame = NC_NO_FRAME;
  if (frame != NC_NO_FRAME)
    nc_blocks_refer_locked(b, frame, plan);
  pthread_mutex_unlock(&b->lock);
  return frame;
}

void
nc_blocks_note(NcBlocks *b, uint8_t channel, uint64_t seq, NcPlan *plan)
{
  g_assert(channel < NC_CHANNEL_COUNT);
  bool refers = plan->blocks_used || plan->pages_held;
  if (!refers && !plan->blocks_filled)
    return;
  NcBlocksBatch *batch = g_new0(NcBlocksBatch, 1);
  batch->seq = seq;
  batch->referring = refers && channel >= NC_CHANNEL_DISKS ? plan->pages->len : 0;
  batch->used = g_steal_pointer(&plan->blocks_used);
  batch->filled = g_steal_pointer(&plan->blocks_filled);
  batch->held = g_steal_pointer(&plan->pages_held);
  pthread_mutex_lock(&b->lock);
  b->referring += batch->referring;
  g_queue_push_tail(&b->batches[channel], batch);
  pthread_mutex_unlock(&b->lock);
}

static void
nc_blocks_settle_locked(NcBlocks *b, const NcBlocksBatch *batch)
{
  for (guint i = 0; batch->used && i < batch->used->len; i++)
    b->states[g_array_index(batch->used, uint32_t, i)].pins--;
  for (guint i = 0; batch->filled && i < batch->filled->len; i++) {
    NcBlockFrame *f = &b->states[g_array_index(batch->filled, uint32_t, i)];
    f->state = f->state == NC_BLOCK_PENDING ? NC_BLOCK_KNOWN : NC_BLOCK_EMPTY;
  }
  b->referring -= batch->referring;
}

/* The history has a lock of its own, in which it comes to us: it hears of it when ours is free. */
static void
nc_blocks_tell_history(NcHistory *history, uint8_t channel, uint64_t seq, GQueue *over)
{
  for (NcBlocksBatch *batch; (batch = g_queue_pop_head(over));) {
    if (batch->held)
      nc_history_release(history, batch->held);
    nc_blocks_batch_free(batch);
  }
  if (history && channel == NC_CHANNEL_MAIN)
    nc_history_acked(history, seq);
}

void
nc_blocks_acked(NcBlocks *b, uint8_t channel, uint64_t seq)
{
  GQueue over = G_QUEUE_INIT;

  pthread_mutex_lock(&b->lock);
  GQueue *queue = &b->batches[channel];
  for (NcBlocksBatch *first; (first = g_queue_peek_head(queue)) && first->seq <= seq;) {
    nc_blocks_settle_locked(b, first);
    g_queue_push_tail(&over, g_queue_pop_head(queue));
  }
  NcHistory *history = b->history;
  pthread_mutex_unlock(&b->lock);
  nc_blocks_tell_history(history, channel, seq, &over);
}

void
nc_blocks_forget(NcBlocks *b)
{
  pthread_mutex_lock(&b->lock);
  for (uint32_t i = 0; i < b->frames; i++) {
    NcBlockFrame *f = &b->states[i];
    f->state = f->state == NC_BLOCK_PENDING || f->state == NC_BLOCK_LOST ? NC_BLOCK_LOST : NC_BLOCK_EMPTY;
  }
  NcHistory *history = b->history;
  pthread_mutex_unlock(&b->lock);
  if (history)
    nc_history_distrust(history);
}

void
nc_blocks_use_history(NcBlocks *b, NcHistory *history)
{
  pthread_mutex_lock(&b->lock);
  b->history = history;
  pthread_mutex_unlock(&b->lock);
}

/* --- the destination --- */

bool
nc_blocks_read(NcBlocks *b, uint32_t frame, uint8_t *to)
{
  if (frame >= b->frames)
    return false;
  pthread_mutex_lock(&b->lock);
  memcpy(to, nc_shadow_frame(b->contents, frame), NC_BLOCK_BYTES);
  pthread_mutex_unlock(&b->lock);
  return true;
}

void
nc_blocks_fill(NcBlocks *b, uint32_t frame, const uint8_t *body)
{
  g_assert(frame < b->frames);
  pthread_mutex_lock(&b->lock);
  memcpy(nc_shadow_frame(b->contents, frame), body, NC_BLOCK_BYTES);
  pthread_mutex_unlock(&b->lock);
}

void
nc_blocks_meet(NcBlocks *b)
{
  pthread_mutex_lock(&b->lock);
  pthread_mutex_unlock(&b->lock);
}

void
nc_blocks_read_page(NcBlocks *b, const uint8_t *page, uint8_t *to)
{
  pthread_mutex_lock(&b->lock);
  memcpy(to, page, NC_STREAM_PAGE_BYTES);
  pthread_mutex_unlock(&b->lock);
}
