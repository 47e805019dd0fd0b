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
#include "base/fault.h"
#include "base/ident.h"
#include "qemu/migration_qmp.h"

/* Beyond the source's path_timeout_ms, how long it waits for a source that is cut off: so that it is the source that gives up. */
#define NC_DEST_PATIENCE_MS 2000
#define NC_DEST_PATH_TIMEOUT_MAX_MS 86400000
/* After the start: how long it keeps the mover for a source that does not come back to finish. */
#define NC_DEST_LINGER_MS 30000
/*
 * After the grant, with no mover or no QEMU at the source any more: what is here is loaded in much less, unless QEMU waits for a page
 * (post-copy: devices look into the guest's memory when they are loaded). Nothing has been taken, so the source can have it back.
 */
#define NC_DEST_LOAD_MS 10000
#define NC_DEST_TICK_MS 200
/* QEMU's "failed" may be read before the word of the mover whose death is the cause: so long it is given to speak. */
#define NC_DEST_CAUSE_MS 500
/* QEMU's last PING in the package with the device state (reference, section 1.4). */
#define NC_PONG_PACKAGE_LOADED 3

static void
nc_destination_fail(NcDestination *d, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

static bool
nc_destination_has_not_taken(const NcDestination *d)
{
  return d->m->state == NC_D_RECEIVING || d->m->state == NC_D_GRANTED;
}

/* What goes wrong before the start is a refusal; afterwards it is news for the log, the machine runs here. */
static void
nc_destination_fail(NcDestination *d, int code, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  if (nc_destination_has_not_taken(d)) {
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
  if (!event && d->m->state == NC_D_FETCHING) { /* also if it said "failed" before: nobody else would notice */
    nc_destination_fetching_qemu_gone(d);
  } else if (!event && d->load_failed_us) {
    return; /* it gave up and left */
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

/* Only one that has started, and died since, is nothing that we could still be about. */
static void
nc_destination_on_let_go(NcDestination *d, json_t *message)
{
  NcMigration *m = d->m;
  bool died = m->state == NC_D_RUNNING && !nc_machine_lease_is_alive(m->lease);

  if (died) {
    nc_destination_done(d, false);
    nc_migration_tell(m, nc_destination_let_go(m->deps, m->peer, message), NULL);
    return;
  }
  g_autofree char *detail = g_strdup_printf("the migration is still under way there (%s)", nc_handoff_phase(m->state));
  nc_migration_tell(m, nc_destination_say_holds(m->id, detail), NULL);
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
    bool wire = nc_json_bool_or(message, "wire", true);
    if (!wire && d->wire_gone_us == 0)
      d->wire_gone_us = nc_mono_us();
    if (d->m->state == NC_D_RECEIVING && !wire)
      nc_destination_fail(d, NC_ERROR_UNREACHABLE, "the mover on the source (%s) ended before everything was here", d->m->peer);
    else
      nc_destination_answer(d);
  } else if (g_str_equal(type, "mig_let_go")) {
    nc_destination_on_let_go(d, message);
  } else if (g_str_equal(type, "mig_recover") && d->m->state == NC_D_FETCHING) {
    nc_destination_fetching_recover(d, message);
  } else if (g_str_equal(type, "mig_source_lost") && (nc_destination_has_not_taken(d) || d->m->state == NC_D_FETCHING)) {
    nc_destination_source_lost(d);
  } else if (g_str_equal(type, "mig_finished") && d->m->state == NC_D_RUNNING) {
    nc_destination_done(d, true);
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
  else if (d->m->state == NC_D_GRANTED && d->wire_gone_us && now - d->wire_gone_us > NC_DEST_LOAD_MS * INT64_C(1000))
    nc_destination_fail(d, NC_ERROR_UNREACHABLE,
                        "the mover on the source (%s) ended, and the QEMU here does not come to its start: it waits for a page that is still there",
                        d->m->peer);
  else if (nc_destination_has_not_taken(d) && d->source_lost_us && now - d->source_lost_us > NC_DEST_LOAD_MS * INT64_C(1000))
    nc_destination_fail(d, NC_ERROR_QEMU,
                        "the QEMU on the source (%s) died in post-copy, and the QEMU here does not come to its start: it waits for a page that died with it",
                        d->m->peer);
  else if (d->m->state == NC_D_RUNNING && d->cut_off_since_us &&
           now - MAX(d->cut_off_since_us, d->running_since_us) > NC_DEST_LINGER_MS * INT64_C(1000))
    nc_destination_done(d, false); /* the run right answers a source that asks later */
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
  if (!nc_migration_is_finished(m) && nc_destination_has_not_taken(&d)) {
    nc_fail(&error, NC_ERROR_CANCELLED, "novacrond on the destination (%s) is stopping", nc_nodes_self(m->deps->nodes));
    nc_destination_refuse(m, "failed", error);
  }
  return NULL;
}

void
nc_destination_begin(NcMigration *m, json_t *request)
{
  NcDestinationStart *start = g_new0(NcDestinationStart, 1);
  start->m = m;
  start->request = json_incref(request);
  m->thread = g_thread_new("mig-destination", nc_destination_thread, start);
}
