/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket's operations that look at migrations and change nothing
 * (docs/protocols.md section 5): lists with filters and pages, status, metrics,
 * the dashboard, and what happened since. Their cost is bounded, whatever the
 * journal holds; no lock is held for longer than a page. Thread-safe.
 */
#pragma once

#include "agent/migrations.h"

/* migration.list: {items, next}, newest first. New reference. */
json_t *nc_migration_reports_list(NcMigrations *migrations, json_t *args, GError **error);
json_t *nc_migration_reports_status(NcMigrations *migrations, json_t *args, GError **error);
json_t *nc_migration_reports_metrics(NcMigrations *migrations, json_t *args, GError **error);
/* Of the newest migrations of this node, NC_DASHBOARD_WINDOW at most. */
json_t *nc_migration_reports_dashboard(NcMigrations *migrations, json_t *args, GError **error);
/*
 * migration.watch: {id, events, last, more, ended, progress}: what happened behind event `since` (migration_views.h), a page of it.
 * `ended`: nothing will be added to these events.
 */
json_t *nc_migration_reports_watch(NcMigrations *migrations, json_t *args, GError **error);
