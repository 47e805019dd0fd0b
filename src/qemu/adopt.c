/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/adopt.h"
#include "qemu/process.h"

#include <string.h>
#include <unistd.h>

#define NC_ADOPT_QMP_MS 10000

typedef enum {
  NC_ADOPT_KEEP,    /* with its argument, if the next word is one */
  NC_ADOPT_DROP,    /* the word alone */
  NC_ADOPT_DROP_ARG, /* the word and its argument */
  NC_ADOPT_MACHINE, /* argument: the type is replaced */
  NC_ADOPT_CHARDEV, /* argument: sockets and files move, descriptors become paths */
  NC_ADOPT_STREAM,  /* argument like unix:PATH,...: the path moves */
  NC_ADOPT_FILE,    /* argument is a file to write: it moves */
  NC_ADOPT_NETDEV,  /* argument: descriptors are refused, taps noted */
  NC_ADOPT_VNC,     /* argument: the next free display is taken */
  NC_ADOPT_REFUSE   /* can't be reproduced */
} NcAdoptRule;

/* Options not listed are kept. Names as in qemu(1), without the dash. */
static const struct {
  const char *option;
  NcAdoptRule rule;
} nc_adopt_rules[] = {
  { "daemonize", NC_ADOPT_DROP },   { "S", NC_ADOPT_DROP },           { "incoming", NC_ADOPT_DROP_ARG },
  { "pidfile", NC_ADOPT_DROP_ARG }, { "qmp", NC_ADOPT_DROP_ARG },     { "qmp-pretty", NC_ADOPT_DROP_ARG },
  { "loadvm", NC_ADOPT_DROP_ARG },  { "snapshot", NC_ADOPT_REFUSE },  { "machine", NC_ADOPT_MACHINE },
  { "M", NC_ADOPT_MACHINE },        { "chardev", NC_ADOPT_CHARDEV },  { "serial", NC_ADOPT_STREAM },
  { "parallel", NC_ADOPT_STREAM },  { "monitor", NC_ADOPT_STREAM },   { "gdb", NC_ADOPT_DROP_ARG },
  { "D", NC_ADOPT_FILE },           { "netdev", NC_ADOPT_NETDEV },    { "nic", NC_ADOPT_NETDEV },
  { "vnc", NC_ADOPT_VNC },          { "add-fd", NC_ADOPT_REFUSE },    { "readconfig", NC_ADOPT_REFUSE },
  { "chroot", NC_ADOPT_REFUSE },
};

static NcAdoptRule
nc_adopt_rule(const char *word)
{
  while (*word == '-')
    word++;
  for (size_t i = 0; i < G_N_ELEMENTS(nc_adopt_rules); i++)
    if (g_str_equal(nc_adopt_rules[i].option, word))
      return nc_adopt_rules[i].rule;
  return NC_ADOPT_KEEP;
}

/* "@RUN@/" and the last part of ${path}. */
static char *
nc_adopt_moved(const char *path)
{
  g_autofree char *base = g_path_get_basename(path);
  return g_strdup_printf("@RUN@/%s", base);
}

/* The value of ${key} among "a,key=value,b"; NULL if it is not there. Caller frees. */
static char *
nc_option_get(char **parts, const char *key)
{
  size_t length = strlen(key);
  for (; *parts; parts++)
    if (strncmp(*parts, key, length) == 0 && (*parts)[length] == '=')
      return g_strdup(*parts + length + 1);
  return NULL;
}

static char *
nc_adopt_machine(const char *argument, const char *type)
{
  g_auto(GStrv) parts = g_strsplit(argument, ",", -1);
  for (char **part = parts; *part; part++) {
    bool is_type = g_str_has_prefix(*part, "type=") || (part == parts && !strchr(*part, '='));
    if (!is_type)
      continue;
    g_free(*part);
    *part = g_strdup(type);
    return g_strjoinv(",", parts);
  }
  return g_strdup_printf("%s,%s", type, argument);
}

/* Sockets and files of a character device move into the run directory. */
static char *
nc_adopt_chardev(const char *argument, GError **error)
{
  g_auto(GStrv) parts = g_strsplit(argument, ",", -1);
  g_autofree char *id = nc_option_get(parts, "id");
  bool input = g_str_equal(parts[0], "pipe") || g_str_equal(parts[0], "serial") || g_str_equal(parts[0], "tty");

  for (char **part = parts; *part; part++) {
    char *moved = NULL;
    if (g_str_has_prefix(*part, "path=") && !input) {
      g_autofree char *path = nc_adopt_moved(*part + strlen("path="));
      moved = g_strdup_printf("path=%s", path);
    } else if (g_str_has_prefix(*part, "logfile=")) {
      g_autofree char *path = nc_adopt_moved(*part + strlen("logfile="));
      moved = g_strdup_printf("logfile=%s", path);
    } else if (g_str_has_prefix(*part, "fd=")) {
      if (!g_str_equal(parts[0], "socket") || !id) {
        nc_fail(error, NC_ERROR_UNSUITABLE, "-chardev %s uses an inherited descriptor, which no other QEMU can have", argument);
        return NULL;
      }
      moved = g_strdup_printf("path=@RUN@/%s.sock", id); /* a listening socket that a manager passed in */
    }
    if (moved) {
      g_free(*part);
      *part = moved;
    }
  }
  return g_strjoinv(",", parts);
}

/* "unix:/path,server=on" and "file:/path"; everything else stays. */
static char *
nc_adopt_stream(const char *argument)
{
  static const char *const kinds[] = { "unix:", "file:", "mon:unix:" };
  for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
    if (!g_str_has_prefix(argument, kinds[i]))
      continue;
    g_auto(GStrv) parts = g_strsplit(argument + strlen(kinds[i]), ",", 2);
    g_autofree char *moved = nc_adopt_moved(parts[0]);
    return g_strdup_printf("%s%s%s%s", kinds[i], moved, parts[1] ? "," : "", parts[1] ? parts[1] : "");
  }
  return g_strdup(argument);
}

static char *
nc_adopt_netdev(const char *argument, GPtrArray *taps, GError **error)
{
  g_auto(GStrv) parts = g_strsplit(argument, ",", -1);
  static const char *const descriptors[] = { "fd", "fds", "vhostfd", "vhostfds" };

  for (size_t i = 0; i < G_N_ELEMENTS(descriptors); i++) {
    g_autofree char *value = nc_option_get(parts, descriptors[i]);
    if (value) {
      nc_fail(error, NC_ERROR_UNSUITABLE,
              "the network device %s uses an inherited descriptor (%s=): only devices with ifname= can be made again elsewhere",
              argument, descriptors[i]);
      return NULL;
    }
  }
  g_autofree char *ifname = nc_option_get(parts, "ifname");
  g_autofree char *script = nc_option_get(parts, "script");
  if (taps && ifname && g_strcmp0(script, "no") == 0)
    g_ptr_array_add(taps, g_steal_pointer(&ifname));
  return g_strdup(argument);
}

static char *
nc_adopt_vnc(const char *argument)
{
  if (g_str_has_prefix(argument, "unix:"))
    return nc_adopt_stream(argument);
  if (g_str_equal(argument, "none") || strstr(argument, ",to="))
    return g_strdup(argument);
  return g_strdup_printf("%s,to=99", argument); /* another display of the same number may be there */
}

/* The new argument of an option that has one; NULL on error. */
static char *
nc_adopt_argument(NcAdoptRule rule, const char *argument, const char *machine_type, GPtrArray *taps, GError **error)
{
  switch (rule) {
  case NC_ADOPT_MACHINE:
    return nc_adopt_machine(argument, machine_type);
  case NC_ADOPT_CHARDEV:
    return nc_adopt_chardev(argument, error);
  case NC_ADOPT_STREAM:
    return nc_adopt_stream(argument);
  case NC_ADOPT_FILE:
    return nc_adopt_moved(argument);
  case NC_ADOPT_NETDEV:
    return nc_adopt_netdev(argument, taps, error);
  case NC_ADOPT_VNC:
    return nc_adopt_vnc(argument);
  default:
    return g_strdup(argument);
  }
}

char **
nc_adopt_rewrite(char *const *argv, const char *machine_type, GPtrArray *taps, GError **error)
{
  g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
  bool typed = false;

  for (char *const *word = argv + (argv[0] != NULL); *word; word++) {
    NcAdoptRule rule = (*word)[0] == '-' ? nc_adopt_rule(*word) : NC_ADOPT_KEEP;
    if (rule == NC_ADOPT_REFUSE) {
      nc_fail(error, NC_ERROR_UNSUITABLE, "a QEMU started with %s can't be reproduced on another node", *word);
      return NULL;
    }
    if (rule == NC_ADOPT_DROP)
      continue;
    if (rule == NC_ADOPT_KEEP) {
      g_ptr_array_add(out, g_strdup(*word));
      continue;
    }
    if (!word[1]) {
      nc_fail(error, NC_ERROR_UNSUITABLE, "the command line ends with %s", *word);
      return NULL;
    }
    const char *option = *word++;
    if (rule == NC_ADOPT_DROP_ARG)
      continue;
    char *argument = nc_adopt_argument(rule, *word, machine_type, taps, error);
    if (!argument)
      return NULL;
    typed |= rule == NC_ADOPT_MACHINE;
    g_ptr_array_add(out, g_strdup(option));
    g_ptr_array_add(out, argument);
  }
  if (!typed) { /* the default type differs from QEMU to QEMU */
    g_ptr_array_add(out, g_strdup("-machine"));
    g_ptr_array_add(out, g_strdup(machine_type));
  }
  g_ptr_array_add(out, NULL);
  g_ptr_array_set_free_func(out, NULL);
  return (char **)g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

/* "pc-i440fx-7.2" from QOM's "pc-i440fx-7.2-machine". Caller frees; NULL on error. */
static char *
nc_adopt_machine_type(NcQmp *qmp, GError **error)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "qom-get", json_pack("{s:s, s:s}", "path", "/machine", "property", "type"), -1,
                                           NC_ADOPT_QMP_MS, error);
  const char *type = json_string_value(answer);
  if (!answer)
    return NULL;
  if (!type || !g_str_has_suffix(type, "-machine")) {
    nc_fail(error, NC_ERROR_QEMU, "this QEMU does not say what machine type it has");
    return NULL;
  }
  return g_strndup(type, strlen(type) - strlen("-machine"));
}

/* The bridge that the device ${ifname} is in; NULL if none. Caller frees. */
static char *
nc_bridge_of(const char *ifname)
{
  g_autofree char *link = g_strdup_printf("/sys/class/net/%s/master", ifname);
  g_autofree char *target = g_file_read_link(link, NULL);
  return target ? g_path_get_basename(target) : NULL;
}

static json_t *
nc_adopt_nics(GPtrArray *taps)
{
  json_t *nics = json_array();
  for (guint i = 0; i < taps->len; i++) {
    g_autofree char *name = g_strdup_printf("adopted%u", i);
    g_autofree char *bridge = nc_bridge_of(taps->pdata[i]);
    json_t *nic = json_pack("{s:s, s:s}", "name", name, "tap", taps->pdata[i]);
    if (bridge)
      json_object_set_new(nic, "bridge", json_string(bridge));
    json_array_append_new(nics, nic);
  }
  return nics;
}

/* Memory and vCPUs, for admission at the destination. */
static bool
nc_adopt_sizes(NcQmp *qmp, json_int_t *ret_mib, json_int_t *ret_vcpus, GError **error)
{
  nc_autojson json_t *memory = nc_qmp_call(qmp, "query-memory-size-summary", NULL, -1, NC_ADOPT_QMP_MS, error);
  nc_autojson json_t *cpus = memory ? nc_qmp_call(qmp, "query-cpus-fast", NULL, -1, NC_ADOPT_QMP_MS, error) : NULL;
  if (!cpus)
    return false;
  int64_t bytes = nc_json_int_or(memory, "base-memory", 0) + nc_json_int_or(memory, "plugged-memory", 0);
  *ret_mib = MAX((bytes + (1 << 20) - 1) >> 20, 1);
  *ret_vcpus = (json_int_t)MAX(json_array_size(cpus), 1);
  return true;
}

NcMachineSpec *
nc_qemu_adopt(const char *name, NcQmp *qmp, pid_t pid, GError **error)
{
  json_int_t mib, vcpus;
  g_autoptr(GPtrArray) taps = g_ptr_array_new_with_free_func(g_free);
  g_auto(GStrv) argv = nc_qemu_process_command_line(pid, error);
  g_autofree char *type = argv ? nc_adopt_machine_type(qmp, error) : NULL;
  if (!type || !nc_adopt_sizes(qmp, &mib, &vcpus, error))
    return NULL;
  g_auto(GStrv) words = nc_adopt_rewrite(argv, type, taps, error);
  if (!words)
    return NULL;

  g_autofree char *exe_link = g_strdup_printf("/proc/%d/exe", (int)pid);
  g_autofree char *exe = g_file_read_link(exe_link, NULL);
  json_t *list = json_array();
  for (char **word = words; *word; word++)
    json_array_append_new(list, json_string(*word));
  nc_autojson json_t *json = json_pack("{s:s, s:I, s:I, s:s, s:o, s:o}", "name", name, "memory_mib", mib, "vcpus", vcpus,
                                       "machine", type, "adopted_argv", list, "nics", nc_adopt_nics(taps));
  /* A deleted binary (upgraded meanwhile) is found again by its name. */
  const char *binary = exe && access(exe, X_OK) == 0 ? exe : argv[0];
  json_object_set_new(json, "qemu_binary", json_string(binary));
  return nc_machine_spec_from_json(json, error);
}
