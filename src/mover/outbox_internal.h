/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the outbox share: its lanes and their slots (outbox.c, with the bounds and who waits for whom), the encoders (_encode.c), what links
 * take (_take.c), and what the destination says of it (_ack.c). Whatever ends in _locked is called with the outbox's lock held.
 */
#pragma once

#include "mover/outbox.h"
#include "mover/limits.h"
#include "wire/backlog.h"
#include "wire/bucket.h"
#include "wire/flight.h"
#include "wire/frame.h"
#include "wire/tuner.h"

#define NC_OUTBOX_SCARCE_SHARE 0.5 /* of the time waiting for the link: it is what is scarce */
/* So many batches had to go once more because of stored pages: none are looked for any more. */
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
  NcBatchSections sections; /* of the payload as it was coded first */
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

static inline bool
nc_raw_batch_uses_history(const NcRawBatch *raw)
{
  return raw->plan && raw->plan->uses_history;
}

static inline NcOutSlot *
nc_outbox_slot(NcOutLane *lane, uint64_t seq)
{
  return &lane->ring[seq % NC_MOVER_MAX_AHEAD];
}

static inline NcOutLane *
nc_outbox_main(const NcOutbox *o)
{
  return o->lanes[0];
}

/* Is there a batch of the lane's that is coded, and none has taken? */
static inline bool
nc_outbox_lane_is_coded(NcOutLane *lane)
{
  return lane->next_take < lane->next_submit && nc_outbox_slot(lane, lane->next_take)->payload;
}

/* Does this batch have to wait until the destination has read others from its page store? */
static inline bool
nc_outbox_store_is_busy_locked(const NcOutbox *o, const NcOutSlot *slot)
{
  return slot->stored_bytes > 0 && o->stored_bytes > 0 && o->stored_bytes + slot->stored_bytes > NC_OUTBOX_STORED_AHEAD_BYTES;
}

/* NULL: no such channel is open. */
NcOutLane *nc_outbox_lane_locked(const NcOutbox *o, uint8_t channel);
/* Notes what the next batch waits for, after every change of that. */
void nc_outbox_note_wait_locked(NcOutbox *o);

/* An encoder's thread; ${argument}: the outbox. */
void *nc_outbox_encode(void *argument);
/* ${plain}: without reference to anything that the destination keeps. New reference; ${stats} may be NULL. */
GByteArray *nc_outbox_encode_raw(NcBatchEncoder *encoder, const NcRawBatch *raw, bool plain, NcBatchStats *stats);

/* To be sent again, once. */
void nc_outbox_queue_locked(NcOutLane *lane, uint64_t seq);
