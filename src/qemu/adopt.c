/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at a running QEMU from outside: which process it is, what it was started
 * with, and whether that is still what it is.
 */
#include "qemu/adopt.h"
#include "base/ident.h"
#include "base/io.h"
#include "qemu/migration_qmp.h"
#include "qemu/option.h"
#include "qemu/process.h"
#include "qemu/tap.h"

#include <string.h>
#include <unistd.h>

#define NC_ADOPT_QUERY_MS 10000
#define NC_ADOPT_CONFIG_MAX (1u << 20)
#define NC_MIB (UINT64_C(1) << 20)

typedef struct {
  NcQmp *qmp;
  pid_t pid;
  char **argv;
  char *cwd, *executable, *machine_type;
  bool kvm;
} NcAdoptee;

static void
nc_adoptee_clear(NcAdoptee *q)
{
  g_strfreev(q->argv);
  g_free(q->cwd);
  g_free(q->executable);
  g_free(q->machine_type);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcAdoptee, nc_adoptee_clear)

static json_t *
nc_adopt_ask(NcAdoptee *q, const char *command, json_t *arguments, GError **error)
{
  return nc_qmp_call(q->qmp, command, arguments, -1, NC_ADOPT_QUERY_MS, error);
}

/* --- the process --- */

static bool
nc_looks_like_qemu(const char *executable)
{
  g_autofree char *name = g_path_get_basename(executable);
  return strstr(name, "qemu") || g_str_equal(name, "kvm");
}

static bool
nc_adopt_look_at_process(NcAdoptee *q, GError **error)
{
  if (!(q->executable = nc_qemu_process_executable(q->pid, error)) || !(q->cwd = nc_qemu_process_directory(q->pid, error)) ||
      !(q->argv = nc_qemu_process_command_line(q->pid, error)))
    return false;
  /* libvirt makes the socket of its monitor itself: then the other end is known as libvirt's. */
  return nc_looks_like_qemu(q->executable) ||
         nc_fail(error, NC_ERROR_UNSUITABLE,
                 "the QMP socket was made by %s (process %d), not by QEMU: give QEMU a QMP socket of its own (-qmp unix:...)",
                 q->executable, (int)q->pid);
}

/* --- what QMP knows --- */

static bool
nc_adopt_check_status(NcAdoptee *q, GError **error)
{
  nc_autojson json_t *status = nc_adopt_ask(q, "query-status", NULL, error);
  if (!status)
    return false;
  const char *name = nc_json_string_or(status, "status", "");
  static const char *const fine[] = { "running", "paused", "suspended", "prelaunch", "watchdog", "shutdown", NULL };
  if (!g_strv_contains(fine, name))
    return nc_fail(error, NC_ERROR_CONFLICT, "its QEMU is in the state \"%s\"", name);
  return !nc_qemu_migration_is_under_way(q->qmp) || nc_fail(error, NC_ERROR_CONFLICT, "a migration of it is under way");
}

static bool
nc_adopt_ask_board(NcAdoptee *q, GError **error)
{
  nc_autojson json_t *type = nc_adopt_ask(q, "qom-get", json_pack("{s:s, s:s}", "path", "/machine", "property", "type"), error);
  const char *name = json_string_value(type);
  nc_autojson json_t *kvm = type ? nc_adopt_ask(q, "query-kvm", NULL, error) : NULL;
  if (!kvm)
    return false;
  if (!name || !g_str_has_suffix(name, "-machine") || g_str_equal(name, "none-machine"))
    return nc_fail(error, NC_ERROR_UNSUITABLE, "its machine type \"%s\" can't be moved", name ? name : "");
  q->machine_type = g_strndup(name, strlen(name) - strlen("-machine"));
  q->kvm = nc_json_bool_or(kvm, "enabled", false);
  return true;
}

static bool
nc_adopt_measure(NcAdoptee *q, NcMachineSpec *spec, GError **error)
{
  nc_autojson json_t *memory = nc_adopt_ask(q, "query-memory-size-summary", NULL, error);
  nc_autojson json_t *cpus = memory ? nc_adopt_ask(q, "query-cpus-fast", NULL, error) : NULL;
  if (!cpus)
    return false;
  uint64_t bytes = (uint64_t)MAX(nc_json_int_or(memory, "base-memory", 0), 0) +
                   (uint64_t)MAX(nc_json_int_or(memory, "plugged-memory", 0), 0);
  if (bytes < NC_MIB || bytes >> 20 > 1 << 24)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "it has %" G_GUINT64_FORMAT " bytes of memory", bytes);
  spec->memory_mib = (unsigned)(bytes >> 20);
  spec->memory_extra_kib = (unsigned)(bytes % NC_MIB >> 10) & ~3u;
  spec->vcpus = (unsigned)MAX(json_array_size(cpus), 1);
  return true;
}

/* --- is it still what its command line says? --- */

/* Is ${value} on the command line as the whole of a value? */
static bool
nc_argv_has_value(char *const *argv, const char *value)
{
  g_auto(GStrv) parts = g_strsplit(value, ",", -1);
  g_autofree char *doubled = g_strjoinv(",,", parts);
  size_t length = strlen(doubled);
  for (char *const *word = argv; *word; word++) {
    for (const char *at = *word; (at = strstr(at, doubled)) != NULL; at++) {
      bool begins = at == *word || strchr("=\":", at[-1]);
      bool ends = at[length] == '\0' || strchr(",\"", at[length]);
      if (begins && ends)
        return true;
    }
  }
  return false;
}

/* The sections [device "ID"] of a -readconfig file. */
static void
nc_add_configured_ids(GHashTable *ids, const char *cwd, const char *file)
{
  g_autofree char *path = g_path_is_absolute(file) ? g_strdup(file) : g_build_filename(cwd, file, NULL);
  g_autofree char *text = nc_file_read(path, NC_ADOPT_CONFIG_MAX, NULL, NULL);
  g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
  for (char **line = lines; *line; line++) {
    const char *id = g_strstrip(*line);
    if (g_str_has_prefix(id, "[device \"") && g_str_has_suffix(id, "\"]")) {
      id += strlen("[device \"");
      g_hash_table_add(ids, g_strndup(id, strlen(id) - strlen("\"]")));
    }
  }
}

/* The ids of the devices it was started with, in a set. */
static GHashTable *
nc_adopt_device_ids(const NcAdoptee *q)
{
  GHashTable *ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  for (char *const *argv = q->argv; argv[0] && argv[1]; argv++) {
    const char *name = g_str_has_prefix(argv[0], "--") ? argv[0] + 1 : argv[0];
    if (g_str_equal(name, "-readconfig"))
      nc_add_configured_ids(ids, q->cwd, argv[1]);
    if (!g_str_equal(name, "-device"))
      continue;
    g_autoptr(NcOption) option = nc_option_parse(argv[1], "driver", NULL);
    char *id = option ? nc_option_get(option, "id") : NULL;
    if (id)
      g_hash_table_add(ids, id);
  }
  return ids;
}

static bool
nc_adopt_check_devices(NcAdoptee *q, GError **error)
{
  nc_autojson json_t *children = nc_adopt_ask(q, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), error);
  if (!children)
    return false;
  g_autoptr(GHashTable) ids = nc_adopt_device_ids(q);
  size_t i;
  json_t *child;
  json_array_foreach(children, i, child)
  {
    const char *id = nc_json_string_or(child, "name", "");
    if (!g_str_has_prefix(nc_json_string_or(child, "type", ""), "child<"))
      continue;
    if (!g_hash_table_remove(ids, id))
      return nc_fail(error, NC_ERROR_UNSUITABLE, "the device %s was plugged in after the start: a new QEMU would not have it", id);
  }
  GHashTableIter iter;
  gpointer left;
  g_hash_table_iter_init(&iter, ids);
  if (g_hash_table_iter_next(&iter, &left, NULL))
    return nc_fail(error, NC_ERROR_UNSUITABLE, "the device %s was unplugged after the start: a new QEMU would have it", (char *)left);
  return true;
}

/* The file that QEMU writes to: a path, or in a json: name. New string, NULL if it is none. Caller frees. */
static char *
nc_adopt_image_path(const char *file)
{
  if (!g_str_has_prefix(file, "json:"))
    return g_strdup(file);
  nc_autojson json_t *json = nc_msg_decode(file + 5, strlen(file) - 5, NULL);
  json_t *inner = json_object_get(json, "file");
  return g_strdup(nc_json_string_or(json_is_object(inner) ? inner : json, "filename", NULL));
}

/* A disk in the specification is one whose file the destination can look for. */
static bool
nc_adopt_note_disk(NcMachineSpec *spec, json_t *entry, const char *path, GError **error)
{
  json_t *inserted = json_object_get(entry, "inserted");
  const char *format = nc_json_string_or(inserted, "drv", "");
  bool known = g_str_equal(format, "raw") || g_str_equal(format, "qcow2");
  if (!g_path_is_absolute(path) || strchr(path, ',') || !known)
    return true;
  g_autofree char *name = g_strdup_printf("disk%u", spec->disks->len);
  NcDiskSpec *disk = nc_machine_spec_add_disk(spec, name, error);
  if (!disk)
    return false;
  disk->path = g_strdup(path);
  g_free(disk->format);
  disk->format = g_strdup(format);
  disk->readonly = nc_json_bool_or(inserted, "ro", false);
  return true;
}

static bool
nc_adopt_check_disks(NcAdoptee *q, NcMachineSpec *spec, GError **error)
{
  nc_autojson json_t *blocks = nc_adopt_ask(q, "query-block", NULL, error);
  size_t i;
  json_t *entry;
  if (!blocks)
    return false;
  json_array_foreach(blocks, i, entry)
  {
    const char *file = nc_json_string_or(json_object_get(entry, "inserted"), "file", NULL);
    g_autofree char *path = file ? nc_adopt_image_path(file) : NULL;
    if (!path || path[0] == '\0')
      continue;
    if (!nc_argv_has_value(q->argv, path))
      return nc_fail(error, NC_ERROR_UNSUITABLE,
                     "a disk is now in %s, which is not on its command line (a snapshot or another medium since the start?)", path);
    g_autofree char *absolute = g_path_is_absolute(path) ? g_strdup(path) : g_build_filename(q->cwd, path, NULL);
    if (!nc_adopt_note_disk(spec, entry, absolute, error))
      return false;
  }
  return true;
}

/* --- networks --- */

static char *
nc_adopt_tap_of_fd(int fd, gpointer data)
{
  const NcAdoptee *q = data;
  return nc_qemu_process_tap_of_fd(q->pid, fd);
}

static char *
nc_adopt_bridge_of_tap(const char *tap, gpointer data)
{
  return nc_tap_master(tap);
}

static bool
nc_adopt_check_networks(NcAdoptee *q, const NcMachineSpec *spec, GError **error)
{
  if (spec->nics->len && !nc_qemu_process_shares_network(q->pid))
    return nc_fail(error, NC_ERROR_UNSUITABLE, "its taps are in another network namespace than novacrond");
  for (guint i = 0; i < spec->nics->len; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    if (nic->bridge && !nc_bridge_exists(nic->bridge))
      return nc_fail(error, NC_ERROR_UNSUITABLE, "the tap of %s is in %s, which is no Linux bridge", nic->name, nic->bridge);
  }
  return true;
}

/* --- together --- */

static void
nc_adopt_replace(char **field, const char *value)
{
  g_free(*field);
  *field = g_strdup(value);
}

static bool
nc_adopt_describe(NcAdoptee *q, NcMachineSpec *spec, GError **error)
{
  const NcAdoptFacts facts = {
    .machine_type = q->machine_type,
    .accel = q->kvm ? "kvm" : "tcg",
    .cwd = q->cwd,
    .tap_of_fd = nc_adopt_tap_of_fd,
    .bridge_of_tap = nc_adopt_bridge_of_tap,
    .data = q,
  };
  nc_adopt_replace(&spec->machine, q->machine_type);
  nc_adopt_replace(&spec->accel, facts.accel);
  nc_adopt_replace(&spec->qemu_binary, q->executable);
  return nc_adopt_measure(q, spec, error) && nc_adopt_check_devices(q, error) && nc_adopt_check_disks(q, spec, error) &&
         nc_adopt_rewrite(q->argv, &facts, spec, error) && nc_adopt_check_networks(q, spec, error) &&
         nc_machine_spec_complete(spec, error);
}

NcMachineSpec *
nc_qemu_adopt(const char *name, NcQmp *qmp, pid_t pid, GError **error)
{
  g_auto(NcAdoptee) q = { .qmp = qmp, .pid = pid };
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_new(name);

  if (!nc_name_is_valid(name)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%.80s\" is not a name: " NC_NAME_RULE, name);
    return NULL;
  }
  if (nc_adopt_look_at_process(&q, error) && nc_adopt_check_status(&q, error) && nc_adopt_ask_board(&q, error) &&
      nc_adopt_describe(&q, spec, error))
    return g_steal_pointer(&spec);
  g_prefix_error(error, "this QEMU can't be adopted: ");
  return NULL;
}
