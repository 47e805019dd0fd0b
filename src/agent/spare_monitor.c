/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spare_monitor.h"
#include "base/io.h"
#include "qemu/command_line.h"
#include "qemu/migration_qmp.h"
#include "qemu/process.h"

#include <errno.h>
#include <sys/stat.h>

#define NC_SPARE_NAME "nc-spare"
#define NC_SPARE_OPEN_MS 2000

bool
nc_spare_monitor_keep(NcMigration *m, NcQmp *qmp, GError **error)
{
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(m->lease), NC_QEMU_SPARE_SOCKET, NULL);
  nc_autofd int fd = nc_qmp_open_spare(path, NC_SPARE_OPEN_MS, error);
  struct stat st;

  if (fd < 0)
    return false;
  if (fstat(fd, &st) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "%s", path);
  nc_migration_set(m, "spare_inode", json_integer((json_int_t)st.st_ino));
  return nc_qemu_getfd(qmp, NC_SPARE_NAME, fd, error);
}

NcQmp *
nc_spare_monitor_take(NcMigration *m, GError **error)
{
  int64_t inode = nc_migration_int(m, "spare_inode");
  pid_t qemu = nc_machine_lease_pid(m->lease);
  int theirs = inode > 0 ? nc_qemu_process_find_socket_fd(qemu, (uint64_t)inode) : -1;

  if (theirs < 0) {
    nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s (process %d) does not answer, and holds no spare connection", m->vm, (int)qemu);
    return NULL;
  }
  int ours = nc_qemu_process_take_fd(qemu, theirs, error);
  return ours < 0 ? NULL : nc_qmp_adopt(ours);
}

void
nc_spare_monitor_end(NcQmp *qmp)
{
  nc_qemu_closefd(qmp, NC_SPARE_NAME, NULL);
}
