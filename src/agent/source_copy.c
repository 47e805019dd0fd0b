/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's half while memory flows: watching QEMU and the mover, and the
 * switchover with the release of the run right.
 */
#include "agent/pause_share.h"
#include "agent/source_migration.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/migration_qmp.h"

#define NC_SOURCE_TICK_MS 50
#define NC_SOURCE_POLL_US 100000
#define NC_SOURCE_DISK_TRIPS 4
#define NC_SOURCE_PACE 8                /* of what is left, what is sent per second while the endgame is waited for: a round takes about a second, */
#define NC_SOURCE_PACE_LEAST_BPS 40960  /* or as long as QEMU takes with a page in each of its periods of 100 ms */
#define NC_SOURCE_ROUND_NOTES 1000
#define NC_SOURCE_ENDGAME_NOTES 20 /* in the history: a guest may come near its end again and again */

bool
nc_source_must_stop(NcSource *s)
{
  return g_atomic_int_get(&s->m->cancel_requested) || g_atomic_int_get(&s->m->quitting);
}

static void
nc_source_fail(NcSource *s, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Before the release a failure undoes everything; after it, it is news, and the destination decides. */
static void
nc_source_fail(NcSource *s, int code, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  if (nc_handoff_is_undoable(s->m->state)) {
    g_autoptr(GError) error = g_error_new_literal(NC_ERROR, code, text);
    nc_source_abort(s, error);
  } else {
    nc_migration_note(s->m, "warning", "%s", text);
  }
}

static NcPauseFacts
nc_source_pause_facts(NcSource *s)
{
  return (NcPauseFacts){ .max_downtime_ms = s->max_downtime_ms,
                         .rate_bps = nc_migration_int(s->m, "wire_rate_bps"),
                         .flight_bytes = nc_migration_int(s->m, "in_flight_bytes"),
                         .rtt_us = MAX(nc_migration_int(s->m, "rtt_us"), s->link_rtt_us) };
}

/* Of one that nobody could have met there is nothing to say. */
static void
nc_source_note_endgame(NcSource *s, NcEndgameAnswer answer)
{
  int64_t waited_ms = nc_endgame_waited_us(&s->m->endgame) / 1000;

  if (answer == s->endgame)
    return;
  if (answer == NC_ENDGAME_WAIT && s->endgame_notes++ < NC_SOURCE_ENDGAME_NOTES)
    nc_migration_note(s->m, "endgame-waits", "round after round is sent, so that two last rounds do not share a link");
  bool is_alone = s->endgame == NC_ENDGAME_WITHOUT && nc_migration_is_alone(s->m); /* a small one is near its end at the first look */
  if (answer == NC_ENDGAME_HAS && !is_alone && s->endgame_notes++ < NC_SOURCE_ENDGAME_NOTES)
    nc_migration_note(s->m, "endgame", "the last round may begin, after %" G_GINT64_FORMAT " ms of waiting for it", waited_ms);
  if (answer != NC_ENDGAME_HAS && s->endgame == NC_ENDGAME_HAS && s->endgame_notes > 0)
    nc_migration_note(s->m, "endgame-returned", "the last round is not near any more");
  if (answer == NC_ENDGAME_WITHOUT && s->endgame == NC_ENDGAME_WAIT)
    nc_migration_note(s->m, "endgame-unheeded", "after %" G_GINT64_FORMAT " ms of waiting the last round may begin, though another one may meet it",
                      waited_ms);
  s->endgame = answer;
}

/*
 * A guest writes in bursts: in rounds of a millisecond QEMU would soon find one in which nothing was written, and switch over. So rounds are as long
 * as sending slowly makes them, and the link is the others' meanwhile.
 */
static void
nc_source_pace(NcSource *s, NcQmp *qmp, uint64_t left_bytes)
{
  uint64_t bps = s->endgame == NC_ENDGAME_WAIT ? MAX(left_bytes * NC_SOURCE_PACE, NC_SOURCE_PACE_LEAST_BPS) : 0;

  if (bps != s->pace_bps && nc_qemu_set_max_bandwidth(qmp, bps, NULL))
    s->pace_bps = bps;
}

/* While its last round may not begin, QEMU is given next to nothing for it. */
static bool
nc_source_is_held(NcSource *s)
{
  NcEndgameAnswer answer = nc_migration_look_endgame(s->m, nc_source_forecast_need(s->forecast));

  nc_source_note_endgame(s, answer);
  nc_source_forecast_hold(s->forecast, answer == NC_ENDGAME_WAIT);
  return answer == NC_ENDGAME_HOLD || answer == NC_ENDGAME_WAIT;
}

static void
nc_source_adjust_downtime_limit(NcSource *s, NcQmp *qmp, int64_t limit_ms)
{
  int64_t aim = nc_source_is_held(s) ? NC_PAUSE_HELD_MS : nc_pause_aim_ms(limit_ms, nc_source_forecast_pause_step(s->forecast));
  int64_t last = nc_migration_int(s->m, "downtime_limit_ms");
  if (ABS(aim - last) * 20 <= last || nc_source_forecast_has_switched(s->forecast))
    return; /* less than 5 % is noise; for post-copy it has the least */
  if (nc_qemu_set_downtime_limit(qmp, (uint32_t)aim, NULL))
    nc_migration_set(s->m, "downtime_limit_ms", json_integer(aim));
}

/*
 * What disks will add to the pause is not QEMU's: what is left of them, and the round trips of their end (the last writes, as QEMU
 * waits for them when it stops the guest, and a flush before and at the end). As long as what is left is too much, memory is sent round after round.
 */
static int64_t
nc_source_less_disks(NcSource *s, int64_t limit_ms)
{
  if (!s->disks)
    return limit_ms;
  int64_t left_ms = nc_source_disks_pause_ms(s->disks), trips_ms = NC_SOURCE_DISK_TRIPS * s->link_rtt_us / 1000;
  return left_ms > limit_ms ? 1 : MAX(limit_ms - left_ms - trips_ms, limit_ms / 10);
}

/* A bar that goes back would lie less about rounds than about progress: the best seen is kept. */
static void
nc_source_record_progress(NcSource *s, uint64_t ram_total, uint64_t ram_remaining)
{
  uint64_t total = 0, left = 0;

  if (s->disks)
    nc_source_disks_bytes(s->disks, &total, &left);
  total += ram_total;
  left += MIN(ram_remaining, ram_total);
  if (total > 0)
    nc_migration_set(s->m, "progress", json_integer(MAX((int64_t)((double)(total - left) * 95 / (double)total), nc_migration_int(s->m, "progress"))));
}

static void
nc_source_record_ram(NcSource *s, const NcQemuMigrationInfo *info)
{
  NcMigration *m = s->m;
  uint64_t total = info->ram_total_bytes, remaining = info->ram_remaining_bytes;
  uint64_t moved = (info->ram_normal_pages + info->ram_duplicate_pages) * info->ram_page_size;
  int64_t elapsed_us = nc_mono_us() - s->started_us;
  int64_t rate = info->ram_mbps > 0 ? (int64_t)(info->ram_mbps * 1e6 / 8) : 0;

  nc_migration_set(m, "ram_total_bytes", json_integer((json_int_t)total));
  nc_migration_set(m, "ram_remaining_bytes", json_integer((json_int_t)remaining));
  nc_migration_set(m, "ram_bytes", json_integer((json_int_t)moved));
  nc_migration_set(m, "rounds", json_integer((json_int_t)info->dirty_sync_count));
  nc_migration_set(m, "dirty_rate_bps", json_integer((json_int_t)(info->dirty_pages_rate * info->ram_page_size)));
  nc_migration_set(m, "rate_bps", json_integer(rate));
  nc_migration_set(m, "expected_downtime_ms", json_integer((json_int_t)info->expected_downtime_ms));
  nc_migration_set(m, "elapsed_ms", json_integer(elapsed_us / 1000));
  nc_source_record_progress(s, total, remaining);
}

void
nc_source_poll_qemu(NcSource *s)
{
  NcQmp *qmp = nc_machine_lease_qmp(s->m->lease);
  NcQemuMigrationInfo info = { 0 };

  if (!qmp || !nc_qemu_migration_query(qmp, &info, NULL))
    return;
  if (info.ram_total_bytes > 0)
    nc_source_record_ram(s, &info);
  if (info.status == NC_QEMU_MIGRATION_COMPLETED)
    nc_migration_set(s->m, "qemu_downtime_ms", json_integer((json_int_t)info.downtime_ms));
  if (info.status == NC_QEMU_MIGRATION_FAILED && nc_handoff_is_undoable(s->m->state))
    nc_source_fail(s, NC_ERROR_QEMU, "the QEMU on the source gave the migration up: %s",
                   info.error_desc ? info.error_desc : "no reason given");
  if (s->m->state == NC_S_COPYING) {
    g_autoptr(GError) error = NULL;
    const NcPauseFacts facts = nc_source_pause_facts(s);
    int64_t limit_ms = nc_source_less_disks(s, nc_pause_limit_ms(&facts));
    if (s->disks)
      nc_source_forecast_leave_out(s->forecast, nc_source_disks_wire_bytes(s->disks));
    if (!nc_source_forecast_take(s->forecast, qmp, &info, limit_ms, nc_pause_likely_overhead_ms(&facts), &error)) {
      nc_source_fail(s, error->code, "%s", error->message);
    } else {
      nc_source_adjust_downtime_limit(s, qmp, limit_ms);
      nc_source_pace(s, qmp, info.ram_remaining_bytes);
    }
  }
  nc_qemu_migration_info_clear(&info);
}

/*
 * The guest is stopped. Disks that are copied are equal now, or everything is undone. QEMU is told to go on at once, and while the device
 * state flows the right is released on disk; only then may the mover send the
 * grant. Until the release is on disk everything can still be undone.
 */
static bool
nc_source_must_stop_now(gpointer data)
{
  return nc_source_must_stop(data);
}

static void
nc_source_switchover(NcSource *s)
{
  NcMigration *m = s->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  g_autoptr(GError) error = NULL;

  if (!nc_migration_step(m, NC_EV_GUEST_STOPPED, NULL))
    return;
  if (nc_source_forecast_need(s->forecast) != NC_ENDGAME_OPEN)
    nc_migration_look_endgame(m, NC_ENDGAME_NEAR); /* it may have been alone so far, and others come */
  nc_fault_point("source-switching");
  if (nc_source_must_stop(s))
    nc_fail(&error, NC_ERROR_CANCELLED, "cancelled at the switchover");
  else if (!qmp)
    nc_fail(&error, NC_ERROR_QEMU, "the QEMU on the source died at the switchover");
  else if ((!s->disks || nc_source_disks_end(s->disks, qmp, nc_source_must_stop_now, s, &error)) && nc_qemu_migrate_continue(qmp, &error)) {
    nc_fault_point("source-before-release");
    nc_migration_move_right(m, NC_RIGHT_HELD, s->held_epoch, NC_RIGHT_RELEASED, m->epoch, &error);
  }
  if (error) {
    nc_source_abort(s, error);
    return;
  }
  nc_fault_point("source-after-release");
  nc_migration_set(m, "stop_us", json_integer(s->stop_us));
  nc_migration_step(m, NC_EV_RELEASE, NULL);
  if (!m->mover || !nc_mover_process_send(m->mover, json_pack("{s:s, s:I}", "op", "grant", "epoch", (json_int_t)m->epoch), -1,
                                          &error))
    nc_migration_note(m, "warning", "the grant could not be handed to the mover: %s", error ? error->message : "it is gone");
  nc_fault_point("source-after-grant");
}

static void
nc_source_on_qmp(NcSource *s, json_t *event)
{
  const char *name = nc_json_string_or(event, "event", "");
  const char *status = nc_json_string_or(json_object_get(event, "data"), "status", "");

  if (!event) {
    nc_source_fail(s, NC_ERROR_QEMU, "the QEMU on the source (%s) died: the machine was lost with it", nc_nodes_self(s->m->deps->nodes));
  } else if (g_str_equal(name, "STOP")) {
    s->stop_us = nc_qmp_event_us(event);
    s->stop_seen_us = nc_mono_us();
  } else if (g_str_equal(name, "MIGRATION") && g_str_equal(status, "pre-switchover") && s->m->state == NC_S_COPYING) {
    nc_source_switchover(s);
  } else if (g_str_equal(name, "MIGRATION") && g_str_equal(status, "failed")) {
    nc_source_poll_qemu(s);
    nc_source_fail(s, NC_ERROR_QEMU, "the QEMU on the source gave the migration up");
  } else if (g_str_equal(name, "MIGRATION_PASS")) {
    int64_t pass = nc_json_int_or(json_object_get(event, "data"), "pass", 0);
    if (pass <= NC_SOURCE_ROUND_NOTES) /* one that waits for its last round has some of a few milliseconds */
      nc_migration_note(s->m, "round", "%" G_GINT64_FORMAT, pass);
  }
}

/* What is drained there would be missing at the destination, if that has started. */
bool
nc_source_is_in_postcopy(NcSource *s)
{
  nc_autojson json_t *record = nc_migration_snapshot(s->m);
  return nc_json_bool_or(record, "postcopy", false);
}

static void
nc_source_on_shut(NcSource *s, json_t *event)
{
  NcMigration *m = s->m;
  bool equal = nc_json_bool_or(event, "equal", false);
  const char *peer_sha256 = nc_json_string_or(event, "peer_sha256", "");

  nc_migration_set(m, "sha256", json_string(nc_json_string_or(event, "sha256", "")));
  nc_migration_set(m, "peer_sha256", json_string(peer_sha256));
  if (nc_source_is_in_postcopy(s)) /* what it had when it started was not all */
    nc_migration_set(m, "destination_sha256", json_string(peer_sha256));
  nc_migration_set(m, "sha256_equal", json_boolean(equal));
  nc_migration_set(m, "stream_bytes", json_integer(nc_json_int_or(event, "stream_bytes", 0)));
  if (!equal && nc_json_int_or(event, "status", 0) == 0) /* one that could not load it may say so in the middle */
    nc_migration_note(m, "corrupt", "the two ends saw different streams: sha256 %s here, %s there",
                      nc_json_string_or(event, "sha256", "?"), nc_json_string_or(event, "peer_sha256", "?"));
  if (nc_json_int_or(event, "status", 0) != 0)
    nc_source_fail(s, NC_ERROR_QEMU, "the QEMU on the destination (%s) could not load the machine", m->peer);
}

static void
nc_source_on_mover(NcSource *s, json_t *event)
{
  const char *name = nc_json_string_or(event, "ev", "");

  nc_source_path_on_mover(s->path, event);
  if ((!event || g_str_equal(name, "error")) && s->m->state == NC_S_SERVING) {
    nc_source_serving_mover_gone(s);
  } else if (!event || g_str_equal(name, "error")) {
    g_autoptr(GError) error = NULL;
    nc_migration_mover_error(s->m, event, &error);
    nc_source_fail(s, error->code, "%s", error->message);
    s->mover_failed = true;
    if (!event && s->keeper && !nc_source_is_in_postcopy(s))
      nc_keeper_drain(s->keeper); /* nobody else reads any more */
    if (!event && s->m->state == NC_S_RELEASED) {
      nc_source_path_hang_up(s->path);
      nc_source_path_ask(s->path);
    }
  } else if (g_str_equal(name, "progress") || g_str_equal(name, "done")) {
    nc_migration_take_progress(s->m, event);
    if (s->disks && nc_source_disks_have_begun(s->disks))
      nc_source_disks_on_progress(s->disks, event);
  } else if (g_str_equal(name, "disk_closed")) {
    nc_log(NC_LOG_INFO, "agent", "migration %s: disk %d: %s", s->m->id, (int)nc_json_int_or(event, "index", -1), nc_json_string_or(event, "message", ""));
  } else if (g_str_equal(name, "shut")) {
    nc_source_on_shut(s, event);
  } else if (g_str_equal(name, "opaque")) {
    nc_migration_note(s->m, "opaque", "%s at byte %" G_GINT64_FORMAT, nc_json_string_or(event, "reason", ""),
                      nc_json_int_or(event, "offset", 0));
  }
}

static void
nc_source_on_peer(NcSource *s, json_t *message)
{
  const char *type = nc_json_string_or(message, "type", "");

  if (!message) {
    nc_source_path_lost_session(s->path);
  } else if (nc_handoff_is_undoable(s->m->state) && g_str_equal(type, "mig_refused")) {
    g_autoptr(GError) error = NULL;
    nc_error_set_json(&error, json_object_get(message, "error"));
    nc_source_abort(s, error);
  } else {
    nc_source_on_verdict(s, message);
  }
}

/* The mover's rate and class are what the record says now. */
static void
nc_source_on_limits(NcSource *s)
{
  NcMigration *m = s->m;
  g_autoptr(GError) error = NULL;

  if (m->mover && !nc_mover_process_send(m->mover,
                                         json_pack("{s:s, s:I, s:b}", "op", "rate", "bps",
                                                   (json_int_t)nc_migration_int(m, "rate_limit_bps"), "yield",
                                                   nc_migration_qos(m) == NC_QOS_BACKGROUND),
                                         -1, &error))
    nc_log(NC_LOG_WARNING, "agent", "migration %s: its rate could not be changed: %s", m->id, error->message);
}

void
nc_source_handle(NcSource *s, NcInboxItem *item)
{
  switch (item->source) {
  case NC_FROM_QMP:
    nc_source_on_qmp(s, item->message);
    break;
  case NC_FROM_MOVER:
    nc_source_on_mover(s, item->message);
    break;
  case NC_FROM_PEER:
    nc_source_on_peer(s, item->message);
    break;
  case NC_FROM_CANCEL:
    nc_source_fail(s, NC_ERROR_CANCELLED, "cancelled");
    break;
  case NC_FROM_RESOLVE:
    nc_source_on_resolve(s);
    break;
  case NC_FROM_LIMITS:
    nc_source_on_limits(s);
    break;
  case NC_FROM_QUIT:
    if (nc_handoff_is_undoable(s->m->state))
      nc_source_fail(s, NC_ERROR_CANCELLED, "novacrond on the source (%s) is stopping", nc_nodes_self(s->m->deps->nodes));
    break;
  }
}

/* A path that does not come back ends what can still be undone. */
static void
nc_source_check_path(NcSource *s)
{
  g_autoptr(GError) error = NULL;

  nc_source_path_tick(s->path);
  if (nc_source_path_is_given_up(s->path, s->m->deps->config->path_timeout_ms, &error))
    nc_source_abort(s, error);
}

/* Disks, until it is the memory's time; then both. */
static bool
nc_source_copy_disks(NcSource *s, GError **error)
{
  NcQmp *qmp = nc_machine_lease_qmp(s->m->lease);

  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU on the source died");
  if (!nc_source_disks_have_begun(s->disks)) {
    nc_migration_enter_phase(s->m, "disk_copy");
    return nc_source_disks_begin(s->disks, qmp, s->max_downtime_ms, error);
  }
  if (!nc_source_disks_tick(s->disks, qmp, error))
    return false;
  if (s->memory_begun)
    return true;
  nc_migration_set(s->m, "elapsed_ms", json_integer((nc_mono_us() - s->started_us) / 1000));
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(nc_machine_lease_spec(s->m->lease), NULL);
  uint64_t memory = spec ? nc_machine_spec_memory_bytes(spec) : 0;
  nc_source_record_progress(s, memory, memory);
  if (!nc_source_disks_are_near(s->disks))
    return true;
  nc_migration_note(s->m, "disks-in-step", "memory follows");
  nc_migration_enter_phase(s->m, nc_handoff_phase(s->m->state));
  return nc_source_begin_memory(s, error);
}

static void
nc_source_tick_disks(NcSource *s)
{
  g_autoptr(GError) error = NULL;

  if (s->disks && s->m->state == NC_S_COPYING && !nc_source_copy_disks(s, &error))
    nc_source_fail(s, error->code, "%s", error->message);
}

void
nc_source_copy(NcSource *s)
{
  int64_t next_poll = 0;

  while (nc_handoff_is_undoable(s->m->state)) {
    g_autoptr(NcInboxItem) item = nc_inbox_pop(s->m->inbox, NC_SOURCE_TICK_MS);
    if (item)
      nc_source_handle(s, item);
    if (nc_handoff_is_undoable(s->m->state))
      nc_source_tick_disks(s);
    if (s->memory_begun && nc_mono_us() >= next_poll && nc_handoff_is_undoable(s->m->state)) {
      nc_source_poll_qemu(s);
      next_poll = nc_mono_us() + NC_SOURCE_POLL_US;
    }
    if (nc_handoff_is_undoable(s->m->state))
      nc_source_take_preempt(s);
    if (nc_handoff_is_undoable(s->m->state))
      nc_source_check_path(s);
  }
}
