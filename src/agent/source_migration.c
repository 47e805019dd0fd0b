/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of an outgoing migration: its beginning, its course, its recovery. */
#include "agent/source_migration.h"
#include "agent/source_checkpoint.h"
#include "agent/source_retry.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/tcp.h"
#include "qemu/migration_qmp.h"

#define NC_QMP_RECOVER_MS 15000
#define NC_QMP_PATIENCE_MS 2000

static NcSource *
nc_source_new(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  NcSource *s = g_new0(NcSource, 1);
  s->m = m;
  s->address = nc_nodes_address(m->deps->nodes, m->peer, NULL);
  s->max_downtime_ms = (int)nc_json_int_or(record, "max_downtime_ms", m->deps->config->max_downtime_ms);
  s->streams = (int)nc_json_int_or(record, "streams", m->deps->config->streams);
  s->compression = g_strdup(nc_json_string_or(record, "compression", m->deps->config->compression));
  nc_algorithm_from_name(nc_json_string_or(record, "algorithm", ""), &s->algorithm);
  s->postcopy = nc_json_bool_or(record, "postcopy", false); /* of a migration that a crash cut short */
  s->max_cpu = (int)nc_json_int_or(record, "max_cpu", m->deps->config->max_cpu);
  s->held_epoch = (uint64_t)nc_json_int_or(record, "held_epoch", 0);
  s->was_running = nc_json_bool_or(record, "was_running", true);
  s->clock_offset_us = nc_json_int_or(record, "clock_offset_us", 0);
  s->stop_us = nc_json_int_or(record, "stop_us", 0);
  s->listener = -1;
  s->path = nc_source_path_new(m);
  s->forecast = nc_source_forecast_new(m);
  nc_migration_want_back(m, false); /* a word that came too late for an earlier attempt is not about this one */
  return s;
}

static void
nc_source_free(NcSource *s)
{
  nc_fd_clear(&s->listener);
  nc_page_feed_free(s->page_feed);
  nc_keeper_free(s->keeper);
  nc_keeper_free(s->preempt_keeper);
  nc_source_disks_free(s->disks);
  nc_source_path_free(s->path);
  nc_source_forecast_free(s->forecast);
  g_free(s->address);
  g_free(s->compression);
  g_free(s);
}

/* One attempt, from PREPARING to its end. */
static void
nc_source_attempt(NcMigration *m)
{
  NcSource *s = nc_source_new(m);
  g_autoptr(GError) error = NULL;

  s->started_us = nc_mono_us();
  if (!nc_source_prepare(s, &error))
    nc_source_abort(s, error);
  nc_source_copy(s);
  nc_source_await_verdict(s);
  nc_migration_end_endgame(m);
  nc_source_free(s);
}

static gpointer
nc_source_thread(gpointer data)
{
  NcMigration *m = data;

  if (m->state == NC_S_PREPARING && nc_source_checkpoint_take(m))
    nc_source_attempt(m);
  while (m->state == NC_S_WAITING && nc_source_await_retry(m))
    if (nc_source_checkpoint_take(m)) /* once: true at once if it is there */
      nc_source_attempt(m);
  return NULL;
}

void
nc_source_migration_start(NcMigration *m)
{
  m->thread = g_thread_new("mig-source", nc_source_thread, m);
}

static gpointer
nc_source_verdict_thread(gpointer data)
{
  NcSource *s = data;
  NcMigration *m = s->m;
  nc_source_await_verdict(s);
  nc_source_free(s);
  return nc_source_thread(m);
}

/* The right is ours: whatever the crash left of the migration is undone, and the machine runs on here. */
static void
nc_source_recover_held(NcSource *s)
{
  NcMigration *m = s->m;
  g_autoptr(GError) error = NULL;
  nc_fail(&error, NC_ERROR_INTERNAL, "novacrond on the source (%s) was restarted in the middle; %s runs on there",
          nc_nodes_self(m->deps->nodes), m->vm);
  m->state = NC_S_COPYING;
  nc_source_abort(s, error);
  nc_source_free(s);
  if (m->state == NC_S_WAITING)
    nc_source_migration_start(m);
}

/*
 * A QEMU that was blocked answers soon after its socket is drained; the machines' timer is not running yet. In post-copy it is
 * drained only if QEMU does not answer for ${patience_ms}: then it was writing device state, and the destination has not got it all.
 */
static void
nc_source_await_qmp(NcMigration *m, NcKeeper *keeper, int patience_ms)
{
  int64_t deadline = nc_mono_us() + NC_QMP_RECOVER_MS * INT64_C(1000);
  int64_t patience = nc_mono_us() + patience_ms * INT64_C(1000);
  while (!nc_machine_lease_qmp(m->lease) && nc_machine_lease_is_alive(m->lease) && nc_mono_us() < deadline) {
    g_usleep(100000);
    if (keeper && nc_mono_us() > patience)
      nc_keeper_drain(keeper);
  }
}

/* The ways to go and the channels that were agreed on: a flow that has to be taken up again takes those. */
static void
nc_source_restore_flow(NcSource *s, json_t *record)
{
  NcQmp *qmp = nc_machine_lease_qmp(s->m->lease);
  const char *text = nc_json_string_or(record, "paths", "");
  g_auto(GStrv) paths = nc_tcp_paths_parse(text[0] || !s->address ? text : s->address);

  if (paths && paths[0])
    nc_source_path_set(s->path, (const char *const *)paths, (unsigned)s->streams);
  s->preempt = s->postcopy && qmp && nc_qemu_has_preempt_channel(qmp);
}

void
nc_source_migration_recover(NcMigration *m, const NcRight *right)
{
  NcSource *s = nc_source_new(m);
  g_autoptr(GError) error = NULL;

  nc_autojson json_t *record = nc_migration_snapshot(m);
  if (right->state == NC_RIGHT_HELD && g_str_equal(nc_json_string_or(record, "state", ""), nc_handoff_state_name(NC_S_WAITING))) {
    m->state = NC_S_WAITING; /* between two attempts nothing is under way */
    nc_source_free(s);
    nc_source_migration_start(m);
    return;
  }
  if (right->state == NC_RIGHT_HELD && nc_source_checkpoint_settle(m)) {
    nc_source_free(s);
    return;
  }
  s->keeper = g_steal_pointer(&m->keeper);
  m->lease = nc_machines_lease_resume(m->deps->machines, m->vm, m->id, &error);
  if (!m->lease && right->state == NC_RIGHT_HELD && nc_source_rollback_settle(s)) {
    nc_source_free(s);
    if (m->state == NC_S_WAITING)
      nc_source_migration_start(m);
    return;
  }
  if (!m->lease) {
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s", m->id, error->message);
    m->state = NC_S_FAILED;
    nc_migration_finish(m, "failed", error);
    nc_source_free(s);
    return;
  }
  bool released = right->state == NC_RIGHT_RELEASED && right->epoch == m->epoch;
  nc_source_await_qmp(m, s->keeper, released ? NC_QMP_PATIENCE_MS : 0);
  nc_migration_watch_qemu(m);
  if (released) {
    m->state = NC_S_RELEASED;
    nc_migration_set(m, "state", json_string(nc_handoff_state_name(m->state)));
    nc_migration_set(m, "phase", json_string(nc_handoff_phase(m->state)));
    nc_migration_note(m, "recovered", "novacrond was restarted after the release: asking %s", m->peer);
    nc_migration_permit_start(m, nc_mono_us()); /* the novacrond before us may have, just before it ended */
    nc_source_restore_flow(s, record);
    nc_source_path_lost_session(s->path);
    m->thread = g_thread_new("mig-verdict", nc_source_verdict_thread, s);
  } else {
    nc_source_recover_held(s);
  }
}
