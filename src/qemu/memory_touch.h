/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Having the kernel give a QEMU all pages of its guest's memory, while the guest runs.
 *
 * Before a background snapshot QEMU (7.2) reads a byte of each page, so that it can be protected; if the guest has been stopped
 * by then (since its disks are frozen, too), it waits for that. What was read before is there already. Untouched private memory
 * takes page tables by that and nothing else: the kernel maps its page of zeros.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Reads a byte of each page of process ${pid} that is not there or swapped out, in the mappings of nc_footprint_ranges(). Bytes
 * that were touched. ${cancelled} not 0: it ends early. What can't be read is left alone.
 */
uint64_t nc_memory_touch(pid_t pid, uint64_t least_bytes, const gint *cancelled);
