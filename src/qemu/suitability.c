/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/suitability.h"
#include "base/meminfo.h"
#include "qemu/command_line.h"
#include "qemu/help.h"
#include "qemu/tap.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void nc_complain(GString *complaints, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
nc_complain(GString *complaints, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  if (complaints->len)
    g_string_append(complaints, "; ");
  g_string_append_vprintf(complaints, format, args);
  va_end(args);
}

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
nc_check_qemu(const NcMachineSpec *spec, const char *binary, GString *complaints)
{
  g_autofree char *found = g_find_program_in_path(binary);
  if (!found || access(found, X_OK) != 0) {
    nc_complain(complaints, "there is no QEMU %s", binary);
    return;
  }
  if (spec->adopted_argv)
    return; /* its arguments are its own; QEMU itself will judge them */
  g_autofree char *machines = nc_qemu_help(binary, "-machine");
  g_autofree char *machine = nc_first_word(spec->machine);
  if (!machines) {
    nc_complain(complaints, "%s can't be executed", binary);
    return; /* the next question would have no answer either, and take as long */
  }
  if (!nc_help_lists(machines, machine))
    nc_complain(complaints, "%s does not know machine type %s", binary, machine);
  g_autofree char *cpus = nc_qemu_help(binary, "-cpu");
  g_autofree char *cpu = nc_first_word(spec->cpu);
  if (cpus && !nc_help_lists(cpus, cpu))
    nc_complain(complaints, "%s does not know CPU model %s", binary, cpu);
  if (g_str_equal(spec->accel, "kvm") && access("/dev/kvm", R_OK | W_OK) != 0)
    nc_complain(complaints, "the machine needs KVM and /dev/kvm can't be opened");
}

static void
nc_check_file(const char *what, const char *path, bool writable, GString *complaints)
{
  if (path && access(path, writable ? R_OK | W_OK : R_OK) != 0)
    nc_complain(complaints, "%s %s: %s", what, path, g_strerror(errno));
}

static void
nc_check_devices(const NcMachineSpec *spec, GString *complaints)
{
  nc_check_file("kernel", spec->kernel, false, complaints);
  nc_check_file("initrd", spec->initrd, false, complaints);
  nc_check_file("firmware", spec->firmware, false, complaints);
  for (guint i = 0; i < spec->disks->len; i++) {
    const NcDiskSpec *disk = spec->disks->pdata[i];
    nc_check_file("disk", disk->path, !disk->readonly, complaints);
  }
  for (guint i = 0; i < spec->nics->len; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    if (nic->bridge && !nc_bridge_exists(nic->bridge))
      nc_complain(complaints, "there is no bridge %s", nic->bridge);
  }
}

static void
nc_check_memory(const NcMachineSpec *spec, uint64_t reserved_bytes, GString *complaints)
{
  uint64_t need = nc_machine_spec_memory_bytes(spec), available = nc_memory_available_bytes();
  uint64_t left = available > reserved_bytes ? available - reserved_bytes : 0;
  if (need > left)
    nc_complain(complaints,
                "not enough memory: it needs %" G_GUINT64_FORMAT " MiB, %" G_GUINT64_FORMAT " MiB are available and %" G_GUINT64_FORMAT
                " MiB of them reserved",
                need >> 20, available >> 20, reserved_bytes >> 20);
}

bool
nc_suitability_check(const NcMachineSpec *spec, const char *node_binary, uint64_t reserved_bytes, GError **error)
{
  g_autoptr(GString) complaints = g_string_new(NULL);
  nc_check_qemu(spec, nc_qemu_binary_of(spec, node_binary), complaints);
  nc_check_devices(spec, complaints);
  nc_check_memory(spec, reserved_bytes, complaints);
  return complaints->len == 0 || nc_fail(error, NC_ERROR_UNSUITABLE, "%s", complaints->str);
}
