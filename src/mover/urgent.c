/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered frames until they are confirmed, and statements of which only the last one counts. */
#include "mover/urgent.h"
#include "mover/limits.h"

#include <pthread.h>

typedef struct {
  bool known;   /* there is something to say */
  bool pending; /* and this carrier has not said it */
  uint64_t seq;
  uint64_t offset;
} NcUrgentAck;

struct NcUrgent {
  pthread_mutex_t lock; /* protects this group */
  GQueue kept;          /* of GByteArray, URGENT frames from `confirmed` on */
  uint64_t kept_bytes;
  uint64_t confirmed; /* frames below this are with the other side */
  uint64_t next_pop;  /* frames below this went to the carrier */
  NcUrgentAck acks[NC_CHANNEL_COUNT];
  bool received_pending;
  uint64_t received; /* from the other side */

  pthread_mutex_t arrival_lock; /* one frame is handled at a time */
};

NcUrgent *
nc_urgent_new(void)
{
  NcUrgent *u = g_new0(NcUrgent, 1);

  pthread_mutex_init(&u->lock, NULL);
  pthread_mutex_init(&u->arrival_lock, NULL);
  g_queue_init(&u->kept);
  return u;
}

bool
nc_urgent_push(NcUrgent *u, GByteArray *frame)
{
  pthread_mutex_lock(&u->lock);
  GByteArray *numbered = nc_frame_encode_urgent(u->confirmed + u->kept.length, frame);
  bool room = u->kept_bytes + numbered->len <= NC_MOVER_URGENT_BYTES;
  if (room) {
    u->kept_bytes += numbered->len;
    g_queue_push_tail(&u->kept, numbered);
  }
  pthread_mutex_unlock(&u->lock);
  if (!room)
    g_byte_array_unref(numbered);
  g_byte_array_unref(frame);
  return room;
}

void
nc_urgent_ack(NcUrgent *u, uint8_t channel, uint64_t seq, uint64_t offset)
{
  pthread_mutex_lock(&u->lock);
  u->acks[channel] = (NcUrgentAck){ .known = true, .pending = true, .seq = seq, .offset = offset };
  pthread_mutex_unlock(&u->lock);
}

/* Frames, then confirmations, then acknowledgements. */
static GByteArray *
nc_urgent_pop_locked(NcUrgent *u)
{
  if (u->next_pop < u->confirmed + u->kept.length)
    return g_byte_array_ref(g_queue_peek_nth(&u->kept, (guint)(u->next_pop++ - u->confirmed)));
  if (u->received_pending) {
    u->received_pending = false;
    return nc_frame_encode_received(u->received);
  }
  for (uint8_t i = 0; i < NC_CHANNEL_COUNT; i++) {
    NcUrgentAck *ack = &u->acks[i];
    if (!ack->pending)
      continue;
    ack->pending = false;
    return nc_frame_encode_ack(i, ack->seq, ack->offset);
  }
  return NULL;
}

GByteArray *
nc_urgent_pop(NcUrgent *u)
{
  pthread_mutex_lock(&u->lock);
  GByteArray *frame = nc_urgent_pop_locked(u);
  pthread_mutex_unlock(&u->lock);
  return frame;
}

uint64_t
nc_urgent_pushed(NcUrgent *u)
{
  pthread_mutex_lock(&u->lock);
  uint64_t count = u->confirmed + u->kept.length;
  pthread_mutex_unlock(&u->lock);
  return count;
}

bool
nc_urgent_is_confirmed(NcUrgent *u, uint64_t count)
{
  pthread_mutex_lock(&u->lock);
  bool is_confirmed = count <= u->confirmed;
  pthread_mutex_unlock(&u->lock);
  return is_confirmed;
}

bool
nc_urgent_is_held_up(NcUrgent *u)
{
  pthread_mutex_lock(&u->lock);
  bool is_held_up = u->next_pop < u->confirmed + u->kept.length;
  pthread_mutex_unlock(&u->lock);
  return is_held_up;
}

bool
nc_urgent_has(NcUrgent *u)
{
  pthread_mutex_lock(&u->lock);
  bool has = u->next_pop < u->confirmed + u->kept.length;
  for (unsigned i = 0; i < NC_CHANNEL_DISKS; i++)
    has = has || u->acks[i].pending;
  pthread_mutex_unlock(&u->lock);
  return has;
}

void
nc_urgent_rewind(NcUrgent *u)
{
  pthread_mutex_lock(&u->lock);
  u->next_pop = u->confirmed;
  u->received_pending = u->received > 0;
  for (unsigned i = 0; i < NC_CHANNEL_COUNT; i++)
    u->acks[i].pending = u->acks[i].known;
  pthread_mutex_unlock(&u->lock);
}

bool
nc_urgent_confirmed(NcUrgent *u, uint64_t count, GError **error)
{
  pthread_mutex_lock(&u->lock);
  bool sent = count <= u->confirmed + u->kept.length;
  while (sent && u->confirmed < count) { /* an older confirmation changes nothing */
    GByteArray *frame = g_queue_pop_head(&u->kept);
    u->kept_bytes -= frame->len;
    u->confirmed++;
    g_byte_array_unref(frame);
  }
  u->next_pop = MAX(u->next_pop, u->confirmed);
  pthread_mutex_unlock(&u->lock);
  return sent ? true : nc_fail(error, NC_ERROR_PROTOCOL, "urgent frames were confirmed that were not sent");
}

bool
nc_urgent_begin_arrival(NcUrgent *u, uint64_t number, bool *ret_new, GError **error)
{
  pthread_mutex_lock(&u->arrival_lock);
  pthread_mutex_lock(&u->lock);
  bool gap = number > u->received;
  *ret_new = number == u->received;
  if (*ret_new)
    u->received++;
  u->received_pending = true; /* of one that came again, too: the confirmation may have been lost */
  pthread_mutex_unlock(&u->lock);
  return gap ? nc_fail(error, NC_ERROR_PROTOCOL, "urgent frame %" G_GUINT64_FORMAT " came before an earlier one", number)
             : true;
}

void
nc_urgent_end_arrival(NcUrgent *u)
{
  pthread_mutex_unlock(&u->arrival_lock);
}
