/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting to a QEMU's UNIX socket with a time limit.
 *
 * QEMU serves one QMP client at a time and takes few more into its queue; a
 * plain connect(2) to a full queue waits for ever.
 */
#pragma once

#include "base/error.h"

#define NC_DIAL_REFUSED_MS 500 /* a QEMU that is starting has its socket's file before it listens */

/*
 * Connected stream socket, blocking, close-on-exec; -1 on error: NC_ERROR_UNREACHABLE,
 * or NC_ERROR_TIMEOUT when its queue stayed full for ${timeout_ms}. Any thread.
 */
int nc_qemu_dial(const char *path, int timeout_ms, GError **error);
