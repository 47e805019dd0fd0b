/* SPDX-License-Identifier: Apache-2.0 */
/* What process.c and process_start.c share. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* A descriptor of ${pid}; -1 if there is no such process. */
int nc_pidfd_open(pid_t pid);
/* Has it ended, at the latest after ${timeout_ms}? */
bool nc_pidfd_await_exit(int pidfd, int timeout_ms);
