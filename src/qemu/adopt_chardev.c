/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules for character devices: what a guest's ports are connected to.
 *
 * The port is the guest's and stays; its other end is the host's. Listening
 * sockets, standard input and files go into the run directory; connections that QEMU
 * itself makes are kept; host devices are refused.
 */
#include "qemu/adopt_internal.h"

#include <string.h>

/* A path in the run directory for the chardev ${id}; another name space than that of our own sockets. */
static char *
nc_chardev_path(const char *id, const char *suffix)
{
  g_autofree char *name = g_strconcat("c-", id, NULL);
  return nc_adopt_run_path(name, suffix);
}

static void
nc_chardev_listen(NcOption *o, const char *id)
{
  /* What does not go with a UNIX socket, or would name something of this host. */
  static const char *const gone[] = { "fd",        "host",      "port", "to",   "ipv4",     "ipv6",   "nodelay", "delay", "tls-creds",
                                      "tls-authz", "websocket", "abstract", "tight", "reconnect", "reconnect-ms", "signal", NULL };
  g_autofree char *path = nc_chardev_path(id, "sock");
  for (const char *const *key = gone; *key; key++)
    nc_option_remove(o, *key);
  nc_option_set(o, "path", path);
  nc_option_set_bool(o, "server", true);
  nc_option_set_bool(o, "wait", false); /* or the new QEMU waits for somebody to connect */
}

static bool
nc_chardev_socket(const NcAdoptRule *rule, const char *value, NcOption *o, const char *id, GError **error)
{
  if (nc_option_is_on(o, "server", false))
    nc_chardev_listen(o, id);
  else if (nc_option_has(o, "fd"))
    return nc_adopt_unsuitable(rule, value, "a connection that it was given as a descriptor can't be made again", error);
  return true;
}

static bool
nc_chardev_backend(const NcAdoptRule *rule, const char *value, NcOption *o, const char *backend, const char *id, GError **error)
{
  static const char *const kept[] = { "null",     "pty",       "ringbuf", "memory",       "vc",  "msmouse", "braille", "wctablet",
                                      "spicevmc", "spiceport", "testdev", "qemu-vdagent", "udp", "hub",     "dbus",    NULL };
  if (g_str_equal(backend, "socket"))
    return nc_chardev_socket(rule, value, o, id, error);
  if (g_str_equal(backend, "stdio")) {
    nc_option_set(o, "backend", "socket");
    nc_chardev_listen(o, id);
    return true;
  }
  if (g_str_equal(backend, "file")) {
    g_autofree char *path = nc_chardev_path(id, "log");
    nc_option_set(o, "path", path);
    nc_option_remove(o, "input-path");
    return true;
  }
  if (g_str_equal(backend, "pty"))
    nc_option_remove(o, "path"); /* a symbolic link to it */
  return g_strv_contains(kept, backend) ||
         nc_adopt_unsuitable(rule, value, "what it is connected to is on this host", error);
}

bool
nc_adopt_chardev(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autoptr(NcOption) o = nc_option_parse(value, "backend", error);
  if (!o)
    return false;
  g_autofree char *backend = nc_option_get(o, "backend");
  g_autofree char *id = nc_option_get(o, "id");
  if (!backend || !id)
    return nc_adopt_unsuitable(rule, value, "it has no backend or no id", error);
  if (!nc_adopt_is_referenced(a, "chardev", id, value))
    return true; /* a monitor's */
  if (nc_option_has(o, "logfile")) {
    g_autofree char *log = nc_chardev_path(id, "copy.log");
    nc_option_set(o, "logfile", log);
  }
  return nc_chardev_backend(rule, value, o, backend, id, error) && nc_adopt_emit_option(a, rule, o);
}

/* The short form, as in -serial. */
static bool
nc_adopt_char_text(NcAdopt *a, const NcAdoptRule *rule, const char *value, const char *kind, unsigned number, GError **error)
{
  static const char *const kept[] = { "none", "null", "vc", "pty", "msmouse", "braille", "testdev", NULL };
  static const char *const listeners[] = { "unix", "tcp", "telnet", "websocket", NULL };
  const char *text = g_str_has_prefix(value, "mon:") ? value + 4 : value;
  g_autofree char *scheme = g_strndup(text, strcspn(text, ":,"));
  g_autofree char *name = g_strdup_printf("%s%u", kind, number);
  g_autofree char *socket = nc_adopt_run_path(name, "sock");
  g_autofree char *log = nc_adopt_run_path(name, "log");
  g_autoptr(NcOption) o = nc_option_parse(text, "address", error);
  if (!o)
    return false;
  bool listens = g_str_equal(text, "stdio") || (g_strv_contains(listeners, scheme) && nc_option_is_on(o, "server", false));
  g_autofree char *rewritten = NULL;

  if (listens)
    rewritten = g_strdup_printf("unix:%s,server=on,wait=off", socket);
  else if (g_str_equal(scheme, "file"))
    rewritten = g_strdup_printf("file:%s", log);
  else if (g_strv_contains(kept, scheme) || g_strv_contains(listeners, scheme) || g_str_equal(scheme, "chardev") ||
           g_str_equal(scheme, "udp"))
    rewritten = g_strdup(text);
  else
    return nc_adopt_unsuitable(rule, value, "what it is connected to is on this host", error);
  nc_adopt_emit(a, rule->name, rewritten);
  return true;
}

bool
nc_adopt_serial(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  return nc_adopt_char_text(a, rule, value, "serial", a->serials++, error);
}

bool
nc_adopt_parallel(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  return nc_adopt_char_text(a, rule, value, "parallel", a->parallels++, error);
}

bool
nc_adopt_debugcon(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  return nc_adopt_char_text(a, rule, value, "debugcon", a->debugcons++, error);
}
