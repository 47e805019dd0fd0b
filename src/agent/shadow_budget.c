/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/shadow_budget.h"
#include "base/meminfo.h"
#include "base/msg.h"
#include "wire/shadow.h"

/* Video memory, firmware and option ROMs are RAM blocks, too. */
#define NC_SHADOW_EXTRA_BYTES (48ull << 20)

NcShadowSize
nc_shadow_budget(const NcConfig *config, uint64_t machine_bytes, uint64_t reserved_bytes, bool has_disks)
{
  uint64_t available = nc_memory_available_bytes();
  uint64_t left = available > reserved_bytes ? (available - reserved_bytes) / 2 : 0;
  uint64_t most = MIN((uint64_t)config->shadow_mib << 20, left);
  uint64_t pages = MIN(machine_bytes + NC_SHADOW_EXTRA_BYTES, most);
  uint64_t blocks = has_disks ? MIN((uint64_t)config->wire_dedup_mib << 20, most - pages) : 0;

  return (NcShadowSize){ (uint32_t)MIN(pages / NC_SHADOW_PAGE_BYTES, NC_SHADOW_FRAMES_MAX),
                         (uint32_t)MIN(blocks / NC_SHADOW_PAGE_BYTES, NC_SHADOW_FRAMES_MAX) };
}

NcShadowSize
nc_shadow_agree(NcShadowSize ours, json_t *message)
{
  int64_t frames = nc_json_int_or(message, "shadow_frames", 0), blocks = nc_json_int_or(message, "block_frames", 0);

  return (NcShadowSize){ (uint32_t)CLAMP(frames, 0, (int64_t)ours.frames),
                         (uint32_t)CLAMP(blocks, 0, (int64_t)ours.blocks) };
}
