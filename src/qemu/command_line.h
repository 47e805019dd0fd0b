/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's specification as QEMU's command line. */
#pragma once

#include "qemu/machine_spec.h"

#define NC_QEMU_SPARE_SOCKET "spare.sock" /* in RUN_DIR: a second QMP socket of a machine that arrives */

typedef struct {
  const char *run_dir;     /* of this machine: sockets, pid file, serial logs */
  const char *qemu_binary; /* the node's, for machines that name none */
  bool incoming;           /* -incoming defer -S: waits for a migration and never runs by itself */
} NcQemuLaunch;

/*
 * The arguments, argv[0] included; free with g_strfreev(). QMP listens at
 * RUN_DIR/qmp.sock. The order of devices is that of the specification, so that
 * both sides give them the same PCI addresses; the balloon is the last one.
 */
char **nc_qemu_command_line(const NcMachineSpec *spec, const NcQemuLaunch *launch, GError **error);

/*
 * The binary that would be started: borrowed from spec or launch. Where an adopted
 * machine's is missing, the one of the same name in PATH, else the node's.
 */
const char *nc_qemu_binary_of(const NcMachineSpec *spec, const char *node_binary);
/* "kvm" or "tcg" for "auto": KVM only if the CPU has vmx or svm and /dev/kvm opens. Static. */
const char *nc_qemu_accel_of(const NcMachineSpec *spec);
