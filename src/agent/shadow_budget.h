/* SPDX-License-Identifier: Apache-2.0 */
/* How large a shadow (wire/shadow.h) this node can afford for one migration, and how much of its disks' contents (wire/blocks.h). */
#pragma once

#include "agent/config.h"
#include "mover/process.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * As many pages as a machine of ${machine_bytes} has; if it ${has_disks} that are copied, what is left after that for
 * their blocks, at most `wire_dedup_mib`; all together at most `shadow_mib`, and
 * at most half of what memory is free when ${reserved_bytes} of it are gone.
 */
NcShadowSize nc_shadow_budget(const NcConfig *config, uint64_t machine_bytes, uint64_t reserved_bytes, bool has_disks);

/* What both can afford: this node ${ours}, and the other one what ${message} (mig_prepare, mig_accepted, mig_recover) says. */
NcShadowSize nc_shadow_agree(NcShadowSize ours, json_t *message);
