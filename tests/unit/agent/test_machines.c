/* SPDX-License-Identifier: Apache-2.0 */
/* Leases and definitions without a QEMU: who is refused, and what a crash leaves behind. */
#include "agent/machines.h"

#include <glib/gstdio.h>
#include <string.h>

typedef struct {
  char *dir;
  char *journal_path;
  NcConfig *config;
  NcJournal *journal;
  NcMachines *machines;
} Fixture;

static void
open_all(Fixture *f)
{
  g_autoptr(GError) error = NULL;
  f->journal = nc_journal_open(f->journal_path, &error);
  g_assert_no_error(error);
  f->machines = nc_machines_new(f->config, f->journal, &error);
  g_assert_true(nc_machines_reconcile(f->machines, &error));
  g_assert_no_error(error);
}

static void
close_all(Fixture *f)
{
  g_clear_pointer(&f->machines, nc_machines_free);
  g_clear_pointer(&f->journal, nc_journal_close);
}

static void
reopen(Fixture *f)
{
  close_all(f);
  open_all(f);
}

static void
setup(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  f->dir = g_dir_make_tmp("nc-machines-XXXXXX", &error);
  f->journal_path = g_build_filename(f->dir, "journal.db", NULL);
  g_autofree char *text = g_strdup_printf("node = host-a\nrun_dir = %s\nqemu_log_dir = %s\ndata_dir = %s\n", f->dir, f->dir, f->dir);
  f->config = nc_config_parse("test", text, &error);
  g_assert_no_error(error);
  open_all(f);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  static const char *const names[] = { "journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock", "machines" };
  close_all(f);
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(f->dir, names[i], NULL);
    g_remove(path);
  }
  g_rmdir(f->dir);
  nc_config_free(f->config);
  g_free(f->journal_path);
  g_free(f->dir);
}

static json_t *
spec(void)
{
  return json_pack("{s:s, s:i, s:i}", "name", "web1", "vcpus", 1, "memory_mib", 64);
}

static void
define(Fixture *f, bool take, int expected_code)
{
  nc_autojson json_t *args = json_pack("{s:o, s:b}", "spec", spec(), "take", take);
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *machine = nc_machines_define(f->machines, args, &error);
  if (expected_code < 0)
    g_assert_no_error(error);
  else
    g_assert_error(error, NC_ERROR, expected_code);
}

typedef json_t *(*Operation)(NcMachines *machines, json_t *args, GError **error);

/* NULL error text: it must work. */
static void
operate(Fixture *f, Operation operation, int expected_code, const char *expected_text)
{
  nc_autojson json_t *args = json_pack("{s:s}", "name", "web1");
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *machine = operation(f->machines, args, &error);
  if (!expected_text) {
    g_assert_no_error(error);
    return;
  }
  g_assert_error(error, NC_ERROR, expected_code);
  g_test_message("%s", error->message);
  g_assert_nonnull(strstr(error->message, expected_text));
}

/* The state of web1; "" if it is not there. */
static char *
state(Fixture *f)
{
  nc_autojson json_t *args = json_pack("{s:s}", "name", "web1");
  nc_autojson json_t *machine = nc_machines_get(f->machines, args, NULL);
  return g_strdup(nc_json_string_or(machine, "state", ""));
}

#define assert_state(f, expected)                                                                                                \
  do {                                                                                                                           \
    g_autofree char *is = state(f);                                                                                              \
    g_assert_cmpstr(is, ==, expected);                                                                                           \
  } while (0)

static void
set_right(Fixture *f, NcRightState to, uint64_t epoch, NcRightState from, uint64_t from_epoch)
{
  g_autoptr(GError) error = NULL;
  NcRight right = { .vm = "web1", .epoch = epoch, .state = to, .peer = "host-b", .migration = "m-1" };
  nc_journal_set_right(f->journal, &right, from, from_epoch, &error);
  g_assert_no_error(error);
}

static NcMachineLease *
lease_incoming(Fixture *f)
{
  nc_autojson json_t *json = spec();
  g_autoptr(GError) error = NULL;
  NcMachineLease *lease = nc_machines_lease_incoming(f->machines, json, "m-1", &error);
  g_assert_no_error(error);
  return lease;
}

static void
leased_machine_is_nobodys_business(Fixture *f, gconstpointer data)
{
  NcMachineLease *lease = lease_incoming(f);
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *json = spec();

  assert_state(f, "incoming");
  g_assert_cmpuint(nc_machines_promised_bytes(f->machines), ==, 64 << 20);
  g_assert_cmpuint(nc_machines_reserved_bytes(f->machines), ==, (64 + (uint64_t)f->config->memory_reserve_mib) << 20);
  operate(f, nc_machines_start, NC_ERROR_CONFLICT, "m-1");
  operate(f, nc_machines_stop, NC_ERROR_CONFLICT, "m-1");
  operate(f, nc_machines_destroy, NC_ERROR_CONFLICT, "m-1");
  define(f, true, NC_ERROR_EXISTS);
  g_assert_null(nc_machines_lease(f->machines, "web1", "m-2", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_clear_error(&error);
  g_assert_null(nc_machines_lease_incoming(f->machines, json, "m-2", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  g_clear_error(&error);
  g_assert_null(nc_machines_lease_resume(f->machines, "web1", "m-1", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_assert_null(nc_machine_lease_qmp(lease));
  g_assert_cmpint(nc_machine_lease_pid(lease), ==, 0);
  g_assert_false(nc_machine_lease_is_alive(lease));
  g_assert_true(nc_machine_lease_kill_qemu(lease, NULL));
  nc_machine_lease_end(lease, NC_LEASE_DISCARD);
  assert_state(f, "");
  g_assert_cmpuint(nc_machines_promised_bytes(f->machines), ==, 0);
}

static void
arrived_machine_is_ours(Fixture *f, gconstpointer data)
{
  NcMachineLease *lease = lease_incoming(f);
  set_right(f, NC_RIGHT_HELD, 3, NC_RIGHT_NONE, 0);
  nc_machine_lease_end(lease, NC_LEASE_ARRIVED);
  assert_state(f, "stopped"); /* there was no QEMU */
  reopen(f);
  assert_state(f, "stopped");
  operate(f, nc_machines_destroy, 0, NULL);
}

static void
moved_machine_says_where(Fixture *f, gconstpointer data)
{
  NcMachineLease *lease = lease_incoming(f);
  set_right(f, NC_RIGHT_RELEASED, 3, NC_RIGHT_NONE, 0);
  nc_machine_lease_end(lease, NC_LEASE_GONE);
  assert_state(f, "moved");
  reopen(f);
  assert_state(f, "moved");
  operate(f, nc_machines_start, NC_ERROR_CONFLICT, "host-b");
  define(f, false, NC_ERROR_CONFLICT);
  assert_state(f, "moved");

  /* It comes back, and does not arrive: still moved. */
  nc_machine_lease_end(lease_incoming(f), NC_LEASE_DISCARD);
  assert_state(f, "moved");
  reopen(f);
  assert_state(f, "moved");
  /* It comes back. */
  nc_machine_lease_end(lease_incoming(f), NC_LEASE_ARRIVED);
  assert_state(f, "stopped");
}

static void
moved_machine_can_be_taken(Fixture *f, gconstpointer data)
{
  NcMachineLease *lease = lease_incoming(f);
  NcRight right;
  set_right(f, NC_RIGHT_RELEASED, 3, NC_RIGHT_NONE, 0);
  nc_machine_lease_end(lease, NC_LEASE_GONE);
  define(f, true, -1);
  assert_state(f, "stopped");
  g_assert_true(nc_journal_get_right(f->journal, "web1", &right, NULL));
  g_assert_cmpint(right.state, ==, NC_RIGHT_HELD);
  g_assert_cmpuint(right.epoch, ==, 4);
}

static void
start_needs_the_right(Fixture *f, gconstpointer data)
{
  define(f, false, -1);
  set_right(f, NC_RIGHT_RELEASED, 2, NC_RIGHT_HELD, 1);
  operate(f, nc_machines_start, NC_ERROR_CONFLICT, "moved from node host-a to host-b");
  set_right(f, NC_RIGHT_INCOMING, 3, NC_RIGHT_RELEASED, 2);
  operate(f, nc_machines_start, NC_ERROR_CONFLICT, "host-b");
  set_right(f, NC_RIGHT_REFUSED, 3, NC_RIGHT_INCOMING, 3);
  operate(f, nc_machines_start, NC_ERROR_CONFLICT, "host-b");
}

static void
stopped_machine_is_not_migrated(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  define(f, false, -1);
  g_assert_null(nc_machines_lease(f->machines, "web1", "m-1", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_assert_nonnull(strstr(error->message, "not running"));
  g_clear_error(&error);
  g_assert_null(nc_machines_lease(f->machines, "web2", "m-1", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  operate(f, nc_machines_destroy, 0, NULL); /* the refused lease left nothing behind */
}

static void
lease_survives_a_restart(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  nc_machine_lease_abandon(lease_incoming(f));
  reopen(f);
  assert_state(f, "incoming");
  operate(f, nc_machines_destroy, NC_ERROR_CONFLICT, "m-1");
  g_assert_null(nc_machines_lease_resume(f->machines, "web1", "m-2", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  NcMachineLease *lease = nc_machines_lease_resume(f->machines, "web1", "m-1", NULL);
  g_assert_nonnull(lease);
  nc_machines_release_orphans(f->machines); /* not an orphan */
  assert_state(f, "incoming");
  nc_machine_lease_end(lease, NC_LEASE_DISCARD);
  assert_state(f, "");
}

/* INCOMING without a migration that knows of it: refused for ever, so that the source may go on. */
static void
orphan_is_refused(Fixture *f, gconstpointer data)
{
  NcRight right;
  set_right(f, NC_RIGHT_INCOMING, 7, NC_RIGHT_NONE, 0);
  nc_machine_lease_abandon(lease_incoming(f));
  reopen(f);
  nc_machines_release_orphans(f->machines);
  assert_state(f, "");
  g_assert_true(nc_journal_get_right(f->journal, "web1", &right, NULL));
  g_assert_cmpint(right.state, ==, NC_RIGHT_REFUSED);
  g_assert_cmpuint(right.epoch, ==, 7);
}

/* HELD was written, so the machine is here, whatever else was lost. */
static void
orphan_with_the_right_stays(Fixture *f, gconstpointer data)
{
  set_right(f, NC_RIGHT_HELD, 7, NC_RIGHT_NONE, 0);
  nc_machine_lease_abandon(lease_incoming(f));
  reopen(f);
  nc_machines_release_orphans(f->machines);
  assert_state(f, "stopped");
}

/* A released machine whose migration is unknown may be running elsewhere: not touched. */
static void
orphan_that_was_released_is_left_alone(Fixture *f, gconstpointer data)
{
  nc_autojson json_t *record = json_pack("{s:s, s:o, s:{s:s, s:b}}", "name", "web1", "spec", spec(), "runtime", "leased_by", "m-1",
                                         "incoming", 0);
  g_assert_true(nc_journal_put_machine(f->journal, "web1", record, NULL));
  set_right(f, NC_RIGHT_RELEASED, 2, NC_RIGHT_NONE, 0);
  reopen(f);
  nc_machines_release_orphans(f->machines);
  operate(f, nc_machines_start, NC_ERROR_CONFLICT, "m-1");
  operate(f, nc_machines_destroy, NC_ERROR_CONFLICT, "m-1");
}

static void
malformed_record_is_reported(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *record = json_pack("{s:s}", "name", "../web1");
  g_assert_true(nc_journal_put_machine(f->journal, "web1", record, NULL));
  g_clear_pointer(&f->machines, nc_machines_free);
  f->machines = nc_machines_new(f->config, f->journal, &error);
  g_assert_false(nc_machines_reconcile(f->machines, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/machines/" #name, Fixture, NULL, setup, name, teardown)
  ADD(leased_machine_is_nobodys_business);
  ADD(arrived_machine_is_ours);
  ADD(moved_machine_says_where);
  ADD(moved_machine_can_be_taken);
  ADD(start_needs_the_right);
  ADD(stopped_machine_is_not_migrated);
  ADD(lease_survives_a_restart);
  ADD(orphan_is_refused);
  ADD(orphan_with_the_right_stays);
  ADD(orphan_that_was_released_is_left_alone);
  ADD(malformed_record_is_reported);
#undef ADD
  return g_test_run();
}
