/* SPDX-License-Identifier: Apache-2.0 */
/* Can this node run that machine? Asked before anything is started. */
#pragma once

#include "base/check.h"
#include "qemu/machine_spec.h"

/*
 * Checks QEMU's binary, machine type, CPU model, files, bridges and memory.
 * ${node_binary}: the QEMU of machines that name none. ${reserved_bytes}: memory that
 * is promised or must stay free. False with NC_ERROR_UNSUITABLE naming every check
 * that failed, "; " between. May run QEMU for its lists (qemu/help.h); any thread.
 */
bool nc_suitability_check(const NcMachineSpec *spec, const char *node_binary, uint64_t reserved_bytes, GError **error);
/* The same, one by one, appended to ${checks} (base/check.h). */
void nc_suitability_list(const NcMachineSpec *spec, const char *node_binary, uint64_t reserved_bytes, json_t *checks);
