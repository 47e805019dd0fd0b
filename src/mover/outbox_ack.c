/* SPDX-License-Identifier: Apache-2.0 */
/* What the destination says: batches that have arrived, and those that came out wrong. */
#include "base/ident.h"
#include "base/log.h"
#include "mover/links.h"
#include "mover/outbox_internal.h"

/* Shape was the frame's check; this is the meaning: only what was entirely sent can have been delivered. */
static bool
nc_outbox_check_ack_locked(NcOutLane *lane, uint64_t seq, uint64_t offset, GError **error)
{
  if (seq < lane->next_ack)
    return true;
  if (seq >= lane->next_take)
    return nc_fail(error, NC_ERROR_PROTOCOL, "acknowledged batch %" G_GUINT64_FORMAT " is not under way", seq);
  for (uint64_t i = lane->next_ack; i <= seq; i++) /* at most NC_MOVER_MAX_AHEAD */
    if (!nc_outbox_slot(lane, i)->sent) /* also one that was asked for again: a copy that was under way may have come out well */
      return nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT " was acknowledged before it was sent", i);
  if (nc_outbox_slot(lane, seq)->end_offset != offset)
    return nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT " was acknowledged with a wrong offset", seq);
  return true;
}

bool
nc_outbox_acked(NcOutbox *o, uint8_t channel, uint64_t seq, uint64_t offset, GError **error)
{
  uint64_t wire = 0, raw = 0;
  int64_t written_us = 0;

  pthread_mutex_lock(&o->lock);
  int64_t now_us = nc_mono_us(); /* under the lock: it must not go backwards */
  NcOutLane *lane = nc_outbox_lane_locked(o, channel);
  bool ok = lane ? nc_outbox_check_ack_locked(lane, seq, offset, error)
                 : nc_fail(error, NC_ERROR_PROTOCOL, "acknowledged channel %u is not open", channel);
  for (; ok && lane->next_ack <= seq; lane->next_ack++) {
    NcOutSlot *slot = nc_outbox_slot(lane, lane->next_ack);
    wire += slot->wire_bytes;
    raw += slot->raw_bytes;
    written_us = MAX(written_us, slot->written_us);
    if (o->tuner)
      nc_tuner_acked(o->tuner, slot->rung, slot->wire_bytes, slot->work, (uint64_t)now_us);
    o->stored_bytes -= slot->stored_bytes;
    g_byte_array_unref(slot->header);
    g_byte_array_unref(slot->payload);
    nc_raw_batch_free(slot->raw);
    *slot = (NcOutSlot){ 0 };
  }
  if (ok) {
    o->in_flight_wire_bytes -= wire;
    lane->in_flight_wire_bytes -= wire;
    lane->in_flight_raw_bytes -= raw;
    nc_flight_acked(o->flight, wire, o->in_flight_wire_bytes, (uint64_t)written_us, (uint64_t)now_us);
    if (lane == nc_outbox_main(o))
      nc_backlog_acked(&o->backlog, raw, (uint64_t)now_us);
    pthread_cond_signal(&lane->has_room);
    pthread_cond_broadcast(&lane->has_acks);
    atomic_store_explicit(&o->mover->counters.window_bytes, nc_flight_window(o->flight), memory_order_relaxed);
  }
  bool waiting = false; /* for the window, perhaps */
  for (unsigned i = 0; i < o->lane_count; i++)
    waiting = waiting || nc_outbox_lane_is_coded(o->lanes[i]);
  pthread_mutex_unlock(&o->lock);
  nc_count(&o->mover->counters.delivered_wire_bytes, wire);
  if (ok && waiting)
    nc_mover_wake_links(o->mover);
  return ok;
}

/* Only what was entirely sent, and was not asked for before. Takes the raw bytes of one with history or stored pages. */
static bool
nc_outbox_begin_resend_locked(NcOutLane *lane, uint64_t seq, NcRawBatch **ret_raw, bool *ret_stored, GError **error)
{
  NcOutSlot *slot = seq >= lane->next_ack && seq < lane->next_take ? nc_outbox_slot(lane, seq) : NULL;

  if (!slot || !slot->written)
    return nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT " is asked for again and not under way", seq);
  if (slot->refused)
    return nc_fail(error, NC_ERROR_CORRUPT, "batch %" G_GUINT64_FORMAT " arrives wrong again and again", seq);
  slot->refused = true;
  slot->written = false; /* it can't be acknowledged before it has gone once more */
  slot->queued = false;  /* not as it is */
  *ret_stored = slot->stored_bytes > 0;
  *ret_raw = g_steal_pointer(&slot->raw);
  return true;
}

/* In place of what the destination's shadow may have wrong. A copy that was under way may have arrived meanwhile. */
static void
nc_outbox_replace_locked(NcOutbox *o, NcOutLane *lane, uint64_t seq, GByteArray *payload)
{
  NcOutSlot *slot = nc_outbox_slot(lane, seq);

  o->in_flight_wire_bytes -= slot->wire_bytes;
  lane->in_flight_wire_bytes -= slot->wire_bytes;
  g_byte_array_unref(slot->header);
  g_byte_array_unref(slot->payload);
  slot->header = nc_frame_encode_batch_header(lane->channel, seq, payload->len);
  slot->payload = g_byte_array_ref(payload);
  slot->wire_bytes = slot->header->len + payload->len;
  o->stored_bytes -= slot->stored_bytes; /* it refers to nothing now */
  slot->stored_bytes = 0;
  o->in_flight_wire_bytes += slot->wire_bytes;
  lane->in_flight_wire_bytes += slot->wire_bytes;
}

/* Who is to blame for a batch that had to go whole: of one with both the store, since a wrong shadow shows in others, too. */
static void
nc_outbox_blame_locked(NcOutbox *o, const NcRawBatch *raw, bool is_stored)
{
  o->history_failed = o->history_failed || (!is_stored && nc_raw_batch_uses_history(raw));
  o->stored_failures += is_stored;
  if (is_stored && o->stored_failures == NC_OUTBOX_STORED_FAILURES)
    nc_log(NC_LOG_WARNING, "mover",
           "the destination's page store lacks too much of what it told: nothing more is looked for in it");
}

bool
nc_outbox_resend(NcOutbox *o, uint8_t channel, uint64_t seq, GError **error)
{
  g_autoptr(NcBatchEncoder) encoder = nc_batch_encoder_new(&o->mover->setup.policy);
  g_autoptr(GByteArray) plain = NULL;
  NcRawBatch *raw = NULL;
  bool is_stored = false;

  pthread_mutex_lock(&o->lock);
  NcOutLane *lane = nc_outbox_lane_locked(o, channel); /* lanes stay open */
  bool ok = lane ? nc_outbox_begin_resend_locked(lane, seq, &raw, &is_stored, error)
                 : nc_fail(error, NC_ERROR_PROTOCOL, "a batch of channel %u is asked for, which is not open", channel);
  pthread_mutex_unlock(&o->lock);
  if (!ok)
    return false;
  nc_log(NC_LOG_WARNING, "mover", "batch %" G_GUINT64_FORMAT " did not arrive as it was sent%s: sending it again", seq,
         is_stored ? " (the destination's page store may lack a page)" : raw ? " (the shadows differ)" : "");
  if (raw)
    plain = nc_outbox_encode_raw(encoder, raw, true, NULL);
  pthread_mutex_lock(&o->lock);
  if (seq >= lane->next_ack) {
    if (plain)
      nc_outbox_replace_locked(o, lane, seq, plain);
    nc_outbox_queue_locked(lane, seq);
  }
  if (raw)
    nc_outbox_blame_locked(o, raw, is_stored);
  pthread_mutex_unlock(&o->lock);
  nc_raw_batch_free(raw);
  nc_mover_wake_links(o->mover);
  return true;
}
