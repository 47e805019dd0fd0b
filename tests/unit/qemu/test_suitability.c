/* SPDX-License-Identifier: Apache-2.0 */
/* A node's refusals, with a QEMU of which only the lists are real: each names what is missing, all at once. */
#include "qemu/suitability.h"

#include <glib/gstdio.h>
#include <string.h>

typedef struct {
  char *dir, *qemu;
} Fixture;

/* The shape of QEMU 7.2's lists; newer ones have no "x86 " before a CPU model. */
static const char lists[] = "#!/bin/sh\n"
                            "case $1 in\n"
                            "-machine) cat <<E\n"
                            "Supported machines are:\n"
                            "pc                   Standard PC (alias of pc-i440fx-7.2)\n"
                            "pc-i440fx-7.2        Standard PC (default)\n"
                            "q35                  Standard PC (Q35)\n"
                            "E\n;;\n"
                            "-cpu) cat <<E\n"
                            "Available CPUs:\n"
                            "x86 qemu64                (alias configured by machine type)\n"
                            "  max\n"
                            "\n"
                            "Recognized CPUID flags:\n"
                            "  3dnow avx\n"
                            "E\n;;\n"
                            "esac\n";

static char *
write_program(Fixture *f, const char *name, const char *text)
{
  char *path = g_build_filename(f->dir, name, NULL);
  g_autoptr(GError) error = NULL;
  g_file_set_contents(path, text, -1, &error);
  g_assert_no_error(error);
  g_assert_cmpint(g_chmod(path, 0755), ==, 0);
  return path;
}

static void
setup(Fixture *f, gconstpointer data)
{
  f->dir = g_dir_make_tmp("nc-suitability-XXXXXX", NULL);
  g_assert_nonnull(f->dir);
  f->qemu = write_program(f, "qemu", lists);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  g_remove(f->qemu);
  g_rmdir(f->dir);
  g_free(f->qemu);
  g_free(f->dir);
}

/* The complaint about a machine of 1 MiB with ${json}'s further keys; NULL if there is none. */
static char *
complaint(Fixture *f, const char *json, const char *qemu, uint64_t reserved)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *all = json_loads(json, 0, NULL);
  g_assert_nonnull(all);
  json_object_set_new(all, "name", json_string("web1"));
  if (!json_object_get(all, "memory_mib"))
    json_object_set_new(all, "memory_mib", json_integer(1));
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(all, &error);
  g_assert_no_error(error);
  bool fits = nc_suitability_check(spec, qemu ? qemu : f->qemu, reserved, &error);
  g_assert_true(fits == (error == NULL));
  if (fits)
    return NULL;
  g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
  return g_strdup(error->message);
}

static void
test_what_fits(Fixture *f, gconstpointer data)
{
  static const char *const machines[] = {
    "{}",
    "{\"machine\":\"pc-i440fx-7.2\",\"cpu\":\"max\"}",
    "{\"machine\":\"q35,usb=off\",\"cpu\":\"qemu64,+avx,-ssse3\",\"accel\":\"tcg\"}",
    "{\"kernel\":\"/proc/version\",\"initrd\":\"/proc/version\",\"firmware\":\"/proc/version\"}",
    "{\"disks\":[{\"name\":\"d\",\"path\":\"/proc/version\",\"readonly\":true}],\"nics\":[{\"name\":\"n\"}]}",
    "{\"adopted_argv\":[\"-M\",\"whatever-it-is\"]}",
  };
  for (size_t i = 0; i < G_N_ELEMENTS(machines); i++) {
    g_autofree char *text = complaint(f, machines[i], NULL, 0);
    g_assert_cmpstr(text, ==, NULL);
  }
}

static void
test_what_is_named(Fixture *f, gconstpointer data)
{
  static const struct {
    const char *json, *word;
  } machines[] = {
    { "{\"machine\":\"pc-i440fx-9.9\"}", "machine type pc-i440fx-9.9" },
    { "{\"machine\":\"Supported\"}", "machine type Supported" },
    { "{\"cpu\":\"EPYC-v99\"}", "CPU model EPYC-v99" },
    { "{\"cpu\":\"x86\"}", "CPU model x86" },
    { "{\"cpu\":\"Available\"}", "CPU model Available" },
    { "{\"cpu\":\"3dnow\"}", "CPU model 3dnow" },
    { "{\"kernel\":\"/nowhere/k\"}", "kernel /nowhere/k" },
    { "{\"kernel\":\"/proc/version\",\"initrd\":\"/nowhere/i\"}", "initrd /nowhere/i" },
    { "{\"firmware\":\"/nowhere/f\"}", "firmware /nowhere/f" },
    { "{\"disks\":[{\"name\":\"d\",\"path\":\"/nowhere/d\"}]}", "disk /nowhere/d" },
    { "{\"nics\":[{\"name\":\"n\",\"bridge\":\"no-such-bridge\"}]}", "bridge no-such-bridge" },
    { "{\"memory_mib\":16777216}", "needs 16777216 MiB" },
    { "{\"adopted_argv\":[\"-M\",\"pc\"],\"memory_mib\":16777216}", "memory" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(machines); i++) {
    g_autofree char *text = complaint(f, machines[i].json, NULL, 0);
    g_test_message("%s: %s", machines[i].json, text);
    g_assert_nonnull(text);
    g_assert_nonnull(strstr(text, machines[i].word));
    g_assert_null(strstr(text, "; ")); /* nothing else is wrong */
  }
}

static void
test_all_at_once(Fixture *f, gconstpointer data)
{
  g_autofree char *text = complaint(f,
                                    "{\"machine\":\"isapc\",\"cpu\":\"486\",\"kernel\":\"/nowhere/k\",\"memory_mib\":16777216,"
                                    "\"disks\":[{\"name\":\"d\",\"path\":\"/nowhere/d\"}],"
                                    "\"nics\":[{\"name\":\"n\",\"bridge\":\"no-such-bridge\"}]}",
                                    NULL, 0);
  static const char *const words[] = { "isapc", "486", "/nowhere/k", "/nowhere/d", "no-such-bridge", "memory" };
  g_assert_nonnull(text);
  g_auto(GStrv) parts = g_strsplit(text, "; ", -1);
  g_assert_cmpuint(g_strv_length(parts), ==, G_N_ELEMENTS(words));
  for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
    g_assert_nonnull(strstr(parts[i], words[i]));
}

static void
test_reserved_memory_counts(Fixture *f, gconstpointer data)
{
  g_autofree char *text = complaint(f, "{}", NULL, UINT64_MAX);
  g_assert_nonnull(text);
  g_assert_nonnull(strstr(text, "memory"));
  g_assert_nonnull(strstr(text, "reserved"));
}

static void
test_binary(Fixture *f, gconstpointer data)
{
  g_autofree char *missing = complaint(f, "{}", "/nowhere/qemu", 0);
  g_assert_nonnull(strstr(missing, "/nowhere/qemu"));
  g_autofree char *named = complaint(f, "{\"qemu_binary\":\"/nowhere/other\"}", NULL, 0);
  g_assert_nonnull(strstr(named, "/nowhere/other"));

  g_autofree char *broken = write_program(f, "broken", "#!/bin/sh\nexit 1\n");
  g_autofree char *failing = complaint(f, "{}", broken, 0);
  g_assert_nonnull(strstr(failing, broken));
  g_remove(broken);

  /* An adopted machine names a place of the node it came from; the node's own QEMU will do. */
  g_autofree char *adopted = complaint(f, "{\"qemu_binary\":\"/nowhere/no-such-qemu\",\"adopted_argv\":[\"-M\",\"pc\"]}", NULL, 0);
  g_assert_cmpstr(adopted, ==, NULL);
}

typedef struct {
  Fixture *f;
  char *program;
} Endless;

static gpointer
ask_endless(gpointer data)
{
  Endless *e = data;
  return complaint(e->f, "{}", e->program, 0);
}

/* What hangs, or never stops talking, costs a refusal and not the daemon's thread or its memory. */
static void
test_binary_without_end(Fixture *f, gconstpointer data)
{
  static const char *const texts[] = { "#!/bin/sh\nexec sleep 600\n", "#!/bin/sh\nexec yes\n", "#!/bin/sh\nexec >&-\nexec sleep 600\n" };
  Endless endless[G_N_ELEMENTS(texts)];
  GThread *threads[G_N_ELEMENTS(texts)];

  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
    g_autofree char *name = g_strdup_printf("endless%zu", i);
    endless[i] = (Endless){ f, write_program(f, name, texts[i]) };
  }
  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) /* side by side, or they would take their time one by one */
    threads[i] = g_thread_new("endless", ask_endless, &endless[i]);
  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
    g_autofree char *text = g_thread_join(threads[i]);
    g_assert_nonnull(text);
    g_assert_nonnull(strstr(text, endless[i].program));
    g_remove(endless[i].program);
    g_free(endless[i].program);
  }
}

int
main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*run)(Fixture *f, gconstpointer data);
  } tests[] = {
    { "/suitability/what-fits", test_what_fits },
    { "/suitability/what-is-named", test_what_is_named },
    { "/suitability/all-at-once", test_all_at_once },
    { "/suitability/reserved-memory-counts", test_reserved_memory_counts },
    { "/suitability/binary", test_binary },
    { "/suitability/binary-without-end", test_binary_without_end },
  };
  g_test_init(&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].run, teardown);
  return g_test_run();
}
