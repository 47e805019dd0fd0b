/* SPDX-License-Identifier: Apache-2.0 */
/* The preempt channel at the destination: verified batches into QEMU. */
#include "mover/preempt_receiver.h"
#include "base/io.h"
#include "base/log.h"
#include "mover/links.h"

struct NcPreemptReceiver {
  NcMover *mover;
  int qemu;
  NcOrderedReceiver *channel;
  bool is_over; /* QEMU takes no more; the thread's */
};

NcPreemptReceiver *
nc_preempt_receiver_new(NcMover *m)
{
  NcPreemptReceiver *p = g_new0(NcPreemptReceiver, 1);

  p->mover = m;
  p->qemu = -1;
  p->channel = nc_ordered_receiver_new(m, &nc_ordered_preempt);
  return p;
}

NcOrderedReceiver *
nc_preempt_receiver_channel(NcPreemptReceiver *p)
{
  return p->channel;
}

static void
nc_preempt_receiver_deliver(NcPreemptReceiver *p, const GByteArray *raw)
{
  g_autoptr(GError) error = NULL;

  if (p->is_over || nc_mover_is_stopped(p->mover))
    return;
  if (nc_write_all(p->qemu, raw->data, raw->len, &error)) {
    nc_count(&p->mover->counters.preempt_bytes, raw->len);
    return;
  }
  p->is_over = true;
  nc_log(NC_LOG_INFO, "mover", "QEMU's preempt channel takes nothing any more: %s", error->message);
}

static void *
nc_preempt_receiver_run(void *argument)
{
  NcPreemptReceiver *p = argument;

  nc_mover_wait_open(p->mover);
  for (;;) {
    NcOrderedBatch batch;
    if (!nc_ordered_receiver_next(p->channel, 0, &batch))
      continue;
    nc_preempt_receiver_deliver(p, batch.raw);
    nc_ordered_receiver_done(p->channel, &batch);
  }
  return NULL;
}

void
nc_preempt_receiver_start(NcPreemptReceiver *p, int qemu)
{
  p->qemu = qemu;
  nc_mover_spawn("preempt", nc_preempt_receiver_run, p);
}
