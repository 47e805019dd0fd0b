/* SPDX-License-Identifier: Apache-2.0 */
/* The preempt channel at the source: QEMU's page records into urgent batches. */
#include "mover/preempt_sender.h"
#include "base/log.h"
#include "mover/back_receiver.h"
#include "mover/hot.h"
#include "mover/limits.h"
#include "mover/links.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

struct NcPreemptSender {
  NcMover *mover;
  int qemu;
  NcOrderedSender *channel;

  /* the thread's */
  NcStreamParser *parser;
  GArray *records;
  uint8_t buffer[NC_MOVER_BACK_BATCH_BYTES];
  size_t filled;

  pthread_mutex_t lock;      /* protects everything below */
  pthread_cond_t is_settled; /* perhaps */
  bool started;
  bool busy;   /* the thread has bytes in its hands that are not sent */
  bool closed; /* by QEMU */
};

/* What costs least where it helps: a page of zeroes becomes nothing, most others half. */
static NcBatchPolicy
nc_preempt_sender_policy(const NcMover *m)
{
  bool plain = m->setup.policy.codec == NC_CODEC_NONE && !m->setup.policy.is_auto;
  return (NcBatchPolicy){ .codec = plain ? NC_CODEC_NONE : NC_CODEC_LZ4 };
}

NcPreemptSender *
nc_preempt_sender_new(NcMover *m)
{
  NcPreemptSender *p = g_new0(NcPreemptSender, 1);
  NcBatchPolicy policy = nc_preempt_sender_policy(m);

  p->mover = m;
  p->qemu = -1;
  p->channel = nc_ordered_sender_new(m, &nc_ordered_preempt, &policy);
  p->parser = nc_stream_parser_new_preempt();
  p->records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->is_settled, NULL);
  return p;
}

NcOrderedSender *
nc_preempt_sender_channel(NcPreemptSender *p)
{
  return p->channel;
}

static void
nc_preempt_sender_set_busy(NcPreemptSender *p, bool busy)
{
  pthread_mutex_lock(&p->lock);
  p->busy = busy;
  if (!busy)
    pthread_cond_signal(&p->is_settled);
  pthread_mutex_unlock(&p->lock);
}

static bool
nc_preempt_sender_is_drained_locked(const NcPreemptSender *p)
{
  struct pollfd socket = { .fd = p->qemu, .events = POLLIN };

  return p->closed || (!p->busy && poll(&socket, 1, 0) == 0);
}

/* Whatever is in the socket, the thread is on its way to it, and busy before it takes it. */
void
nc_preempt_sender_settle(NcPreemptSender *p)
{
  pthread_mutex_lock(&p->lock);
  bool started = p->started;
  while (started && !nc_preempt_sender_is_drained_locked(p))
    pthread_cond_wait(&p->is_settled, &p->lock);
  pthread_mutex_unlock(&p->lock);
  if (started)
    nc_ordered_sender_await_acks(p->channel);
}

/* Sends what is complete; the head of a record moves to the front, for the rest of it to follow. */
static void
nc_preempt_sender_take(NcPreemptSender *p)
{
  g_array_set_size(p->records, 0);
  size_t n = nc_stream_parser_scan(p->parser, p->buffer, p->filled, p->records);
  const NcStreamRecord *records = (const NcStreamRecord *)(void *)p->records->data;
  nc_ordered_sender_send(p->channel, p->buffer, n, records, p->records->len);
  if (nc_hot_sent_elsewhere(p->mover->hot, p->parser, records, p->records->len))
    nc_back_receiver_ask_on(p->mover->back_receiver);
  memmove(p->buffer, p->buffer + n, p->filled - n);
  p->filled -= n;
}

/* False: QEMU has closed. */
static bool
nc_preempt_sender_receive(NcPreemptSender *p)
{
  ssize_t n = recv(p->qemu, p->buffer + p->filled, sizeof p->buffer - p->filled, MSG_DONTWAIT);

  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return true;
  if (n <= 0) /* a reset is an end like any other */
    return false;
  p->filled += (size_t)n;
  nc_count(&p->mover->counters.preempt_bytes, (uint64_t)n);
  nc_preempt_sender_take(p);
  return true;
}

static void
nc_preempt_sender_conclude(NcPreemptSender *p)
{
  nc_ordered_sender_send(p->channel, p->buffer, p->filled, NULL, 0); /* a torn record is the last piece all the same */
  nc_ordered_sender_end(p->channel);
  nc_log(NC_LOG_INFO, "mover", "QEMU has closed the preempt channel");
  pthread_mutex_lock(&p->lock);
  p->closed = true;
  p->busy = false;
  pthread_cond_signal(&p->is_settled);
  pthread_mutex_unlock(&p->lock);
}

static void *
nc_preempt_sender_run(void *argument)
{
  NcPreemptSender *p = argument;
  struct pollfd socket = { .fd = p->qemu, .events = POLLIN };

  nc_mover_wait_open(p->mover);
  for (;;) {
    poll(&socket, 1, -1);
    nc_preempt_sender_set_busy(p, true);
    if (!nc_preempt_sender_receive(p))
      break;
    nc_preempt_sender_set_busy(p, false);
  }
  nc_preempt_sender_conclude(p);
  return NULL;
}

void
nc_preempt_sender_start(NcPreemptSender *p, int qemu)
{
  p->qemu = qemu;
  pthread_mutex_lock(&p->lock);
  p->started = true;
  pthread_mutex_unlock(&p->lock);
  nc_mover_spawn("preempt", nc_preempt_sender_run, p);
}
