/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QEMU of a machine at a time: a lock that the process itself holds for as long as it exists.
 *
 * It is an flock(2) of an open file that QEMU inherits, so that the kernel lets go of it when the
 * process has ended, not before: whatever becomes of novacrond, and whatever its journal says. A QEMU that
 * ends removes the paths of its sockets, which must not be those of the next one; and two that run would be two copies. A QEMU that somebody has taken
 * over can let go of it: it guards against mistakes.
 */
#pragma once

#include "base/error.h"
#include <sys/types.h>

/*
 * The lock at ${path}, waiting up to ${timeout_ms} for the process that has it to end. A descriptor (close-on-exec; the child that
 * is to hold the lock makes a duplicate that is not); -1 on error, which is NC_ERROR_CONFLICT and names the process if it does not end.
 */
int nc_start_lock_take(const char *path, int timeout_ms, GError **error);

/* Notes in the file at ${path} which process has the lock, for the error of somebody who waits in vain. */
void nc_start_lock_sign(const char *path, pid_t pid);

/* Removes the file, unless a process has the lock. The caller sees to it that nobody takes it meanwhile. */
void nc_start_lock_remove(const char *path);
