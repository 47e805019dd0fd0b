/* SPDX-License-Identifier: Apache-2.0 */
/* The inbox, what every session does with the mover's words, and how it ends. */
#include "relay/session.h"
#include "base/ident.h"
#include "base/io.h"

#include <string.h>
#include <sys/socket.h>

/* What has arrived: from the mover or from the other relay; without a message, that one is gone. */
typedef struct {
  bool from_mover;
  json_t *message;
} NcRelayItem;

static void
nc_relay_item_free(NcRelayItem *item)
{
  json_decref(item->message);
  g_free(item);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRelayItem, nc_relay_item_free)

static void
nc_relay_push(NcRelaySession *s, bool from_mover, json_t *message)
{
  NcRelayItem *item = g_new(NcRelayItem, 1);
  *item = (NcRelayItem){ .from_mover = from_mover, .message = message };
  g_async_queue_push(s->inbox, item);
}

static void
nc_relay_from_mover(json_t *message, gpointer user_data)
{
  nc_relay_push(user_data, true, message);
}

static gpointer
nc_relay_read_peer(gpointer data)
{
  NcRelaySession *s = data;
  json_t *message;

  while ((message = nc_peer_recv(s->peer, -1, NULL)) != NULL)
    nc_relay_push(s, false, message);
  nc_relay_push(s, false, NULL);
  return NULL;
}

NcRelaySession *
nc_relay_session_new(const NcRelaySetup *setup, bool is_source, NcRelayOffer *offer)
{
  NcRelaySession *s = g_new0(NcRelaySession, 1);

  s->setup = setup;
  s->is_source = is_source;
  s->offer = *offer;
  *offer = (NcRelayOffer){ 0 };
  s->qemu = -1;
  s->bytes_equal = -1;
  s->started_us = nc_mono_us();
  s->inbox = g_async_queue_new_full((GDestroyNotify)nc_relay_item_free);
  return s;
}

void
nc_relay_session_free(NcRelaySession *s)
{
  if (!s)
    return;
  nc_dialler_free(s->dialler);
  nc_mover_process_free(s->mover);
  nc_fd_clear(&s->qemu);
  if (s->peer)
    nc_peer_shutdown(s->peer);
  if (s->peer_reader)
    g_thread_join(s->peer_reader);
  nc_peer_free(s->peer);
  g_async_queue_unref(s->inbox);
  nc_relay_offer_clear(&s->offer);
  g_free(s->node);
  g_free(s->sha256);
  g_free(s->peer_sha256);
  g_free(s);
}

bool
nc_relay_session_start_mover(NcRelaySession *s, int qemu, GError **error)
{
  const NcMoverOrder order = { .is_source = s->is_source,
                               .migration = s->offer.id,
                               .psk = s->offer.psk,
                               .streams = s->offer.streams,
                               .compression = s->offer.compression,
                               .max_cpu = s->max_cpu,
                               .pause_budget_ms = s->offer.pause_budget_ms };

  s->qemu = qemu;
  s->mover = nc_mover_process_start(&s->setup->program, &order, nc_relay_from_mover, s, error);
  if (!s->mover)
    return false;
  s->awaited = "the movers did not find each other";
  s->deadline_us = nc_mono_us() + NC_RELAY_READY_MS * INT64_C(1000);
  /* QEMU's own handoff applies: nothing is to be decided before it may have its acknowledgement. */
  return (!s->is_source || nc_mover_process_send(s->mover, json_pack("{s:s}", "op", "deliver_shut"), -1, error)) &&
         nc_mover_process_send(s->mover, json_pack("{s:s, s:s}", "op", "qemu", "channel", "main"), qemu, error);
}

void
nc_relay_session_attach_peer(NcRelaySession *s, NcPeer *peer)
{
  s->peer = peer;
  s->node = g_strdup(nc_peer_node(peer));
  s->peer_reader = g_thread_new("relay-peer", nc_relay_read_peer, s);
}

bool
nc_relay_session_tell(NcRelaySession *s, json_t *message)
{
  nc_autojson json_t *owned = message;
  return nc_peer_send(s->peer, owned, NULL);
}

bool
nc_relay_session_finish(NcRelaySession *s, GError **error)
{
  s->finishing = true;
  s->awaited = "the mover on this node did not finish";
  s->deadline_us = nc_mono_us() + NC_RELAY_FINISH_MS * INT64_C(1000);
  return nc_mover_process_send(s->mover, json_pack("{s:s}", "op", "finish"), -1, error);
}

bool
nc_relay_is_stopped(const NcRelaySetup *setup)
{
  return setup->on.is_stopped(setup->on.user_data);
}

void
nc_relay_notice(const NcRelaySetup *setup, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  setup->on.notice(text, setup->on.user_data);
}

static void
nc_relay_take_totals(NcRelaySession *s, json_t *event)
{
  s->stream_bytes = (uint64_t)nc_json_int_or(event, "stream_bytes", 0);
  s->wire_bytes = (uint64_t)nc_json_int_or(event, "wire_bytes", 0);
}

static void
nc_relay_show_progress(NcRelaySession *s, json_t *event)
{
  const NcRelayProgress progress = {
    .id = s->offer.id,
    .node = s->node,
    .stream_bytes = s->stream_bytes,
    .wire_bytes = s->wire_bytes,
    .wire_rate_bps = nc_json_int_or(event, "wire_rate_bps", 0),
    .elapsed_ms = (nc_mono_us() - s->started_us) / 1000,
  };
  s->setup->on.progress(&progress, s->setup->on.user_data);
}

static void
nc_relay_take_done(NcRelaySession *s, json_t *event)
{
  const char *back = nc_json_string_or(event, "rev_sha256", "");

  nc_relay_take_totals(s, event);
  g_free(s->sha256);
  s->sha256 = g_strdup(nc_json_string_or(event, "sha256", ""));
  s->facts.return_path = strspn(back, "0") != strlen(back); /* a chain over nothing is zero */
  s->done = true;
}

static void
nc_relay_take_shut(NcRelaySession *s, json_t *event)
{
  s->facts.shut = true;
  s->facts.shut_status = nc_json_int_or(event, "status", 0);
  s->facts.shut_equal = nc_json_bool_or(event, "equal", false); /* said at the source only */
  g_free(s->sha256);
  s->sha256 = g_strdup(nc_json_string_or(event, "sha256", ""));
}

static void
nc_relay_take_ready(NcRelaySession *s, json_t *event)
{
  s->deadline_us = 0;
  nc_relay_notice(s->setup, "%s %s over %d connections (%s, %s)", s->is_source ? "relaying to" : "relaying from",
                  s->node, s->offer.streams, nc_json_string_or(event, "cipher", "?"), s->offer.compression);
}

/* The mover's words that mean the same on both sides. */
static void
nc_relay_note_event(NcRelaySession *s, const char *name, json_t *event)
{
  if (g_str_equal(name, "progress")) {
    nc_relay_take_totals(s, event);
    if (s->stream_bytes > 0)
      nc_relay_show_progress(s, event);
  } else if (g_str_equal(name, "ready")) {
    nc_relay_take_ready(s, event);
  } else if (g_str_equal(name, "lost")) {
    nc_relay_notice(s->setup, "connection %d was lost: %s", (int)nc_json_int_or(event, "index", -1),
                    nc_json_string_or(event, "message", ""));
  } else if (g_str_equal(name, "shut")) {
    nc_relay_take_shut(s, event);
  } else if (g_str_equal(name, "end")) {
    s->stream_ended = true;
  } else if (g_str_equal(name, "done")) {
    nc_relay_take_done(s, event);
  }
}

static bool
nc_relay_handle_mover(NcRelaySession *s, json_t *event, GError **error)
{
  const char *name = event ? nc_json_string_or(event, "ev", "") : "gone";

  if (event && !g_str_equal(name, "error")) {
    nc_relay_note_event(s, name, event);
    return s->on_mover(s, name, event, error);
  }
  if (s->done)
    return true;
  if (s->finishing) /* everything had been delivered: only the totals are missing */
    return s->on_mover(s, "done", NULL, error);
  if (event)
    nc_error_set_json(error, event);
  else
    nc_fail(error, NC_ERROR_INTERNAL, "the mover on the %s ended unexpectedly",
            s->is_source ? "source" : "destination");
  return false;
}

static bool
nc_relay_handle_peer(NcRelaySession *s, json_t *message, GError **error)
{
  const char *type = message ? nc_json_string_or(message, "type", "") : "gone";

  s->peer_gone = !message;
  s->peer_failed = g_str_equal(type, "relay_failed");
  if (!s->peer_failed)
    return s->on_peer(s, type, message, error);
  nc_error_set_json(error, json_object_get(message, "error"));
  return false;
}

static bool
nc_relay_handle(NcRelaySession *s, NcRelayItem *item, GError **error)
{
  return item->from_mover ? nc_relay_handle_mover(s, item->message, error)
                          : nc_relay_handle_peer(s, item->message, error);
}

bool
nc_relay_session_run(NcRelaySession *s, GError **error)
{
  while (!s->over) {
    g_autoptr(NcRelayItem) item = g_async_queue_timeout_pop(s->inbox, NC_RELAY_SLICE_MS * 1000);
    if (item && !nc_relay_handle(s, item, error))
      return false;
    if (nc_relay_is_stopped(s->setup))
      return nc_fail(error, NC_ERROR_CANCELLED, "the %s's relay was stopped", s->is_source ? "source" : "destination");
    if (s->deadline_us > 0 && nc_mono_us() > s->deadline_us)
      return nc_fail(error, NC_ERROR_TIMEOUT, "%s in time", s->awaited);
  }
  return true;
}

/* One item while giving up. True: that was the last one of interest. */
static bool
nc_relay_take_reason(NcRelayItem *item, GError **problem)
{
  if (item->from_mover)
    return false;
  if (!item->message)
    return true;
  if (!g_str_equal(nc_json_string_or(item->message, "type", ""), "relay_failed"))
    return false;
  /* A mover sees only that a connection was cut; the other relay knows why. */
  if (g_error_matches(*problem, NC_ERROR, NC_ERROR_UNREACHABLE)) {
    g_clear_error(problem);
    nc_error_set_json(problem, json_object_get(item->message, "error"));
  }
  return false; /* it closes when it has heard us */
}

void
nc_relay_session_abandon(NcRelaySession *s, GError **problem)
{
  int64_t deadline_us = nc_mono_us() + NC_RELAY_REASON_MS * 1000;
  int64_t left_us;
  bool over = s->peer_failed || s->peer_gone || !s->peer;

  if (!over)
    over =
        !nc_relay_session_tell(s, json_pack("{s:s, s:o}", "type", "relay_failed", "error", nc_error_to_json(*problem)));
  while (!over && (left_us = deadline_us - nc_mono_us()) > 0) {
    g_autoptr(NcRelayItem) item = g_async_queue_timeout_pop(s->inbox, (guint64)left_us);
    over = !item || nc_relay_take_reason(item, problem);
  }
}

void
nc_relay_session_report(NcRelaySession *s, const GError *problem)
{
  const NcRelayReport report = {
    .is_source = s->is_source,
    .completed = !problem,
    .error = problem,
    .id = s->offer.id,
    .node = s->node,
    .stream_bytes = s->stream_bytes,
    .wire_bytes = s->wire_bytes,
    .sha256 = s->sha256,
    .sha256_equal = s->bytes_equal,
    .total_ms = (nc_mono_us() - s->started_us) / 1000,
  };
  s->setup->on.ended(&report, s->setup->on.user_data);
}
