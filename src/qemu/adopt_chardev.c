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

/* Puts the file under ${key} into the run directory; "c-" keeps it apart from sockets of ours. */
static void
nc_chardev_move(NcAdopt *a, NcOption *o, const char *key, const char *id, const char *suffix)
{
  g_autofree char *previous = nc_option_get(o, key);
  g_autofree char *fallback = g_strdup_printf("c-%s.%s", id, suffix);
  g_autofree char *moved = nc_adopt_run_path(a, previous, fallback);
  nc_option_set(o, key, moved);
}

static void
nc_chardev_listen(NcAdopt *a, NcOption *o, const char *id)
{
  /* What does not go with a UNIX socket, or would name something of this host. */
  static const char *const gone[] = { "fd",        "host",      "port", "to",   "ipv4",     "ipv6",   "nodelay", "delay", "tls-creds",
                                      "tls-authz", "websocket", "abstract", "tight", "reconnect", "reconnect-ms", "signal", NULL };
  for (const char *const *key = gone; *key; key++)
    nc_option_remove(o, *key);
  nc_chardev_move(a, o, "path", id, "sock");
  nc_option_set_bool(o, "server", true);
  nc_option_set_bool(o, "wait", false); /* or the new QEMU waits for somebody to connect */
}

static bool
nc_chardev_socket(NcAdopt *a, const NcAdoptRule *rule, const char *value, NcOption *o, const char *id, GError **error)
{
  if (nc_option_is_on(o, "server", false))
    nc_chardev_listen(a, o, id);
  else if (nc_option_has(o, "fd"))
    return nc_adopt_unsuitable(rule, value, "a connection that it was given as a descriptor can't be made again", error);
  return true;
}

static bool
nc_chardev_backend(NcAdopt *a, const NcAdoptRule *rule, const char *value, NcOption *o, const char *backend, const char *id, GError **error)
{
  static const char *const kept[] = { "null",     "pty",       "ringbuf", "memory",       "vc",  "msmouse", "braille", "wctablet",
                                      "spicevmc", "spiceport", "testdev", "qemu-vdagent", "udp", "hub",     "dbus",    NULL };
  if (g_str_equal(backend, "socket"))
    return nc_chardev_socket(a, rule, value, o, id, error);
  if (g_str_equal(backend, "stdio")) {
    nc_option_set(o, "backend", "socket");
    nc_chardev_listen(a, o, id);
    return true;
  }
  if (g_str_equal(backend, "file")) {
    nc_chardev_move(a, o, "path", id, "log");
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
  if (nc_option_has(o, "logfile"))
    nc_chardev_move(a, o, "logfile", id, "copy.log");
  return nc_chardev_backend(a, rule, value, o, backend, id, error) && nc_adopt_emit_option(a, rule, o);
}

/* Of "unix:/path,server=on": "/path". Caller frees. */
static char *
nc_option_place(const char *text)
{
  const char *colon = strchr(text, ':');
  return colon ? g_strndup(colon + 1, strcspn(colon + 1, ",")) : NULL;
}

/* The short form, as in -serial. */
static bool
nc_adopt_char_text(NcAdopt *a, const NcAdoptRule *rule, const char *value, const char *kind, unsigned number, GError **error)
{
  static const char *const kept[] = { "none", "null", "vc", "pty", "msmouse", "braille", "testdev", NULL };
  static const char *const listeners[] = { "unix", "tcp", "telnet", "websocket", NULL };
  const char *text = g_str_has_prefix(value, "mon:") ? value + 4 : value;
  g_autofree char *scheme = g_strndup(text, strcspn(text, ":,"));
  g_autofree char *place = nc_option_place(text);
  g_autoptr(NcOption) o = nc_option_parse(text, "address", error);
  if (!o)
    return false;
  bool listens = g_str_equal(text, "stdio") || (g_strv_contains(listeners, scheme) && nc_option_is_on(o, "server", false));
  g_autofree char *rewritten = NULL;

  if (listens) {
    g_autofree char *fallback = g_strdup_printf("%s%u.sock", kind, number);
    g_autofree char *path = nc_adopt_run_path(a, g_str_equal(scheme, "unix") ? place : NULL, fallback);
    rewritten = g_strdup_printf("unix:%s,server=on,wait=off", path);
  } else if (g_str_equal(scheme, "file")) {
    g_autofree char *fallback = g_strdup_printf("%s%u.log", kind, number);
    g_autofree char *path = nc_adopt_run_path(a, place, fallback);
    rewritten = g_strdup_printf("file:%s", path);
  } else if (g_strv_contains(kept, scheme) || g_strv_contains(listeners, scheme) || g_str_equal(scheme, "chardev") ||
             g_str_equal(scheme, "udp")) {
    rewritten = g_strdup(text);
  } else {
    return nc_adopt_unsuitable(rule, value, "what it is connected to is on this host", error);
  }
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
