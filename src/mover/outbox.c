/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes and their slots, the two bounds, and what the next batch waits for. */
#include "base/ident.h"
#include "mover/outbox_internal.h"

#define NC_OUTBOX_FULL 0.75 /* of the window in flight: the link has enough to do */
#define NC_OUTBOX_SCARCE_US 500000.0
#define NC_OUTBOX_FAR_US 5000 /* a round trip that leaves the building */

NcRawBatch *
nc_raw_batch_new(uint8_t channel, uint64_t offset)
{
  NcRawBatch *batch = g_new0(NcRawBatch, 1);
  batch->channel = channel;
  batch->offset = offset;
  batch->data = g_malloc(NC_BATCH_RAW_MAX);
  batch->records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  return batch;
}

void
nc_raw_batch_free(NcRawBatch *batch)
{
  if (!batch)
    return;
  g_free(batch->data);
  g_array_unref(batch->records);
  nc_plan_free(batch->plan);
  g_free(batch);
}

void
nc_out_frame_clear(NcOutFrame *frame)
{
  g_clear_pointer(&frame->header, g_byte_array_unref);
  g_clear_pointer(&frame->payload, g_byte_array_unref);
  *frame = (NcOutFrame){ 0 };
}

NcOutLane *
nc_outbox_lane_locked(const NcOutbox *o, uint8_t channel)
{
  for (unsigned i = 0; i < o->lane_count; i++)
    if (o->lanes[i]->channel == channel)
      return o->lanes[i];
  return NULL;
}

/* How many raw bytes may wait for TLS: of the pause, or in post-copy of a page the guest waits for, a small part. */
static uint64_t
nc_outbox_unsent_limit_locked(const NcOutbox *o, const NcOutLane *lane)
{
  if (lane != nc_outbox_main(o))
    return NC_MOVER_DISK_UNSENT_BYTES;
  return o->brief ? NC_BACKLOG_MIN_BYTES : nc_backlog_limit(&o->backlog);
}

static bool
nc_outbox_is_full_locked(const NcOutbox *o, const NcOutLane *lane)
{
  return lane->unsent_raw_bytes >= nc_outbox_unsent_limit_locked(o, lane) || lane->next_submit - lane->next_ack >= NC_MOVER_MAX_AHEAD;
}

uint32_t
nc_outbox_batch_target(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  uint64_t third = nc_outbox_unsent_limit_locked(o, nc_outbox_main(o)) / 3; /* one being read, one encoded, one written */
  pthread_mutex_unlock(&o->lock);
  return (uint32_t)CLAMP(third, NC_MOVER_MIN_BATCH_BYTES, NC_BATCH_RAW_TARGET);
}

/*
 * The link is what all wait for if a coded batch is there, or if as much is in flight as may be: then it is no harm that
 * the next one is still being coded. A reader that is kept waiting while all are taken waits for the last of them to be
 * written.
 */
static NcTunerWait
nc_outbox_wait_locked(NcOutbox *o)
{
  bool is_coded = false, is_raw = false, reader_waits = false, store = false;

  for (unsigned i = 0; i < o->lane_count; i++) {
    NcOutLane *lane = o->lanes[i];
    bool coded = nc_outbox_lane_is_coded(lane);
    store = store || (coded && nc_outbox_store_is_busy_locked(o, nc_outbox_slot(lane, lane->next_take)));
    is_coded = is_coded || coded;
    is_raw = is_raw || lane->next_take < lane->next_submit;
    reader_waits = reader_waits || lane->reader_waits;
  }
  if (store) /* neither lighter nor heavier coding would help */
    return NC_TUNER_NOTHING;
  if (is_coded || o->in_flight_wire_bytes >= nc_flight_window(o->flight) * NC_OUTBOX_FULL)
    return NC_TUNER_LINK;
  if (is_raw)
    return NC_TUNER_ENCODERS;
  return reader_waits ? NC_TUNER_LINK : NC_TUNER_NOTHING;
}

void
nc_outbox_note_wait_locked(NcOutbox *o)
{
  int64_t now_us = nc_mono_us();
  double since = (double)(now_us - o->wait_since_us), weight = since / (since + NC_OUTBOX_SCARCE_US);

  if (nc_outbox_main(o)->next_submit > 0 || o->lane_count > 1) /* until QEMU begins, nothing is known */
    o->link_share += weight * ((o->wait == NC_TUNER_LINK) - o->link_share);
  if (o->starved)
    nc_backlog_starved(&o->backlog, (uint64_t)(now_us - o->wait_since_us));
  o->wait = nc_outbox_wait_locked(o);
  o->wait_since_us = now_us;
  o->starved = o->wait == NC_TUNER_ENCODERS && nc_outbox_main(o)->reader_waits;
  if (o->tuner)
    nc_tuner_waits(o->tuner, o->wait, (uint64_t)now_us);
}

/* Waits for room, and notes whom for: encoded batches that are not taken wait for the link. */
static void
nc_outbox_wait_room_locked(NcOutbox *o, NcOutLane *lane)
{
  bool link = nc_outbox_slot(lane, lane->next_take)->payload != NULL || lane->next_take == lane->next_claim;
  int64_t start_us = nc_mono_us();

  lane->reader_waits = true;
  nc_outbox_note_wait_locked(o);
  pthread_cond_wait(&lane->has_room, &o->lock);
  lane->reader_waits = false;
  int64_t waited_us = nc_mono_us() - start_us;
  nc_count(link ? &o->mover->counters.link_wait_us : &o->mover->counters.encoder_wait_us, (uint64_t)waited_us);
}

bool
nc_outbox_link_is_scarce(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  nc_outbox_note_wait_locked(o);
  bool scarce = o->link_share >= NC_OUTBOX_SCARCE_SHARE;
  if (o->tuner) /* where it does not think compression worth its time, differences aren't either */
    scarce = scarce && nc_tuner_rung(o->tuner) > NC_RUNG_START;
  pthread_mutex_unlock(&o->lock);
  return scarce;
}

bool
nc_outbox_history_failed(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  bool failed = o->history_failed;
  o->history_failed = false;
  pthread_mutex_unlock(&o->lock);
  return failed;
}

void
nc_outbox_submit(NcOutbox *o, NcRawBatch *batch)
{
  pthread_mutex_lock(&o->lock);
  NcOutLane *lane = nc_outbox_lane_locked(o, batch->channel); /* its reader has opened it */
  while (nc_outbox_is_full_locked(o, lane))
    nc_outbox_wait_room_locked(o, lane);
  NcOutSlot *slot = nc_outbox_slot(lane, lane->next_submit++);
  *slot = (NcOutSlot){ .raw = batch, .raw_bytes = batch->length, .is_ahead = batch->plan && batch->plan->is_ahead };
  if (!slot->is_ahead)
    lane->end_offset = batch->offset + batch->length;
  slot->end_offset = lane->end_offset;
  lane->unsent_raw_bytes += batch->length;
  nc_outbox_note_wait_locked(o);
  pthread_cond_signal(&o->has_raw);
  pthread_mutex_unlock(&o->lock);
}

void
nc_outbox_be_brief(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  o->brief = true;
  pthread_mutex_unlock(&o->lock);
}

void
nc_outbox_position(NcOutbox *o, uint8_t channel, NcChain *ret)
{
  pthread_mutex_lock(&o->lock);
  *ret = nc_outbox_lane_locked(o, channel)->chain;
  pthread_mutex_unlock(&o->lock);
}

uint64_t
nc_outbox_sent_wire_bytes(NcOutbox *o, uint8_t channel)
{
  pthread_mutex_lock(&o->lock);
  uint64_t bytes = nc_outbox_lane_locked(o, channel)->sent_wire_bytes;
  pthread_mutex_unlock(&o->lock);
  return bytes;
}

void
nc_outbox_await_acks(NcOutbox *o, uint8_t channel)
{
  pthread_mutex_lock(&o->lock);
  NcOutLane *lane = nc_outbox_lane_locked(o, channel);
  while (lane->next_ack < lane->next_submit)
    pthread_cond_wait(&lane->has_acks, &o->lock);
  pthread_mutex_unlock(&o->lock);
}

/* ${channel} is not open. */
static void
nc_outbox_add_lane_locked(NcOutbox *o, uint8_t channel, uint64_t ahead_batches, uint64_t ahead_bytes)
{
  NcOutLane *lane = g_new0(NcOutLane, 1);

  lane->channel = channel;
  lane->ahead_batches = ahead_batches;
  lane->ahead_bytes = ahead_bytes;
  lane->turn = o->turn;
  pthread_cond_init(&lane->has_room, NULL);
  pthread_cond_init(&lane->has_acks, NULL);
  g_queue_init(&lane->resend);
  o->lanes[o->lane_count++] = lane;
}

void
nc_outbox_open_disk(NcOutbox *o, unsigned disk)
{
  pthread_mutex_lock(&o->lock);
  nc_outbox_add_lane_locked(o, NC_CHANNEL_DISK(disk), NC_MOVER_DISK_AHEAD, NC_MOVER_DISK_AHEAD_BYTES);
  pthread_mutex_unlock(&o->lock);
}

void
nc_outbox_paths(NcOutbox *o, unsigned paths)
{
  pthread_mutex_lock(&o->lock);
  o->paths = paths;
  nc_flight_set_paths(o->flight, paths);
  pthread_mutex_unlock(&o->lock);
}

void
nc_outbox_rtt(NcOutbox *o, uint64_t rtt_us)
{
  pthread_mutex_lock(&o->lock);
  nc_flight_rtt(o->flight, rtt_us, (uint64_t)nc_mono_us());
  if (o->tuner && rtt_us >= NC_OUTBOX_FAR_US) {
    nc_tuner_begin_far(o->tuner);
    atomic_store(&o->mover->counters.rung, nc_tuner_rung(o->tuner));
  }
  pthread_mutex_unlock(&o->lock);
}

void
nc_outbox_limit(NcOutbox *o, uint32_t batches, uint64_t raw_bytes)
{
  pthread_mutex_lock(&o->lock);
  nc_outbox_main(o)->ahead_batches = MIN(nc_outbox_main(o)->ahead_batches, batches);
  nc_outbox_main(o)->ahead_bytes = MIN(nc_outbox_main(o)->ahead_bytes, raw_bytes);
  pthread_mutex_unlock(&o->lock);
}

NcOutbox *
nc_outbox_new(NcMover *m)
{
  NcOutbox *o = g_new0(NcOutbox, 1);

  o->mover = m;
  pthread_mutex_init(&o->lock, NULL);
  pthread_cond_init(&o->has_raw, NULL);
  g_queue_init(&o->conclusions);
  nc_outbox_add_lane_locked(o, NC_CHANNEL_MAIN, NC_MOVER_MAX_AHEAD, NC_MOVER_MAX_AHEAD_BYTES);
  o->flight = nc_flight_new(m->setup.pause_budget_ms);
  o->wait_since_us = nc_mono_us();
  nc_backlog_init(&o->backlog, m->setup.pause_budget_ms, (uint64_t)(m->setup.workers + NC_MOVER_SPARE_BATCHES) * NC_BATCH_RAW_TARGET,
                  (uint64_t)o->wait_since_us);
  o->link_share = m->setup.policy.is_auto ? 0 : 1;
  atomic_store(&m->counters.rung, NC_RUNG_START);
  if (m->setup.policy.is_auto)
    o->tuner = nc_tuner_new(m->setup.cores, (uint64_t)o->wait_since_us);
  if (m->setup.cores < m->setup.workers)
    nc_bucket_init(&o->cpu, (uint64_t)(m->setup.cores * 1e6), (uint64_t)o->wait_since_us);
  for (unsigned i = 0; i < m->setup.workers; i++)
    nc_mover_spawn("encode", nc_outbox_encode, o);
  return o;
}
