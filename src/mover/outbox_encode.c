/* SPDX-License-Identifier: Apache-2.0 */
/* From submitted to coded: the encoders. */
#include "base/ident.h"
#include "mover/links.h"
#include "mover/outbox_internal.h"

#include <time.h>

/*
 * Stored pages are looked for up to this rate of the link, wire bytes per second: the destination gets some 100 MB/s of them out of
 * its page store.
 */
#define NC_OUTBOX_STORED_MOST_BPS 50e6

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

GByteArray *
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
  slot->sections = c->stats.sections;
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

void *
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
