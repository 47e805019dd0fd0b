/* SPDX-License-Identifier: Apache-2.0 */
/* What holds between the fields of a specification, and what is derived from others. */
#include "base/ident.h"
#include "qemu/machine_spec.h"

#include <string.h>

G_STATIC_ASSERT(offsetof(NcDiskSpec, name) == 0 && offsetof(NcNicSpec, name) == 0 && offsetof(NcSerialSpec, name) == 0);

static bool
nc_spec_check_names(const char *what, GPtrArray *list, GError **error)
{
  g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
  for (guint i = 0; i < list->len; i++) {
    char *name = *(char **)list->pdata[i]; /* the first field of each kind */
    if (!name)
      return nc_fail(error, NC_ERROR_INVALID, "%s: number %u has no name", what, i + 1);
    if (!g_hash_table_add(seen, name))
      return nc_fail(error, NC_ERROR_INVALID, "%s: two are named %s", what, name);
  }
  return true;
}

/* In a run directory these sockets are ours: src/agent and command_line.c make them. */
static const char *const nc_reserved_serials[] = { "qmp", "spare", "observer", "in", "out", "nbd", NULL };

/* What QEMU would refuse at its start, or worse, accept in another meaning. */
static bool
nc_spec_check_devices(const NcMachineSpec *spec, GError **error)
{
  g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
  for (guint i = 0; i < spec->disks->len; i++) {
    const NcDiskSpec *disk = spec->disks->pdata[i];
    if (!disk->path)
      return nc_fail(error, NC_ERROR_INVALID, "path: is missing in disk %s", disk->name);
    if (strlen(disk->name) > NC_SPEC_DISK_NAME_MAX)
      return nc_fail(error, NC_ERROR_INVALID, "disk %s: its name is longer than %d characters", disk->name, NC_SPEC_DISK_NAME_MAX);
    g_hash_table_add(seen, disk->name);
  }
  for (guint i = 0; i < spec->nics->len; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    if (g_hash_table_contains(seen, nic->name))
      return nc_fail(error, NC_ERROR_INVALID, "nics: %s is also the name of a disk", nic->name);
  }
  for (guint i = 0; i < spec->serials->len; i++) {
    const NcSerialSpec *serial = spec->serials->pdata[i];
    if (g_strv_contains(nc_reserved_serials, serial->name))
      return nc_fail(error, NC_ERROR_INVALID, "serial: the name %s is reserved for a socket of NovaCron's", serial->name);
  }
  return true;
}

static bool
nc_mac_is_valid(const char *mac)
{
  for (int i = 0; i < 17; i++)
    if (i % 3 == 2 ? mac[i] != ':' : !g_ascii_isxdigit(mac[i]))
      return false;
  return true;
}

/* FNV-1a: a stable name is all that is wanted of it. */
static uint32_t
nc_stable_hash(const char *a, const char *b)
{
  uint32_t hash = 2166136261u;
  for (const char *c = a; *c; c++)
    hash = (hash ^ (uint8_t)*c) * 16777619u;
  hash = (hash ^ '/') * 16777619u;
  for (const char *c = b; *c; c++)
    hash = (hash ^ (uint8_t)*c) * 16777619u;
  return hash;
}

char *
nc_machine_tap_name(const char *machine, const char *nic)
{
  return g_strdup_printf("nct%08x", nc_stable_hash(machine, nic));
}

static bool
nc_spec_complete_nic(const NcMachineSpec *spec, NcNicSpec *nic, GError **error)
{
  uint32_t hash = nc_stable_hash(spec->name, nic->name);
  if (!nic->mac)
    nic->mac = g_strdup_printf("52:54:00:%02x:%02x:%02x", hash >> 16 & 0xff, hash >> 8 & 0xff, hash & 0xff);
  if (!nic->tap)
    nic->tap = nc_machine_tap_name(spec->name, nic->name);
  if (!nc_mac_is_valid(nic->mac))
    return nc_fail(error, NC_ERROR_INVALID, "mac: \"%s\" is not of the form 52:54:00:12:34:56", nic->mac);
  return true;
}

static bool
nc_spec_args_have_balloon(const NcMachineSpec *spec)
{
  for (char **word = spec->qemu_args; *word; word++)
    if (strstr(*word, "virtio-balloon"))
      return true;
  return false;
}

/* For a new machine that does not say: where the device is known to fit. */
static const char *
nc_spec_default_balloon(const NcMachineSpec *spec)
{
  g_autofree char *type = g_strndup(spec->machine, strcspn(spec->machine, ","));
  bool has_pci = g_str_equal(type, "pc") || g_str_equal(type, "q35") || g_str_has_prefix(type, "pc-");

  return has_pci && !nc_spec_args_have_balloon(spec) ? NC_SPEC_BALLOON_HINTS : NC_SPEC_BALLOON_NONE;
}

static bool
nc_spec_complete_balloon(NcMachineSpec *spec, GError **error)
{
  if (!spec->balloon)
    spec->balloon = g_strdup(nc_spec_default_balloon(spec));
  if (!g_str_equal(spec->balloon, NC_SPEC_BALLOON_NONE) && nc_spec_args_have_balloon(spec))
    return nc_fail(error, NC_ERROR_INVALID, "balloon: qemu_args have one already, and QEMU takes one");
  return true;
}

/* RFC 9562, version 5: the same name gives the same identity on every node and at every definition. */
static char *
nc_stable_uuid(const char *name)
{
  static const uint8_t space[16] = { 0x4e, 0x5f, 0x0c, 0x9a, 0x31, 0x7d, 0x4b, 0x52, 0x9e, 0x08, 0xd1, 0x66, 0x2c, 0xaf, 0x70, 0x13 };
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
  uint8_t d[20];
  gsize length = sizeof d;
  g_checksum_update(sum, space, sizeof space);
  g_checksum_update(sum, (const guchar *)name, -1);
  g_checksum_get_digest(sum, d, &length);
  d[6] = (d[6] & 0x0f) | 0x50;
  d[8] = (d[8] & 0x3f) | 0x80;
  return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", d[0], d[1], d[2], d[3], d[4], d[5],
                         d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15]);
}

static bool
nc_spec_check_requires(const NcMachineSpec *spec, GError **error)
{
  for (char **label = spec->requires; *label; label++)
    if (!nc_name_is_valid(*label))
      return nc_fail(error, NC_ERROR_INVALID, "requires: \"%.80s\" is not a name: " NC_NAME_RULE, *label);
  return true;
}

bool
nc_machine_spec_complete(NcMachineSpec *spec, GError **error)
{
  if (!spec->name)
    return nc_fail(error, NC_ERROR_INVALID, "name: is missing");
  if (spec->memory_extra_kib % 4)
    return nc_fail(error, NC_ERROR_INVALID, "memory_extra_kib: must be a multiple of 4");
  if ((spec->initrd || spec->cmdline) && !spec->kernel)
    return nc_fail(error, NC_ERROR_INVALID, "initrd, cmdline: only with kernel");
  if (!nc_spec_check_names("disks", spec->disks, error) || !nc_spec_check_names("nics", spec->nics, error) ||
      !nc_spec_check_names("serial", spec->serials, error) || !nc_spec_check_devices(spec, error) ||
      !nc_spec_check_requires(spec, error) || !nc_spec_complete_balloon(spec, error))
    return false;
  if (spec->uuid && !g_uuid_string_is_valid(spec->uuid))
    return nc_fail(error, NC_ERROR_INVALID, "uuid: \"%s\" is not a UUID", spec->uuid);
  if (!spec->uuid && !spec->adopted_argv)
    spec->uuid = nc_stable_uuid(spec->name);
  for (guint i = 0; i < spec->nics->len; i++)
    if (!nc_spec_complete_nic(spec, spec->nics->pdata[i], error))
      return false;
  return true;
}
