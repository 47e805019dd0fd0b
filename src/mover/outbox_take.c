/* SPDX-License-Identifier: Apache-2.0 */
/* From coded to taken: which frame a link gets next, and what it stated when. */
#include "base/ident.h"
#include "mover/back_receiver.h"
#include "mover/links.h"
#include "mover/outbox_internal.h"
#include "mover/urgent.h"

#include <string.h>

/* Conclusions behind the last batch taken are due, and what they state is known now, and not any more later. */
static void
nc_outbox_settle_conclusions_locked(NcOutbox *o)
{
  for (GList *i = o->conclusions.head; i; i = i->next) {
    NcConclusion *c = i->data;
    if (c->is_due || c->after_seq != nc_outbox_main(o)->next_take)
      continue;
    c->is_due = true;
    c->at = nc_outbox_main(o)->chain;
  }
}

void
nc_outbox_conclude(NcOutbox *o, uint64_t epoch)
{
  NcConclusion *conclusion = g_new0(NcConclusion, 1);

  pthread_mutex_lock(&o->lock);
  *conclusion = (NcConclusion){ .epoch = epoch, .after_seq = nc_outbox_main(o)->next_submit };
  g_queue_push_tail(&o->conclusions, conclusion);
  nc_outbox_settle_conclusions_locked(o);
  pthread_mutex_unlock(&o->lock);
  nc_mover_wake_links(o->mover);
}

/* Both name the end of what was submitted when they were asked for. */
static GByteArray *
nc_outbox_encode_conclusion(const NcConclusion *c)
{
  NcFrameGrant grant = { .epoch = c->epoch, .offset = c->at.offset };
  NcFrameEnd end = { .offset = c->at.offset };

  memcpy(grant.sha256, c->at.value, sizeof grant.sha256);
  memcpy(end.sha256, c->at.value, sizeof end.sha256);
  return c->epoch > 0 ? nc_frame_encode_grant(&grant) : nc_frame_encode_end(NC_CHANNEL_MAIN, &end);
}

static GByteArray *
nc_outbox_take_conclusion_locked(NcOutbox *o)
{
  NcConclusion *first = g_queue_peek_head(&o->conclusions);
  if (!first || !first->is_due)
    return NULL;
  g_queue_pop_head(&o->conclusions);
  GByteArray *frame = nc_outbox_encode_conclusion(first);
  if (first->epoch > 0)
    o->grant = (NcOutGrant){ .is_open = true, .after_seq = first->after_seq, .number = UINT64_MAX };
  g_free(first);
  return frame;
}

/* Has bulk got so far from the last GRANT that it must have arrived first? */
static bool
nc_outbox_awaits_grant_locked(NcOutbox *o)
{
  if (!o->grant.is_open || nc_outbox_main(o)->next_take - o->grant.after_seq < NC_MOVER_BOUNDARIES / 2)
    return false;
  o->grant.is_open = !nc_urgent_is_confirmed(o->mover->urgent, o->grant.number);
  o->grant.blocks = o->grant.is_open;
  return o->grant.is_open;
}

void
nc_outbox_concluded(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  bool granted = o->grant.is_open && o->grant.number == UINT64_MAX;
  if (granted)
    o->grant.number = nc_urgent_pushed(o->mover->urgent); /* or some of those behind it, which come later */
  pthread_mutex_unlock(&o->lock);
  if (granted)
    nc_back_receiver_may_ask(o->mover->back_receiver);
}

void
nc_outbox_confirmed(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  bool blocked = o->grant.blocks;
  o->grant.blocks = false;
  pthread_mutex_unlock(&o->lock);
  if (blocked)
    nc_mover_wake_links(o->mover);
}

/* What a lane may have in flight even if others fill the window: one that is stuck at its QEMU must not stop the others. */
static uint64_t
nc_outbox_share_locked(const NcOutbox *o, const NcOutLane *lane)
{
  uint64_t half = nc_flight_window(o->flight) / 2;
  return lane == nc_outbox_main(o) ? half : half / (o->lane_count - 1);
}

/* The window is asked with something in flight only: a batch larger than it must be able to pass. */
static bool
nc_outbox_window_has_room_locked(const NcOutbox *o, const NcOutLane *lane, const NcOutSlot *slot)
{
  if (lane->in_flight_wire_bytes == 0)
    return true;
  if (lane->in_flight_raw_bytes + slot->raw_bytes > lane->ahead_bytes || lane->next_take - lane->next_ack >= lane->ahead_batches)
    return false;
  if (nc_outbox_store_is_busy_locked(o, slot))
    return false;
  return o->in_flight_wire_bytes + slot->wire_bytes <= nc_flight_window(o->flight) ||
         (o->lane_count > 1 && lane->in_flight_wire_bytes + slot->wire_bytes <= nc_outbox_share_locked(o, lane));
}

/* Batch ${seq}, to be written by ${link}. */
static void
nc_outbox_give_locked(NcOutLane *lane, NcOutSlot *slot, uint64_t seq, unsigned link, NcOutFrame *ret)
{
  slot->link = link;
  lane->sent_wire_bytes += slot->wire_bytes;
  *ret = (NcOutFrame){ .header = g_byte_array_ref(slot->header),
                       .payload = g_byte_array_ref(slot->payload),
                       .channel = lane->channel,
                       .seq = seq,
                       .is_batch = true };
}

/* What became superfluous meanwhile is left out. */
static bool
nc_outbox_take_resend_locked(NcOutbox *o, NcOutLane *lane, unsigned link, NcOutFrame *ret)
{
  while (!g_queue_is_empty(&lane->resend)) {
    unsigned index = GPOINTER_TO_UINT(g_queue_pop_head(&lane->resend));
    NcOutSlot *slot = &lane->ring[index];
    uint64_t seq = lane->next_ack + (index + NC_MOVER_MAX_AHEAD - lane->next_ack % NC_MOVER_MAX_AHEAD) % NC_MOVER_MAX_AHEAD;
    if (!slot->queued)
      continue;
    slot->queued = false;
    nc_outbox_give_locked(lane, slot, seq, link, ret);
    nc_count(&o->mover->counters.resent_batches, 1);
    nc_count(&o->mover->counters.resent_bytes, slot->wire_bytes);
    return true;
  }
  return false;
}

static bool
nc_outbox_may_take_locked(NcOutbox *o, NcOutLane *lane)
{
  return nc_outbox_lane_is_coded(lane) && nc_outbox_window_has_room_locked(o, lane, nc_outbox_slot(lane, lane->next_take)) &&
         !(lane == nc_outbox_main(o) && nc_outbox_awaits_grant_locked(o));
}

/*
 * Start-time fair queueing: a batch's turn is where its lane's last one ended, or now if the lane was idle; half of the
 * link is the main channel's if it has a use for it, the rest is shared by the disks.
 */
static NcOutLane *
nc_outbox_next_lane_locked(NcOutbox *o)
{
  NcOutLane *best = NULL;

  for (unsigned i = 0; i < o->lane_count; i++) {
    NcOutLane *lane = o->lanes[i];
    if (!nc_outbox_may_take_locked(o, lane))
      continue;
    lane->turn = MAX(lane->turn, o->turn);
    if (!best || lane->turn < best->turn)
      best = lane;
  }
  return best;
}

static void
nc_outbox_account_turn_locked(NcOutbox *o, NcOutLane *lane, uint32_t wire_bytes)
{
  o->turn = lane->turn;
  lane->turn += wire_bytes * (lane == nc_outbox_main(o) ? 1.0 : (double)(o->lane_count - 1));
}

static bool
nc_outbox_take_next_locked(NcOutbox *o, unsigned link, NcOutFrame *ret)
{
  NcOutLane *lane = nc_outbox_next_lane_locked(o);

  if (!lane)
    return false;
  NcOutSlot *slot = nc_outbox_slot(lane, lane->next_take);
  nc_outbox_account_turn_locked(o, lane, slot->wire_bytes);
  nc_outbox_give_locked(lane, slot, lane->next_take++, link, ret);
  nc_mover_count_sections(&o->mover->counters, &slot->sections);
  if (lane == nc_outbox_main(o) && lane->in_flight_wire_bytes == 0)
    nc_backlog_begin(&o->backlog, (uint64_t)nc_mono_us());
  o->in_flight_wire_bytes += slot->wire_bytes;
  lane->in_flight_wire_bytes += slot->wire_bytes;
  lane->in_flight_raw_bytes += slot->raw_bytes;
  o->stored_bytes += slot->stored_bytes;
  if (!slot->is_ahead)
    nc_chain_append(&lane->chain, slot->raw_bytes, nc_batch_sha256(slot->payload->data));
  if (lane == nc_outbox_main(o))
    nc_outbox_settle_conclusions_locked(o);
  nc_outbox_note_wait_locked(o);
  return true;
}

bool
nc_outbox_take(NcOutbox *o, unsigned link, NcOutFrame *ret)
{
  pthread_mutex_lock(&o->lock);
  bool found = false;
  for (unsigned i = 0; !found && i < o->lane_count; i++)
    found = nc_outbox_take_resend_locked(o, o->lanes[i], link, ret);
  found = found || nc_outbox_take_next_locked(o, link, ret);
  atomic_store_explicit(&o->mover->counters.in_flight_bytes, o->in_flight_wire_bytes, memory_order_relaxed);
  pthread_mutex_unlock(&o->lock);
  return found;
}

GByteArray *
nc_outbox_take_conclusion(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  GByteArray *frame = nc_outbox_take_conclusion_locked(o);
  pthread_mutex_unlock(&o->lock);
  return frame;
}

void
nc_outbox_written(NcOutbox *o, const NcOutFrame *frame)
{
  pthread_mutex_lock(&o->lock);
  NcOutLane *lane = nc_outbox_lane_locked(o, frame->channel);
  NcOutSlot *slot = frame->seq >= lane->next_ack ? nc_outbox_slot(lane, frame->seq) : NULL; /* NULL: the copy before it arrived */
  if (slot) {
    slot->written = true;
    slot->written_us = nc_mono_us();
    if (!slot->sent)
      lane->unsent_raw_bytes -= slot->raw_bytes;
    slot->sent = true;
    pthread_cond_signal(&lane->has_room);
  }
  pthread_mutex_unlock(&o->lock);
}

void
nc_outbox_queue_locked(NcOutLane *lane, uint64_t seq)
{
  NcOutSlot *slot = nc_outbox_slot(lane, seq);

  if (!slot->queued)
    g_queue_push_tail(&lane->resend, GUINT_TO_POINTER((unsigned)(seq % NC_MOVER_MAX_AHEAD)));
  slot->queued = true;
}

void
nc_outbox_lost(NcOutbox *o, unsigned link, bool last)
{
  pthread_mutex_lock(&o->lock);
  for (unsigned i = 0; i < o->lane_count; i++) {
    NcOutLane *lane = o->lanes[i];
    for (uint64_t seq = lane->next_ack; seq < lane->next_take; seq++)
      if (nc_outbox_slot(lane, seq)->link == link)
        nc_outbox_queue_locked(lane, seq);
  }
  if (last) { /* whatever comes next may be another way */
    nc_flight_free(o->flight);
    o->flight = nc_flight_new(o->mover->setup.pause_budget_ms);
    nc_flight_set_paths(o->flight, o->paths);
  }
  pthread_mutex_unlock(&o->lock);
  nc_mover_wake_links(o->mover);
}
