/* SPDX-License-Identifier: Apache-2.0 */
/* Batches from submitted to acknowledged: a ring of slots, the encoders, and the two bounds. */
#include "mover/outbox.h"
#include "base/ident.h"
#include "base/log.h"
#include "mover/back_receiver.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "mover/urgent.h"
#include "wire/backlog.h"
#include "wire/bucket.h"
#include "wire/flight.h"
#include "wire/frame.h"
#include "wire/tuner.h"

#include <string.h>
#include <time.h>

#define NC_OUTBOX_FULL 0.75 /* of the window in flight: the link has enough to do */
#define NC_OUTBOX_SCARCE_US 500000.0
#define NC_OUTBOX_SCARCE_SHARE 0.5
#define NC_OUTBOX_FAR_US 5000 /* a round trip that leaves the building */
/*
 * Stored pages are looked for up to this rate of the link, wire bytes per second: the destination gets some 100 MB/s of them out of
 * its page store. And not any more when so many batches had to go once more because of them.
 */
#define NC_OUTBOX_STORED_MOST_BPS 50e6
#define NC_OUTBOX_STORED_FAILURES 4u
/* Of them in flight: they weigh next to nothing on the wire, and reading all of them is pause at the end. */
#define NC_OUTBOX_STORED_AHEAD_BYTES (4u << 20)
#define NC_OUTBOX_LANES (1 + NC_WIRE_DISKS_MAX)

/* What becomes of one batch; index in the ring: seq % NC_MOVER_MAX_AHEAD. */
typedef struct {
  NcRawBatch *raw;    /* until encoded; if made with history or stored pages, until acknowledged */
  GByteArray *header; /* from encoded until acknowledged */
  GByteArray *payload;
  uint64_t end_offset;
  bool is_ahead; /* of the stream: none of its bytes */
  uint32_t raw_bytes;
  uint32_t wire_bytes;
  unsigned link; /* that took it last */
  bool written;  /* entirely in TLS: only then may it be acknowledged */
  bool sent;     /* it was, at least once */
  bool queued;   /* in the resend queue */
  bool refused;  /* the peer has asked for it again; once is enough */
  uint32_t stored_bytes; /* raw bytes for which it refers to the destination's page store */
  int64_t written_us; /* when; the last time */
  unsigned rung; /* with a tuner: how it was coded, */
  double work;   /* and its size for it */
} NcOutSlot;

/* A GRANT (epoch > 0) or END. */
typedef struct {
  uint64_t epoch;
  uint64_t after_seq; /* leaves when every batch with a smaller number was taken */
  bool is_due;        /* they were, */
  NcChain at;         /* and this is the chain over them */
} NcConclusion;

/*
 * The destination can compare what it has delivered with a statement as long as it remembers the place
 * (NC_MOVER_BOUNDARIES). So bulk does not run away from a GRANT that is stuck with a carrier.
 */
typedef struct {
  bool is_open;       /* it was taken, and is not known to have arrived */
  uint64_t after_seq; /* its place */
  uint64_t number;    /* it is among so many urgent frames; UINT64_MAX: not yet */
  bool blocks;        /* bulk waits for it */
} NcOutGrant;

/* One channel's batches; all of it is protected by the outbox's lock. */
typedef struct {
  uint8_t channel;
  pthread_cond_t has_room; /* for its reader, */
  bool reader_waits;       /* which waits now */
  pthread_cond_t has_acks; /* for who waits until everything has arrived */

  /* acked <= taken <= submitted, claimed <= submitted <= acked + NC_MOVER_MAX_AHEAD */
  uint64_t next_submit, next_claim, next_take, next_ack;
  NcOutSlot ring[NC_MOVER_MAX_AHEAD];
  uint64_t end_offset; /* of the batches submitted */
  NcChain chain; /* of the batches taken */
  GQueue resend; /* of GUINT_TO_POINTER(index in ring): before anything new, if the slot is still `queued` */

  uint64_t unsent_raw_bytes;
  uint64_t in_flight_wire_bytes, in_flight_raw_bytes;
  uint64_t ahead_batches, ahead_bytes; /* the most the destination accepts unacknowledged */
  uint64_t sent_wire_bytes;            /* of batches taken, also again */
  double turn;                         /* its next batch's: the lane with the least is served first */
} NcOutLane;

struct NcOutbox {
  NcMover *mover;

  pthread_mutex_t lock;   /* protects everything below */
  pthread_cond_t has_raw; /* for the encoders */

  NcOutLane *lanes[NC_OUTBOX_LANES]; /* [0]: the main channel; then disks, as they were opened */
  unsigned lane_count;
  unsigned next_lane; /* where an encoder looks first */
  double turn;        /* of the batch that was taken last */
  bool history_failed;
  bool was_scarce;          /* the link, so that stored pages are looked for: what they save does not make them useless */
  unsigned stored_failures; /* batches that had to go whole since they referred to stored pages */
  uint64_t stored_bytes; /* in flight, as the slots have it */

  NcTunerWait wait;  /* what the next batch waits for, */
  int64_t wait_since_us;
  bool starved; /* meanwhile the main channel's reader waits for room, and the link for what is being coded */
  double link_share; /* and of the last NC_OUTBOX_SCARCE_US or so, what part of the time it was the link */
  GQueue conclusions; /* of NcConclusion; at most one GRANT and one END per message of novacrond */
  NcOutGrant grant;   /* the last one */
  bool brief;

  uint64_t in_flight_wire_bytes; /* of all lanes */
  NcFlight *flight;
  unsigned paths;

  NcBacklog backlog; /* of the main channel */

  NcTuner *tuner; /* NULL: the policy is fixed */
  NcBucket cpu;   /* microseconds of processor time that the encoders may use, all together */
};

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

static NcOutSlot *
nc_outbox_slot(NcOutLane *lane, uint64_t seq)
{
  return &lane->ring[seq % NC_MOVER_MAX_AHEAD];
}

static NcOutLane *
nc_outbox_main(const NcOutbox *o)
{
  return o->lanes[0];
}

/* NULL: no such channel is open. */
static NcOutLane *
nc_outbox_lane_locked(const NcOutbox *o, uint8_t channel)
{
  for (unsigned i = 0; i < o->lane_count; i++)
    if (o->lanes[i]->channel == channel)
      return o->lanes[i];
  return NULL;
}

/* Is there a batch of the lane's that is coded, and none has taken? */
static bool
nc_outbox_lane_is_coded(NcOutLane *lane)
{
  return lane->next_take < lane->next_submit && nc_outbox_slot(lane, lane->next_take)->payload;
}

/* Does this batch have to wait until the destination has read others from its page store? */
static bool
nc_outbox_store_is_busy_locked(const NcOutbox *o, const NcOutSlot *slot)
{
  return slot->stored_bytes > 0 && o->stored_bytes > 0 && o->stored_bytes + slot->stored_bytes > NC_OUTBOX_STORED_AHEAD_BYTES;
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

/* Notes what the next batch waits for, after every change of that. */
static void
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
nc_outbox_be_brief(NcOutbox *o)
{
  pthread_mutex_lock(&o->lock);
  o->brief = true;
  pthread_mutex_unlock(&o->lock);
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

/* Of pages that go ahead of the stream only their cost counts: what they are worth shows when QEMU sends them. */
static void
nc_outbox_count(NcCounters *counters, const NcBatchStats *stats, bool is_ahead)
{
  nc_count(&counters->batches, 1);
  nc_count(&counters->page_bytes_out, stats->page_bytes_out);
  nc_count(&counters->stored_pages, stats->stored_pages);
  if (is_ahead) {
    nc_count(&counters->ahead_pages, stats->pages);
    return;
  }
  nc_count(&counters->pages, stats->pages);
  nc_count(&counters->zero_pages, stats->zero_pages);
  nc_count(&counters->fill_pages, stats->fill_pages);
  nc_count(&counters->reference_pages, stats->reference_pages);
  nc_count(&counters->delta_pages, stats->delta_pages);
  nc_count(&counters->delta_bytes, stats->delta_bytes);
  nc_count(&counters->page_bytes_in, stats->page_bytes_in);
}

/* A lane with a batch to encode, in turn; NULL: none. */
static NcOutLane *
nc_outbox_raw_lane_locked(NcOutbox *o)
{
  for (unsigned i = 0; i < o->lane_count; i++) {
    NcOutLane *lane = o->lanes[(o->next_lane + i) % o->lane_count];
    if (lane->next_claim == lane->next_submit)
      continue;
    o->next_lane = (o->next_lane + i + 1) % o->lane_count;
    return lane;
  }
  return NULL;
}

/*
 * Is it worth looking for pages in the destination's page store? That takes hashes here and a disk there, so only where the link is (or
 * was, before that helped) what is scarce, and no guest waits.
 */
static bool
nc_outbox_wants_stored_locked(NcOutbox *o)
{
  if (!o->mover->stored_index || o->brief || o->stored_failures >= NC_OUTBOX_STORED_FAILURES ||
      nc_flight_rate(o->flight) > NC_OUTBOX_STORED_MOST_BPS)
    return false;
  if (o->link_share >= NC_OUTBOX_SCARCE_SHARE && !(o->tuner && nc_tuner_rung(o->tuner) <= NC_RUNG_START))
    o->was_scarce = true;
  return o->was_scarce;
}

/* A batch as an encoder gets and leaves it. */
typedef struct {
  NcOutLane *lane;
  uint64_t seq;
  NcRawBatch *raw;
  GByteArray *header, *payload;
  unsigned rung; /* with a tuner */
  bool wants_stored;
  NcBatchStats stats;
  int64_t encode_us, cpu_us;
} NcOutCoded;

/* Blocks until there is a batch to encode. */
static void
nc_outbox_claim(NcOutbox *o, NcOutCoded *ret)
{
  pthread_mutex_lock(&o->lock);
  while (!(ret->lane = nc_outbox_raw_lane_locked(o)))
    pthread_cond_wait(&o->has_raw, &o->lock);
  ret->seq = ret->lane->next_claim++;
  ret->raw = g_steal_pointer(&nc_outbox_slot(ret->lane, ret->seq)->raw);
  if (o->tuner)
    ret->rung = nc_tuner_next(o->tuner, (uint64_t)nc_mono_us());
  ret->wants_stored = nc_outbox_wants_stored_locked(o);
  pthread_mutex_unlock(&o->lock);
}

static GByteArray *
nc_outbox_encode_raw(NcBatchEncoder *encoder, const NcRawBatch *raw, bool plain, NcBatchStats *stats)
{
  return nc_batch_encode_planned(encoder, raw->offset, raw->data, raw->length,
                                 (const NcStreamRecord *)(void *)raw->records->data, raw->records->len, raw->plan, plain, stats);
}

/* What the tuner learns from a batch, and the slot keeps for its acknowledgement. */
static void
nc_outbox_tell_tuner_locked(NcOutbox *o, NcOutSlot *slot, unsigned rung, const NcBatchStats *stats, int64_t encode_us)
{
  NcRungBatch facts = { .rung = rung,
                        .raw_bytes = slot->raw_bytes,
                        .wire_bytes = slot->wire_bytes,
                        .codable_bytes = stats->codable_bytes,
                        .coded_bytes = stats->coded_bytes,
                        .estimate = stats->estimate,
                        .encode_us = (uint32_t)encode_us,
                        .coding_us = MIN(stats->coding_us, (uint32_t)encode_us) };

  slot->rung = rung;
  slot->work = nc_tuner_encoded(o->tuner, &facts, (uint64_t)nc_mono_us());
  nc_count(&o->mover->counters.rung_batches[rung], 1);
  atomic_store_explicit(&o->mover->counters.rung, nc_tuner_rung(o->tuner), memory_order_relaxed);
  atomic_store_explicit(&o->mover->counters.rung_switches, nc_tuner_switches(o->tuner), memory_order_relaxed);
}

/* This thread's. */
static int64_t
nc_outbox_cpu_us(void)
{
  struct timespec t;

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ${cpu_us} were used. For how long must the encoder rest? Not at all if that would be too short for a sleep. */
static int64_t
nc_outbox_spend_locked(NcOutbox *o, int64_t cpu_us)
{
  uint64_t now_us = (uint64_t)nc_mono_us();

  nc_bucket_take(&o->cpu, cpu_us, now_us);
  int64_t rest_us = (int64_t)(nc_bucket_ready_us(&o->cpu, 1, now_us) - now_us);
  return rest_us >= NC_MOVER_REST_US ? rest_us : 0;
}

static bool
nc_raw_batch_uses_history(const NcRawBatch *raw)
{
  return raw->plan && raw->plan->uses_history;
}

static void
nc_outbox_code(NcOutbox *o, NcBatchEncoder *encoder, NcOutCoded *c)
{
  int64_t start_us = nc_mono_us(), start_cpu_us = nc_outbox_cpu_us();

  if (o->tuner)
    nc_batch_encoder_set_policy(encoder, nc_rung_policy(c->rung));
  nc_batch_encoder_use_stored(encoder, c->wants_stored ? o->mover->stored_index : NULL);
  c->payload = nc_outbox_encode_raw(encoder, c->raw, false, &c->stats);
  c->header = nc_frame_encode_batch_header(c->lane->channel, c->seq, c->payload->len);
  c->encode_us = nc_mono_us() - start_us;
  c->cpu_us = nc_outbox_cpu_us() - start_cpu_us;
  nc_count(&o->mover->counters.encode_us, (uint64_t)c->encode_us);
  nc_count(&o->mover->counters.encode_cpu_us, (uint64_t)c->cpu_us);
  nc_count(&o->mover->counters.coding_us, c->stats.coding_us);
  if (!nc_raw_batch_uses_history(c->raw) && c->stats.stored_pages == 0) /* else it may have to be coded once more */
    g_clear_pointer(&c->raw, nc_raw_batch_free);
}

/* Puts ${c} into its slot. Returns how long the encoder must rest. */
static int64_t
nc_outbox_put(NcOutbox *o, const NcOutCoded *c)
{
  pthread_mutex_lock(&o->lock);
  NcOutSlot *slot = nc_outbox_slot(c->lane, c->seq);
  slot->raw = c->raw;
  slot->stored_bytes = (uint32_t)c->stats.stored_pages * NC_STREAM_PAGE_BYTES;
  slot->payload = c->payload;
  slot->header = c->header;
  slot->wire_bytes = c->header->len + c->payload->len;
  if (o->tuner)
    nc_outbox_tell_tuner_locked(o, slot, c->rung, &c->stats, c->encode_us);
  nc_outbox_note_wait_locked(o);
  int64_t rest_us = nc_outbox_spend_locked(o, c->cpu_us);
  bool is_next = c->seq == c->lane->next_take;
  pthread_mutex_unlock(&o->lock);
  if (is_next) /* the others wait for this one anyway */
    nc_mover_wake_links(o->mover);
  return rest_us;
}

static void *
nc_outbox_encode(void *argument)
{
  NcOutbox *o = argument;
  NcBatchEncoder *encoder = nc_batch_encoder_new(&o->mover->setup.policy);

  for (;;) {
    NcOutCoded coded = { 0 };
    nc_outbox_claim(o, &coded);
    bool is_ahead = coded.raw->plan && coded.raw->plan->is_ahead;
    nc_outbox_code(o, encoder, &coded);
    nc_outbox_count(&o->mover->counters, &coded.stats, is_ahead);
    int64_t rest_us = nc_outbox_put(o, &coded);
    if (rest_us > 0)
      g_usleep((gulong)rest_us);
  }
  return NULL;
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

static void
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
