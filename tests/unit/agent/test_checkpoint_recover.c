/* SPDX-License-Identifier: Apache-2.0 */
/* What the last novacrond has left half done: undone, or kept on record until it can be; nobody has the machine meanwhile. */
#include "agent/checkpoint.h"
#include "base/log.h"
#include "page_support.h"

#include <glib/gstdio.h>
#include <string.h>

#define ID "c-0tnpya6pejb5gsgd"

typedef struct {
  char *dir, *disk, *before;
  NcConfig *config;
  NcPageStore *store;
  NcJournal *journal;
  NcMachines *machines;
  NcCheckpoints *checkpoints;
} Bed;

/* As after a crash: a journal with web1 in it (${lease}: in the hands of that migration; ${maker}: put there by that restore), and nothing else yet. */
static void
begin_made(Bed *b, const char *lease, const char *maker)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *machine = json_pack("{s:s, s:{s:s, s:i, s:i}, s:s?, s:{s:s?}}", "name", "web1", "spec", "name", "web1", "vcpus", 1,
                                          "memory_mib", 64, "made_by", maker, "runtime", "leased_by", lease);

  g_assert_true(nc_journal_put_machine(b->journal, "web1", machine, &error));
  g_assert_no_error(error);
}

static void
begin(Bed *b, const char *lease)
{
  begin_made(b, lease, NULL);
}

static void
record(Bed *b, json_t *work)
{
  nc_autojson json_t *all = json_pack("{s:o}", ID, work);
  g_autofree char *text = json_dumps(all, JSON_COMPACT);
  g_assert_true(nc_journal_put_value(b->journal, "checkpoint.work", text, NULL));
}

static bool
is_on_record(Bed *b)
{
  g_autofree char *text = nc_journal_get_value(b->journal, "checkpoint.work", NULL);
  return strstr(text, ID) != NULL;
}

/* In the order of novacrond's start. */
static void
start(Bed *b)
{
  g_autoptr(GError) error = NULL;

  b->machines = nc_machines_new(b->config, b->journal, &error);
  const NcCheckpointsDeps deps = { .config = b->config, .journal = b->journal, .machines = b->machines, .store = b->store };
  b->checkpoints = nc_checkpoints_new(&deps);
  nc_checkpoints_unblock(b->checkpoints);
  g_assert_true(nc_machines_reconcile(b->machines, &error));
  g_assert_no_error(error);
  nc_checkpoints_claim(b->checkpoints);
}

static void
setup(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  b->dir = test_directory();
  b->disk = g_build_filename(b->dir, "root.raw", NULL);
  b->before = g_strconcat(b->disk, ".nc-before", NULL);
  g_autofree char *path = g_build_filename(b->dir, "journal.db", NULL);
  g_autofree char *text = g_strdup_printf("node = host-a\nrun_dir = %s\nqemu_log_dir = %s\ndata_dir = %s\n", b->dir, b->dir, b->dir);
  b->config = nc_config_parse("test", text, &error);
  g_assert_no_error(error);
  b->journal = nc_journal_open(path, &error);
  g_assert_no_error(error);
  b->store = test_open(b->dir, &(NcPageStoreOptions){ 0 });
}

static void
teardown(Bed *b, gconstpointer data)
{
  nc_checkpoints_free(b->checkpoints);
  nc_machines_free(b->machines);
  nc_page_store_close(b->store);
  nc_journal_close(b->journal);
  nc_config_free(b->config);
  test_remove(b->dir);
  g_free(b->before);
  g_free(b->disk);
  g_free(b->dir);
}

static json_t *
checkpoint_work(void)
{
  return json_pack("{s:s, s:s, s:i, s:b, s:[]}", "kind", "create", "machine", "web1", "pid", 1, "was_running", 1, "disks");
}

/* That a migration has the machine does not mean that its QEMU is gone: its guest may still stand where the checkpoint stopped it. */
static void
what_a_migration_is_in_the_way_of_is_undone_later(Bed *b, gconstpointer data)
{
  begin(b, "m-1");
  record(b, checkpoint_work());
  start(b);
  nc_checkpoints_recover(b->checkpoints);
  g_assert_true(is_on_record(b));
  nc_machine_lease_end(nc_machines_lease_resume(b->machines, "web1", "m-1", NULL), NC_LEASE_STAYS);
  nc_checkpoints_undo_left(b->checkpoints);
  g_assert_false(is_on_record(b));
}

static void
of_a_machine_that_is_gone_nothing_is_left(Bed *b, gconstpointer data)
{
  record(b, checkpoint_work());
  start(b);
  nc_checkpoints_recover(b->checkpoints);
  g_assert_false(is_on_record(b));
}

/* Is web1 in somebody's hands? Without waiting for them. */
static bool
is_kept(Bed *b)
{
  g_autoptr(GError) error = NULL;

  nc_machines_stop_waiting(b->machines);
  g_autoptr(NcMachineHold) hold = nc_machines_hold_any(b->machines, "web1", "start", &error);
  if (!hold)
    g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  return !hold;
}

/* A migration that waits for its next attempt would take one whose guest stands still for a checkpoint. */
static void
its_machine_is_kept_from_the_start_on(Bed *b, gconstpointer data)
{
  begin(b, NULL);
  record(b, checkpoint_work());
  start(b);
  g_assert_true(is_kept(b));
  nc_checkpoints_recover(b->checkpoints);
  g_assert_false(is_kept(b));
  g_assert_false(is_on_record(b));
}

/* Started meanwhile, its QEMU would be ended by the novacrond that can put the disk back at last. */
static void
nobody_has_a_machine_whose_disks_are_not_back(Bed *b, gconstpointer data)
{
  g_autofree char *fresh = g_strconcat(b->disk, ".nc-restore", NULL), *text = NULL;

  g_assert_true(g_file_set_contents(b->disk, "half restored", -1, NULL));
  g_assert_cmpint(g_mkdir(b->before, 0700), ==, 0); /* can't be renamed to a file */
  begin(b, NULL);
  record(b, json_pack("{s:s, s:s, s:b, s:s, s:[{s:s, s:s, s:s, s:b}]}", "kind", "restore", "machine", "web1", "new", 0, "phase", "exchange",
                      "disks", "path", b->disk, "new", fresh, "old", b->before, "was_there", 1));
  start(b);
  nc_checkpoints_recover(b->checkpoints);
  g_assert_true(is_on_record(b));
  g_assert_true(is_kept(b));

  g_assert_cmpint(g_rmdir(b->before), ==, 0);
  g_assert_true(g_file_set_contents(b->before, "as it was", -1, NULL));
  nc_checkpoints_undo_left(b->checkpoints);
  g_assert_false(is_on_record(b));
  g_assert_false(is_kept(b));
  g_assert_true(g_file_get_contents(b->disk, &text, NULL, NULL));
  g_assert_cmpstr(text, ==, "as it was");
}

static void
set_right(Bed *b, NcRightState state, uint64_t epoch, NcRightState from, uint64_t from_epoch)
{
  NcRight right = { .vm = "web1", .epoch = epoch, .state = state };
  g_assert_true(nc_journal_set_right(b->journal, &right, from, from_epoch, NULL));
}

static NcRightState
right_now(Bed *b)
{
  NcRight right;
  g_assert_true(nc_journal_get_right(b->journal, "web1", &right, NULL));
  return right.state;
}

static bool
is_listed(Bed *b)
{
  nc_autojson json_t *args = json_pack("{s:s}", "name", "web1");
  nc_autojson json_t *machine = nc_machines_get(b->machines, args, NULL);
  return machine != NULL;
}

/* ${listed}: web1 is in the list; ${maker}: put there by that one (NULL: by people). */
static void
claim(Bed *b, bool listed, const char *maker, uint64_t claimed_epoch)
{
  set_right(b, NC_RIGHT_HELD, claimed_epoch, NC_RIGHT_NONE, 0);
  if (listed)
    begin_made(b, NULL, maker);
  record(b, json_pack("{s:s, s:s, s:s, s:b, s:i, s:s, s:[]}", "kind", "restore", "machine", "web1", "maker", "restore-1", "took", 1, "epoch", 1,
                      "phase", "claim", "disks"));
  start(b);
  nc_checkpoints_recover(b->checkpoints);
  g_assert_false(is_on_record(b));
}

/* The node that was thought lost may be back: what was taken for a restore that did not happen is nobody's to define again. */
static void
a_right_that_was_taken_is_given_up(Bed *b, gconstpointer data)
{
  claim(b, GPOINTER_TO_INT(data), "restore-1", 1);
  g_assert_cmpint(right_now(b), ==, NC_RIGHT_REFUSED);
  g_assert_false(is_listed(b));
}

/* By an operator, after that restore: it is no more what the restore took. */
static void
a_right_that_was_taken_again_is_kept(Bed *b, gconstpointer data)
{
  claim(b, true, NULL, 2);
  g_assert_cmpint(right_now(b), ==, NC_RIGHT_HELD);
  g_assert_true(is_listed(b));
}

/* Somebody was faster: the restore had only said that it would, and it is their machine, and their right. */
static void
what_others_have_claimed_is_theirs(Bed *b, gconstpointer data)
{
  claim(b, true, data, 1);
  g_assert_cmpint(right_now(b), ==, NC_RIGHT_HELD);
  g_assert_true(is_listed(b));
}

static void
put_restore(json_t *all, const char *id, const char *maker, const char *phase)
{
  json_object_set_new(all, id, json_pack("{s:s, s:s, s:s, s:b, s:i, s:s, s:[]}", "kind", "restore", "machine", "web1", "maker", maker, "took", 0,
                                         "epoch", 1, "phase", phase, "disks"));
}

/* Two restores under one name, and the second came no further than to say so: whichever is undone first, the machine of the first one goes. */
static void
two_restores_of_one_name(Bed *b, gconstpointer data)
{
  nc_autojson json_t *all = json_object();

  set_right(b, NC_RIGHT_HELD, 1, NC_RIGHT_NONE, 0);
  begin_made(b, NULL, "restore-1");
  put_restore(all, "c-2", "restore-2", "claim");
  put_restore(all, "c-1", "restore-1", "files");
  put_restore(all, "c-3", "restore-3", "claim");
  g_autofree char *text = json_dumps(all, JSON_COMPACT);
  g_assert_true(nc_journal_put_value(b->journal, "checkpoint.work", text, NULL));
  start(b);
  nc_checkpoints_recover(b->checkpoints);
  g_assert_false(is_listed(b));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
#define TEST(function) g_test_add("/agent/checkpoint-recover/" #function, Bed, NULL, setup, function, teardown)
  TEST(what_a_migration_is_in_the_way_of_is_undone_later);
  TEST(of_a_machine_that_is_gone_nothing_is_left);
  TEST(its_machine_is_kept_from_the_start_on);
  TEST(nobody_has_a_machine_whose_disks_are_not_back);
  g_test_add("/agent/checkpoint-recover/a_right_that_was_taken_is_given_up/without", Bed, GINT_TO_POINTER(0), setup,
             a_right_that_was_taken_is_given_up, teardown);
  g_test_add("/agent/checkpoint-recover/a_right_that_was_taken_is_given_up/listed", Bed, GINT_TO_POINTER(1), setup,
             a_right_that_was_taken_is_given_up, teardown);
  TEST(a_right_that_was_taken_again_is_kept);
  g_test_add("/agent/checkpoint-recover/what_others_have_claimed_is_theirs/by_people", Bed, NULL, setup, what_others_have_claimed_is_theirs, teardown);
  g_test_add("/agent/checkpoint-recover/what_others_have_claimed_is_theirs/by_a_restore", Bed, "restore-2", setup, what_others_have_claimed_is_theirs,
             teardown);
  TEST(two_restores_of_one_name);
  return g_test_run();
}
