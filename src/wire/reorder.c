/* SPDX-License-Identifier: Apache-2.0 */
/* A ring, indexed by sequence number. */
#include "wire/reorder.h"

typedef struct {
  gpointer item; /* NULL: not here */
  bool claimed;  /* but on its way */
  uint64_t bytes;
} NcReorderSlot;

struct NcReorder {
  uint64_t next_seq;
  uint32_t capacity, count;
  uint64_t limit_bytes, bytes;
  GDestroyNotify free_item;
  NcReorderSlot slots[]; /* by seq % capacity */
};

NcReorder *
nc_reorder_new(uint32_t capacity, uint64_t limit_bytes, GDestroyNotify free_item)
{
  g_assert(capacity > 0);
  NcReorder *r = g_malloc0(sizeof *r + (size_t)capacity * sizeof r->slots[0]);
  r->capacity = capacity;
  r->limit_bytes = limit_bytes;
  r->free_item = free_item;
  return r;
}

void
nc_reorder_free(NcReorder *r)
{
  if (!r)
    return;
  for (uint32_t i = 0; i < r->capacity; i++)
    if (r->slots[i].item && r->free_item)
      r->free_item(r->slots[i].item);
  g_free(r);
}

NcReorderVerdict
nc_reorder_judge(const NcReorder *r, uint64_t seq, uint64_t bytes)
{
  if (seq < r->next_seq)
    return NC_REORDER_DUPLICATE;
  if (seq - r->next_seq >= r->capacity)
    return NC_REORDER_TOO_FAR;
  if (r->slots[seq % r->capacity].item)
    return NC_REORDER_DUPLICATE;
  if (seq != r->next_seq && (r->bytes > r->limit_bytes || bytes > r->limit_bytes - r->bytes))
    return NC_REORDER_TOO_FAR;
  return NC_REORDER_TAKEN;
}

NcReorderVerdict
nc_reorder_claim(NcReorder *r, uint64_t seq, uint64_t bytes)
{
  NcReorderVerdict verdict = nc_reorder_judge(r, seq, bytes);

  if (verdict != NC_REORDER_TAKEN)
    return verdict;
  if (r->slots[seq % r->capacity].claimed)
    return NC_REORDER_DUPLICATE;
  r->slots[seq % r->capacity].claimed = true;
  return verdict;
}

void
nc_reorder_release(NcReorder *r, uint64_t seq)
{
  if (seq >= r->next_seq && seq - r->next_seq < r->capacity)
    r->slots[seq % r->capacity].claimed = false;
}

NcReorderVerdict
nc_reorder_put(NcReorder *r, uint64_t seq, gpointer item, uint64_t bytes)
{
  NcReorderVerdict verdict = nc_reorder_judge(r, seq, bytes);

  g_assert(item);
  nc_reorder_release(r, seq);
  if (verdict != NC_REORDER_TAKEN)
    return verdict;
  r->slots[seq % r->capacity] = (NcReorderSlot){ .item = item, .bytes = bytes };
  r->count++;
  r->bytes += bytes;
  return verdict;
}

gpointer
nc_reorder_take(NcReorder *r)
{
  NcReorderSlot *slot = &r->slots[r->next_seq % r->capacity];
  gpointer item = slot->item;

  if (!item)
    return NULL;
  r->next_seq++;
  r->count--;
  r->bytes -= slot->bytes;
  *slot = (NcReorderSlot){ 0 };
  return item;
}

uint64_t
nc_reorder_next_seq(const NcReorder *r)
{
  return r->next_seq;
}

uint32_t
nc_reorder_count(const NcReorder *r)
{
  return r->count;
}

uint64_t
nc_reorder_bytes(const NcReorder *r)
{
  return r->bytes;
}
