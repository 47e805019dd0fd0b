/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rewriting rules: one row per option of QEMU 7.2 to 10.x.
 *
 * Theory of operation: the arguments are taken one by one, in order, because the order
 * decides about PCI addresses; the row says what becomes of each. An option
 * without a row is refused: whether it takes a value, and what it means, would be a
 * guess. What is guest-visible is kept; what belongs to the host's side is dropped or
 * moved into the run directory; what needs something that another node can't be asked
 * for is refused. At the end what was only implied is spelled out: machine type,
 * accelerator, and no window on a display that a service does not have.
 */
#include "qemu/adopt_internal.h"

#include <string.h>

#define NC_ADOPT_WORDS_MAX 4096
#define NC_ADOPT_WORD_BYTES_MAX 65535
#define NC_ADOPT_FILE_NAME_MAX 40 /* a UNIX socket's path has at most 107 bytes */

/* --- helpers of all rules --- */

void
nc_adopt_emit(NcAdopt *a, const char *option, const char *value)
{
  g_ptr_array_add(a->out, g_strdup(option));
  if (value)
    g_ptr_array_add(a->out, g_strdup(value));
}

bool
nc_adopt_emit_option(NcAdopt *a, const NcAdoptRule *rule, const NcOption *option)
{
  g_autofree char *text = nc_option_print(option);
  nc_adopt_emit(a, rule->name, text);
  return true;
}

bool
nc_adopt_unsuitable(const NcAdoptRule *rule, const char *value, const char *why, GError **error)
{
  return nc_fail(error, NC_ERROR_UNSUITABLE, "%s%s%.200s: %s", rule->name, value ? " " : "", value ? value : "", why);
}

/* Of our own in the run directory: src/agent and command_line.c make them. */
static const char *const nc_reserved_files[] = { "qmp.sock", "spare.sock", "observer.sock", "in.sock", "out.sock", "qemu.pid", NULL };

char *
nc_adopt_run_path(NcAdopt *a, const char *path, const char *fallback)
{
  g_autofree char *name = path ? g_path_get_basename(path) : NULL;
  bool harmless = name && g_ascii_isalnum(name[0]) && strlen(name) <= NC_ADOPT_FILE_NAME_MAX &&
                  name[strspn(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "._-")] == '\0';
  if (!harmless || g_strv_contains(nc_reserved_files, name) || g_hash_table_contains(a->used, name)) {
    g_free(name);
    name = g_strndup(fallback, NC_ADOPT_FILE_NAME_MAX);
    g_strcanon(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "._-", '_');
  }
  g_hash_table_add(a->used, g_strdup(name));
  return g_strconcat(NC_RUN_MARK "/", name, NULL);
}

/* Does ${word} hold ${text} as a whole: followed by nothing, a comma or a quote? */
static bool
nc_holds_whole(const char *word, const char *text)
{
  size_t length = strlen(text);
  for (const char *at = word; (at = strstr(at, text)) != NULL; at += length)
    if (at[length] == '\0' || at[length] == ',' || at[length] == '"')
      return true;
  return false;
}

bool
nc_adopt_is_referenced(const NcAdopt *a, const char *key, const char *id, const char *own)
{
  g_autofree char *text = g_strdup_printf("%s=%s", key, id);
  g_autofree char *prefix = g_strdup_printf("%s:%s", key, id);
  g_autofree char *json = g_strdup_printf("\"%s\":\"%s\"", key, id);
  for (char *const *word = a->argv + 1; *word; word++) {
    bool monitor = g_str_equal(word[-1], "-mon") || g_str_equal(word[-1], "--mon");
    if (*word != own && !monitor && (nc_holds_whole(*word, text) || nc_holds_whole(*word, prefix) || nc_holds_whole(*word, json)))
      return true;
  }
  return false;
}

/* An absolute path for a file that is there when looked for from the process's directory; else the text itself. Caller frees. */
static char *
nc_absolute(const NcAdopt *a, const char *path)
{
  if (g_path_is_absolute(path) || path[0] == '\0')
    return g_strdup(path);
  g_autofree char *joined = g_build_filename(a->facts->cwd, path, NULL);
  return g_strdup(g_file_test(joined, G_FILE_TEST_EXISTS) ? joined : path);
}

/* --- general rules --- */

static bool
nc_adopt_keep(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  nc_adopt_emit(a, rule->name, value);
  return true;
}

static bool
nc_adopt_drop(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  return true;
}

static bool
nc_adopt_refuse(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  return nc_adopt_unsuitable(rule, value, rule->note, error);
}

static bool
nc_adopt_path(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autofree char *path = nc_absolute(a, value);
  nc_adopt_emit(a, rule->name, path);
  return true;
}

/* Options with paths under the keys in the rule's note; the first is the implied one. */
static bool
nc_adopt_paths(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_auto(GStrv) keys = g_strsplit(rule->note, "|", -1);
  g_autoptr(NcOption) option = nc_option_parse(value, keys[0], error);
  if (!option)
    return false;
  if (nc_option_is_on(option, "snapshot", false))
    return nc_adopt_unsuitable(rule, value, "its disk is in a temporary file of its own (snapshot=on)", error);
  for (char **key = keys; *key; key++) {
    g_autofree char *path = nc_option_get(option, *key);
    g_autofree char *absolute = path ? nc_absolute(a, path) : NULL;
    if (absolute && !g_str_equal(absolute, path))
      nc_option_set(option, *key, absolute);
  }
  return nc_adopt_emit_option(a, rule, option);
}

/* --- the board --- */

/* "kvm:tcg" and the like: only what we can speak about. */
static bool
nc_accels_are_known(const char *list)
{
  static const char *const known[] = { "kvm", "tcg", NULL };
  g_auto(GStrv) words = g_strsplit(list, ":", -1);
  for (char **word = words; *word; word++)
    if (!g_strv_contains(known, *word))
      return false;
  return true;
}

/* Proxmox's "pc+pve0" is a type and a revision of its own: the revision stays. */
static char *
nc_versioned_type(const NcAdopt *a, const char *type)
{
  const char *plus = strchr(type, '+');
  return g_strconcat(a->facts->machine_type, plus ? plus : "", NULL);
}

static bool
nc_adopt_machine(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autoptr(NcOption) option = nc_option_parse(value, "type", error);
  if (!option)
    return false;
  g_autofree char *type = nc_option_get(option, "type");
  g_autofree char *accel = nc_option_get(option, "accel");
  if (accel && !nc_accels_are_known(accel))
    return nc_adopt_unsuitable(rule, value, "this accelerator is not supported", error);
  nc_option_remove(option, "accel");
  if (type) {
    g_autofree char *versioned = nc_versioned_type(a, type);
    nc_option_set(option, "type", versioned);
    a->has_type = true;
  }
  g_autofree char *text = nc_option_print(option);
  if (text[0])
    nc_adopt_emit(a, "-machine", text);
  return true;
}

static bool
nc_adopt_accel(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autoptr(NcOption) option = nc_option_parse(value, "accel", error);
  if (!option)
    return false;
  g_autofree char *accel = nc_option_get(option, "accel");
  if (!accel || !nc_accels_are_known(accel))
    return nc_adopt_unsuitable(rule, value, "this accelerator is not supported", error);
  if (!g_str_equal(accel, a->facts->accel) || a->has_accel)
    return true; /* one that was not taken */
  a->has_accel = true;
  return nc_adopt_emit_option(a, rule, option);
}

static bool
nc_adopt_cpu(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_free(a->spec->cpu);
  a->spec->cpu = g_strndup(value, 1024);
  return nc_adopt_keep(a, rule, value, error);
}

static bool
nc_adopt_run_with(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autoptr(NcOption) option = nc_option_parse(value, NULL, error);
  if (option && nc_option_has(option, "chroot"))
    return nc_adopt_unsuitable(rule, value, "a QEMU in a chroot does not see the sockets of its run directory", error);
  return option && nc_adopt_emit_option(a, rule, option);
}

/* The table. `true`: the option takes a value. */
static const NcAdoptRule nc_adopt_rules[] = {
  /* rewritten: the board */
  { "-machine", true, nc_adopt_machine, NULL },
  { "-M", true, nc_adopt_machine, NULL },
  { "-accel", true, nc_adopt_accel, NULL },
  { "-enable-kvm", false, nc_adopt_drop, NULL }, /* -accel says it */
  { "-no-kvm", false, nc_adopt_drop, NULL },
  { "-cpu", true, nc_adopt_cpu, NULL },
  /* rewritten: what talks to the host */
  { "-chardev", true, nc_adopt_chardev, NULL },
  { "-serial", true, nc_adopt_serial, NULL },
  { "-parallel", true, nc_adopt_parallel, NULL },
  { "-debugcon", true, nc_adopt_debugcon, NULL },
  { "-netdev", true, nc_adopt_netdev, NULL },
  { "-nic", true, nc_adopt_net, NULL },
  { "-net", true, nc_adopt_net, NULL },
  { "-vnc", true, nc_adopt_vnc, NULL },
  { "-spice", true, nc_adopt_spice, NULL },
  { "-display", true, nc_adopt_display, NULL },
  { "-nographic", false, nc_adopt_nographic, NULL },
  { "-audiodev", true, nc_adopt_audio, NULL },
  { "-audio", true, nc_adopt_audio, NULL },
  { "-device", true, nc_adopt_device, NULL },
  { "-object", true, nc_adopt_object, NULL },
  { "-run-with", true, nc_adopt_run_with, NULL },
  /* kept, with absolute paths */
  { "-drive", true, nc_adopt_paths, "file|file.filename" },
  { "-blockdev", true, nc_adopt_paths, "driver|filename|file.filename" },
  { "-option-rom", true, nc_adopt_paths, "romfile" },
  { "-acpitable", true, nc_adopt_paths, "sig|file|data" },
  { "-smbios", true, nc_adopt_paths, "type|file|path" },
  { "-fw_cfg", true, nc_adopt_paths, "name|file" },
  { "-boot", true, nc_adopt_paths, "order|splash" },
  { "-fsdev", true, nc_adopt_paths, "fsdriver|path" },
  { "-virtfs", true, nc_adopt_paths, "fsdriver|path" },
  { "-bios", true, nc_adopt_path, NULL },
  { "-pflash", true, nc_adopt_path, NULL },
  { "-kernel", true, nc_adopt_path, NULL },
  { "-initrd", true, nc_adopt_path, NULL },
  { "-dtb", true, nc_adopt_path, NULL },
  { "-hda", true, nc_adopt_path, NULL },
  { "-hdb", true, nc_adopt_path, NULL },
  { "-hdc", true, nc_adopt_path, NULL },
  { "-hdd", true, nc_adopt_path, NULL },
  { "-cdrom", true, nc_adopt_path, NULL },
  { "-fda", true, nc_adopt_path, NULL },
  { "-fdb", true, nc_adopt_path, NULL },
  { "-sd", true, nc_adopt_path, NULL },
  { "-mtdblock", true, nc_adopt_path, NULL },
  { "-mem-path", true, nc_adopt_path, NULL },
  { "-readconfig", true, nc_adopt_path, NULL },
  { "-L", true, nc_adopt_path, NULL },
  /* kept */
  { "-m", true, nc_adopt_keep, NULL },
  { "-smp", true, nc_adopt_keep, NULL },
  { "-numa", true, nc_adopt_keep, NULL },
  { "-set", true, nc_adopt_keep, NULL },
  { "-global", true, nc_adopt_keep, NULL },
  { "-k", true, nc_adopt_keep, NULL },
  { "-g", true, nc_adopt_keep, NULL },
  { "-soundhw", true, nc_adopt_keep, NULL },
  { "-name", true, nc_adopt_keep, NULL },
  { "-id", true, nc_adopt_keep, NULL }, /* Proxmox's QEMU has it */
  { "-uuid", true, nc_adopt_keep, NULL },
  { "-iscsi", true, nc_adopt_keep, NULL },
  { "-usbdevice", true, nc_adopt_keep, NULL },
  { "-rotate", true, nc_adopt_keep, NULL },
  { "-vga", true, nc_adopt_keep, NULL },
  { "-append", true, nc_adopt_keep, NULL },
  { "-compat", true, nc_adopt_keep, NULL },
  { "-overcommit", true, nc_adopt_keep, NULL },
  { "-seed", true, nc_adopt_keep, NULL },
  { "-action", true, nc_adopt_keep, NULL },
  { "-rtc", true, nc_adopt_keep, NULL },
  { "-icount", true, nc_adopt_keep, NULL },
  { "-watchdog", true, nc_adopt_keep, NULL },
  { "-watchdog-action", true, nc_adopt_keep, NULL },
  { "-runas", true, nc_adopt_keep, NULL },
  { "-sandbox", true, nc_adopt_keep, NULL },
  { "-semihosting-config", true, nc_adopt_keep, NULL },
  { "-tb-size", true, nc_adopt_keep, NULL },
  { "-mem-prealloc", false, nc_adopt_keep, NULL },
  { "-usb", false, nc_adopt_keep, NULL },
  { "-portrait", false, nc_adopt_keep, NULL },
  { "-win2k-hack", false, nc_adopt_keep, NULL },
  { "-rtc-td-hack", false, nc_adopt_keep, NULL },
  { "-no-fd-bootchk", false, nc_adopt_keep, NULL },
  { "-no-acpi", false, nc_adopt_keep, NULL },
  { "-no-hpet", false, nc_adopt_keep, NULL },
  { "-singlestep", false, nc_adopt_keep, NULL },
  { "-no-reboot", false, nc_adopt_keep, NULL },
  { "-no-shutdown", false, nc_adopt_keep, NULL },
  { "-only-migratable", false, nc_adopt_keep, NULL },
  { "-nodefaults", false, nc_adopt_keep, NULL },
  { "-no-user-config", false, nc_adopt_keep, NULL },
  { "-async-teardown", false, nc_adopt_keep, NULL },
  { "-semihosting", false, nc_adopt_keep, NULL },
  { "-old-param", false, nc_adopt_keep, NULL },
  { "-enable-fips", false, nc_adopt_keep, NULL },
  /* dropped: this process's own affairs, which the guest does not see */
  { "-S", false, nc_adopt_drop, NULL },
  { "-incoming", true, nc_adopt_drop, NULL },
  { "-loadvm", true, nc_adopt_drop, NULL }, /* the state comes by the migration */
  { "-daemonize", false, nc_adopt_drop, NULL },
  { "-pidfile", true, nc_adopt_drop, NULL },
  { "-monitor", true, nc_adopt_drop, NULL },
  { "-mon", true, nc_adopt_drop, NULL }, /* its chardev too, if nothing else uses it */
  { "-qmp", true, nc_adopt_drop, NULL },
  { "-qmp-pretty", true, nc_adopt_drop, NULL },
  { "-gdb", true, nc_adopt_drop, NULL },
  { "-s", false, nc_adopt_drop, NULL },
  { "-msg", true, nc_adopt_drop, NULL }, /* ours is added */
  { "-D", true, nc_adopt_drop, NULL },
  { "-d", true, nc_adopt_drop, NULL },
  { "-dfilter", true, nc_adopt_drop, NULL },
  { "-trace", true, nc_adopt_drop, NULL },
  { "-plugin", true, nc_adopt_drop, NULL },
  { "-echr", true, nc_adopt_drop, NULL },
  { "-writeconfig", true, nc_adopt_drop, NULL },
  { "-dump-vmstate", true, nc_adopt_drop, NULL },
  { "-enable-sync-profile", false, nc_adopt_drop, NULL },
  { "-perfmap", false, nc_adopt_drop, NULL },
  { "-jitdump", false, nc_adopt_drop, NULL },
  { "-preconfig", false, nc_adopt_drop, NULL },
  { "-sdl", false, nc_adopt_drop, NULL }, /* windows: -display none is added */
  { "-curses", false, nc_adopt_drop, NULL },
  { "-full-screen", false, nc_adopt_drop, NULL },
  { "-alt-grab", false, nc_adopt_drop, NULL },
  { "-ctrl-grab", false, nc_adopt_drop, NULL },
  { "-no-quit", false, nc_adopt_drop, NULL },
  { "-show-cursor", false, nc_adopt_drop, NULL },
  { "-add-fd", true, nc_adopt_drop, NULL }, /* a use that is left is refused at the end */
  /* refused */
  { "-snapshot", false, nc_adopt_refuse, "its disks are in temporary files of its own" },
  { "-chroot", true, nc_adopt_refuse, "a QEMU in a chroot does not see the sockets of its run directory" },
  { "-tpmdev", true, nc_adopt_refuse, "a TPM's state is in another process, which does not move" },
  { "-xen-domid", true, nc_adopt_refuse, "Xen is not supported" },
  { "-xen-attach", false, nc_adopt_refuse, "Xen is not supported" },
  { "-xen-domid-restrict", false, nc_adopt_refuse, "Xen is not supported" },
  { "-qtest", true, nc_adopt_refuse, "a machine under qtest has no life of its own" },
  { "-qtest-log", true, nc_adopt_drop, NULL },
};

static const NcAdoptRule *
nc_adopt_find_rule(const char *word)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_adopt_rules); i++)
    if (g_str_equal(nc_adopt_rules[i].name, word))
      return &nc_adopt_rules[i];
  return NULL;
}

/* A word that is no option: the first disk's image. */
static bool
nc_adopt_image(NcAdopt *a, const char *word)
{
  g_autofree char *path = nc_absolute(a, word);
  nc_adopt_emit(a, path, NULL);
  return true;
}

static bool
nc_adopt_words(NcAdopt *a, GError **error)
{
  for (char *const *word = a->argv + 1; *word; word++) {
    if ((*word)[0] != '-') {
      nc_adopt_image(a, *word);
      continue;
    }
    const char *name = g_str_has_prefix(*word, "--") ? *word + 1 : *word;
    const NcAdoptRule *rule = nc_adopt_find_rule(name);
    if (!rule)
      return nc_fail(error, NC_ERROR_UNSUITABLE, "%.80s: an option that this version does not know", *word);
    if (rule->has_value && !word[1])
      return nc_fail(error, NC_ERROR_UNSUITABLE, "%s: its value is missing", *word);
    if (!rule->func(a, rule, rule->has_value ? *++word : NULL, error))
      return false;
  }
  return true;
}

/* What QEMU would have guessed. */
static void
nc_adopt_spell_out(NcAdopt *a)
{
  if (!a->has_type)
    nc_adopt_emit(a, "-machine", a->facts->machine_type);
  if (!a->has_accel)
    nc_adopt_emit(a, "-accel", a->facts->accel);
  if (!a->has_display)
    nc_adopt_emit(a, "-display", "none");
}

static bool
nc_adopt_check_result(const NcAdopt *a, GError **error)
{
  for (guint i = 0; i < a->out->len; i++) {
    const char *word = a->out->pdata[i];
    if (strstr(word, "/dev/fdset/"))
      return nc_fail(error, NC_ERROR_UNSUITABLE, "%.200s: a file that it was given as a descriptor", word);
  }
  return true;
}

static bool
nc_adopt_check_input(char *const *argv, GError **error)
{
  size_t count = 0;
  for (; argv[count]; count++) {
    if (count >= NC_ADOPT_WORDS_MAX || strlen(argv[count]) > NC_ADOPT_WORD_BYTES_MAX)
      return nc_fail(error, NC_ERROR_UNSUITABLE, "its command line is too long");
    if (strstr(argv[count], NC_RUN_MARK) || !g_utf8_validate(argv[count], -1, NULL))
      return nc_fail(error, NC_ERROR_UNSUITABLE, "its command line holds characters that can't be kept");
  }
  return count > 0 || nc_fail(error, NC_ERROR_UNSUITABLE, "its command line can't be seen");
}

bool
nc_adopt_rewrite(char *const *argv, const NcAdoptFacts *facts, NcMachineSpec *spec, GError **error)
{
  g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GHashTable) used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  NcAdopt a = { .facts = facts, .argv = argv, .spec = spec, .out = out, .used = used };

  if (!nc_adopt_check_input(argv, error) || !nc_adopt_words(&a, error))
    return false;
  nc_adopt_spell_out(&a);
  if (!nc_adopt_check_result(&a, error))
    return false;
  g_ptr_array_add(out, NULL);
  g_strfreev(spec->adopted_argv);
  spec->adopted_argv = g_strdupv((char **)out->pdata);
  return true;
}
