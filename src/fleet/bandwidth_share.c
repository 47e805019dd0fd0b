/* SPDX-License-Identifier: Apache-2.0 */
/* Water filling: those whose own limit is below their part are settled first. */
#include "fleet/bandwidth_share.h"

#include <glib.h>

static const struct {
  const char *name;
  unsigned weight;
} nc_qos_classes[] = {
  [NC_QOS_BACKGROUND] = { "background", 1 },
  [NC_QOS_NORMAL] = { "normal", 2 },
  [NC_QOS_HIGH] = { "high", 4 },
  [NC_QOS_CRITICAL] = { "critical", 8 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_qos_classes) == NC_QOS_COUNT);

const char *
nc_qos_name(NcQos qos)
{
  return nc_qos_classes[qos].name;
}

bool
nc_qos_from_name(const char *name, NcQos *ret)
{
  for (int i = 0; name && i < NC_QOS_COUNT; i++) {
    if (g_str_equal(nc_qos_classes[i].name, name)) {
      *ret = (NcQos)i;
      return true;
    }
  }
  return false;
}

unsigned
nc_qos_weight(NcQos qos)
{
  return nc_qos_classes[qos].weight;
}

uint64_t
nc_bandwidth_usable(uint64_t total_bps, unsigned reserve_percent)
{
  if (total_bps == 0)
    return 0;
  uint64_t reserve = total_bps / 100 * reserve_percent + total_bps % 100 * reserve_percent / 100;
  return MAX(total_bps - MIN(reserve, total_bps), 1);
}

static uint64_t
nc_share_part(const NcBandwidthShare *share, uint64_t left_bps, uint64_t weights)
{
  unsigned weight = nc_qos_weight(share->qos);
  return left_bps / weights * weight + left_bps % weights * weight / weights;
}

/* Settles those whose limit is no more than their part of what is left; true if there was one. */
static bool
nc_bandwidth_settle(NcBandwidthShare *shares, size_t count, uint64_t *left_bps, uint64_t *weights)
{
  for (size_t i = 0; i < count; i++) {
    NcBandwidthShare *share = &shares[i];
    if (share->rate_bps > 0 || share->limit_bps == 0 || share->limit_bps > nc_share_part(share, *left_bps, *weights))
      continue;
    share->rate_bps = share->limit_bps;
    *left_bps -= share->limit_bps;
    *weights -= nc_qos_weight(share->qos);
    return true;
  }
  return false;
}

void
nc_bandwidth_divide(uint64_t usable_bps, NcBandwidthShare *shares, size_t count)
{
  uint64_t left_bps = usable_bps, weights = 0;

  for (size_t i = 0; i < count; i++) {
    shares[i].rate_bps = usable_bps > 0 ? 0 : shares[i].limit_bps;
    weights += nc_qos_weight(shares[i].qos);
  }
  if (usable_bps == 0)
    return;
  while (weights > 0 && nc_bandwidth_settle(shares, count, &left_bps, &weights))
    ;
  for (size_t i = 0; i < count; i++)
    if (shares[i].rate_bps == 0)
      shares[i].rate_bps = MAX(nc_share_part(&shares[i], left_bps, weights), 1);
}
