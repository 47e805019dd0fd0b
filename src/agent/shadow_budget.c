/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/shadow_budget.h"
#include "base/meminfo.h"
#include "wire/shadow.h"

/* Video memory, firmware and option ROMs are RAM blocks, too. */
#define NC_SHADOW_EXTRA_BYTES (48ull << 20)

uint32_t
nc_shadow_budget(const NcConfig *config, uint64_t machine_bytes, uint64_t reserved_bytes)
{
  uint64_t available = nc_memory_available_bytes();
  uint64_t left = available > reserved_bytes ? (available - reserved_bytes) / 2 : 0;
  uint64_t most = (uint64_t)config->shadow_mib << 20;
  uint64_t bytes = MIN(MIN(machine_bytes + NC_SHADOW_EXTRA_BYTES, most), left);

  return (uint32_t)MIN(bytes / NC_SHADOW_PAGE_BYTES, NC_SHADOW_FRAMES_MAX);
}
