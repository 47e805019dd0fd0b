/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adoption: a QEMU that somebody else started, understood well enough to start
 * its like on another node.
 *
 * The new QEMU must have the same devices at the same places, so its command line is
 * the old one. Only what belongs to a host is changed, by the table in
 * adopt_rules.c: sockets, logs, listening ports and displays move into the machine's run
 * directory (NC_RUN_MARK stands for it; a file keeps its name there), taps get names of ours, monitors,
 * pid files and daemonizing go, the machine type gets its version and the accelerator
 * the one in use. What can't be had on another node (host devices, helper
 * processes, descriptors whose meaning is unknown) is refused, and so is a machine that
 * is no longer what its command line says: devices plugged or unplugged, disks replaced
 * since.
 */
#pragma once

#include "qemu/machine_spec.h"
#include "qemu/qmp.h"

/* What the command line does not say. The strings are borrowed. */
typedef struct {
  const char *machine_type; /* versioned, e.g. "pc-i440fx-7.2" */
  const char *accel;        /* the one in use: "kvm" or "tcg" */
  const char *cwd;          /* relative paths start here */
  /* The tap behind descriptor ${fd} of the process; NULL if it is none. Caller frees. */
  char *(*tap_of_fd)(int fd, gpointer data);
  /* The bridge that the tap is in; NULL if in none. Caller frees. */
  char *(*bridge_of_tap)(const char *tap, gpointer data);
  gpointer data;
} NcAdoptFacts;

/*
 * Rewrites ${argv} (argv[0] included) into ${spec}: adopted_argv, nics, cpu.
 * NC_ERROR_UNSUITABLE naming the argument that can't be reproduced.
 */
bool nc_adopt_rewrite(char *const *argv, const NcAdoptFacts *facts, NcMachineSpec *spec, GError **error);

/*
 * Looks at the running QEMU ${pid}, to which ${qmp} is connected, and describes it as the
 * machine ${name}; it goes on undisturbed. Blocks for QEMU's answers; any thread but
 * the QMP client's. NC_ERROR_UNSUITABLE: it can't be moved, and why;
 * NC_ERROR_CONFLICT: not in its present state.
 */
NcMachineSpec *nc_qemu_adopt(const char *name, NcQmp *qmp, pid_t pid, GError **error);
