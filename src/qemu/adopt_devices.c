/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for networks, displays, sound, objects and devices. */
#include "base/ident.h"
#include "qemu/adopt_internal.h"

#include <string.h>

#define NO_HOST_DEVICE "a device of this host can't move"
#define NC_MAC_CHARACTERS 17

/* Descriptors that nobody on another node can have. */
static const char *const nc_fd_keys[] = { "fd", "fds", "vhostfd", "vhostfds", "sock_fd", NULL };

static bool
nc_has_descriptor(const NcOption *o)
{
  for (const char *const *key = nc_fd_keys; *key; key++)
    if (nc_option_has(o, *key))
      return true;
  return false;
}

static bool
nc_has_prefix_of(const char *text, const char *const *prefixes)
{
  for (; *prefixes; prefixes++)
    if (g_str_has_prefix(text, *prefixes))
      return true;
  return false;
}

/* --- networks --- */

/* The tap's name on this host: given, or that of the descriptor. NULL if it can't be known. Caller frees. */
static char *
nc_source_tap(const NcAdopt *a, const NcOption *o)
{
  char *ifname = nc_option_get(o, "ifname");
  g_autofree char *fd = nc_option_get(o, "fd");
  guint64 number;
  if (ifname || !fd || !g_ascii_string_to_unsigned(fd, 10, 0, G_MAXINT, &number, NULL))
    return ifname;
  return a->facts->tap_of_fd((int)number, a->facts->data);
}

/* The bridge that the new tap belongs into. False if that can't be known. */
static bool
nc_source_bridge(const NcAdopt *a, const NcOption *o, const char *type, char **ret_bridge)
{
  if (g_str_equal(type, "bridge") || nc_option_has(o, "helper")) {
    *ret_bridge = nc_option_get(o, "br");
    if (!*ret_bridge)
      *ret_bridge = g_strdup("br0"); /* QEMU's default */
    return true;
  }
  g_autofree char *tap = nc_source_tap(a, o);
  *ret_bridge = tap ? a->facts->bridge_of_tap(tap, a->facts->data) : NULL;
  return tap != NULL;
}

static bool
nc_adopt_tap(NcAdopt *a, const NcAdoptRule *rule, const char *value, NcOption *o, const char *type, GError **error)
{
  static const char *const gone[] = { "fd", "vhostfd", "helper", "br", "queues", NULL };
  g_autofree char *queues = nc_option_get(o, "queues");
  if (nc_option_has(o, "fds") || nc_option_has(o, "vhostfds") || (queues && !g_str_equal(queues, "1")))
    return nc_adopt_unsuitable(rule, value, "taps with several queues are not supported", error);
  g_autofree char *bridge = NULL;
  if (!nc_source_bridge(a, o, type, &bridge))
    return nc_adopt_unsuitable(rule, value, "the name of its tap can't be found (no ifname=, and no descriptor of a tap)", error);
  g_autofree char *id = nc_option_get(o, "id");
  g_autofree char *name = id && nc_name_is_valid(id) ? g_strdup(id) : g_strdup_printf("nic%u", a->nics);
  a->nics++;
  NcNicSpec *nic = nc_machine_spec_add_nic(a->spec, name, error);
  if (!nic)
    return false;
  nic->bridge = g_steal_pointer(&bridge);
  nic->tap = nc_machine_tap_name(a->spec->name, name);
  g_autofree char *mac = nc_option_get(o, "mac"); /* of -nic; otherwise the device has it */
  if (mac && strlen(mac) == NC_MAC_CHARACTERS)
    nic->mac = g_steal_pointer(&mac);
  for (const char *const *key = gone; *key; key++)
    nc_option_remove(o, *key);
  nc_option_set(o, "type", "tap");
  nc_option_set(o, "ifname", nic->tap);
  nc_option_set(o, "script", "no");
  nc_option_set(o, "downscript", "no");
  return nc_adopt_emit_option(a, rule, o);
}

/* -netdev, and the back end's part of -nic and -net. */
static bool
nc_adopt_network(NcAdopt *a, const NcAdoptRule *rule, const char *value, const char *const *kept, GError **error)
{
  g_autoptr(NcOption) o = nc_option_parse(value, "type", error);
  if (!o)
    return false;
  g_autofree char *type = nc_option_get(o, "type");
  if (!type)
    return nc_adopt_unsuitable(rule, value, "it has no type", error);
  if (g_str_equal(type, "tap") || g_str_equal(type, "bridge"))
    return nc_adopt_tap(a, rule, value, o, type, error);
  if (!g_strv_contains(kept, type) || nc_has_descriptor(o))
    return nc_adopt_unsuitable(rule, value, "what it is connected to is on this host", error);
  return nc_adopt_emit_option(a, rule, o);
}

bool
nc_adopt_netdev(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  static const char *const kept[] = { "user", "hubport", NULL };
  return nc_adopt_network(a, rule, value, kept, error);
}

bool
nc_adopt_net(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  static const char *const kept[] = { "user", "nic", "none", NULL };
  return nc_adopt_network(a, rule, value, kept, error);
}

/* --- devices and objects --- */

/* The specification shows what the guest sees. */
static void
nc_note_nic(NcAdopt *a, const NcOption *o, const char *driver, const char *netdev)
{
  for (guint i = 0; i < a->spec->nics->len; i++) {
    NcNicSpec *nic = a->spec->nics->pdata[i];
    g_autofree char *mac = nc_option_get(o, "mac");
    if (!g_str_equal(nic->name, netdev))
      continue;
    g_free(nic->model);
    nic->model = g_strndup(driver, 63);
    if (mac && strlen(mac) == NC_MAC_CHARACTERS) {
      g_free(nic->mac);
      nic->mac = g_steal_pointer(&mac);
    }
  }
}

bool
nc_adopt_device(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  static const char *const host[] = { "vfio-", "usb-host", "scsi-generic", "scsi-block", "vhost-user-", "vhost-scsi", "u2f-passthru",
                                      "usb-redir", "ccid-card-emulated", "ipmi-bmc-extern", "isa-ipmi-bmc-extern", NULL };
  g_autoptr(NcOption) o = nc_option_parse(value, "driver", error);
  if (!o)
    return false;
  g_autofree char *driver = nc_option_get(o, "driver");
  g_autofree char *netdev = nc_option_get(o, "netdev");
  if (!driver)
    return nc_adopt_unsuitable(rule, value, "it has no driver", error);
  if (nc_has_prefix_of(driver, host))
    return nc_adopt_unsuitable(rule, value, NO_HOST_DEVICE, error);
  if (netdev)
    nc_note_nic(a, o, driver, netdev);
  if (g_str_has_prefix(driver, "vhost-vsock"))
    nc_option_remove(o, "vhostfd"); /* QEMU opens /dev/vhost-vsock itself */
  if (nc_has_descriptor(o))
    return nc_adopt_unsuitable(rule, value, "a descriptor that it was given can't be had on another node", error);
  return nc_adopt_emit_option(a, rule, o);
}

bool
nc_adopt_object(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  static const char *const dropped[] = { "input-linux", "input-barrier", "filter-dump", NULL };
  static const char *const refused[] = { "sev-",      "tdx-guest",    "s390-pv-guest", "vfio-user-server", "x-remote-object",
                                         "x-vfio-",   "dbus-vmstate", "vhost-user-",   "colo-",            "filter-mirror",
                                         "filter-redirector", "filter-rewriter", NULL };
  g_autoptr(NcOption) o = nc_option_parse(value, "qom-type", error);
  if (!o)
    return false;
  g_autofree char *type = nc_option_get(o, "qom-type");
  g_autofree char *id = nc_option_get(o, "id");
  if (!type)
    return nc_adopt_unsuitable(rule, value, "it has no type", error);
  if (nc_has_prefix_of(type, dropped))
    return true; /* the host's keyboard, a recording: nothing of the guest's */
  if (nc_has_prefix_of(type, refused))
    return nc_adopt_unsuitable(rule, value, "it is tied to this host", error);
  if (!g_str_equal(type, "secret") || !nc_option_has(o, "file"))
    return nc_adopt_emit_option(a, rule, o);
  /* libvirt makes a master key for each start, also when nothing needs it. */
  static const char *const uses[] = { "keyid", "secret", "key-secret", "password-secret", "passwordid", NULL };
  for (const char *const *use = uses; id && *use; use++)
    if (nc_adopt_is_referenced(a, *use, id, value))
      return nc_adopt_unsuitable(rule, value, "the secret is in a file of this host", error);
  return true;
}

/* --- displays and sound --- */

static bool
nc_adopt_vnc_option(NcAdopt *a, const NcAdoptRule *rule, NcOption *o, const char *key)
{
  static const char *const gone[] = { "websocket", "to", "reverse", "ipv4", "ipv6", NULL };
  g_autofree char *previous = nc_option_get(o, key);
  g_autofree char *fallback = g_strdup_printf("vnc%u.sock", a->vncs++);
  g_autofree char *path = nc_adopt_run_path(a, previous && g_str_has_prefix(previous, "unix:") ? previous + 5 : NULL, fallback);
  g_autofree char *address = g_strdup_printf("unix:%s", path);
  for (const char *const *word = gone; *word; word++)
    nc_option_remove(o, *word);
  nc_option_set(o, key, address);
  a->has_display = true;
  return nc_adopt_emit_option(a, rule, o);
}

bool
nc_adopt_vnc(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autoptr(NcOption) o = nc_option_parse(value, "vnc", error);
  if (!o)
    return false;
  if (!g_str_equal(value, "none"))
    return nc_adopt_vnc_option(a, rule, o, "vnc");
  a->has_display = true;
  return nc_adopt_emit_option(a, rule, o);
}

bool
nc_adopt_spice(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  static const char *const gone[] = { "port",           "tls-port",          "ipv4",          "ipv6",       "x509-dir",    "x509-key-file",
                                      "x509-cert-file", "x509-cacert-file", "x509-dh-key-file", "x509-key-password", "tls-ciphers",
                                      "tls-channel",    NULL };
  g_autofree char *path = nc_adopt_run_path(a, NULL, "spice.sock");
  g_autoptr(NcOption) o = nc_option_parse(value, NULL, error);
  if (!o)
    return false;
  for (const char *const *key = gone; *key; key++)
    nc_option_remove(o, *key);
  nc_option_set(o, "addr", path);
  nc_option_set_bool(o, "unix", true);
  a->has_display = true;
  return nc_adopt_emit_option(a, rule, o);
}

bool
nc_adopt_display(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autoptr(NcOption) o = nc_option_parse(value, "type", error);
  if (!o)
    return false;
  g_autofree char *type = nc_option_get(o, "type");
  if (nc_option_has(o, "vnc"))
    return nc_adopt_vnc_option(a, rule, o, "vnc");
  a->has_display = true;
  if (g_strcmp0(type, "egl-headless") == 0)
    return nc_adopt_emit_option(a, rule, o);
  nc_adopt_emit(a, rule->name, "none"); /* a service has no window and no terminal */
  return true;
}

bool
nc_adopt_nographic(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  a->has_display = true;
  nc_adopt_emit(a, "-display", "none");
  nc_adopt_emit(a, "-machine", "graphics=off"); /* the rest of -nographic, without its terminal */
  return true;
}

bool
nc_adopt_audio(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error)
{
  g_autoptr(NcOption) o = nc_option_parse(value, "driver", error);
  if (!o)
    return false;
  g_autofree char *driver = nc_option_get(o, "driver");
  if (g_strcmp0(driver, "none") == 0 || g_strcmp0(driver, "spice") == 0)
    return nc_adopt_emit_option(a, rule, o);
  /* The options of other drivers are theirs alone: those that every driver knows and that bind are kept. */
  static const char *const common[] = { "id", "model", NULL };
  g_autoptr(NcOption) silent = nc_option_parse("none", "driver", error);
  for (const char *const *key = common; silent && *key; key++) {
    g_autofree char *text = nc_option_get(o, *key);
    if (text)
      nc_option_set(silent, *key, text);
  }
  return silent && nc_adopt_emit_option(a, rule, silent);
}
