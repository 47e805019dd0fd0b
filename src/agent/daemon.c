/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/daemon.h"
#include "agent/alerts.h"
#include "agent/attempts.h"
#include "agent/audit.h"
#include "agent/checkpoint_steps.h"
#include "agent/checkpoints.h"
#include "agent/control.h"
#include "agent/disk_chain.h"
#include "agent/fleet_call.h"
#include "agent/fleet_desk.h"
#include "agent/list_page.h"
#include "agent/machines.h"
#include "agent/metrics_view.h"
#include "agent/migration_reports.h"
#include "agent/migrations.h"
#include "agent/node_look.h"
#include "agent/node_store.h"
#include "agent/nodes.h"
#include "agent/peer_server.h"
#include "agent/rollbacks.h"
#include "agent/start_check.h"
#include "agent/store_work.h"
#include "agent/tokens.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "qemu/help.h"

#include <glib-unix.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

typedef struct {
  NcConfig *config; /* borrowed */
  GMainLoop *loop;
  NcJournal *journal;
  NcNodes *nodes;
  NcAudit *audit;
  NcMachines *machines;
  NcBandwidth *bandwidth;
  NcKeptShadows *kept_shadows;
  NcMetrics *metrics;
  NcMetricsView metrics_view;
  NcAlerts *alerts;
  NcMigrationsDeps deps;
  NcMigrations *migrations;
  NcAttempts attempts;
  NcStartCheck start_check;
  NcFleetSide fleet_side;
  NcFleetDiskLook *disk_look;
  NcFleetHost *fleet; /* NULL: no controller here */
  NcFleetDesk *desk;
  NcFleetCaller *fleet_caller;
  NcTokens *tokens;
  NcRollbacks *rollbacks;
  NcPageStore *store; /* NULL: it could not be opened */
  NcCheckpoints *checkpoints;
  NcStoreWork *store_work;
  NcNodeLook node_look;
  NcRollbackSteps steps; /* of the checkpoints, for rollbacks */
  NcPeerServer *server;
  NcControl *control;
} NcDaemon;

/* The table of the control socket wants one type for all. */
#define NC_OP(name, type, func)                                                                                                  \
  static json_t *nc_op_##name(gpointer object, const char *actor, json_t *args, GError **error)                                  \
  {                                                                                                                              \
    return func((type *)object, args, error);                                                                                    \
  }
/* A list, of whose items ${key} is the name. */
#define NC_LIST_OP(name, type, func, key)                                                                                        \
  static json_t *nc_op_##name(gpointer object, const char *actor, json_t *args, GError **error)                                  \
  {                                                                                                                              \
    return nc_list_page(func((type *)object, args, error), key, args, error);                                                    \
  }
#define NC_TOKEN_OP(name)                                                                                                        \
  static json_t *nc_op_token_##name(gpointer object, const char *actor, json_t *args, GError **error)                            \
  {                                                                                                                              \
    return nc_tokens_##name((NcTokens *)object, actor, args, error);                                                             \
  }

NC_OP(node_info, NcNodes, nc_nodes_info)
NC_LIST_OP(node_list, NcNodes, nc_nodes_list, "name")
NC_OP(node_checks, NcNodeLook, nc_node_look)
NC_OP(node_token, NcNodes, nc_nodes_token)
NC_OP(node_remove, NcNodes, nc_nodes_remove)
NC_OP(node_renew, NcNodes, nc_nodes_renew)
NC_OP(node_metrics, NcMetricsView, nc_metrics_view)
NC_OP(alert_list, NcAlerts, nc_alerts_list)
NC_OP(alert_watch, NcAlerts, nc_alerts_watch)
NC_OP(machine_define, NcMachines, nc_machines_define)
NC_LIST_OP(machine_list, NcMachines, nc_machines_list, "name")
NC_OP(machine_get, NcMachines, nc_machines_get)
NC_OP(machine_start, NcMachines, nc_machines_start)
NC_OP(machine_stop, NcMachines, nc_machines_stop)
NC_OP(machine_destroy, NcMachines, nc_machines_destroy)
NC_OP(machine_adopt, NcMachines, nc_machines_adopt)
NC_OP(audit_list, NcAudit, nc_audit_list)
NC_OP(audit_verify, NcAudit, nc_audit_verify)
NC_OP(checkpoint_create, NcCheckpoints, nc_checkpoints_create)
NC_LIST_OP(checkpoint_list, NcCheckpoints, nc_checkpoints_list, "id")
NC_OP(checkpoint_get, NcCheckpoints, nc_checkpoints_get)
NC_OP(checkpoint_verify, NcCheckpoints, nc_checkpoints_verify)
NC_OP(checkpoint_restore, NcCheckpoints, nc_checkpoints_restore)
NC_OP(checkpoint_copy, NcCheckpoints, nc_checkpoints_copy)
NC_OP(checkpoint_cancel, NcCheckpoints, nc_checkpoints_cancel)
NC_OP(checkpoint_delete, NcCheckpoints, nc_checkpoints_delete)
NC_OP(checkpoint_schedule, NcCheckpoints, nc_checkpoints_schedule)
NC_OP(store_status, NcStoreWork, nc_store_work_status)
NC_OP(store_verify, NcStoreWork, nc_store_work_verify)
NC_OP(store_gc, NcStoreWork, nc_store_work_gc)
NC_OP(store_cancel, NcStoreWork, nc_store_work_cancel)
NC_OP(migration_create, NcMigrations, nc_migrations_create)
NC_OP(migration_check, NcMigrations, nc_migrations_check)
NC_OP(migration_plan, NcMigrations, nc_migrations_plan)
NC_OP(migration_list, NcMigrations, nc_migration_reports_list)
NC_OP(migration_status, NcMigrations, nc_migration_reports_status)
NC_OP(migration_metrics, NcMigrations, nc_migration_reports_metrics)
NC_OP(migration_dashboard, NcMigrations, nc_migration_reports_dashboard)
NC_OP(migration_watch, NcMigrations, nc_migration_reports_watch)
NC_OP(migration_get, NcMigrations, nc_migrations_get)
NC_OP(migration_cancel, NcMigrations, nc_migrations_cancel)
NC_OP(migration_limit, NcMigrations, nc_migrations_limit)
NC_OP(migration_resolve, NcMigrations, nc_migrations_resolve)
NC_OP(attempt_begin, NcAttempts, nc_attempts_begin)
NC_OP(attempt_cancel, NcAttempts, nc_attempts_cancel)
NC_OP(attempt_ask, NcAttempts, nc_attempts_ask)
NC_OP(attempt_limit, NcAttempts, nc_attempts_limit)
NC_OP(migration_rollback, NcRollbacks, nc_rollbacks_start)
NC_TOKEN_OP(create)
NC_TOKEN_OP(revoke)
NC_TOKEN_OP(check)

static json_t *
nc_op_token_list(gpointer object, const char *actor, json_t *args, GError **error)
{
  return nc_list_page(nc_tokens_list(object, actor, args, error), "id", args, error);
}

#define NC_NODE_OPS 53
#define NC_DAEMON_OPS (NC_NODE_OPS + NC_FLEET_OPS + 1) /* and the row that ends the table */

static void
nc_daemon_fill_ops(NcDaemon *d, NcControlOp ops[NC_DAEMON_OPS])
{
  const NcControlOp table[NC_NODE_OPS] = {
    { "node.info", nc_op_node_info, d->nodes, NC_ROLE_VIEWER, NULL },
    { "node.list", nc_op_node_list, d->nodes, NC_ROLE_VIEWER, NULL },
    { "node.checks", nc_op_node_checks, &d->node_look, NC_ROLE_VIEWER, NULL },
    { "node.token", nc_op_node_token, d->nodes, NC_ROLE_ADMIN, NULL },
    { "node.remove", nc_op_node_remove, d->nodes, NC_ROLE_ADMIN, NULL },
    { "node.renew", nc_op_node_renew, d->nodes, NC_ROLE_ADMIN, NULL },
    { "node.metrics", nc_op_node_metrics, &d->metrics_view, NC_ROLE_VIEWER, NULL },
    { "alert.list", nc_op_alert_list, d->alerts, NC_ROLE_VIEWER, NULL },
    { "alert.watch", nc_op_alert_watch, d->alerts, NC_ROLE_VIEWER, NULL },
    { "machine.define", nc_op_machine_define, d->machines, NC_ROLE_ADMIN, NULL },
    { "machine.list", nc_op_machine_list, d->machines, NC_ROLE_VIEWER, NULL },
    { "machine.get", nc_op_machine_get, d->machines, NC_ROLE_VIEWER, NULL },
    { "machine.start", nc_op_machine_start, d->machines, NC_ROLE_OPERATOR, "take" },
    { "machine.stop", nc_op_machine_stop, d->machines, NC_ROLE_OPERATOR, NULL },
    { "machine.destroy", nc_op_machine_destroy, d->machines, NC_ROLE_ADMIN, NULL },
    { "machine.adopt", nc_op_machine_adopt, d->machines, NC_ROLE_ADMIN, NULL },
    { "audit.list", nc_op_audit_list, d->audit, NC_ROLE_VIEWER, NULL },
    { "audit.verify", nc_op_audit_verify, d->audit, NC_ROLE_VIEWER, NULL },
    { "checkpoint.create", nc_op_checkpoint_create, d->checkpoints, NC_ROLE_OPERATOR, NULL },
    { "machine.checkpoints", nc_op_checkpoint_list, d->checkpoints, NC_ROLE_VIEWER, NULL },
    { "checkpoint.list", nc_op_checkpoint_list, d->checkpoints, NC_ROLE_VIEWER, NULL },
    { "checkpoint.get", nc_op_checkpoint_get, d->checkpoints, NC_ROLE_VIEWER, NULL },
    { "checkpoint.verify", nc_op_checkpoint_verify, d->checkpoints, NC_ROLE_OPERATOR, NULL },
    { "checkpoint.restore", nc_op_checkpoint_restore, d->checkpoints, NC_ROLE_ADMIN, NULL },
    { "checkpoint.copy", nc_op_checkpoint_copy, d->checkpoints, NC_ROLE_OPERATOR, NULL },
    { "checkpoint.cancel", nc_op_checkpoint_cancel, d->checkpoints, NC_ROLE_OPERATOR, NULL },
    { "checkpoint.delete", nc_op_checkpoint_delete, d->checkpoints, NC_ROLE_ADMIN, NULL },
    { "checkpoint.schedule", nc_op_checkpoint_schedule, d->checkpoints, NC_ROLE_ADMIN, NULL },
    { "store.status", nc_op_store_status, d->store_work, NC_ROLE_VIEWER, NULL },
    { "store.verify", nc_op_store_verify, d->store_work, NC_ROLE_OPERATOR, NULL },
    { "store.gc", nc_op_store_gc, d->store_work, NC_ROLE_OPERATOR, NULL },
    { "store.cancel", nc_op_store_cancel, d->store_work, NC_ROLE_OPERATOR, NULL },
    { "migration.create", nc_op_migration_create, d->migrations, NC_ROLE_OPERATOR, NULL },
    { "migration.check", nc_op_migration_check, d->migrations, NC_ROLE_OPERATOR, NULL },
    { "migration.plan", nc_op_migration_plan, d->migrations, NC_ROLE_OPERATOR, NULL },
    { "migration.list", nc_op_migration_list, d->migrations, NC_ROLE_VIEWER, NULL },
    { "migration.status", nc_op_migration_status, d->migrations, NC_ROLE_VIEWER, NULL },
    { "migration.metrics", nc_op_migration_metrics, d->migrations, NC_ROLE_VIEWER, NULL },
    { "migration.dashboard", nc_op_migration_dashboard, d->migrations, NC_ROLE_VIEWER, NULL },
    { "migration.watch", nc_op_migration_watch, d->migrations, NC_ROLE_VIEWER, NULL },
    { "migration.get", nc_op_migration_get, d->migrations, NC_ROLE_VIEWER, NULL },
    { "migration.cancel", nc_op_migration_cancel, d->migrations, NC_ROLE_OPERATOR, NULL },
    { "migration.limit", nc_op_migration_limit, d->migrations, NC_ROLE_OPERATOR, NULL },
    { "migration.rollback", nc_op_migration_rollback, d->rollbacks, NC_ROLE_OPERATOR, "checkpoint to_checkpoint" } /* which end a guest that runs */,
    { "migration.resolve", nc_op_migration_resolve, d->migrations, NC_ROLE_ADMIN, NULL },
    { "attempt.begin", nc_op_attempt_begin, &d->attempts, NC_ROLE_ADMIN, NULL },
    { "attempt.cancel", nc_op_attempt_cancel, &d->attempts, NC_ROLE_ADMIN, NULL },
    { "attempt.ask", nc_op_attempt_ask, &d->attempts, NC_ROLE_VIEWER, NULL },
    { "attempt.limit", nc_op_attempt_limit, &d->attempts, NC_ROLE_ADMIN, NULL },
    { "token.create", nc_op_token_create, d->tokens, NC_ROLE_ADMIN, NULL },
    { "token.list", nc_op_token_list, d->tokens, NC_ROLE_ADMIN, NULL },
    { "token.revoke", nc_op_token_revoke, d->tokens, NC_ROLE_ADMIN, NULL },
    { "token.check", nc_op_token_check, d->tokens, NC_ROLE_VIEWER, NULL }, /* the gate's own question */
  };
  for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
    ops[i] = table[i];
  nc_fleet_desk_fill_ops(d->desk, ops + NC_NODE_OPS);
  ops[NC_DAEMON_OPS - 1] = (NcControlOp){ 0 };
}

static gboolean
nc_daemon_on_stop(gpointer data)
{
  NcDaemon *d = data;
  nc_log(NC_LOG_NOTICE, "agent", "novacrond stops; the machines of this node run on");
  sd_notify(0, "STOPPING=1");
  g_main_loop_quit(d->loop);
  return G_SOURCE_CONTINUE;
}

static gboolean
nc_daemon_on_reload(gpointer data)
{
  NcDaemon *d = data;
  g_autofree char *waiting = NULL;
  g_autoptr(GError) error = NULL;

  sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" G_GINT64_FORMAT, nc_mono_us());
  if (!nc_config_reload(d->config, &waiting, &error)) {
    nc_log(NC_LOG_ERR, "agent", "reload: %s; the configuration stays as it was", error->message);
  } else {
    nc_bandwidth_reload(d->bandwidth);
    nc_log_init("novacrond", (NcLogFormat)d->config->log_format, (NcLogLevel)d->config->log_level);
    nc_log(NC_LOG_NOTICE, "agent", "configuration reloaded from %s", d->config->path);
  }
  if (waiting)
    nc_log(NC_LOG_WARNING, "agent", "reload: changed, but needs a restart of novacrond: %s", waiting);
  g_clear_error(&error);
  if (!nc_nodes_reload(d->nodes, &error))
    nc_log(NC_LOG_ERR, "agent", "reload: %s; the certificate and roster in use stay as they were", error->message);
  sd_notify(0, "READY=1");
  return G_SOURCE_CONTINUE;
}

static gboolean
nc_daemon_on_watchdog(gpointer data)
{
  sd_notify(0, "WATCHDOG=1");
  return G_SOURCE_CONTINUE;
}

static bool
nc_daemon_make_directories(const NcConfig *config, GError **error)
{
  return nc_mkdir_p(config->data_dir, 0700, error) && nc_mkdir_p(config->run_dir, 0755, error) &&
         nc_mkdir_p(config->qemu_log_dir, 0750, error);
}

/* A node whose store can't be opened does everything else. */
static void
nc_daemon_open_store(NcDaemon *d)
{
  g_autoptr(GError) error = NULL;

  d->store = nc_node_store_open(d->config, &error);
  if (!d->store)
    nc_log(NC_LOG_ERR, "agent", "no checkpoints on this node: %s", error->message);
  const NcCheckpointsDeps deps = { .config = d->config,
                                   .journal = d->journal,
                                   .machines = d->machines,
                                   .nodes = d->nodes,
                                   .store = d->store,
                                   .store_problem = error ? error->message : NULL };
  d->checkpoints = nc_checkpoints_new(&deps);
  d->store_work = nc_store_work_new(d->config, d->store, deps.store_problem, d->checkpoints);
}

/* What is on disk and what runs on this node, before anybody is let in. */
static bool
nc_daemon_load(NcDaemon *d, GError **error)
{
  g_autofree char *path = g_build_filename(d->config->data_dir, "journal.db", NULL);

  if (!nc_daemon_make_directories(d->config, error) || !(d->journal = nc_journal_open(path, error)))
    return false;
  if (!(d->nodes = nc_nodes_new(d->config, d->journal, error))) {
    if (error && g_error_matches(*error, NC_ERROR, NC_ERROR_NOT_FOUND))
      g_prefix_error(error, "run `novacron pki init` for a new cluster, or `novacrond join` to join one: ");
    return false;
  }
  d->config->node = g_intern_string(nc_nodes_self(d->nodes));
  if (!(d->audit = nc_audit_new(d->config, d->journal, d->nodes, error)))
    return false;
  nc_audit_note(d->audit, "node.started", json_pack("{s:s, s:s}", "node", d->config->node, "version", NC_VERSION));
  if (!(d->machines = nc_machines_new(d->config, d->journal, error)))
    return false;
  d->start_check = (NcStartCheck){ .nodes = d->nodes, .journal = d->journal, .machines = d->machines };
  nc_machines_set_start_check(d->machines, nc_start_check, &d->start_check);
  nc_daemon_open_store(d);
  d->bandwidth = nc_bandwidth_new(d->config);
  d->kept_shadows = nc_kept_shadows_new(d->config);
  d->metrics = nc_metrics_new();
  const NcAlertsDeps alerts = { .config = d->config, .journal = d->journal, .nodes = d->nodes, .store_work = d->store_work };
  d->alerts = nc_alerts_new(&alerts);
  d->deps = (NcMigrationsDeps){
    .config = d->config, .journal = d->journal, .machines = d->machines, .nodes = d->nodes, .bandwidth = d->bandwidth, .audit = d->audit,
    .kept_shadows = d->kept_shadows, .checkpoints = d->checkpoints, .metrics = d->metrics, .alerts = d->alerts
  };
  d->migrations = nc_migrations_new(&d->deps);
  d->metrics_view = (NcMetricsView){ .metrics = d->metrics, .migrations = d->migrations, .machines = d->machines, .nodes = d->nodes,
                                     .store_work = d->store_work };
  d->node_look = (NcNodeLook){ .config = d->config, .nodes = d->nodes, .store_work = d->store_work, .migrations = d->migrations };
  d->attempts = (NcAttempts){ .journal = d->journal, .migrations = d->migrations };
  d->fleet_side = (NcFleetSide){ .config = d->config,
                                 .journal = d->journal,
                                 .nodes = d->nodes,
                                 .machines = d->machines,
                                 .attempts = &d->attempts,
                                 .disk_look = d->disk_look = nc_fleet_disk_look_new() };
  d->steps = nc_checkpoint_steps(d->checkpoints);
  d->rollbacks = nc_rollbacks_new(&d->deps, d->migrations, &d->steps);
  nc_checkpoints_unblock(d->checkpoints);
  nc_migrations_unblock(d->migrations); /* or reconciling would wait for QEMUs that can't answer */
  return nc_machines_reconcile(d->machines, error);
}

static void
nc_daemon_unload(NcDaemon *d)
{
  nc_disk_digests_stop();
  if (d->machines)
    nc_machines_stop_waiting(d->machines);
  if (d->rollbacks)
    nc_rollbacks_stop_waiting(d->rollbacks);
  if (d->desk)
    nc_fleet_desk_stop(d->desk);
  nc_control_free(d->control);
  nc_tokens_free(d->tokens);
  nc_fleet_caller_free(d->fleet_caller);
  nc_fleet_host_hang_up(d->fleet);
  nc_peer_server_free(d->server);
  nc_fleet_desk_free(d->desk);
  nc_fleet_host_free(d->fleet); /* nobody asks it any more, here or from elsewhere */
  nc_fleet_disk_look_free(d->disk_look);
  nc_rollbacks_free(d->rollbacks);
  nc_alerts_stop(d->alerts);
  nc_migrations_free(d->migrations);
  nc_alerts_free(d->alerts);
  nc_store_work_free(d->store_work);
  nc_metrics_free(d->metrics);
  nc_checkpoints_free(d->checkpoints);
  nc_page_store_close(d->store);
  nc_kept_shadows_free(d->kept_shadows);
  nc_bandwidth_free(d->bandwidth);
  nc_machines_free(d->machines);
  if (d->audit)
    nc_audit_note(d->audit, "node.stopped", NULL);
  nc_audit_free(d->audit);
  nc_nodes_free(d->nodes);
  nc_journal_close(d->journal);
}

/* The first migration to this node need not wait for QEMU's lists. */
static gpointer
nc_daemon_learn_qemu(gpointer data)
{
  g_autofree char *binary = data;
  g_autofree char *machines = nc_qemu_help(binary, "-machine");
  g_autofree char *cpus = machines ? nc_qemu_help(binary, "-cpu") : NULL;

  if (!cpus)
    nc_log(NC_LOG_WARNING, "agent", "%s does not tell what machine types and CPU models it has (set qemu_binary)", binary);
  return NULL;
}

static void
nc_daemon_loop(NcDaemon *d)
{
  uint64_t watchdog_us = 0;

  if (sd_watchdog_enabled(0, &watchdog_us) > 0)
    g_timeout_add((guint)MAX(watchdog_us / 3000, 100), nc_daemon_on_watchdog, NULL);
  nc_log(NC_LOG_NOTICE, "agent", "novacrond %s: node %s of cluster %s, listening on %s", NC_VERSION, d->config->node,
         nc_trust_cluster(nc_nodes_trust(d->nodes)), d->config->listen);
  sd_notify(0, "READY=1");
  g_thread_unref(g_thread_new("learn-qemu", nc_daemon_learn_qemu, g_strdup(d->config->qemu_binary)));
  g_main_loop_run(d->loop);
}

/* Before anything else: a signal during the start must not end us in the middle of it. It is handled when the loop runs. */
static void
nc_daemon_catch_signals(NcDaemon *d)
{
  d->loop = g_main_loop_new(NULL, FALSE);
  g_unix_signal_add(SIGTERM, nc_daemon_on_stop, d);
  g_unix_signal_add(SIGINT, nc_daemon_on_stop, d);
  g_unix_signal_add(SIGHUP, nc_daemon_on_reload, d);
  signal(SIGPIPE, SIG_IGN);
}

bool
nc_daemon_run(NcConfig *config, GError **error)
{
  NcDaemon d = { .config = config };
  NcControlOp ops[NC_DAEMON_OPS];

  nc_daemon_catch_signals(&d);
  bool ok = nc_daemon_load(&d, error);
  if (ok) {
    /* Recovery before the port: who asks about an unfinished migration must find it. */
    nc_checkpoints_claim(d.checkpoints); /* before a migration's next attempt takes a machine that stands still for a checkpoint */
    nc_migrations_recover(d.migrations);
    nc_checkpoints_recover(d.checkpoints); /* before rollbacks, which use them */
    nc_rollbacks_recover(d.rollbacks);
    nc_machines_release_orphans(d.machines);
    nc_alerts_start(d.alerts, d.migrations);
    if (config->controller)
      d.fleet = nc_fleet_host_new(&d.fleet_side, d.metrics);
    d.tokens = nc_tokens_new(d.journal, d.fleet);
    d.desk = nc_fleet_desk_new(&d.fleet_side, d.fleet);
    nc_daemon_fill_ops(&d, ops);
    ok = (d.server = nc_peer_server_new(config, d.nodes, d.migrations, d.checkpoints, d.rollbacks, d.desk, d.fleet, error)) &&
         (d.control = nc_control_new(config, d.journal, ops, error));
  }
  if (ok) {
    d.fleet_caller = nc_fleet_caller_new(&d.fleet_side);
    nc_daemon_loop(&d);
  }
  nc_daemon_unload(&d);
  g_main_loop_unref(d.loop);
  return ok;
}
