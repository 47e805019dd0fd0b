/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/suitability.h"
#include "base/meminfo.h"
#include "qemu/command_line.h"
#include "qemu/help.h"
#include "qemu/tap.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/*
 * Does a line of the list in ${help} begin with ${word} (after an "x86 " in older QEMUs)? The list is between
 * the first heading and the next: below "Recognized CPUID flags:" are no models.
 */
static bool
nc_help_lists(const char *help, const char *word)
{
  g_auto(GStrv) lines = g_strsplit(help, "\n", -1);
  int headings = 0;
  for (char **line = lines; *line && headings < 2; line++) {
    g_auto(GStrv) words = g_strsplit_set(g_strstrip(*line), " \t", 3);
    bool heading = g_str_has_suffix(*line, ":");
    headings += heading;
    if (heading || !words[0])
      continue;
    const char *name = words[1] && g_str_equal(words[0], "x86") ? words[1] : words[0];
    if (g_str_equal(name, word))
      return true;
  }
  return false;
}

/* "host,+avx" -> "host" */
static char *
nc_first_word(const char *option)
{
  return g_strndup(option, strcspn(option, ","));
}

static void
nc_check_lists(json_t *checks, const char *check, const char *binary, const char *option, const char *what, const char *value,
               const char *remedy)
{
  g_autofree char *help = nc_qemu_help(binary, option);
  g_autofree char *word = nc_first_word(value);

  if (!help)
    nc_check_add(checks, check, NC_CHECK_UNKNOWN, "see whether it runs by hand", "%s %s help gives no list", binary, option);
  else if (nc_help_lists(help, word))
    nc_check_add(checks, check, NC_CHECK_OK, NULL, "%s", word);
  else
    nc_check_add(checks, check, NC_CHECK_FAILED, remedy, "%s does not know %s %s", binary, what, word);
}

static void
nc_check_qemu(const NcMachineSpec *spec, const char *binary, json_t *checks)
{
  g_autofree char *found = g_find_program_in_path(binary);
  if (!found || access(found, X_OK) != 0) {
    nc_check_add(checks, "qemu", NC_CHECK_FAILED, "install it, or set qemu_binary in novacrond.conf", "there is no QEMU %s", binary);
    return;
  }
  g_autofree char *machines = spec->adopted_argv ? NULL : nc_qemu_help(binary, "-machine");
  if (!spec->adopted_argv && !machines) {
    nc_check_add(checks, "qemu", NC_CHECK_FAILED, "run it by hand to see why", "%s can't be executed", binary);
    return; /* the next question would have no answer either, and take as long */
  }
  nc_check_add(checks, "qemu", NC_CHECK_OK, NULL, "%s", found);
  if (spec->adopted_argv)
    return; /* its arguments are its own; QEMU itself will judge them */
  nc_check_lists(checks, "machine type", binary, "-machine", "machine type", spec->machine,
                 "a QEMU as new as the source's, or an older versioned machine type for the machine");
  nc_check_lists(checks, "cpu model", binary, "-cpu", "CPU model", spec->cpu, "a CPU model that both sides know");
  if (g_str_equal(spec->accel, "kvm")) {
    bool opens = access("/dev/kvm", R_OK | W_OK) == 0;
    nc_check_add(checks, "kvm", opens ? NC_CHECK_OK : NC_CHECK_FAILED, opens ? NULL : "enable virtualization, load kvm_intel or kvm_amd", "%s",
                 opens ? "/dev/kvm opens" : "the machine needs KVM and /dev/kvm can't be opened");
  }
}

static void
nc_check_file(const char *what, const char *path, bool writable, json_t *checks)
{
  if (!path)
    return;
  if (access(path, writable ? R_OK | W_OK : R_OK) == 0)
    nc_check_add(checks, what, NC_CHECK_OK, NULL, "%s", path);
  else
    nc_check_add(checks, what, NC_CHECK_FAILED, "the file must be there under the same path, for novacrond to read", "%s %s: %s", what,
                 path, g_strerror(errno));
}

static void
nc_check_devices(const NcMachineSpec *spec, json_t *checks)
{
  nc_check_file("kernel", spec->kernel, false, checks);
  nc_check_file("initrd", spec->initrd, false, checks);
  nc_check_file("firmware", spec->firmware, false, checks);
  for (guint i = 0; i < spec->disks->len; i++) {
    const NcDiskSpec *disk = spec->disks->pdata[i];
    nc_check_file("disk", disk->path, !disk->readonly, checks);
  }
  for (guint i = 0; i < spec->nics->len; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    if (nic->bridge && nc_bridge_exists(nic->bridge))
      nc_check_add(checks, "bridge", NC_CHECK_OK, NULL, "%s", nic->bridge);
    else if (nic->bridge)
      nc_check_add(checks, "bridge", NC_CHECK_FAILED, "make a bridge of that name in the same network", "there is no bridge %s", nic->bridge);
  }
}

static void
nc_check_memory(const NcMachineSpec *spec, uint64_t reserved_bytes, json_t *checks)
{
  uint64_t need = nc_machine_spec_memory_bytes(spec), available = nc_memory_available_bytes();
  uint64_t left = available > reserved_bytes ? available - reserved_bytes : 0;
  if (need <= left)
    nc_check_add(checks, "memory", NC_CHECK_OK, NULL, "needs %" G_GUINT64_FORMAT " MiB of %" G_GUINT64_FORMAT, need >> 20, left >> 20);
  else
    nc_check_add(checks, "memory", NC_CHECK_FAILED, "free memory there, or lower memory_reserve_mib",
                 "not enough memory: it needs %" G_GUINT64_FORMAT " MiB, %" G_GUINT64_FORMAT " MiB are available and %" G_GUINT64_FORMAT
                 " MiB of them reserved",
                 need >> 20, available >> 20, reserved_bytes >> 20);
}

void
nc_suitability_list(const NcMachineSpec *spec, const char *node_binary, uint64_t reserved_bytes, json_t *checks)
{
  nc_check_qemu(spec, nc_qemu_binary_of(spec, node_binary), checks);
  nc_check_devices(spec, checks);
  nc_check_memory(spec, reserved_bytes, checks);
}

bool
nc_suitability_check(const NcMachineSpec *spec, const char *node_binary, uint64_t reserved_bytes, GError **error)
{
  nc_autojson json_t *checks = json_array();
  nc_suitability_list(spec, node_binary, reserved_bytes, checks);
  g_autofree char *complaints = nc_checks_complaints(checks);
  return !complaints || nc_fail(error, NC_ERROR_UNSUITABLE, "%s", complaints);
}
