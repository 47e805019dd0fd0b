/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's migration, by QMP: capabilities, parameters, commands, state.
 *
 * QEMUs differ: 7.2 is the floor, newer ones know more. What a migration of ours
 * needs is set explicitly, what would disturb it is switched off explicitly,
 * what a QEMU does not know is left alone; only what we can't do without is an error
 * when missing. All functions block for QEMU's answer and may be called from any
 * thread. Errors: NC_ERROR_QEMU.
 */
#pragma once

#include "qemu/qmp.h"

typedef enum {
  NC_QEMU_MIGRATION_NONE,
  NC_QEMU_MIGRATION_SETUP,
  NC_QEMU_MIGRATION_ACTIVE,
  NC_QEMU_MIGRATION_PRE_SWITCHOVER,
  NC_QEMU_MIGRATION_DEVICE,
  NC_QEMU_MIGRATION_POSTCOPY,
  NC_QEMU_MIGRATION_COMPLETED,
  NC_QEMU_MIGRATION_FAILED,
  NC_QEMU_MIGRATION_CANCELLING,
  NC_QEMU_MIGRATION_CANCELLED,
  NC_QEMU_MIGRATION_OTHER, /* a state of a newer QEMU: under way */
  NC_QEMU_MIGRATION_STATUS_COUNT
} NcQemuMigrationStatus;

typedef struct {
  uint64_t max_bandwidth_bps; /* bytes per second; 0: no limit of ours */
  uint32_t downtime_limit_ms;
} NcQemuMigrationParams;

/* What query-migrate says; numbers that QEMU does not give are 0. */
typedef struct {
  NcQemuMigrationStatus status;
  char *error_desc;      /* owned; NULL if none */
  char *blocked_reasons; /* owned; "; " between; NULL if none */
  uint64_t total_ms, downtime_ms, expected_downtime_ms;
  uint64_t ram_total_bytes, ram_remaining_bytes, ram_transferred_bytes;
  uint64_t ram_normal_pages, ram_duplicate_pages, ram_page_size;
  uint64_t dirty_sync_count;
  uint64_t dirty_pages_rate; /* pages per second */
  double ram_mbps;           /* megabits per second, by QEMU's own measure */
} NcQemuMigrationInfo;

bool nc_qemu_migration_setup_source(NcQmp *qmp, const NcQemuMigrationParams *params, GError **error);
bool nc_qemu_migration_setup_destination(NcQmp *qmp, GError **error);

/* On success ${ret} must be cleared. */
bool nc_qemu_migration_query(NcQmp *qmp, NcQemuMigrationInfo *ret, GError **error);
void nc_qemu_migration_info_clear(NcQemuMigrationInfo *info);
/* Not idle and not at an end. False also if QEMU does not answer. */
bool nc_qemu_migration_is_under_way(NcQmp *qmp);

/* `migrate` to the UNIX socket ${path}; returns when QEMU has begun. */
bool nc_qemu_migrate(NcQmp *qmp, const char *path, GError **error);
/* Listens at the UNIX socket ${path}; once per QEMU. */
bool nc_qemu_migrate_incoming(NcQmp *qmp, const char *path, GError **error);
bool nc_qemu_migrate_cancel(NcQmp *qmp, GError **error);
/* From pre-switchover on to the device state. */
bool nc_qemu_migrate_continue(NcQmp *qmp, GError **error);
bool nc_qemu_set_downtime_limit(NcQmp *qmp, uint32_t limit_ms, GError **error);

bool nc_qemu_cont(NcQmp *qmp, GError **error);
/* The guest runs. False also if QEMU does not answer. */
bool nc_qemu_is_running(NcQmp *qmp);
/* Has every NIC announce itself, five times over about two seconds, so that switches learn the new port. */
bool nc_qemu_announce_self(NcQmp *qmp, GError **error);
/* QEMU keeps a duplicate of ${fd} under ${name} until closefd. */
bool nc_qemu_getfd(NcQmp *qmp, const char *name, int fd, GError **error);
bool nc_qemu_closefd(NcQmp *qmp, const char *name, GError **error);
