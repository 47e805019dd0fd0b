/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adopting a QEMU that somebody else started: its command line, rewritten so
 * that a second QEMU beside or far from it can receive the machine.
 *
 * What is the machine (devices, disks, memory, CPU, machine type) stays word for
 * word; what is this one process (sockets, pid file, descriptors, -daemonize,
 * -incoming) is dropped or moved into the machine's run directory, written as
 * "@RUN@" (command_line.h expands it). What can't be reproduced is refused by name.
 */
#pragma once

#include "qemu/machine_spec.h"
#include "qemu/qmp.h"

/*
 * The words of another QEMU's command line (argv[0] left out) for a
 * destination: new, NULL-terminated. ${machine_type}: versioned name. Taps that
 * someone else makes (script=no) are appended to ${taps} (char*; may be NULL).
 * NC_ERROR_UNSUITABLE names what can't be reproduced. Pure.
 */
char **nc_adopt_rewrite(char *const *argv, const char *machine_type, GPtrArray *taps, GError **error);

/*
 * The specification of the running QEMU behind ${qmp_path}, to which ${qmp} is
 * connected: memory, vCPUs and machine type as QMP tells, `adopted_argv` from
 * /proc/PID/cmdline, taps with the bridge they are in. NULL on error.
 */
NcMachineSpec *nc_qemu_adopt(const char *name, NcQmp *qmp, pid_t pid, GError **error);
