/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the copy of a disk needs at a destination, and what a directory there has room for: for the look before a
 * migration (disk_offer.h), and for the fleet's controller (fleet_disks.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Of an image that takes ${used_bytes}. */
uint64_t nc_disk_needed_bytes(uint64_t used_bytes);
/* What an image will take when the files below it, which take ${below_bytes}, have become part of it; ${size_bytes}: of
 * the disk. */
uint64_t nc_disk_flat_bytes(uint64_t used_bytes, uint64_t below_bytes, uint64_t size_bytes);

typedef struct {
  dev_t device;        /* of the file system */
  uint64_t free_bytes; /* to others than root */
  bool is_readonly;
} NcDiskSpace;
/* False: there is no such directory. */
bool nc_disk_space_look(const char *directory, NcDiskSpace *ret);
