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
  NC_QEMU_MIGRATION_POSTCOPY_PAUSED, /* its connection broke: it waits for another one */
  NC_QEMU_MIGRATION_POSTCOPY_RECOVER, /* and is taking that up */
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
  bool postcopy;     /* nc_qemu_start_postcopy() will be allowed; both sides must say the same */
  bool preempt;      /* with it, a second connection for pages that are asked for (nc_qemu_preempt_is_sound()); both sides the same */
  bool may_throttle; /* nc_qemu_set_throttle() will be allowed */
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
  uint64_t throttle_percent; /* of its time, taken from the guest now */
  double ram_mbps;           /* megabits per second, by QEMU's own measure */
} NcQemuMigrationInfo;

bool nc_qemu_migration_setup_source(NcQmp *qmp, const NcQemuMigrationParams *params, GError **error);
bool nc_qemu_migration_setup_destination(NcQmp *qmp, bool postcopy, bool preempt, GError **error);
/*
 * Whether the channel for requested pages (postcopy-preempt) may be used with this QEMU as the source. Before 8.0 QEMU goes back to the
 * main channel at the end of an iteration without forgetting which RAM block it sent last on the other one (7.2, migration/ram.c,
 * postcopy_preempt_reset_channel()): the next page can say CONTINUE on a channel whose last block is another, and the destination
 * puts it there.
 */
bool nc_qemu_preempt_is_sound(NcQmp *qmp);
/* It is set up: QEMU makes and takes a second connection for the answers to page requests. */
bool nc_qemu_has_preempt_channel(NcQmp *qmp);

/* This QEMU has post-copy; whether a machine can use it shows when it is set up. Also before a migration, and changes nothing. */
bool nc_qemu_knows_postcopy(NcQmp *qmp);
/* The guest's memory, plugged in or there from the beginning; 0 if QEMU does not say. */
uint64_t nc_qemu_memory_bytes(NcQmp *qmp);

/* On success ${ret} must be cleared. */
bool nc_qemu_migration_query(NcQmp *qmp, NcQemuMigrationInfo *ret, GError **error);
/* The same, waiting for ${timeout_ms} only. QEMU 7.2 takes eight unanswered commands; then it reads none any more, out of band or not. */
bool nc_qemu_migration_query_for(NcQmp *qmp, int timeout_ms, NcQemuMigrationInfo *ret, GError **error);
void nc_qemu_migration_info_clear(NcQemuMigrationInfo *info);
/* QEMU's word for it; "a state unknown here" for NC_QEMU_MIGRATION_OTHER. */
const char *nc_qemu_migration_status_name(NcQemuMigrationStatus status);
/* Not idle and not at an end. */
bool nc_qemu_migration_status_is_under_way(NcQemuMigrationStatus status);
/* The same, asked for. True also if QEMU lives and does not answer: then nobody knows. */
bool nc_qemu_migration_is_under_way(NcQmp *qmp);

/* `migrate` to the UNIX socket ${path}; returns when QEMU has begun. */
bool nc_qemu_migrate(NcQmp *qmp, const char *path, GError **error);
/* `migrate` to a descriptor that QEMU has got by nc_qemu_getfd(); it is QEMU's from now on. */
bool nc_qemu_migrate_fd(NcQmp *qmp, const char *name, GError **error);
/* Listens at the UNIX socket ${path}; once per QEMU. */
bool nc_qemu_migrate_incoming(NcQmp *qmp, const char *path, GError **error);
bool nc_qemu_migrate_cancel(NcQmp *qmp, GError **error);
/*
 * To post-copy: QEMU stops the guest and goes to pre-switchover when it next comes by, and after migrate-continue to
 * postcopy-active. Any time after migrate.
 */
bool nc_qemu_start_postcopy(NcQmp *qmp, GError **error);
/*
 * Recovery of post-copy, when both are postcopy-paused (QEMU, docs/devel/migration: "postcopy recovery"): first the destination listens
 * at a new ${path}, then the source connects to one of its own. QEMU answers recover also while the guest's devices wait for pages.
 */
bool nc_qemu_migrate_recover(NcQmp *qmp, const char *path, GError **error);
bool nc_qemu_migrate_resume(NcQmp *qmp, const char *path, GError **error);
/* Breaks the connection, so that postcopy-paused is reached. */
bool nc_qemu_migrate_pause(NcQmp *qmp, GError **error);
/* The status alone; NC_QEMU_MIGRATION_NONE if QEMU does not answer. */
NcQemuMigrationStatus nc_qemu_migration_status(NcQmp *qmp);
/* From pre-switchover on to the device state. */
bool nc_qemu_migrate_continue(NcQmp *qmp, GError **error);
bool nc_qemu_set_downtime_limit(NcQmp *qmp, uint32_t limit_ms, GError **error);
/* Of its stream, before any coding, while memory goes in rounds; 0: none. */
bool nc_qemu_set_max_bandwidth(NcQmp *qmp, uint64_t bps, GError **error);

/*
 * From 1 to 99 percent of its time are taken from the guest as soon as QEMU finds, in two of its periods of a second, that it
 * dirties memory; to the end of the migration.
 */
bool nc_qemu_set_throttle(NcQmp *qmp, int percent, GError **error);

/* Has QEMU look for a second at some pages of the guest, whether they change. Disturbs nothing; also before a migration. */
bool nc_qemu_sample_dirty_rate(NcQmp *qmp, GError **error);
/* What it has seen, bytes per second; false while it looks, and if it can't. */
bool nc_qemu_sampled_dirty_rate(NcQmp *qmp, uint64_t *ret_bps);

bool nc_qemu_cont(NcQmp *qmp, GError **error);
/*
 * The same at the source, after a migration that failed or was cancelled. QEMU calls it ended a little before it leaves the run state
 * finish-migrate, in which it refuses `cont` (QEMU, qmp_cont): so it is told again, for ${timeout_ms}, until the guest runs.
 */
bool nc_qemu_cont_after_migration(NcQmp *qmp, int timeout_ms, GError **error);
/* The guest runs. False also if QEMU does not answer. */
bool nc_qemu_is_running(NcQmp *qmp);
/* The guest can be told to run: QEMU has loaded what it needs for that. False also if it does not answer. */
bool nc_qemu_is_loaded(NcQmp *qmp);
/* The guest stands still: QEMU says so. False also if it does not answer. */
bool nc_qemu_is_stopped(NcQmp *qmp);
/*
 * Has every NIC announce itself, five times over about two seconds, so that switches learn the new port. With NC_ERROR_TIMEOUT it
 * will, as soon as its main loop comes to it.
 */
bool nc_qemu_announce_self(NcQmp *qmp, int timeout_ms, GError **error);
/* QEMU keeps a duplicate of ${fd} under ${name} until closefd. */
bool nc_qemu_getfd(NcQmp *qmp, const char *name, int fd, GError **error);
bool nc_qemu_closefd(NcQmp *qmp, const char *name, GError **error);
