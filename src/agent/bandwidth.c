/* SPDX-License-Identifier: Apache-2.0 */
/* The claims, and dividing anew when anything changes. */
#include "agent/bandwidth.h"

#include <glib.h>

struct NcBandwidth {
  const NcConfig *config;
  GMutex lock; /* protects claims and their contents */
  GPtrArray *claims;
};

struct NcBandwidthClaim {
  NcBandwidth *bandwidth;
  NcBandwidthShare share;
  bool is_told; /* share.rate_bps was said */
  NcBandwidthFunc func;
  void *user_data;
};

NcBandwidth *
nc_bandwidth_new(const NcConfig *config)
{
  NcBandwidth *b = g_new0(NcBandwidth, 1);

  b->config = config;
  g_mutex_init(&b->lock);
  b->claims = g_ptr_array_new();
  return b;
}

void
nc_bandwidth_free(NcBandwidth *b)
{
  if (!b)
    return;
  g_ptr_array_unref(b->claims);
  g_mutex_clear(&b->lock);
  g_free(b);
}

static void
nc_bandwidth_tell_locked(NcBandwidthClaim *claim, uint64_t rate_bps)
{
  if (claim->is_told && claim->share.rate_bps == rate_bps)
    return;
  claim->is_told = true;
  claim->share.rate_bps = rate_bps;
  claim->func(rate_bps, claim->user_data);
}

static void
nc_bandwidth_divide_locked(NcBandwidth *b)
{
  size_t count = b->claims->len;
  g_autofree NcBandwidthShare *shares = g_new0(NcBandwidthShare, count + 1);
  int64_t total = nc_config_bandwidth_total(b->config);
  unsigned reserve = (unsigned)g_atomic_int_get(&b->config->bandwidth_reserve);

  for (size_t i = 0; i < count; i++)
    shares[i] = ((const NcBandwidthClaim *)b->claims->pdata[i])->share;
  nc_bandwidth_divide(nc_bandwidth_usable((uint64_t)total, reserve), shares, count);
  for (size_t i = 0; i < count; i++)
    nc_bandwidth_tell_locked(b->claims->pdata[i], shares[i].rate_bps);
}

void
nc_bandwidth_reload(NcBandwidth *b)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&b->lock);
  nc_bandwidth_divide_locked(b);
}

NcBandwidthClaim *
nc_bandwidth_claim(NcBandwidth *b, NcQos qos, uint64_t limit_bps, NcBandwidthFunc func, void *user_data)
{
  NcBandwidthClaim *claim = g_new0(NcBandwidthClaim, 1);

  *claim = (NcBandwidthClaim){
    .bandwidth = b, .share = { .qos = qos, .limit_bps = limit_bps }, .func = func, .user_data = user_data
  };
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&b->lock);
  g_ptr_array_add(b->claims, claim);
  nc_bandwidth_divide_locked(b);
  return claim;
}

void
nc_bandwidth_change(NcBandwidthClaim *claim, NcQos qos, uint64_t limit_bps)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&claim->bandwidth->lock);
  claim->share.qos = qos;
  claim->share.limit_bps = limit_bps;
  nc_bandwidth_divide_locked(claim->bandwidth);
}

void
nc_bandwidth_release(NcBandwidthClaim *claim)
{
  if (!claim)
    return;
  NcBandwidth *b = claim->bandwidth;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&b->lock);
  g_ptr_array_remove_fast(b->claims, claim);
  nc_bandwidth_divide_locked(b);
  g_free(claim);
}
