/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With a real QEMU, tiny and under TCG: it starts and outlives nobody by
 * accident, answers, can be described, and a migration between two of them
 * goes through every call that the agent makes. Skipped where QEMU is not
 * installed.
 */
#include "base/io.h"
#include "qemu/adopt.h"
#include "qemu/balloon.h"
#include "qemu/command_line.h"
#include "qemu/migration_qmp.h"
#include "qemu/process.h"
#include "qemu/start_lock.h"
#include "qemu/suitability.h"

#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BINARY "qemu-system-x86_64"
#define START_MS 30000

/* One machine with its directory. */
typedef struct {
  char *dir, *qmp_path, *log;
  NcQemuProcess process;
  NcQmp *qmp;
} Machine;

static const char tiny[] = "name = tiny\nmemory_mib = 16\nmemory_extra_kib = 8\naccel = tcg\n[serial console]\n";

static NcMachineSpec *
spec_of(const char *text)
{
  g_autoptr(GError) error = NULL;
  NcMachineSpec *spec = nc_machine_spec_parse("test", text, &error);
  g_assert_no_error(error);
  return spec;
}

static void
machine_connect(Machine *m)
{
  g_autoptr(GError) error = NULL;
  m->qmp = nc_qmp_connect(m->qmp_path, START_MS, &error);
  g_assert_no_error(error);
}

static void
machine_start(Machine *m, const NcMachineSpec *spec, bool incoming)
{
  g_autoptr(GError) error = NULL;
  m->dir = g_dir_make_tmp("nc-real-XXXXXX", &error);
  g_assert_no_error(error);
  m->qmp_path = g_build_filename(m->dir, "qmp.sock", NULL);
  m->log = g_build_filename(m->dir, "qemu.log", NULL);
  NcQemuLaunch launch = { .run_dir = m->dir, .qemu_binary = BINARY, .incoming = incoming };
  g_auto(GStrv) argv = nc_qemu_command_line(spec, &launch, &error);
  g_assert_no_error(error);
  g_autofree char *lock = g_build_filename(m->dir, "lock", NULL);
  nc_autofd int held = nc_start_lock_take(lock, 0, &error);
  g_assert_no_error(error);
  NcQemuStart start = { .argv = argv, .lock = held, .qmp_path = m->qmp_path, .log_path = m->log, .timeout_ms = START_MS };
  nc_qemu_process_start(&start, &m->process, &error);
  g_assert_no_error(error);
  nc_start_lock_sign(lock, m->process.pid);
  machine_connect(m);
}

static void
machine_end(Machine *m)
{
  static const char *const files[] = { "qmp.sock", "qemu.log", "qemu.pid", "console.sock", "in.sock", "second.sock", "lock" };
  g_autoptr(GError) error = NULL;
  g_assert_true(nc_qemu_process_kill(m->process.pid, m->process.start_time, 5000, &error));
  g_assert_false(nc_qemu_process_is_alive(m->process.pid, m->process.start_time));
  g_clear_pointer(&m->qmp, nc_qmp_free);
  for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autofree char *path = g_build_filename(m->dir, files[i], NULL);
    g_unlink(path);
  }
  g_assert_cmpint(g_rmdir(m->dir), ==, 0);
  g_free(m->dir);
  g_free(m->qmp_path);
  g_free(m->log);
}

static void
test_process_and_its_end(void)
{
  g_autoptr(NcMachineSpec) spec = spec_of(tiny);
  g_autoptr(GError) error = NULL;
  Machine m;
  machine_start(&m, spec, false);
  g_assert_true(nc_qemu_process_is_alive(m.process.pid, m.process.start_time));
  g_assert_false(nc_qemu_process_is_alive(m.process.pid, m.process.start_time + 1));
  g_assert_cmpint(getsid(m.process.pid), ==, m.process.pid);
  g_assert_cmpint(nc_qmp_peer_pid(m.qmp), ==, m.process.pid);
  g_assert_true(nc_qemu_is_running(m.qmp));
  /* Somebody else's pid in the record: nothing is killed, and that is fine. */
  g_assert_true(nc_qemu_process_kill(m.process.pid, m.process.start_time + 1, 0, &error));
  g_assert_true(nc_qemu_process_is_alive(m.process.pid, m.process.start_time));
  g_assert_true(nc_qemu_process_kill(m.process.pid, m.process.start_time, 0, &error));
  g_assert_null(nc_qmp_call(m.qmp, "query-status", NULL, -1, 5000, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_QEMU);
  g_assert_nonnull(strstr(error->message, "gone"));
  machine_end(&m);
}

static void
test_bad_argument_is_told_with_its_words(void)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *dir = g_dir_make_tmp("nc-real-XXXXXX", NULL);
  g_autofree char *log = g_build_filename(dir, "log", NULL);
  g_autofree char *lock = g_build_filename(dir, "lock", NULL);
  char *qemu[] = { (char *)BINARY, (char *)"-no-such-option", NULL };
  char *nobody[] = { (char *)"/no/such/qemu", NULL };
  NcQemuProcess process;
  nc_autofd int held = nc_start_lock_take(lock, 0, &error);
  NcQemuStart start = { .argv = qemu, .lock = held, .qmp_path = "/no/such/socket", .log_path = log, .timeout_ms = START_MS };
  g_assert_false(nc_qemu_process_start(&start, &process, &error));
  g_assert_nonnull(strstr(error->message, "-no-such-option: invalid option"));
  g_clear_error(&error);
  start.argv = nobody;
  g_assert_false(nc_qemu_process_start(&start, &process, &error));
  g_assert_nonnull(strstr(error->message, "can't execute"));
  g_unlink(log);
  g_unlink(lock);
  g_rmdir(dir);
}

static void *
end_soon(void *machine)
{
  Machine *m = machine;
  g_usleep(200000);
  g_assert_true(nc_qemu_process_kill(m->process.pid, m->process.start_time, 5000, NULL));
  return NULL;
}

/* Whatever we think of the first one: the second begins when the first is no more, and finds its own socket. */
static void
test_one_at_a_time(void)
{
  g_autoptr(NcMachineSpec) spec = spec_of(tiny);
  g_autoptr(GError) error = NULL;
  Machine m;
  machine_start(&m, spec, false);
  g_autofree char *path = g_build_filename(m.dir, "lock", NULL);
  g_assert_cmpint(nc_start_lock_take(path, 50, &error), ==, -1);
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_autofree char *who = g_strdup_printf("process %d", (int)m.process.pid);
  g_assert_nonnull(strstr(error->message, who));
  g_clear_error(&error);
  nc_start_lock_remove(path);
  g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));

  Machine second = m;
  NcQemuLaunch launch = { .run_dir = m.dir, .qemu_binary = BINARY };
  g_auto(GStrv) argv = nc_qemu_command_line(spec, &launch, &error);
  GThread *ends = g_thread_new("ends", end_soon, &m);
  nc_autofd int held = nc_start_lock_take(path, START_MS, &error);
  g_assert_no_error(error);
  g_assert_false(nc_qemu_process_is_alive(m.process.pid, m.process.start_time));
  NcQemuStart start = { .argv = argv, .lock = held, .qmp_path = m.qmp_path, .log_path = m.log, .timeout_ms = START_MS };
  g_assert_true(nc_qemu_process_start(&start, &second.process, &error));
  g_thread_join(ends);
  g_assert_false(nc_qemu_process_is_alive(m.process.pid, m.process.start_time));
  g_clear_pointer(&m.qmp, nc_qmp_free);
  machine_connect(&second);
  g_assert_cmpint(nc_qmp_peer_pid(second.qmp), ==, second.process.pid);
  machine_end(&second);
}

static void
note_event(json_t *event, gpointer data)
{
  const char *name = event ? nc_json_string_or(event, "event", "") : "END";
  if (g_str_equal(name, "STOP"))
    g_atomic_int_or((guint *)data, 1);
  if (g_str_equal(name, "END"))
    g_atomic_int_or((guint *)data, 2);
}

static void
await(guint *seen, guint bit)
{
  for (int i = 0; i < 1000 && !(g_atomic_int_get(seen) & bit); i++)
    g_usleep(5000);
  g_assert_true(g_atomic_int_get(seen) & bit);
}

static void
test_qmp(void)
{
  g_autoptr(NcMachineSpec) spec = spec_of(tiny);
  g_autoptr(GError) error = NULL;
  guint seen = 0;
  int version[3];
  Machine m;
  machine_start(&m, spec, false);
  nc_qmp_version(m.qmp, version);
  g_assert_cmpint(version[0], >=, 7);
  nc_qmp_set_event_func(m.qmp, note_event, &seen);
  g_assert_true(nc_qmp_do(m.qmp, "stop", NULL, &error));
  await(&seen, 1);
  g_assert_false(nc_qmp_do(m.qmp, "no-such-command", NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_QEMU);
  g_clear_error(&error);
  /* One client at a time; and however often others try, nobody waits for ever. */
  for (int i = 0; i < 6; i++) {
    g_assert_null(nc_qmp_connect(m.qmp_path, 100, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_TIMEOUT);
    g_clear_error(&error);
  }
  g_assert_true(nc_qemu_cont(m.qmp, &error));
  g_assert_true(nc_qemu_process_kill(m.process.pid, m.process.start_time, 0, &error));
  await(&seen, 2);
  machine_end(&m);
}

/* The keeper's way: QEMU keeps our descriptor, and a later process takes it back. */
static void
test_descriptor_comes_back(void)
{
  g_autoptr(NcMachineSpec) spec = spec_of(tiny);
  g_autoptr(GError) error = NULL;
  struct stat mine, theirs;
  int pair[2];
  Machine m;
  machine_start(&m, spec, false);
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
  g_assert_cmpint(fstat(pair[0], &mine), ==, 0);
  g_assert_true(nc_qemu_getfd(m.qmp, "keep", pair[0], &error));
  int number = nc_qemu_process_find_socket_fd(m.process.pid, mine.st_ino);
  g_assert_cmpint(number, >=, 0);
  g_assert_cmpint(nc_qemu_process_find_socket_fd(m.process.pid, mine.st_ino + 100000), ==, -1);
  close(pair[0]);
  nc_autofd int back = nc_qemu_process_take_fd(m.process.pid, number, &error);
  g_assert_no_error(error);
  g_assert_cmpint(fstat(back, &theirs), ==, 0);
  g_assert_cmpuint(theirs.st_ino, ==, mine.st_ino);
  g_assert_true(nc_qemu_closefd(m.qmp, "keep", &error));
  g_assert_cmpint(nc_qemu_process_find_socket_fd(m.process.pid, mine.st_ino), ==, -1);
  close(pair[1]);
  machine_end(&m);
}

static bool
capability(NcQmp *qmp, const char *name)
{
  nc_autojson json_t *list = nc_qmp_call(qmp, "query-migrate-capabilities", NULL, -1, 5000, NULL);
  size_t i;
  json_t *entry;
  json_array_foreach(list, i, entry)
  {
    if (g_str_equal(nc_json_string_or(entry, "capability", ""), name))
      return nc_json_bool_or(entry, "state", false);
  }
  g_assert_not_reached();
}

static void
await_status(NcQmp *qmp, NcQemuMigrationStatus wanted)
{
  NcQemuMigrationInfo info = { 0 };
  for (int i = 0; i < 2000 && info.status != wanted; i++) {
    g_autoptr(GError) error = NULL;
    nc_qemu_migration_info_clear(&info);
    g_assert_true(nc_qemu_migration_query(qmp, &info, &error));
    g_usleep(5000);
  }
  g_assert_cmpint(info.status, ==, wanted);
  nc_qemu_migration_info_clear(&info);
}

static void
test_migration(void)
{
  g_autoptr(NcMachineSpec) spec = spec_of(tiny);
  g_autoptr(GError) error = NULL;
  const NcQemuMigrationParams params = { .downtime_limit_ms = 300 };
  Machine a, b;
  machine_start(&a, spec, false);
  machine_start(&b, spec, true);
  g_autofree char *path = g_build_filename(b.dir, "in.sock", NULL);
  g_assert_true(nc_qmp_do(a.qmp, "migrate-set-capabilities",
                          json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "xbzrle", "state", 1), &error));
  g_assert_true(nc_qemu_migration_setup_source(a.qmp, &params, &error));
  g_assert_true(nc_qemu_migration_setup_destination(b.qmp, false, false, &error));
  g_assert_true(capability(a.qmp, "return-path") && capability(a.qmp, "pause-before-switchover"));
  g_assert_false(capability(a.qmp, "xbzrle"));
  g_assert_true(capability(b.qmp, "late-block-activate"));
  g_assert_true(nc_qemu_migrate_incoming(b.qmp, path, &error));
  g_assert_false(nc_qemu_migration_is_under_way(a.qmp));
  g_assert_true(nc_qemu_migrate(a.qmp, path, &error));
  await_status(a.qmp, NC_QEMU_MIGRATION_PRE_SWITCHOVER);
  g_assert_true(nc_qemu_migration_is_under_way(a.qmp));
  g_assert_true(nc_qemu_migrate_continue(a.qmp, &error));
  await_status(a.qmp, NC_QEMU_MIGRATION_COMPLETED);
  await_status(b.qmp, NC_QEMU_MIGRATION_COMPLETED);
  g_assert_false(nc_qemu_is_running(a.qmp));
  g_assert_false(nc_qemu_is_running(b.qmp)); /* it has no will of its own */
  g_assert_true(nc_qemu_cont(b.qmp, &error));
  g_assert_true(nc_qemu_is_running(b.qmp));
  g_assert_true(nc_qemu_announce_self(b.qmp, 10000, &error));
  g_assert_no_error(error);
  machine_end(&a);
  machine_end(&b);
}

/* QEMU is asked, and knows: without a driver in the guest nobody names free pages. The other answer needs a guest (test_free_pages.py). */
static void
test_balloon_without_driver(void)
{
  static const char *const lines[] = { "", "balloon = none\n", "qemu_args = -device virtio-balloon-pci\n" };
  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
    g_autofree char *text = g_strconcat("name = tiny\nmemory_mib = 16\nmemory_extra_kib = 8\naccel = tcg\n", lines[i], NULL);
    g_autoptr(NcMachineSpec) spec = spec_of(text);
    Machine m;
    machine_start(&m, spec, false);
    g_assert_cmpint(nc_qemu_balloon_hints(m.qmp), ==, NC_BALLOON_DOES_NOT_HINT);
    machine_end(&m);
  }
}

/* What describes a running QEMU starts another one that takes its state. */
static void
test_adopted_machine_receives_the_original(void)
{
  g_autoptr(NcMachineSpec) original = spec_of("name = old\nmemory_mib = 16\nmemory_extra_kib = 8\naccel = tcg\n[serial console]\n"
                                              "[serial log]\nkind = file\n");
  g_autoptr(GError) error = NULL;
  const NcQemuMigrationParams params = { .downtime_limit_ms = 300 };
  Machine a, b;
  g_strfreev(original->qemu_args);
  original->qemu_args = g_strsplit("-device|virtio-rng-pci,id=rng0|-vnc|none", "|", -1);
  machine_start(&a, original, false);
  g_autoptr(NcMachineSpec) spec = nc_qemu_adopt("new", a.qmp, a.process.pid, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(nc_machine_spec_memory_bytes(spec), ==, (16u << 20) + 8192);
  g_assert_true(g_str_has_prefix(spec->machine, "pc-i440fx-"));
  g_assert_cmpstr(spec->accel, ==, "tcg");
  g_assert_true(nc_suitability_check(spec, BINARY, 0, &error));
  machine_start(&b, spec, true);
  g_autofree char *path = g_build_filename(b.dir, "in.sock", NULL);
  g_autofree char *log = g_build_filename(b.dir, "log.log", NULL);
  g_assert_true(nc_qemu_migration_setup_source(a.qmp, &params, &error));
  g_assert_true(nc_qemu_migration_setup_destination(b.qmp, false, false, &error));
  g_assert_true(nc_qemu_migrate_incoming(b.qmp, path, &error) && nc_qemu_migrate(a.qmp, path, &error));
  await_status(a.qmp, NC_QEMU_MIGRATION_PRE_SWITCHOVER);
  g_assert_true(nc_qemu_migrate_continue(a.qmp, &error));
  await_status(b.qmp, NC_QEMU_MIGRATION_COMPLETED);
  g_assert_cmpint(g_unlink(log), ==, 0); /* moved into the run directory under its own name */
  g_free(log);
  log = g_build_filename(a.dir, "log.log", NULL);
  g_unlink(log);
  machine_end(&a);
  machine_end(&b);
}

static void
refused_after(Machine *m, const char *command, json_t *arguments, const char *word)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(nc_qmp_do(m->qmp, command, arguments, &error));
  g_assert_null(nc_qemu_adopt("new", m->qmp, m->process.pid, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
  g_assert_nonnull(strstr(error->message, word));
}

static void
test_a_machine_that_has_changed_is_not_adopted(void)
{
  g_autoptr(NcMachineSpec) spec = spec_of(tiny);
  g_autofree char *dir = g_dir_make_tmp("nc-real-XXXXXX", NULL);
  g_autofree char *disk = g_build_filename(dir, "a.raw", NULL);
  g_autofree char *other = g_build_filename(dir, "b.raw", NULL);
  g_autofree char *drive = g_strdup_printf("-drive|file=%s,if=none,format=raw,id=cd|-device|ide-cd,id=cd0,drive=cd", disk);
  Machine m;
  g_assert_true(g_file_set_contents(disk, "", 0, NULL) && g_file_set_contents(other, "", 0, NULL));
  g_strfreev(spec->qemu_args);
  spec->qemu_args = g_strsplit(drive, "|", -1);
  machine_start(&m, spec, false);
  refused_after(&m, "device_add", json_pack("{s:s, s:s}", "driver", "virtio-rng-pci", "id", "hot0"), "hot0");
  machine_end(&m);
  machine_start(&m, spec, false);
  refused_after(&m, "blockdev-change-medium", json_pack("{s:s, s:s}", "id", "cd0", "filename", other), "b.raw");
  machine_end(&m);
  g_unlink(disk);
  g_unlink(other);
  g_rmdir(dir);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_autofree char *found = g_find_program_in_path(BINARY);
  if (!found) {
    g_print("1..0 # SKIP " BINARY " is not installed\n");
    return 0;
  }
  g_test_add_func("/qemu-real/process-and-its-end", test_process_and_its_end);
  g_test_add_func("/qemu-real/bad-argument-is-told-with-its-words", test_bad_argument_is_told_with_its_words);
  g_test_add_func("/qemu-real/one-at-a-time", test_one_at_a_time);
  g_test_add_func("/qemu-real/qmp", test_qmp);
  g_test_add_func("/qemu-real/descriptor-comes-back", test_descriptor_comes_back);
  g_test_add_func("/qemu-real/migration", test_migration);
  g_test_add_func("/qemu-real/balloon-without-driver", test_balloon_without_driver);
  g_test_add_func("/qemu-real/adopted-machine-receives-the-original", test_adopted_machine_receives_the_original);
  g_test_add_func("/qemu-real/a-machine-that-has-changed-is-not-adopted", test_a_machine_that_has_changed_is_not_adopted);
  return g_test_run();
}
