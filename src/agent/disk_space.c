/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/disk_space.h"

#include <glib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define NC_DISK_SPARE_BYTES                                                                                            \
  (UINT64_C(16) << 20) /* tables of the image, and what the guest writes meanwhile, a little */

uint64_t
nc_disk_needed_bytes(uint64_t used_bytes)
{
  return used_bytes + NC_DISK_SPARE_BYTES;
}

uint64_t
nc_disk_flat_bytes(uint64_t used_bytes, uint64_t below_bytes, uint64_t size_bytes)
{
  return MIN(used_bytes + below_bytes, MAX(size_bytes, used_bytes)); /* all of it goes into one file */
}

bool
nc_disk_space_look(const char *directory, NcDiskSpace *ret)
{
  struct statvfs fs;
  struct stat st;

  if (stat(directory, &st) < 0 || !S_ISDIR(st.st_mode) || statvfs(directory, &fs) < 0)
    return false;
  *ret = (NcDiskSpace){ .device = st.st_dev,
                        .free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize,
                        .is_readonly = fs.f_flag & ST_RDONLY };
  return true;
}
