/* SPDX-License-Identifier: Apache-2.0 */
/* How large a shadow (wire/shadow.h) this node can afford for one migration. */
#pragma once

#include "agent/config.h"

#include <stdint.h>

/*
 * Pages: as many as a machine of ${machine_bytes} has, at most `shadow_mib`, and
 * at most half of what memory is free when ${reserved_bytes} of it are gone. 0: none.
 */
uint32_t nc_shadow_budget(const NcConfig *config, uint64_t machine_bytes, uint64_t reserved_bytes);
