/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/inbox.h"
#include "base/log.h"

struct NcInbox {
  gatomicrefcount references;
  GAsyncQueue *queue;
};

NcInbox *
nc_inbox_new(void)
{
  NcInbox *inbox = g_new0(NcInbox, 1);
  g_atomic_ref_count_init(&inbox->references);
  inbox->queue = g_async_queue_new_full((GDestroyNotify)nc_inbox_item_free);
  return inbox;
}

NcInbox *
nc_inbox_ref(NcInbox *inbox)
{
  g_atomic_ref_count_inc(&inbox->references);
  return inbox;
}

void
nc_inbox_unref(NcInbox *inbox)
{
  if (!inbox || !g_atomic_ref_count_dec(&inbox->references))
    return;
  g_async_queue_unref(inbox->queue);
  g_free(inbox);
}

void
nc_inbox_push(NcInbox *inbox, NcInboxSource source, json_t *message)
{
  /* NULL ends a source and must arrive; anything else may be lost in a flood, which no honest side makes. */
  if (message && g_async_queue_length(inbox->queue) >= NC_INBOX_MAX) {
    nc_log(NC_LOG_WARNING, "agent", "a migration's inbox is full: message dropped");
    json_decref(message);
    return;
  }
  NcInboxItem *item = g_new0(NcInboxItem, 1);
  item->source = source;
  item->message = message;
  g_async_queue_push(inbox->queue, item);
}

NcInboxItem *
nc_inbox_pop(NcInbox *inbox, int timeout_ms)
{
  return g_async_queue_timeout_pop(inbox->queue, (guint64)MAX(timeout_ms, 0) * 1000);
}

GQueue *
nc_inbox_take_all(NcInbox *inbox, NcInboxSource source)
{
  GQueue *taken = g_queue_new();

  g_async_queue_lock(inbox->queue);
  for (gint left = g_async_queue_length_unlocked(inbox->queue); left > 0; left--) {
    NcInboxItem *item = g_async_queue_try_pop_unlocked(inbox->queue);
    if (item->source == source)
      g_queue_push_tail(taken, item);
    else
      g_async_queue_push_unlocked(inbox->queue, item);
  }
  g_async_queue_unlock(inbox->queue);
  return taken;
}

void
nc_inbox_drop_all(NcInbox *inbox, NcInboxSource source)
{
  g_queue_free_full(nc_inbox_take_all(inbox, source), (GDestroyNotify)nc_inbox_item_free);
}

void
nc_inbox_item_free(NcInboxItem *item)
{
  if (!item)
    return;
  json_decref(item->message);
  g_free(item);
}
