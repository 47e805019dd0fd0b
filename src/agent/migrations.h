/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All migrations of this node, outgoing and incoming.
 *
 * Each migration runs in a thread of its own on each side, as sequential code
 * (docs/decisions/003): source_migration.c and destination_migration.c. This
 * is the register that starts them, finds them, lists them (running ones from
 * memory, finished ones from the journal), cancels them, and picks up the
 * unfinished ones after a restart. Thread-safe throughout.
 */
#pragma once

#include "agent/alerts.h"
#include "agent/audit.h"
#include "agent/bandwidth.h"
#include "agent/checkpoints.h"
#include "agent/config.h"
#include "agent/kept_shadows.h"
#include "agent/machines.h"
#include "agent/metrics.h"
#include "agent/nodes.h"
#include "crypto/peer.h"
#include "store/journal.h"

/* What migrations need of the rest of novacrond; all borrowed, all outlive the register. */
typedef struct {
  const NcConfig *config;
  NcJournal *journal;
  NcMachines *machines;
  NcNodes *nodes;
  NcBandwidth *bandwidth;
  NcAudit *audit;
  NcKeptShadows *kept_shadows;
  NcCheckpoints *checkpoints;
  NcMetrics *metrics;
  NcAlerts *alerts; /* NULL: nobody is told */
} NcMigrationsDeps;

NcMigrations *nc_migrations_new(const NcMigrationsDeps *deps);

/*
 * Before nc_machines_reconcile(): takes QEMUs' migration sockets back and drains
 * them (agent/keeper.h), so that QEMUs that an earlier novacrond left in their
 * last phase answer QMP again.
 */
void nc_migrations_unblock(NcMigrations *migrations);

/*
 * Picks up what an earlier novacrond left unfinished (design section 5): call
 * once, after nc_machines_reconcile() and before the listeners open. Migrations
 * before release end with the machine running here; after release they go on
 * asking the destination.
 */
void nc_migrations_recover(NcMigrations *migrations);

/* Ends the threads; machines and unfinished handoffs stay as they are, for nc_migrations_recover(). */
void nc_migrations_free(NcMigrations *migrations);

/* The control socket's migration.* operations (docs/protocols.md section 5). New references. */
json_t *nc_migrations_create(NcMigrations *migrations, json_t *args, GError **error);
/* The same under the id ${id}, which nobody else has: so that one who was interrupted can tell whether it exists. NULL: a new one. */
json_t *nc_migrations_create_as(NcMigrations *migrations, const char *id, json_t *args, GError **error);
/* The same as a controller's attempt of that name, which the first write uses up. NC_ERROR_CONFLICT: it is used already. */
json_t *nc_migrations_create_attempt(NcMigrations *migrations, const char *name, json_t *args, GError **error);
/* One that is under way: to the running source, as cancel does; NC_ERROR_CONFLICT says what is possible instead (agent/rollbacks.h). */
json_t *nc_migrations_roll_back(NcMigrations *migrations, json_t *args, GError **error);
/* agent/preflight.h */
json_t *nc_migrations_check(NcMigrations *migrations, json_t *args, GError **error);
/* agent/plan.h; the same arguments as create, of which it heeds what it foresees */
json_t *nc_migrations_plan(NcMigrations *migrations, json_t *args, GError **error);
/* One record without its history; the running one's from memory. */
json_t *nc_migrations_record(NcMigrations *migrations, const char *id, GError **error);
/* false: it has ended, and its last event is in the journal; or nobody knows it. */
bool nc_migrations_is_under_way(NcMigrations *migrations, const char *id);
/* The records of all that have not ended, from memory. New reference. */
json_t *nc_migrations_running(NcMigrations *migrations);
/* A page of records as in the journal (nc_journal_page_migrations), the running ones' from memory. */
json_t *nc_migrations_page(NcMigrations *migrations, int64_t before, unsigned limit, GArray *ret_rows, GError **error);
/* Of one migration, nc_journal_page_events() and nc_journal_page_events_back(). */
json_t *nc_migrations_page_events(NcMigrations *migrations, const char *id, int64_t after, unsigned limit, GError **error);
json_t *nc_migrations_page_events_back(NcMigrations *migrations, const char *id, int64_t before, unsigned limit, GError **error);
json_t *nc_migrations_get(NcMigrations *migrations, json_t *args, GError **error);
json_t *nc_migrations_cancel(NcMigrations *migrations, json_t *args, GError **error);
/* Of a fleet's attempt: beside what the controller allots, the lower one counts; nc_migrations_allot() does not take it away. */
json_t *nc_migrations_limit(NcMigrations *migrations, json_t *args, GError **error);
/* The controller lets attempt ${id} have ${rate_bps}; 0: as much as there is. False: it is not under way. */
bool nc_migrations_allot(NcMigrations *migrations, const char *id, int64_t rate_bps, GError **error);
json_t *nc_migrations_resolve(NcMigrations *migrations, json_t *args, GError **error);
/*
 * A controller has said something about ${id}, if ${says}, whether its last round may begin (agent/endgame.h). True: it asks for that, or has it and
 * has not given it back. False of what is not under way.
 */
bool nc_migrations_hear_controller(NcMigrations *migrations, const char *id, bool says, bool is_granted);

/*
 * A mover's TCP connection whose preface named ${migration_id}: writes the one
 * answer byte and hands ${fd} (taken in any case) to that migration's mover.
 * false: no such incoming migration; the descriptor is closed.
 */
bool nc_migrations_accept_conn(NcMigrations *migrations, const char *migration_id, unsigned index, int fd, GError **error);

/*
 * Serves one migration session on an authenticated peer connection whose first
 * message ("mig_...") was already read; returns when the session has ended.
 * ${peer} and ${first_message} are borrowed.
 */
void nc_migrations_serve_peer(NcMigrations *migrations, NcPeer *peer, json_t *first_message);
