/* SPDX-License-Identifier: Apache-2.0 */
/* A table would hide the order, and the order is what gives both sides the same PCI addresses. */
#include "qemu/command_line.h"
#include "base/io.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static void nc_add(GPtrArray *argv, const char *option, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void
nc_add(GPtrArray *argv, const char *option, const char *format, ...)
{
  va_list args;
  g_ptr_array_add(argv, g_strdup(option));
  if (!format)
    return;
  va_start(args, format);
  g_ptr_array_add(argv, g_strdup_vprintf(format, args));
  va_end(args);
}

const char *
nc_qemu_binary_of(const NcMachineSpec *spec, const char *node_binary)
{
  const char *binary = spec->qemu_binary ? spec->qemu_binary : node_binary;
  if (!spec->adopted_argv || access(binary, X_OK) == 0)
    return binary;
  /* An adopted machine names a place of the node it came from: here the same QEMU may be elsewhere. */
  const char *slash = strrchr(binary, '/');
  g_autofree char *found = g_find_program_in_path(slash ? slash + 1 : binary);
  return found ? slash ? slash + 1 : binary : node_binary;
}

static bool
nc_kvm_works(void)
{
  g_autofree char *cpuinfo = nc_file_read("/proc/cpuinfo", 16u << 20, NULL, NULL);
  nc_autofd int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  /* A device without the CPU's flag hangs ordinary guests. */
  return fd >= 0 && cpuinfo && (strstr(cpuinfo, " vmx") || strstr(cpuinfo, " svm"));
}

const char *
nc_qemu_accel_of(const NcMachineSpec *spec)
{
  if (g_str_equal(spec->accel, "kvm"))
    return "kvm";
  return g_str_equal(spec->accel, "auto") && nc_kvm_works() ? "kvm" : "tcg";
}

static void
nc_add_disk(GPtrArray *argv, const NcDiskSpec *disk)
{
  bool direct = g_str_equal(disk->cache, "none") || g_str_equal(disk->cache, "directsync");
  bool no_flush = g_str_equal(disk->cache, "unsafe");
  const char *device = g_str_equal(disk->interface, "ide")    ? "ide-hd"
                       : g_str_equal(disk->interface, "scsi") ? "scsi-hd"
                                                              : "virtio-blk-pci";
  /* A copy of a sparse file stays sparse, and what the guest discards becomes free space; as shared files are given, they stay. */
  const char *discard = disk->readonly || disk->shared ? "" : ",discard=unmap";
  const char *write_cache = g_str_equal(disk->cache, "writethrough") || g_str_equal(disk->cache, "directsync") ? "off" : "on";

  nc_add(argv, "-blockdev", "driver=file,node-name=f-%s,filename=%s,cache.direct=%s,cache.no-flush=%s,read-only=%s,auto-read-only=off%s",
         disk->name, disk->path, direct ? "on" : "off", no_flush ? "on" : "off", disk->readonly ? "on" : "off", discard);
  nc_add(argv, "-blockdev", "driver=%s,node-name=d-%s,file=f-%s,cache.direct=%s,cache.no-flush=%s,read-only=%s%s", disk->format,
         disk->name, disk->name, direct ? "on" : "off", no_flush ? "on" : "off", disk->readonly ? "on" : "off", discard);
  nc_add(argv, "-device", "%s,id=dev-%s,drive=d-%s,write-cache=%s", device, disk->name, disk->name, write_cache);
}

static void
nc_add_devices(GPtrArray *argv, const NcMachineSpec *spec, const char *run_dir)
{
  bool scsi = false;
  for (guint i = 0; i < spec->disks->len; i++)
    scsi |= g_str_equal(((const NcDiskSpec *)spec->disks->pdata[i])->interface, "scsi");
  if (scsi)
    nc_add(argv, "-device", "virtio-scsi-pci,id=scsi0");
  for (guint i = 0; i < spec->disks->len; i++)
    nc_add_disk(argv, spec->disks->pdata[i]);
  for (guint i = 0; i < spec->nics->len; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    nc_add(argv, "-netdev", "tap,id=n-%s,ifname=%s,script=no,downscript=no", nic->name, nic->tap);
    nc_add(argv, "-device", "%s,id=dev-%s,netdev=n-%s,mac=%s", nic->model, nic->name, nic->name, nic->mac);
  }
  for (guint i = 0; i < spec->serials->len; i++) {
    const NcSerialSpec *serial = spec->serials->pdata[i];
    if (g_str_equal(serial->kind, "file"))
      nc_add(argv, "-chardev", "file,id=s-%s,path=%s/%s.log,append=on", serial->name, run_dir, serial->name);
    else
      nc_add(argv, "-chardev", "socket,id=s-%s,path=%s/%s.sock,server=on,wait=off", serial->name, run_dir, serial->name);
    nc_add(argv, "-serial", "chardev:s-%s", serial->name);
  }
}

/*
 * Behind the operator's own devices: those keep the addresses that they would have without it. What the guest reports is
 * read by a thread of its own, without which QEMU refuses the device.
 */
static void
nc_add_balloon(GPtrArray *argv, const NcMachineSpec *spec)
{
  if (!g_str_equal(spec->balloon, NC_SPEC_BALLOON_HINTS))
    return;
  nc_add(argv, "-object", "iothread,id=balloon-io");
  nc_add(argv, "-device", "virtio-balloon-pci,id=balloon0,free-page-hint=on,iothread=balloon-io");
}

static void
nc_add_control(GPtrArray *argv, const NcQemuLaunch *launch)
{
  nc_add(argv, "-qmp", "unix:%s/qmp.sock,server=on,wait=off", launch->run_dir);
  nc_add(argv, "-pidfile", "%s/qemu.pid", launch->run_dir);
  nc_add(argv, "-msg", "timestamp=on");
  if (launch->incoming) {
    nc_add(argv, "-qmp", "unix:%s/" NC_QEMU_SPARE_SOCKET ",server=on,wait=off", launch->run_dir);
    nc_add(argv, "-incoming", "defer");
    nc_add(argv, "-S", NULL); /* it must not have a will of its own */
  }
}

static void
nc_add_adopted(GPtrArray *argv, const NcMachineSpec *spec, const char *run_dir)
{
  for (char **word = spec->adopted_argv; *word; word++) {
    g_auto(GStrv) parts = g_strsplit(*word, NC_RUN_MARK, -1);
    g_ptr_array_add(argv, g_strjoinv(run_dir, parts));
  }
}

static void
nc_add_board(GPtrArray *argv, const NcMachineSpec *spec)
{
  uint64_t kib = nc_machine_spec_memory_bytes(spec) >> 10;

  nc_add(argv, "-name", "guest=%s,process=%s", spec->name, spec->name);
  nc_add(argv, "-nodefaults", NULL);
  nc_add(argv, "-no-user-config", NULL);
  nc_add(argv, "-display", "none");
  nc_add(argv, "-accel", "%s", nc_qemu_accel_of(spec));
  nc_add(argv, "-cpu", "%s", spec->cpu);
  nc_add(argv, "-smp", "%u", spec->vcpus);
  nc_add(argv, "-object", "memory-backend-ram,id=ram0,size=%" G_GUINT64_FORMAT "K", kib);
  nc_add(argv, "-m", "size=%" G_GUINT64_FORMAT "K", kib);
  nc_add(argv, "-machine", "%s,memory-backend=ram0", spec->machine);
  if (spec->uuid)
    nc_add(argv, "-uuid", "%s", spec->uuid);
  if (spec->firmware)
    nc_add(argv, "-bios", "%s", spec->firmware);
  if (spec->kernel)
    nc_add(argv, "-kernel", "%s", spec->kernel);
  if (spec->initrd)
    nc_add(argv, "-initrd", "%s", spec->initrd);
  if (spec->cmdline)
    nc_add(argv, "-append", "%s", spec->cmdline);
}

char **
nc_qemu_command_line(const NcMachineSpec *spec, const NcQemuLaunch *launch, GError **error)
{
  if (!g_path_is_absolute(launch->run_dir) || strchr(launch->run_dir, ',')) {
    nc_fail(error, NC_ERROR_INVALID, "run directory %s must be absolute and without commas", launch->run_dir);
    return NULL;
  }
  GPtrArray *argv = g_ptr_array_new();
  g_ptr_array_add(argv, g_strdup(nc_qemu_binary_of(spec, launch->qemu_binary)));
  if (spec->adopted_argv) {
    nc_add_adopted(argv, spec, launch->run_dir);
  } else {
    nc_add_board(argv, spec);
    nc_add_devices(argv, spec, launch->run_dir);
    /* No process of its own, no new privileges; taps are made before it starts. */
    nc_add(argv, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    for (char **word = spec->qemu_args; *word; word++)
      g_ptr_array_add(argv, g_strdup(*word));
    nc_add_balloon(argv, spec);
  }
  if (spec->observer_qmp)
    nc_add(argv, "-qmp", "unix:%s/observer.sock,server=on,wait=off", launch->run_dir);
  nc_add_control(argv, launch);
  g_ptr_array_add(argv, NULL);
  return (char **)g_ptr_array_free(argv, FALSE);
}
