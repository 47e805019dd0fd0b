/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's half of one migration.
 *
 * Its thread prepares (machine record, INCOMING on disk, QEMU waiting with -S,
 * mover), then only listens. It starts the machine when it holds three things:
 * the grant of the source (which stands behind the last byte, verified by
 * SHA-256), QEMU's own word that it loaded everything (SHUT 0), and the right
 * on disk (HELD). Whatever else happens, it refuses: it kills its QEMU, makes
 * REFUSED durable and says so. Refusing before TAKEN is always safe: this side
 * never ran the machine, and the source still has everything. That is why the
 * losses of a connection may end the wait here, and never at the source.
 */
#include "agent/destination.h"
#include "agent/liveness.h"
#include "agent/shadow_budget.h"
#include "agent/spare_monitor.h"
#include "base/bytes.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "qemu/machine_spec.h"
#include "qemu/migration_qmp.h"
#include "qemu/suitability.h"

#include <string.h>

/* Beyond the source's path_timeout_ms, how long it waits for a source that is cut off: so that it is the source that gives up. */
#define NC_ANNOUNCE_MS 10000
#define NC_ANNOUNCE_FETCHING_MS 200
#define NC_DEST_PATIENCE_MS 2000
#define NC_DEST_PATH_TIMEOUT_MAX_MS 86400000
/* After the start: how long it keeps the mover for a source that does not come back to finish. */
#define NC_DEST_LINGER_MS 30000
#define NC_DEST_TICK_MS 200
/* QEMU's "failed" may be read before the word of the mover whose death is the cause: so long it is given to speak. */
#define NC_DEST_CAUSE_MS 500
/* QEMU's last PING in the package with the device state (reference, section 1.4). */
#define NC_PONG_PACKAGE_LOADED 3

void
nc_destination_end_mover(NcMigration *m)
{
  NcMoverProcess *mover;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
    mover = g_steal_pointer(&m->mover);
  }
  nc_mover_process_free(mover);
}

/*
 * The right is on disk here, and the machine may have run for a moment: giving it back could make it run a second time,
 * from an earlier state. The source is told that nobody knows, and asks its operator.
 */
void
nc_destination_lose(NcMigration *m, const GError *reason)
{
  const char *consequence = m->state == NC_D_FETCHING ? "What it has done here since the switch is lost"
                                                      : "It may have run here for a moment, so it is not given back by itself";
  g_autofree char *text = g_strdup_printf("%s. %s", reason->message, consequence);
  g_autoptr(GError) error = g_error_new_literal(NC_ERROR, reason->code, text);
  g_autoptr(GError) problem = NULL;

  /* What is said to be lost must never run again, not even for the moment between two crashes of ours. */
  if (!nc_machine_lease_kill_qemu(m->lease, &problem)) {
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s: the machine's QEMU on the destination can't be ended, so it is not called lost", m->id,
           problem->message);
    return;
  }
  nc_fault_point("destination-before-lost");
  nc_migration_step(m, NC_EV_LOST, text);
  nc_migration_tell(m, json_pack("{s:s, s:s, s:s, s:b}", "type", "mig_unknown", "migration", m->id, "detail", text, "lost", 1), NULL);
  nc_destination_end_mover(m);
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  nc_migration_finish(m, "failed", error);
}

/* Never starts this epoch: QEMU is killed first, then the refusal is made durable, then it is said. */
static void
nc_destination_refuse(NcMigration *m, const char *outcome, const GError *reason)
{
  g_autoptr(GError) error = NULL;
  NcRightState from = m->state == NC_D_TAKEN ? NC_RIGHT_HELD : NC_RIGHT_INCOMING;

  if (m->lease && !nc_machine_lease_kill_qemu(m->lease, &error)) {
    /* A QEMU that can't be killed might run: then nothing may be promised. */
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s: the machine's QEMU on the destination can't be ended, so it is not refused",
           m->id, error->message);
    return;
  }
  nc_destination_end_mover(m);
  nc_fault_point("destination-before-refuse");
  if (!nc_migration_move_right(m, from, m->epoch, NC_RIGHT_REFUSED, m->epoch, &error)) {
    if (from == NC_RIGHT_HELD) { /* a right that is on disk here can't be another's */
      nc_destination_lose(m, error);
      return;
    }
    /* INCOMING without a QEMU can't start either, and recovery will write it: saying it is true already. */
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s", m->id, error->message);
    g_clear_error(&error);
  }
  nc_fault_point("destination-after-refuse");
  nc_migration_step(m, NC_EV_REFUSE, reason->message);
  nc_migration_tell(m, json_pack("{s:s, s:s, s:o}", "type", "mig_refused", "migration", m->id, "error", nc_error_to_json(reason)),
                    NULL);
  if (m->lease)
    nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_DISCARD);
  nc_migration_finish(m, outcome, reason);
}

/* What both sides can afford; the machine's own memory is spoken for. */
static uint32_t
nc_destination_shadow_frames(NcMigration *m, json_t *request)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json_object_get(request, "spec"), NULL);
  int64_t offered = nc_json_int_or(request, "shadow_frames", 0);
  uint64_t machine = spec ? nc_machine_spec_memory_bytes(spec) : 0;
  uint64_t reserved = nc_machines_reserved_bytes(m->deps->machines);

  return (uint32_t)MIN((uint64_t)MAX(offered, 0), nc_shadow_budget(m->deps->config, machine, reserved));
}

bool
nc_destination_start_mover(NcMigration *m, json_t *request, GError **error)
{
  uint8_t psk[NC_MIG_PSK_BYTES];
  const char *hex = nc_json_string(request, "psk", error);
  if (!hex)
    return false;
  if (!nc_hex_decode(hex, psk, sizeof psk))
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"psk\" must be %zu hexadecimal bytes", sizeof psk);
  const NcMoverOrder order = {
    .is_source = false,
    .migration = m->id,
    .psk = psk,
    .streams = (int)nc_json_int_or(request, "streams", 1),
    .compression = nc_json_string_or(request, "compression", "none"),
    .pause_budget_ms = (int)nc_json_int_or(request, "pause_budget_ms", 300),
  };
  NcMoverProcess *mover = nc_migration_start_mover(m, &order, error);
  nc_secret_clear(psk, sizeof psk);
  if (!mover)
    return false;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
    m->mover = mover;
  }
  uint32_t frames = nc_destination_shadow_frames(m, request);
  return nc_mover_process_send_shadow(mover, frames, error) &&
         nc_migration_tell(m, json_pack("{s:s, s:s, s:I}", "type", "mig_accepted", "migration", m->id, "shadow_frames", (json_int_t)frames),
                           error);
}

/* The first connection is the main channel, whatever comes on it (reference, section 4.1). */
bool
nc_destination_connect_qemu(NcMigration *m, const char *path, bool preempt, GError **error)
{
  static const char *const channels[] = { "main", "preempt" };

  for (size_t i = 0; i < (preempt ? 2 : 1); i++) {
    nc_autofd int qemu = nc_unix_connect(path, error);
    if (qemu < 0 || !nc_mover_process_send(m->mover, json_pack("{s:s, s:s}", "op", "qemu", "channel", channels[i]), qemu, error))
      return false;
  }
  return true;
}

/* The mover, which takes connections at once, then QEMU up to the point where it listens to its mover. */
static bool
nc_destination_prepare(NcMigration *m, json_t *request, GError **error)
{
  if (!nc_destination_start_mover(m, request, error))
    return false;
  if (!nc_machine_lease_launch_incoming(m->lease, error))
    return false;
  nc_fault_point("destination-prepare");
  nc_migration_watch_qemu(m);
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "QEMU ended before it could be prepared");
  bool postcopy = nc_json_bool_or(request, "postcopy", false);
  if (!nc_qemu_migration_setup_destination(qmp, postcopy, error))
    return false;
  g_autoptr(GError) problem = NULL;
  if (postcopy && !nc_spare_monitor_keep(m, qmp, &problem))
    nc_migration_note(m, "warning", "if novacrond is restarted in post-copy, it may not reach QEMU any more: %s", problem->message);
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(m->lease), "in.sock", NULL);
  return nc_qemu_migrate_incoming(qmp, path, error) && nc_destination_connect_qemu(m, path, nc_qemu_has_preempt_channel(qmp), error);
}

void
nc_destination_tell_started(NcDestination *d)
{
  NcMigration *m = d->m;
  nc_autojson json_t *record = nc_migration_snapshot(m);
  json_t *message =
      json_pack("{s:s, s:s, s:I, s:I, s:s, s:I, s:b, s:b}", "type", "mig_started", "migration", m->id, "epoch", (json_int_t)m->epoch,
                "resume_us", (json_int_t)d->resume_us, "sha256", nc_json_string_or(record, "sha256", ""), "stream_bytes",
                (json_int_t)nc_json_int_or(record, "stream_bytes", 0), "postcopy", m->state == NC_D_FETCHING, "broken", d->broken);
  nc_migration_tell(m, message, NULL);
}

/* QEMU emits RESUME before it answers `cont`, so it is in the queue already; anything else there is handled later. */
static void
nc_destination_find_resume(NcDestination *d)
{
  GQueue *said = nc_inbox_take_all(d->m->inbox, NC_FROM_QMP);
  NcInboxItem *item;

  while ((item = g_queue_pop_head(said)) != NULL) {
    if (g_strcmp0(nc_json_string_or(item->message, "event", ""), "RESUME") == 0)
      d->resume_us = nc_qmp_event_us(item->message);
    else
      nc_inbox_push(d->m->inbox, item->source, g_steal_pointer(&item->message));
    nc_inbox_item_free(item);
  }
  g_queue_free(said);
  if (d->resume_us == 0)
    d->resume_us = nc_wall_us();
}

static bool
nc_destination_is_alive(NcDestination *d, char **ret_detail)
{
  NcQmp *qmp = nc_machine_lease_qmp(d->m->lease);
  if (d->running)
    return nc_liveness_check(qmp, nc_machine_lease_pid(d->m->lease), ret_detail);
  *ret_detail = g_strdup("paused, as it was at the source");
  return qmp && nc_qmp_is_alive(qmp);
}

/*
 * What is dead before it is told to run has not run, and what stands still afterwards neither: then the source may have it
 * back. Of what dies in between nobody knows.
 */
static bool
nc_destination_cont(NcDestination *d, NcQmp *qmp, bool postcopy)
{
  NcMigration *m = d->m;
  const char *here = nc_nodes_self(m->deps->nodes);
  g_autoptr(GError) error = NULL;

  if (!nc_qemu_is_stopped(qmp)) {
    nc_fail(&error, NC_ERROR_QEMU, "the QEMU on the destination (%s) died before it could start the machine", here);
    nc_destination_refuse(m, "failed", error);
    return false;
  }
  nc_fault_point("destination-before-cont");
  if (nc_qemu_cont(qmp, &error))
    return true;
  if (postcopy && error->code == NC_ERROR_TIMEOUT && nc_machine_lease_is_alive(m->lease)) {
    d->to_cont = true; /* its devices wait for pages; it is ours, and will run when they are here */
    nc_migration_note(m, "warning", "QEMU has not started the machine yet: %s", error->message);
    return true;
  }
  bool stands_still = nc_qemu_is_stopped(qmp);
  g_prefix_error(&error, "the QEMU on the destination (%s) would not start the machine: ", here);
  if (stands_still)
    nc_destination_refuse(m, "failed", error);
  else
    nc_destination_lose(m, error);
  return false;
}

void
nc_destination_say_started(NcDestination *d)
{
  NcMigration *m = d->m;
  g_autoptr(GError) error = NULL;
  g_autoptr(GError) refusal = NULL;

  nc_destination_tell_started(d);
  /* In post-copy QEMU may wait for a page itself; others wait for us then. */
  int patience_ms = m->state == NC_D_FETCHING ? NC_ANNOUNCE_FETCHING_MS : NC_ANNOUNCE_MS;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  if (qmp && !nc_qemu_announce_self(qmp, patience_ms, &error) && (m->state != NC_D_FETCHING || error->code != NC_ERROR_TIMEOUT))
    nc_migration_note(m, "warning", "the machine could not announce itself to the network: %s", error->message);
  if (!nc_migration_run_hooks(m, "post-", &refusal)) /* it runs here all the same: the operator's network has to follow */
    nc_migration_note(m, "warning", "%s", refusal->message);
}

void
nc_destination_report_alive(NcDestination *d)
{
  NcMigration *m = d->m;
  g_autofree char *detail = NULL;
  bool alive = nc_destination_is_alive(d, &detail);

  nc_migration_note(m, alive ? "alive" : "not-alive", "%s", detail);
  nc_migration_tell(m, json_pack("{s:s, s:s, s:b, s:s}", "type", "mig_alive", "migration", m->id, "alive", alive, "detail", detail),
                    NULL);
}

/* The one place where the destination takes the right: durable first, then `cont`. In post-copy pages are still missing then. */
static void
nc_destination_take(NcDestination *d, bool postcopy)
{
  NcMigration *m = d->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  g_autoptr(GError) error = NULL;

  if (!qmp)
    nc_fail(&error, NC_ERROR_QEMU, "QEMU on the destination (%s) died before it could start the machine", nc_nodes_self(m->deps->nodes));
  else if (!postcopy || nc_destination_await_package(d, qmp, &error)) {
    nc_fault_point("destination-before-take");
    nc_migration_set(m, "postcopy", json_boolean(postcopy)); /* a crash must not make us forget that pages are missing */
    nc_migration_persist(m, false, NULL);
    nc_migration_move_right(m, NC_RIGHT_INCOMING, m->epoch, NC_RIGHT_HELD, m->epoch, &error);
  }
  if (error) {
    nc_destination_refuse(m, "failed", error);
    return;
  }
  nc_fault_point("destination-after-take");
  nc_migration_step(m, NC_EV_LOADED, NULL);
  if (d->running && !nc_destination_cont(d, qmp, postcopy))
    return;
  nc_destination_find_resume(d);
  nc_fault_point("destination-after-cont");
  nc_migration_step(m, postcopy ? NC_EV_CONT_POSTCOPY : NC_EV_CONT, d->running ? NULL : "paused, as it was at the source");
  d->running_since_us = nc_mono_us();
  nc_destination_say_started(d);
  if (!postcopy)
    nc_destination_report_alive(d);
}

static void
nc_destination_done(NcDestination *d)
{
  NcMigration *m = d->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);

  nc_migration_step(m, NC_EV_DONE, NULL);
  nc_destination_end_mover(m);
  if (qmp)
    nc_spare_monitor_end(qmp);
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  nc_migration_finish(m, "completed", NULL);
  /* Now the machine is free for whatever comes next: the source waits for this word. */
  nc_migration_tell(m, json_pack("{s:s, s:s}", "type", "mig_done", "migration", m->id), NULL);
}

static void
nc_destination_fail(NcDestination *d, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* What goes wrong before the start is a refusal; afterwards it is news for the log, the machine runs here. */
static void
nc_destination_fail(NcDestination *d, int code, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  if (d->m->state == NC_D_RECEIVING || d->m->state == NC_D_GRANTED) {
    g_autoptr(GError) error = g_error_new_literal(NC_ERROR, code, text);
    nc_destination_refuse(d->m, code == NC_ERROR_CANCELLED ? "cancelled" : "failed", error);
  } else {
    nc_migration_note(d->m, "warning", "%s", text);
  }
}

static void
nc_destination_on_qmp(NcDestination *d, json_t *event)
{
  const char *name = nc_json_string_or(event, "event", "");
  const char *status = nc_json_string_or(json_object_get(event, "data"), "status", "");

  d->unanswered = 0;
  if (!event && d->load_failed_us) {
    return; /* it gave up and left */
  } else if (!event && d->m->state == NC_D_FETCHING) {
    nc_destination_fetching_qemu_gone(d);
  } else if (!event) {
    g_autofree char *tail = nc_machine_lease_log_tail(d->m->lease);
    nc_destination_fail(d, NC_ERROR_QEMU, "the QEMU on the destination (%s) died: %s", nc_nodes_self(d->m->deps->nodes), tail);
  } else if (g_str_equal(name, "RESUME")) {
    d->resume_us = nc_qmp_event_us(event);
  } else if (g_str_equal(name, "MIGRATION") && g_str_equal(status, "completed")) {
    d->loaded = true;
  } else if (g_str_equal(name, "MIGRATION") && g_str_equal(status, "failed")) {
    d->load_failed_us = nc_mono_us();
  }
}

static void
nc_destination_load_failed(NcDestination *d)
{
  g_autofree char *tail = nc_machine_lease_log_tail(d->m->lease);
  d->load_failed_us = 0;
  nc_destination_fail(d, NC_ERROR_QEMU, "the QEMU on the destination (%s) could not load the machine: %s",
                      nc_nodes_self(d->m->deps->nodes), tail);
}

static void
nc_destination_on_grant(NcDestination *d, json_t *event)
{
  if ((uint64_t)nc_json_int_or(event, "epoch", -1) != d->m->epoch) {
    nc_destination_fail(d, NC_ERROR_PROTOCOL, "the grant is for another epoch than %" G_GUINT64_FORMAT, d->m->epoch);
    return;
  }
  nc_fault_point("destination-granted");
  d->granted = nc_migration_step(d->m, NC_EV_GRANT, nc_json_string_or(event, "sha256", ""));
}

static void
nc_destination_on_shut(NcDestination *d, json_t *event)
{
  int64_t status = nc_json_int_or(event, "status", -1);
  if (status != 0) {
    nc_destination_fail(d, NC_ERROR_QEMU, "the QEMU on the destination could not load the machine (it answered %" G_GINT64_FORMAT ")",
                        status);
    return;
  }
  d->shut = true;
  nc_migration_set(d->m, "sha256", json_string(nc_json_string_or(event, "sha256", "")));
  nc_migration_set(d->m, "stream_bytes", json_integer(nc_json_int_or(event, "stream_bytes", 0)));
}

static void
nc_destination_on_mover(NcDestination *d, json_t *event)
{
  const char *name = nc_json_string_or(event, "ev", "");

  if (!event || g_str_equal(name, "error")) {
    if (d->granted && d->shut)
      return; /* everything is here; the movers' connection is not needed any more */
    g_autoptr(GError) error = NULL;
    nc_migration_mover_error(d->m, event, &error);
    if (d->m->state == NC_D_FETCHING)
      nc_destination_fetching_mover_gone(d, error);
    else
      nc_destination_fail(d, error->code, "%s", error->message);
  } else if (g_str_equal(name, "progress")) {
    nc_migration_take_progress(d->m, event);
  } else if (g_str_equal(name, "lost")) {
    nc_migration_note(d->m, "connection-lost", "%d: %s", (int)nc_json_int_or(event, "index", -1), nc_json_string_or(event, "message", ""));
  } else if (g_str_equal(name, "ready")) {
    nc_migration_tell(d->m, json_pack("{s:s, s:s}", "type", "mig_ready", "migration", d->m->id), NULL);
  } else if (g_str_equal(name, "grant")) {
    nc_destination_on_grant(d, event);
  } else if (g_str_equal(name, "shut")) {
    nc_destination_on_shut(d, event);
  } else if (g_str_equal(name, "end")) {
    d->stream_ended = true;
  } else if (g_str_equal(name, "pong")) {
    d->package_loaded = d->package_loaded || nc_json_int_or(event, "value", 0) == NC_PONG_PACKAGE_LOADED;
  } else if (g_str_equal(name, "opaque")) {
    nc_migration_note(d->m, "opaque", "%s at byte %" G_GINT64_FORMAT, nc_json_string_or(event, "reason", ""),
                      nc_json_int_or(event, "offset", 0));
  }
}

static void
nc_destination_answer(NcDestination *d)
{
  NcMigration *m = d->m;
  if (m->state == NC_D_FETCHING) {
    nc_destination_tell_started(d);
  } else if (m->state == NC_D_RUNNING) {
    nc_destination_tell_started(d);
    nc_destination_report_alive(d);
  } else {
    nc_migration_tell(m, json_pack("{s:s, s:s}", "type", "mig_pending", "migration", m->id), NULL);
  }
}

static void
nc_destination_on_peer(NcDestination *d, json_t *message)
{
  const char *type = nc_json_string_or(message, "type", "");

  if (!message) {
    if (nc_migration_has_link(d->m))
      return; /* the source came back on a new connection before the old one's end was read */
    d->cut_off_since_us = nc_mono_us();
    nc_migration_note(d->m, "cut-off", "the connection to %s is gone", d->m->peer);
    return;
  }
  d->cut_off_since_us = 0;
  if (g_str_equal(type, "mig_abort")) {
    g_autoptr(GError) error = NULL;
    nc_error_set_json(&error, json_object_get(message, "error"));
    nc_destination_fail(d, error->code, "the source gave up: %s", error->message);
  } else if (g_str_equal(type, "mig_query")) {
    if (d->m->state == NC_D_RECEIVING && !nc_json_bool_or(message, "wire", true))
      nc_destination_fail(d, NC_ERROR_UNREACHABLE, "the mover on the source (%s) ended before everything was here", d->m->peer);
    else
      nc_destination_answer(d);
  } else if (g_str_equal(type, "mig_recover") && d->m->state == NC_D_FETCHING) {
    nc_destination_fetching_recover(d, message);
  } else if (g_str_equal(type, "mig_source_lost") && d->m->state == NC_D_FETCHING) {
    nc_destination_fetching_source_lost(d);
  } else if (g_str_equal(type, "mig_finished") && d->m->state == NC_D_RUNNING) {
    nc_destination_done(d);
  }
}

static void
nc_destination_check_time(NcDestination *d)
{
  int64_t now = nc_mono_us();
  bool waiting = d->m->state == NC_D_RECEIVING;

  if (d->load_failed_us && now - d->load_failed_us > NC_DEST_CAUSE_MS * INT64_C(1000))
    nc_destination_load_failed(d);
  else if (waiting && d->cut_off_since_us && now - d->cut_off_since_us > (d->path_timeout_ms + NC_DEST_PATIENCE_MS) * INT64_C(1000))
    nc_destination_fail(d, NC_ERROR_UNREACHABLE, "the source (%s) is cut off and had not released the machine", d->m->peer);
  else if (d->m->state == NC_D_RUNNING && d->cut_off_since_us &&
           now - MAX(d->cut_off_since_us, d->running_since_us) > NC_DEST_LINGER_MS * INT64_C(1000))
    nc_destination_done(d); /* the run right answers a source that asks later */
}

static void
nc_destination_handle(NcDestination *d, NcInboxItem *item)
{
  switch (item->source) {
  case NC_FROM_QMP:
    nc_destination_on_qmp(d, item->message);
    break;
  case NC_FROM_MOVER:
    nc_destination_on_mover(d, item->message);
    break;
  case NC_FROM_PEER:
    nc_destination_on_peer(d, item->message);
    break;
  case NC_FROM_CANCEL:
    nc_destination_fail(d, NC_ERROR_CANCELLED, "cancelled at the destination");
    break;
  case NC_FROM_RESOLVE:
    if (d->m->state == NC_D_FETCHING)
      nc_destination_fetching_give_up(d);
    break;
  case NC_FROM_LIMITS:
  case NC_FROM_QUIT:
    break;
  }
}

void
nc_destination_loop(NcDestination *d)
{
  NcMigration *m = d->m;
  while (!nc_migration_is_finished(m) && !g_atomic_int_get(&m->quitting)) {
    g_autoptr(NcInboxItem) item = nc_inbox_pop(m->inbox, NC_DEST_TICK_MS);
    if (item)
      nc_destination_handle(d, item);
    if (m->state == NC_D_GRANTED && d->shut && d->loaded)
      nc_destination_take(d, false);
    else if (m->state == NC_D_GRANTED && d->package_loaded)
      nc_destination_take(d, true);
    else if (m->state == NC_D_FETCHING)
      nc_destination_fetching_tick(d);
    if (!nc_migration_is_finished(m))
      nc_destination_check_time(d);
  }
}

typedef struct {
  NcMigration *m;
  json_t *request;
} NcDestinationStart;

static gpointer
nc_destination_thread(gpointer data)
{
  NcDestinationStart *start = data;
  NcMigration *m = start->m;
  NcDestination d = { .m = m, .running = nc_json_bool_or(start->request, "running", true) };
  d.path_timeout_ms = CLAMP(nc_json_int_or(start->request, "path_timeout_ms", 0), 0, NC_DEST_PATH_TIMEOUT_MAX_MS);
  g_autoptr(GError) error = NULL;

  if (!nc_destination_prepare(m, start->request, &error)) {
    g_prefix_error(&error, "the destination (%s) can't receive %s: ", nc_nodes_self(m->deps->nodes), m->vm);
    nc_destination_refuse(m, "failed", error);
  } else {
    nc_migration_tell(m, json_pack("{s:s, s:s}", "type", "mig_prepared", "migration", m->id), NULL);
    nc_destination_loop(&d);
  }
  json_decref(start->request);
  g_free(start);
  if (!nc_migration_is_finished(m) && (m->state == NC_D_RECEIVING || m->state == NC_D_GRANTED)) {
    nc_fail(&error, NC_ERROR_CANCELLED, "novacrond on the destination (%s) is stopping", nc_nodes_self(m->deps->nodes));
    nc_destination_refuse(m, "failed", error);
  }
  return NULL;
}

static json_t *
nc_destination_record(const char *id, const char *vm, const char *source, const char *here, json_t *request)
{
  g_autofree char *now = nc_time_format(nc_wall_us());
  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:I, s:s, s:s, s:I, s:n, s:n}", "id", id, "vm", vm, "source",
                   source, "destination", here, "role", "destination", "state", "receiving", "phase", "prepare", "outcome",
                   "epoch", (json_int_t)nc_json_int_or(request, "epoch", 0), "created", now, "started", now, "max_downtime_ms",
                   (json_int_t)nc_json_int_or(request, "max_downtime_ms", 0), "attention", "error");
}

/* The run right must allow it: nobody may receive what it holds, and an epoch is used once. */
static bool
nc_destination_claim_epoch(NcMigration *m, const NcRight *present, GError **error)
{
  if (present->state == NC_RIGHT_HELD || present->state == NC_RIGHT_INCOMING)
    return nc_fail(error, NC_ERROR_CONFLICT, "the destination (%s) %s a machine named %s: destroy or rename one of them",
                   nc_nodes_self(m->deps->nodes), present->state == NC_RIGHT_HELD ? "already runs" : "is already receiving", m->vm);
  if (present->epoch >= m->epoch)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "the destination (%s) knows epoch %" G_GUINT64_FORMAT " of %s, the source offers %" G_GUINT64_FORMAT
                   ": try again, the source will choose a higher one",
                   nc_nodes_self(m->deps->nodes), present->epoch, m->vm, m->epoch);
  return nc_migration_move_right(m, present->state, present->epoch, NC_RIGHT_INCOMING, m->epoch, error);
}

static bool
nc_destination_check_node(const NcMigrationsDeps *deps, json_t *spec_json, GError **error)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(spec_json, error);
  if (!spec)
    return false;
  uint64_t reserved = nc_machines_reserved_bytes(deps->machines);
  if (!nc_suitability_check(spec, deps->config->qemu_binary, reserved, error)) {
    g_prefix_error(error, "the destination (%s) can't run this machine: ", nc_nodes_self(deps->nodes));
    return false;
  }
  return true;
}

NcMigration *
nc_destination_migration_start(const NcMigrationsDeps *deps, const char *peer_node, json_t *message, NcPeer *peer,
                               GError **error)
{
  const char *id = nc_json_string(message, "migration", error);
  const char *vm = id ? nc_json_string(message, "vm", error) : NULL;
  json_t *spec = json_object_get(message, "spec");
  int64_t epoch, streams;
  NcRight present;

  if (!vm || !nc_json_int(message, "epoch", 1, INT64_MAX, &epoch, error) ||
      !nc_json_int(message, "streams", 1, NC_MIG_MAX_STREAMS, &streams, error))
    return NULL;
  if (!nc_name_is_valid(vm) || !nc_name_is_valid(id) || !json_is_object(spec)) {
    nc_fail(error, NC_ERROR_PROTOCOL, "the migration's id, machine name or specification is malformed");
    return NULL;
  }
  if (!nc_journal_get_right(deps->journal, vm, &present, error) || !nc_destination_check_node(deps, spec, error))
    return NULL;

  NcMigration *m = nc_migration_new(deps, false, id, vm, peer_node, (uint64_t)epoch,
                                    nc_destination_record(id, vm, peer_node, nc_nodes_self(deps->nodes), message));
  nc_migration_set(m, "was_running", json_boolean(nc_json_bool_or(message, "running", true)));
  if (!nc_destination_claim_epoch(m, &present, error)) {
    nc_migration_free(m);
    return NULL;
  }
  m->lease = nc_machines_lease_incoming(deps->machines, spec, id, error);
  if (!m->lease || !nc_migration_persist(m, true, error)) {
    g_autoptr(GError) problem = NULL;
    if (!nc_migration_move_right(m, NC_RIGHT_INCOMING, m->epoch, NC_RIGHT_REFUSED, m->epoch, &problem))
      nc_log(NC_LOG_ERR, "agent", "%s", problem->message);
    if (m->lease)
      nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_DISCARD);
    nc_migration_free(m);
    return NULL;
  }
  NcDestinationStart *start = g_new0(NcDestinationStart, 1);
  start->m = m;
  start->request = json_incref(message);
  nc_migration_lend_link(m, peer);
  nc_migration_borrow(m);
  m->thread = g_thread_new("mig-destination", nc_destination_thread, start);
  return m;
}

bool
nc_destination_migration_conn(NcMigration *m, unsigned index, int fd, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  if (!m->mover)
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s has no mover here", m->id);
  return nc_mover_process_send(m->mover, json_pack("{s:s, s:i}", "op", "conn", "index", (int)index), fd, error);
}

/* The record says how far it was, and QEMU whether pages are still missing, unless it waits for one of them itself. */
static bool
nc_destination_is_fetching(NcQmp *qmp, json_t *record)
{
  switch (qmp ? nc_qemu_migration_status(qmp) : NC_QEMU_MIGRATION_NONE) {
  case NC_QEMU_MIGRATION_POSTCOPY:
  case NC_QEMU_MIGRATION_POSTCOPY_PAUSED:
  case NC_QEMU_MIGRATION_POSTCOPY_RECOVER:
    return true;
  case NC_QEMU_MIGRATION_NONE:
    return nc_json_bool_or(record, "postcopy", false);
  default:
    return false;
  }
}

static gpointer
nc_destination_fetching_thread(gpointer data)
{
  NcDestination *d = data;
  nc_destination_loop(d);
  g_free(d);
  return NULL;
}

/* It runs here, and the source's QEMU has pages that it needs: the source will ask, and begin a recovery. */
static void
nc_destination_recover_fetching(NcMigration *m, bool running, bool runs)
{
  NcDestination *d = g_new0(NcDestination, 1);

  d->m = m;
  d->running = running;
  d->to_cont = running && !runs;
  d->granted = true;
  d->broken = true;
  d->cut_off_since_us = nc_mono_us();
  m->state = NC_D_FETCHING;
  nc_migration_set(m, "state", json_string(nc_handoff_state_name(m->state)));
  nc_migration_set(m, "phase", json_string(nc_handoff_phase(m->state)));
  nc_migration_note(m, "recovered", "novacrond was restarted in post-copy: waiting for %s, which has the missing pages", m->peer);
  nc_migration_watch_qemu(m);
  m->thread = g_thread_new("mig-fetching", nc_destination_fetching_thread, d);
}

/* All is here, and it runs: only the source has yet to hear of it. */
static void
nc_destination_recover_arrived(NcMigration *m, NcQmp *qmp)
{
  nc_qemu_announce_self(qmp, NC_ANNOUNCE_MS, NULL);
  nc_spare_monitor_end(qmp);
  m->state = NC_D_RUNNING;
  nc_migration_step(m, NC_EV_DONE, "novacrond was restarted; the machine runs here");
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  nc_migration_finish(m, "completed", NULL);
}

/* HELD: the machine is ours; whether `cont` was sent before the crash or not, it must run now. */
static void
nc_destination_recover_held(NcMigration *m)
{
  g_autoptr(GError) error = NULL;
  m->lease = nc_machines_lease_resume(m->deps->machines, m->vm, m->id, &error);
  NcQmp *qmp = m->lease ? nc_machine_lease_qmp(m->lease) : NULL;

  nc_autojson json_t *record = nc_migration_snapshot(m);
  bool paused = !nc_json_bool_or(record, "was_running", true);
  bool fetching = m->lease && nc_machine_lease_is_alive(m->lease) && nc_destination_is_fetching(qmp, record);
  bool runs = qmp && (paused || nc_qemu_is_running(qmp) || nc_qemu_cont(qmp, &error));
  if (fetching && nc_machine_lease_is_alive(m->lease)) {
    nc_destination_recover_fetching(m, !paused, runs);
    return;
  }
  if (runs) {
    nc_destination_recover_arrived(m, qmp);
    return;
  }
  if (!error)
    nc_fail(&error, NC_ERROR_QEMU, "%s was taken over here (%s), but its QEMU is gone", m->vm, nc_nodes_self(m->deps->nodes));
  if (m->lease)
    nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  m->state = NC_D_COMPLETED;
  nc_migration_finish(m, "failed", error);
}

void
nc_destination_migration_recover(NcMigration *m, const NcRight *right)
{
  g_autoptr(GError) error = NULL;
  nc_fail(&error, NC_ERROR_INTERNAL, "novacrond on the destination (%s) was restarted in the middle", nc_nodes_self(m->deps->nodes));

  if (right->epoch == m->epoch && right->state == NC_RIGHT_HELD) {
    nc_destination_recover_held(m);
  } else if (right->epoch == m->epoch && right->state == NC_RIGHT_INCOMING) {
    g_autoptr(GError) problem = NULL;
    m->lease = nc_machines_lease_resume(m->deps->machines, m->vm, m->id, &problem);
    if (!m->lease)
      nc_log(NC_LOG_WARNING, "agent", "migration %s: %s", m->id, problem->message);
    m->state = NC_D_RECEIVING;
    nc_destination_refuse(m, "failed", error);
  } else {
    m->state = NC_D_REFUSED;
    nc_migration_finish(m, "failed", error);
  }
}
