/* SPDX-License-Identifier: Apache-2.0 */
/* One table of keys per section drives the file, the JSON form, bounds and defaults alike. */
#include "qemu/machine_spec.h"
#include "base/ident.h"
#include "base/io.h"

#include <string.h>

typedef enum { NC_SPEC_STRING, NC_SPEC_NAME, NC_SPEC_PATH, NC_SPEC_NUMBER, NC_SPEC_BOOL, NC_SPEC_LIST, NC_SPEC_CHOICE } NcSpecType;

typedef struct {
  const char *name;
  NcSpecType type;
  size_t offset;
  int64_t minimum, maximum; /* NUMBER: value; STRING: length in bytes */
  const char *choices;      /* CHOICE: "a|b|c" */
  const char *fallback;     /* CHOICE, STRING: NULL: stays NULL */
} NcSpecKey;

#define FIELD(type, field) offsetof(type, field)
#define END { NULL, NC_SPEC_STRING, 0, 0, 0, NULL, NULL }

static const NcSpecKey nc_machine_keys[] = {
  { "name", NC_SPEC_NAME, FIELD(NcMachineSpec, name), 0, 0, NULL, NULL },
  { "vcpus", NC_SPEC_NUMBER, FIELD(NcMachineSpec, vcpus), 1, 512, NULL, NULL },
  { "memory_mib", NC_SPEC_NUMBER, FIELD(NcMachineSpec, memory_mib), 1, 1 << 24, NULL, NULL },
  { "memory_extra_kib", NC_SPEC_NUMBER, FIELD(NcMachineSpec, memory_extra_kib), 0, 1020, NULL, NULL },
  { "machine", NC_SPEC_STRING, FIELD(NcMachineSpec, machine), 1, 255, NULL, "pc" },
  { "cpu", NC_SPEC_STRING, FIELD(NcMachineSpec, cpu), 1, 1024, NULL, "qemu64" },
  { "accel", NC_SPEC_CHOICE, FIELD(NcMachineSpec, accel), 0, 0, "auto|kvm|tcg", "auto" },
  { "firmware", NC_SPEC_PATH, FIELD(NcMachineSpec, firmware), 0, 0, NULL, NULL },
  { "kernel", NC_SPEC_PATH, FIELD(NcMachineSpec, kernel), 0, 0, NULL, NULL },
  { "initrd", NC_SPEC_PATH, FIELD(NcMachineSpec, initrd), 0, 0, NULL, NULL },
  { "cmdline", NC_SPEC_STRING, FIELD(NcMachineSpec, cmdline), 0, 4095, NULL, NULL },
  { "uuid", NC_SPEC_STRING, FIELD(NcMachineSpec, uuid), 36, 36, NULL, NULL },
  { "qemu_binary", NC_SPEC_STRING, FIELD(NcMachineSpec, qemu_binary), 1, 4095, NULL, NULL },
  { "qemu_args", NC_SPEC_LIST, FIELD(NcMachineSpec, qemu_args), 0, 256, NULL, NULL },
  { "observer_qmp", NC_SPEC_BOOL, FIELD(NcMachineSpec, observer_qmp), 0, 0, NULL, NULL },
  { "checkpoint_every_s", NC_SPEC_NUMBER, FIELD(NcMachineSpec, checkpoint_every_s), 0, 366 * 86400, NULL, NULL },
  { "checkpoint_keep", NC_SPEC_NUMBER, FIELD(NcMachineSpec, checkpoint_keep), 1, 1000, NULL, NULL },
  { "priority", NC_SPEC_CHOICE, FIELD(NcMachineSpec, priority), 0, 0, NC_SPEC_PRIORITIES, "normal" },
  { "requires", NC_SPEC_LIST, FIELD(NcMachineSpec, requires), 0, NC_SPEC_LABELS_MAX, NULL, NULL },
  { "balloon", NC_SPEC_CHOICE, FIELD(NcMachineSpec, balloon), 0, 0, NC_SPEC_BALLOON_NONE "|" NC_SPEC_BALLOON_HINTS, NC_SPEC_BALLOON_NONE },
  END,
};

static const NcSpecKey nc_disk_keys[] = {
  { "name", NC_SPEC_NAME, FIELD(NcDiskSpec, name), 0, 0, NULL, NULL },
  { "path", NC_SPEC_PATH, FIELD(NcDiskSpec, path), 0, 0, NULL, NULL },
  { "format", NC_SPEC_CHOICE, FIELD(NcDiskSpec, format), 0, 0, "raw|qcow2", "qcow2" },
  { "interface", NC_SPEC_CHOICE, FIELD(NcDiskSpec, interface), 0, 0, "virtio|ide|scsi", "virtio" },
  { "cache", NC_SPEC_CHOICE, FIELD(NcDiskSpec, cache), 0, 0, "none|writeback|writethrough|directsync|unsafe", "none" },
  { "readonly", NC_SPEC_BOOL, FIELD(NcDiskSpec, readonly), 0, 0, NULL, NULL },
  { "shared", NC_SPEC_BOOL, FIELD(NcDiskSpec, shared), 0, 0, NULL, NULL },
  END,
};

static const NcSpecKey nc_nic_keys[] = {
  { "name", NC_SPEC_NAME, FIELD(NcNicSpec, name), 0, 0, NULL, NULL },
  { "bridge", NC_SPEC_STRING, FIELD(NcNicSpec, bridge), 1, 15, NULL, NULL },
  { "tap", NC_SPEC_STRING, FIELD(NcNicSpec, tap), 1, 15, NULL, NULL },
  { "mac", NC_SPEC_STRING, FIELD(NcNicSpec, mac), 17, 17, NULL, NULL },
  { "model", NC_SPEC_STRING, FIELD(NcNicSpec, model), 1, 63, NULL, "virtio-net-pci" },
  END,
};

static const NcSpecKey nc_serial_keys[] = {
  { "name", NC_SPEC_NAME, FIELD(NcSerialSpec, name), 0, 0, NULL, NULL },
  { "kind", NC_SPEC_CHOICE, FIELD(NcSerialSpec, kind), 0, 0, "unix|file", "unix" },
  END,
};

enum { NC_KIND_DISK, NC_KIND_NIC, NC_KIND_SERIAL };

/* The kinds of devices: section in a file, array in JSON. */
static const struct {
  const char *section, *array;
  const NcSpecKey *keys;
  size_t size, list;
} nc_device_kinds[] = {
  [NC_KIND_DISK] = { "disk", "disks", nc_disk_keys, sizeof(NcDiskSpec), FIELD(NcMachineSpec, disks) },
  [NC_KIND_NIC] = { "nic", "nics", nc_nic_keys, sizeof(NcNicSpec), FIELD(NcMachineSpec, nics) },
  [NC_KIND_SERIAL] = { "serial", "serial", nc_serial_keys, sizeof(NcSerialSpec), FIELD(NcMachineSpec, serials) },
};

static GPtrArray *
nc_spec_list(const NcMachineSpec *spec, size_t kind)
{
  return G_STRUCT_MEMBER(GPtrArray *, spec, nc_device_kinds[kind].list);
}

static const NcSpecKey *
nc_spec_find(const NcSpecKey *keys, const char *name)
{
  for (; keys->name; keys++)
    if (g_str_equal(keys->name, name))
      return keys;
  return NULL;
}

/* Text that goes into an option of QEMU's: a comma would begin another option, a control character another line. */
static bool
nc_spec_text_is_safe(const char *text, bool comma_allowed)
{
  for (const char *c = text; *c; c++)
    if ((unsigned char)*c < ' ' || *c == 127 || (*c == ',' && !comma_allowed))
      return false;
  return true;
}

static bool
nc_spec_choice_has(const char *choices, const char *text)
{
  g_auto(GStrv) list = g_strsplit(choices, "|", -1);
  return g_strv_contains((const char *const *)list, text);
}

static bool
nc_spec_check_text(const NcSpecKey *key, const char *text, GError **error)
{
  switch (key->type) {
  case NC_SPEC_NAME:
    return nc_name_is_valid(text) || nc_fail(error, NC_ERROR_INVALID, "%s: \"%.80s\" is not a name: " NC_NAME_RULE, key->name, text);
  case NC_SPEC_PATH:
    return (g_path_is_absolute(text) && strlen(text) < 4096 && nc_spec_text_is_safe(text, false)) ||
           nc_fail(error, NC_ERROR_INVALID, "%s: \"%.200s\" must be an absolute path without commas", key->name, text);
  case NC_SPEC_CHOICE:
    return nc_spec_choice_has(key->choices, text) ||
           nc_fail(error, NC_ERROR_INVALID, "%s: \"%.80s\" is not one of %s", key->name, text, key->choices);
  default:
    break;
  }
  size_t length = strlen(text);
  bool comma = g_str_equal(key->name, "cmdline") || g_str_equal(key->name, "cpu") || g_str_equal(key->name, "machine");
  if (length < (size_t)key->minimum || length > (size_t)key->maximum || !nc_spec_text_is_safe(text, comma))
    return nc_fail(error, NC_ERROR_INVALID, "%s: \"%.80s\" must be text of %d to %d characters%s", key->name, text,
                   (int)key->minimum, (int)key->maximum, comma ? "" : " without commas");
  return true;
}

static bool
nc_spec_set_list(const NcSpecKey *key, char ***field, json_t *value, GError **error)
{
  size_t count = json_array_size(value);
  if (!json_is_array(value) || count > (size_t)key->maximum)
    return nc_fail(error, NC_ERROR_INVALID, "%s: must be a list of at most %d texts", key->name, (int)key->maximum);
  GStrvBuilder *builder = g_strv_builder_new();
  bool ok = true;
  for (size_t i = 0; i < count; i++) {
    const char *text = json_string_value(json_array_get(value, i));
    ok &= text && strlen(text) < 65536;
    if (ok)
      g_strv_builder_add(builder, text);
  }
  if (ok) {
    g_strfreev(*field);
    *field = g_strv_builder_end(builder);
  }
  g_strv_builder_unref(builder);
  return ok || nc_fail(error, NC_ERROR_INVALID, "%s: must be a list of texts", key->name);
}

/* Sets one field of ${object} from JSON, with its bounds. */
static bool
nc_spec_set(const NcSpecKey *key, gpointer object, json_t *value, GError **error)
{
  gpointer field = (char *)object + key->offset;

  if (key->type == NC_SPEC_NUMBER) {
    int64_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < key->minimum || n > key->maximum)
      return nc_fail(error, NC_ERROR_INVALID, "%s: must be a whole number from %d to %d", key->name, (int)key->minimum,
                     (int)key->maximum);
    *(unsigned *)field = (unsigned)n;
    return true;
  }
  if (key->type == NC_SPEC_BOOL) {
    if (!json_is_boolean(value))
      return nc_fail(error, NC_ERROR_INVALID, "%s: must be true or false", key->name);
    *(bool *)field = json_is_true(value);
    return true;
  }
  if (key->type == NC_SPEC_LIST)
    return nc_spec_set_list(key, field, value, error);
  const char *text = json_string_value(value);
  if (!text)
    return nc_fail(error, NC_ERROR_INVALID, "%s: must be text", key->name);
  if (!nc_spec_check_text(key, text, error))
    return false;
  g_free(*(char **)field);
  *(char **)field = g_strdup(text);
  return true;
}

static void
nc_spec_defaults(const NcSpecKey *keys, gpointer object)
{
  for (; keys->name; keys++)
    if (keys->fallback)
      G_STRUCT_MEMBER(char *, object, keys->offset) = g_strdup(keys->fallback);
}

static void
nc_spec_clear(const NcSpecKey *keys, gpointer object)
{
  for (; keys->name; keys++) {
    if (keys->type == NC_SPEC_LIST)
      g_strfreev(G_STRUCT_MEMBER(char **, object, keys->offset));
    else if (keys->type != NC_SPEC_NUMBER && keys->type != NC_SPEC_BOOL)
      g_free(G_STRUCT_MEMBER(char *, object, keys->offset));
  }
}

NcMachineSpec *
nc_machine_spec_new(const char *name)
{
  NcMachineSpec *spec = g_new0(NcMachineSpec, 1);
  spec->name = g_strdup(name);
  nc_spec_defaults(nc_machine_keys, spec);
  spec->vcpus = 1;
  spec->memory_mib = 512;
  spec->checkpoint_keep = 7;
  spec->qemu_args = g_new0(char *, 1);
  spec->requires = g_new0(char *, 1);
  spec->disks = g_ptr_array_new();
  spec->nics = g_ptr_array_new();
  spec->serials = g_ptr_array_new();
  return spec;
}

void
nc_machine_spec_free(NcMachineSpec *spec)
{
  if (!spec)
    return;
  for (size_t kind = 0; kind < G_N_ELEMENTS(nc_device_kinds); kind++) {
    GPtrArray *list = nc_spec_list(spec, kind);
    for (guint i = 0; i < list->len; i++) {
      nc_spec_clear(nc_device_kinds[kind].keys, list->pdata[i]);
      g_free(list->pdata[i]);
    }
    g_ptr_array_unref(list);
  }
  nc_spec_clear(nc_machine_keys, spec);
  g_strfreev(spec->adopted_argv);
  g_free(spec);
}

/* A new device of ${kind} at the end of its list; NULL if there are too many. */
static gpointer
nc_spec_add_device(NcMachineSpec *spec, size_t kind, GError **error)
{
  GPtrArray *list = nc_spec_list(spec, kind);
  if (list->len >= NC_SPEC_DEVICES_MAX) {
    nc_fail(error, NC_ERROR_INVALID, "%s: more than %d", nc_device_kinds[kind].array, NC_SPEC_DEVICES_MAX);
    return NULL;
  }
  gpointer device = g_malloc0(nc_device_kinds[kind].size);
  nc_spec_defaults(nc_device_kinds[kind].keys, device);
  g_ptr_array_add(list, device);
  return device;
}

NcNicSpec *
nc_machine_spec_add_nic(NcMachineSpec *spec, const char *name, GError **error)
{
  NcNicSpec *nic = nc_spec_add_device(spec, NC_KIND_NIC, error);
  if (nic)
    nic->name = g_strdup(name);
  return nic;
}

NcDiskSpec *
nc_machine_spec_add_disk(NcMachineSpec *spec, const char *name, GError **error)
{
  NcDiskSpec *disk = nc_spec_add_device(spec, NC_KIND_DISK, error);
  if (disk)
    disk->name = g_strdup(name);
  return disk;
}

/* --- JSON --- */

static bool
nc_spec_fill(const NcSpecKey *keys, gpointer object, json_t *json, const char *where, GError **error)
{
  const char *name;
  json_t *value;
  json_object_foreach(json, name, value)
  {
    const NcSpecKey *key = nc_spec_find(keys, name);
    if (!key)
      return nc_fail(error, NC_ERROR_INVALID, "%sunknown key \"%.40s\"", where, name);
    if (!json_is_null(value) && !nc_spec_set(key, object, value, error)) {
      g_prefix_error(error, "%s", where);
      return false;
    }
  }
  return true;
}

static bool
nc_spec_fill_devices(NcMachineSpec *spec, size_t kind, json_t *array, GError **error)
{
  size_t i;
  json_t *entry;
  if (!json_is_array(array))
    return nc_fail(error, NC_ERROR_INVALID, "%s: must be a list", nc_device_kinds[kind].array);
  json_array_foreach(array, i, entry)
  {
    g_autofree char *where = g_strdup_printf("%s[%zu]: ", nc_device_kinds[kind].array, i);
    gpointer device = nc_spec_add_device(spec, kind, error);
    if (!device)
      return false;
    if (!json_is_object(entry))
      return nc_fail(error, NC_ERROR_INVALID, "%smust be an object", where);
    if (!nc_spec_fill(nc_device_kinds[kind].keys, device, entry, where, error))
      return false;
  }
  return true;
}

NcMachineSpec *
nc_machine_spec_from_json(json_t *json, GError **error)
{
  static const NcSpecKey adopted = { "adopted_argv", NC_SPEC_LIST, FIELD(NcMachineSpec, adopted_argv), 0, 4096, NULL, NULL };
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_new(NULL);

  if (!json_is_object(json)) {
    nc_fail(error, NC_ERROR_INVALID, "a machine's specification must be an object");
    return NULL;
  }
  nc_autojson json_t *plain = json_copy(json);
  for (size_t kind = 0; kind < G_N_ELEMENTS(nc_device_kinds); kind++) {
    json_t *array = json_object_get(json, nc_device_kinds[kind].array);
    if (array && !json_is_null(array) && !nc_spec_fill_devices(spec, kind, array, error))
      return NULL;
    json_object_del(plain, nc_device_kinds[kind].array);
  }
  json_t *argv = json_object_get(json, "adopted_argv");
  if (argv && !json_is_null(argv) && !nc_spec_set(&adopted, spec, argv, error))
    return NULL;
  json_object_del(plain, "adopted_argv");
  if (!nc_spec_fill(nc_machine_keys, spec, plain, "", error) || !nc_machine_spec_complete(spec, error))
    return NULL;
  return g_steal_pointer(&spec);
}

static json_t *
nc_strv_to_json(char **strv)
{
  json_t *array = json_array();
  for (; strv && *strv; strv++)
    json_array_append_new(array, json_string(*strv));
  return array;
}

static json_t *
nc_spec_keys_to_json(const NcSpecKey *keys, gconstpointer object)
{
  json_t *json = json_object();
  for (; keys->name; keys++) {
    gconstpointer field = (const char *)object + keys->offset;
    json_t *value = NULL;
    if (keys->type == NC_SPEC_NUMBER)
      value = json_integer(*(const unsigned *)field);
    else if (keys->type == NC_SPEC_BOOL)
      value = json_boolean(*(const bool *)field);
    else if (keys->type == NC_SPEC_LIST)
      value = nc_strv_to_json(*(char **const *)field);
    else if (*(char *const *)field)
      value = json_string(*(char *const *)field);
    if (value)
      json_object_set_new(json, keys->name, value);
  }
  return json;
}

json_t *
nc_machine_spec_to_json(const NcMachineSpec *spec)
{
  json_t *json = nc_spec_keys_to_json(nc_machine_keys, spec);
  for (size_t kind = 0; kind < G_N_ELEMENTS(nc_device_kinds); kind++) {
    GPtrArray *list = nc_spec_list(spec, kind);
    json_t *array = json_array();
    for (guint i = 0; i < list->len; i++)
      json_array_append_new(array, nc_spec_keys_to_json(nc_device_kinds[kind].keys, list->pdata[i]));
    json_object_set_new(json, nc_device_kinds[kind].array, array);
  }
  if (spec->adopted_argv)
    json_object_set_new(json, "adopted_argv", nc_strv_to_json(spec->adopted_argv));
  return json;
}

/* --- the machine file --- */

typedef struct {
  NcMachineSpec *spec;
  const NcSpecKey *keys; /* of the section we are in */
  gpointer object;
} NcSpecParser;

static bool
nc_spec_open_section(NcSpecParser *p, const char *inside, GError **error)
{
  if (g_str_equal(inside, "machine")) {
    p->keys = nc_machine_keys;
    p->object = p->spec;
    return true;
  }
  for (size_t kind = 0; kind < G_N_ELEMENTS(nc_device_kinds); kind++) {
    size_t length = strlen(nc_device_kinds[kind].section);
    if (strncmp(inside, nc_device_kinds[kind].section, length) != 0 || inside[length] != ' ')
      continue;
    p->object = nc_spec_add_device(p->spec, kind, error);
    p->keys = nc_device_kinds[kind].keys;
    nc_autojson json_t *name = json_string(inside + length + 1);
    return p->object && nc_spec_set(&p->keys[0], p->object, name, error);
  }
  return nc_fail(error, NC_ERROR_INVALID, "unknown section [%.40s]: machine, disk NAME, nic NAME or serial NAME", inside);
}

/* The text of a value as JSON of the key's type. New reference, NULL if it is none. */
static json_t *
nc_spec_text_to_json(const NcSpecKey *key, const char *text)
{
  char *end;
  if (key->type == NC_SPEC_NUMBER) {
    gint64 n = g_ascii_strtoll(text, &end, 10);
    return *text && *end == '\0' ? json_integer(n) : json_null();
  }
  if (key->type == NC_SPEC_BOOL) {
    bool yes = nc_spec_choice_has("yes|true|on", text), no = nc_spec_choice_has("no|false|off", text);
    return yes || no ? json_boolean(yes) : json_null();
  }
  if (key->type == NC_SPEC_LIST) { /* words, quoted as in a shell */
    g_auto(GStrv) words = NULL;
    if (*text && !g_shell_parse_argv(text, NULL, &words, NULL))
      return json_null();
    return nc_strv_to_json(words);
  }
  return json_string(text);
}

static bool
nc_spec_parse_line(NcSpecParser *p, char *line, GError **error)
{
  char *equals = strchr(line, '=');
  size_t length = strlen(line);

  if (line[0] == '\0' || line[0] == '#')
    return true;
  if (line[0] == '[' && line[length - 1] == ']') {
    line[length - 1] = '\0';
    return nc_spec_open_section(p, g_strstrip(line + 1), error);
  }
  if (!equals)
    return nc_fail(error, NC_ERROR_INVALID, "\"%.40s\" is not of the form `key = value`", line);
  *equals = '\0';
  const char *name = g_strstrip(line), *text = g_strstrip(equals + 1);
  const NcSpecKey *key = nc_spec_find(p->keys, name);
  if (!key)
    return nc_fail(error, NC_ERROR_INVALID, "unknown key \"%.40s\"", name);
  nc_autojson json_t *value = nc_spec_text_to_json(key, text);
  return nc_spec_set(key, p->object, value, error);
}

NcMachineSpec *
nc_machine_spec_parse(const char *name, const char *text, GError **error)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_new(NULL);
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  NcSpecParser p = { .spec = spec, .keys = nc_machine_keys, .object = spec };

  g_clear_pointer(&spec->balloon, g_free); /* to be derived: the machine is new */
  if (!g_utf8_validate(text, -1, NULL)) {
    nc_fail(error, NC_ERROR_INVALID, "%s is not UTF-8 text", name);
    return NULL;
  }
  for (guint i = 0; lines[i]; i++) {
    if (!nc_spec_parse_line(&p, g_strstrip(lines[i]), error)) {
      g_prefix_error(error, "%s:%u: ", name, i + 1);
      return NULL;
    }
  }
  if (!nc_machine_spec_complete(spec, error)) {
    g_prefix_error(error, "%s: ", name);
    return NULL;
  }
  return g_steal_pointer(&spec);
}

NcMachineSpec *
nc_machine_spec_load(const char *path, GError **error)
{
  size_t length;
  g_autofree char *text = nc_file_read(path, NC_SPEC_FILE_MAX, &length, error);
  if (!text)
    return NULL;
  if (strlen(text) != length) {
    nc_fail(error, NC_ERROR_INVALID, "%s contains a NUL byte", path);
    return NULL;
  }
  return nc_machine_spec_parse(path, text, error);
}

uint64_t
nc_machine_spec_memory_bytes(const NcMachineSpec *spec)
{
  return ((uint64_t)spec->memory_mib << 20) + ((uint64_t)spec->memory_extra_kib << 10);
}
