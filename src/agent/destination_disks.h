/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's part in disks that come with their machine: files for them, an NBD server of QEMU's for the source's mirrors,
 * and their removal if the machine does not stay (decision 033).
 *
 * What was made is noted in the migration's record ("created_disks"), durably before it is visible. Only a refusal removes it, after
 * that is on disk; a machine that was taken, or may have run, keeps its files.
 */
#pragma once

#include "agent/migration.h"
#include "qemu/machine_spec.h"

/*
 * Decides about the disks offered in ${request} (mig_prepare), which then says "copy" of each, and takes them out of ${spec}. Changes
 * nothing else. NC_ERROR_UNSUITABLE, NC_ERROR_PROTOCOL.
 */
bool nc_destination_judge_disks(json_t *request, NcMachineSpec *spec, GError **error);
/* For mig_accepted: [{"name", "copied"}]. New reference. */
json_t *nc_destination_disk_verdicts(json_t *request);
/* Before QEMU starts: makes the files. */
bool nc_destination_make_disks(NcMigration *m, json_t *request, GError **error);
/* QEMU waits for its migration: exports them, and connects the mover to each. */
bool nc_destination_export_disks(NcMigration *m, json_t *request, GError **error);
/* The mirrors have ended. After it nobody but QEMU's guest writes to the disks. */
bool nc_destination_end_exports(NcMigration *m, NcQmp *qmp, GError **error);
/* It was started: the files are the machine's. */
void nc_destination_keep_disks(NcMigration *m);
/* It was refused, durably, and its QEMU is dead. Again: does nothing. */
void nc_destination_remove_disks(NcMigration *m);
