/* SPDX-License-Identifier: Apache-2.0 */
/* The table of frames: where each may arrive, and who takes it. */
#include "mover/session.h"
#include "base/log.h"
#include "mover/back_receiver.h"
#include "mover/back_sender.h"
#include "mover/disk_sink.h"
#include "mover/disk_source.h"
#include "mover/limits.h"
#include "mover/link.h"
#include "mover/links.h"
#include "mover/preempt_receiver.h"
#include "mover/preempt_sender.h"
#include "mover/sink.h"
#include "mover/source.h"
#include "mover/urgent.h"
#include "wire/blocks.h"

typedef enum { NC_AT_SOURCE = 1, NC_AT_DESTINATION = 2, NC_AT_BOTH = 3 } NcSessionSide;

typedef struct {
  NcFrameType type;
  uint8_t channel;
  NcSessionSide side; /* where it may arrive */
  bool (*handle)(NcMover *m, NcLink *link, const NcFrame *frame, GError **error);
} NcSessionRule;

/* An index that is below NC_WIRE_DISKS_MAX, since ${frame} has passed the check of its shape. */
static unsigned
nc_session_disk(const NcFrame *frame)
{
  return (unsigned)frame->channel - NC_CHANNEL_DISKS;
}

static bool
nc_session_disk_batch(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  return m->setup.is_source ? nc_disk_source_batch(m->disk_source, nc_session_disk(frame), nc_link_decoder(link), frame, error)
                            : nc_disk_sink_batch(m->disk_sink, nc_session_disk(frame), nc_link_decoder(link), frame, error);
}

/* Acknowledged batches of the outbox, which knows whether that can be. */
static bool
nc_session_outbox_acked(NcMover *m, uint8_t channel, const NcFrameAck *ack, GError **error)
{
  if (!nc_outbox_acked(nc_source_outbox(m->source), channel, ack->seq, ack->offset, error))
    return false;
  if (m->blocks)
    nc_blocks_acked(m->blocks, channel, ack->seq);
  return true;
}

static bool
nc_session_disk_ack(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameAck ack;
  if (!nc_frame_check_ack(frame, &ack, error))
    return false;
  return m->setup.is_source ? nc_session_outbox_acked(m, frame->channel, &ack, error)
                            : nc_disk_sink_acked(m->disk_sink, nc_session_disk(frame), &ack, error);
}

static bool
nc_session_disk_end(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameEnd end;
  if (!nc_frame_check_end(frame, &end, error))
    return false;
  return m->setup.is_source ? nc_disk_source_end(m->disk_source, nc_session_disk(frame), &end, error)
                            : nc_disk_sink_end(m->disk_sink, nc_session_disk(frame), &end, error);
}

static bool
nc_session_batch(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  return nc_sink_batch(m->sink, nc_link_decoder(link), frame->argument, frame->payload, frame->payload_bytes, error);
}

static bool
nc_session_back_batch(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  return nc_ordered_receiver_batch(nc_back_receiver_channel(m->back_receiver), nc_link_decoder(link), frame, error);
}

static bool
nc_session_preempt_batch(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  return nc_ordered_receiver_batch(nc_preempt_receiver_channel(m->preempt_receiver), nc_link_decoder(link), frame, error);
}

static bool
nc_session_ack(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameAck ack;
  return nc_frame_check_ack(frame, &ack, error) && nc_session_outbox_acked(m, frame->channel, &ack, error);
}

static bool
nc_session_resend(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  if (m->blocks) /* first: what is planned from now on must not mean what may differ */
    nc_blocks_forget(m->blocks);
  return nc_outbox_resend(nc_source_outbox(m->source), frame->channel, frame->argument, error);
}

static bool
nc_session_back_ack(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameAck ack;
  return nc_frame_check_ack(frame, &ack, error) &&
         nc_ordered_sender_acked(nc_back_sender_channel(m->back_sender), ack.seq, ack.offset, error);
}

static bool
nc_session_preempt_ack(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameAck ack;
  return nc_frame_check_ack(frame, &ack, error) &&
         nc_ordered_sender_acked(nc_preempt_sender_channel(m->preempt_sender), ack.seq, ack.offset, error);
}

static bool
nc_session_grant(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameGrant grant;
  return nc_frame_check_grant(frame, &grant, error) && nc_sink_grant(m->sink, &grant, error);
}

static bool
nc_session_digest(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameDigest digest;
  if (!nc_frame_check_digest(frame, &digest, error))
    return false;
  nc_back_receiver_digest(m->back_receiver, &digest);
  return true;
}

static bool
nc_session_end(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameEnd end;
  return nc_frame_check_end(frame, &end, error) && nc_sink_end(m->sink, &end, error);
}

/* The destination's QEMU has closed its reverse direction. novacrond there says what it means. */
static bool
nc_session_back_end(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameEnd end;
  if (!nc_frame_check_end(frame, &end, error))
    return false;
  nc_log(NC_LOG_INFO, "mover", "the destination's QEMU has closed after %" G_GUINT64_FORMAT " bytes", end.offset);
  return true;
}

static bool
nc_session_preempt_end(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameEnd end;
  return nc_frame_check_end(frame, &end, error) &&
         nc_ordered_receiver_end(nc_preempt_receiver_channel(m->preempt_receiver), &end, error);
}

static bool
nc_session_error(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrameError report;
  if (!nc_frame_check_error(frame, &report, error))
    return false;
  nc_mover_fail_from_peer(m, report.code, report.text);
  return true;
}

static bool
nc_session_bye(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  if (!nc_frame_check_bye(frame, error))
    return false;
  if (!atomic_load(&m->shut_passed) && !atomic_load(&m->ended))
    return nc_fail(error, NC_ERROR_UNREACHABLE, "the %s's mover has left before the migration was over",
                   nc_mover_other_side(m));
  atomic_store(&m->peer_left, true);
  return true;
}

static bool
nc_session_received(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  uint64_t count;
  return nc_frame_check_received(frame, &count, error) && nc_mover_confirmed(m, count, error);
}

/* The frame inside, if it is not there already. */
static bool
nc_session_urgent(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcFrame inner;
  bool is_new;

  if (!nc_frame_check_urgent(frame, &inner, error))
    return false;
  bool ok = nc_urgent_begin_arrival(m->urgent, frame->argument, &is_new, error) &&
            (!is_new || nc_session_frame(m, link, &inner, error));
  nc_urgent_end_arrival(m->urgent);
  nc_mover_wake_carrier(m); /* to confirm it */
  return ok;
}

GByteArray *
nc_session_hello(const NcMover *m, unsigned index)
{
  const NcFrameHello hello = {
    .version = NC_WIRE_VERSION,
    .lowest_version = NC_WIRE_LOWEST_VERSION,
    .index = (uint16_t)index,
    .streams = (uint16_t)m->setup.streams,
    .role = m->setup.is_source ? NC_WIRE_ROLE_SOURCE : NC_WIRE_ROLE_DESTINATION,
    .batch_raw_max = NC_BATCH_RAW_MAX,
    .ahead_batches = NC_MOVER_MAX_AHEAD,
    .ahead_bytes = NC_MOVER_MAX_AHEAD_BYTES,
  };
  return nc_frame_encode_hello(&hello);
}

/* A side that accepts less than we must be able to send can't be served; less than we would like is fine. */
static bool
nc_session_take_limits(NcMover *m, const NcFrameHello *hello, GError **error)
{
  if (hello->batch_raw_max < NC_BATCH_RAW_MAX || hello->ahead_batches < 1)
    return nc_fail(error, NC_ERROR_PROTOCOL, "the other mover accepts batches of %u bytes, %u at a time: too little",
                   hello->batch_raw_max, hello->ahead_batches);
  if (m->source)
    nc_outbox_limit(nc_source_outbox(m->source), hello->ahead_batches, hello->ahead_bytes);
  return true;
}

bool
nc_session_check_hello(NcMover *m, unsigned index, const NcFrame *frame, GError **error)
{
  NcFrameHello hello;

  if (!nc_frame_check_hello(frame, &hello, error) || nc_frame_hello_version(&hello, error) == 0)
    return false;
  if (hello.role != (m->setup.is_source ? NC_WIRE_ROLE_DESTINATION : NC_WIRE_ROLE_SOURCE))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the other mover is a %s, too", nc_mover_side(m));
  if (hello.index != index || hello.streams != m->setup.streams)
    return nc_fail(error, NC_ERROR_PROTOCOL, "the other mover calls this connection %u of %u", hello.index,
                   hello.streams);
  return nc_session_take_limits(m, &hello, error);
}

static const NcSessionRule nc_session_rules[] = {
  { NC_FRAME_BATCH, NC_CHANNEL_MAIN, NC_AT_DESTINATION, nc_session_batch },
  { NC_FRAME_BATCH, NC_CHANNEL_RETURN, NC_AT_SOURCE, nc_session_back_batch },
  { NC_FRAME_ACK, NC_CHANNEL_MAIN, NC_AT_SOURCE, nc_session_ack },
  { NC_FRAME_RESEND, NC_CHANNEL_MAIN, NC_AT_SOURCE, nc_session_resend },
  { NC_FRAME_ACK, NC_CHANNEL_RETURN, NC_AT_DESTINATION, nc_session_back_ack },
  { NC_FRAME_GRANT, NC_CHANNEL_MAIN, NC_AT_DESTINATION, nc_session_grant },
  { NC_FRAME_DIGEST, NC_CHANNEL_MAIN, NC_AT_SOURCE, nc_session_digest },
  { NC_FRAME_END, NC_CHANNEL_MAIN, NC_AT_DESTINATION, nc_session_end },
  { NC_FRAME_END, NC_CHANNEL_RETURN, NC_AT_SOURCE, nc_session_back_end },
  { NC_FRAME_BATCH, NC_CHANNEL_PREEMPT, NC_AT_DESTINATION, nc_session_preempt_batch },
  { NC_FRAME_ACK, NC_CHANNEL_PREEMPT, NC_AT_SOURCE, nc_session_preempt_ack },
  { NC_FRAME_END, NC_CHANNEL_PREEMPT, NC_AT_DESTINATION, nc_session_preempt_end },
  /* of all disks */
  { NC_FRAME_BATCH, NC_CHANNEL_DISKS, NC_AT_BOTH, nc_session_disk_batch },
  { NC_FRAME_ACK, NC_CHANNEL_DISKS, NC_AT_BOTH, nc_session_disk_ack },
  { NC_FRAME_END, NC_CHANNEL_DISKS, NC_AT_BOTH, nc_session_disk_end },
  { NC_FRAME_RESEND, NC_CHANNEL_DISKS, NC_AT_SOURCE, nc_session_resend },
  { NC_FRAME_URGENT, NC_CHANNEL_CONTROL, NC_AT_BOTH, nc_session_urgent },
  { NC_FRAME_RECEIVED, NC_CHANNEL_CONTROL, NC_AT_BOTH, nc_session_received },
  { NC_FRAME_ERROR, NC_CHANNEL_CONTROL, NC_AT_BOTH, nc_session_error },
  { NC_FRAME_BYE, NC_CHANNEL_CONTROL, NC_AT_BOTH, nc_session_bye },
};

bool
nc_session_frame(NcMover *m, NcLink *link, const NcFrame *frame, GError **error)
{
  NcSessionSide here = m->setup.is_source ? NC_AT_SOURCE : NC_AT_DESTINATION;

  for (size_t i = 0; i < G_N_ELEMENTS(nc_session_rules); i++) {
    const NcSessionRule *rule = &nc_session_rules[i];
    if (rule->type == frame->type && rule->channel == MIN(frame->channel, NC_CHANNEL_DISKS) && (rule->side & here))
      return rule->handle(m, link, frame, error);
  }
  return nc_fail(error, NC_ERROR_PROTOCOL, "a frame of type %u for channel %u has no place at the %s", frame->type,
                 frame->channel, nc_mover_side(m));
}
