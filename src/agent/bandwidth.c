/* SPDX-License-Identifier: Apache-2.0 */
/* The claims, and dividing anew when anything changes. */
#include "agent/bandwidth.h"

#include <glib.h>

struct NcBandwidth {
  const NcConfig *config;
  GMutex lock; /* protects claims and their contents */
  GPtrArray *claims;
  GQueue endgames; /* claims that asked; the head has it */
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
  g_queue_init(&b->endgames);
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

/* An endgame's own part of ${usable_bps}, before anything is divided; with less than that nobody has one. */
static uint64_t
nc_bandwidth_guarantee(const NcBandwidthShare *share, uint64_t usable_bps)
{
  uint64_t own_bps = usable_bps / 100 * NC_BANDWIDTH_ENDGAME_PERCENT + usable_bps % 100 * NC_BANDWIDTH_ENDGAME_PERCENT / 100;

  if (share->limit_bps == 0)
    return own_bps;
  return MIN(own_bps, share->limit_bps - 1); /* one that wants nothing more would have no limit */
}

/* As if the endgame's own part were not there; it takes part in the division of the rest. */
static void
nc_bandwidth_share_out(uint64_t usable_bps, NcBandwidthShare *shares, size_t count, NcBandwidthShare *endgame)
{
  uint64_t own_bps = endgame ? nc_bandwidth_guarantee(endgame, usable_bps) : 0, limit_bps = endgame ? endgame->limit_bps : 0;

  if (own_bps == 0) {
    nc_bandwidth_divide(usable_bps, shares, count);
    return;
  }
  endgame->limit_bps = limit_bps > 0 ? limit_bps - own_bps : 0;
  nc_bandwidth_divide(usable_bps - own_bps, shares, count);
  endgame->limit_bps = limit_bps;
  endgame->rate_bps += own_bps;
}

static void
nc_bandwidth_divide_locked(NcBandwidth *b)
{
  size_t count = b->claims->len;
  g_autofree NcBandwidthShare *shares = g_new0(NcBandwidthShare, count + 1);
  int64_t total = nc_config_bandwidth_total(b->config);
  unsigned reserve = (unsigned)g_atomic_int_get(&b->config->bandwidth_reserve);
  NcBandwidthShare *endgame = NULL;

  for (size_t i = 0; i < count; i++) {
    shares[i] = ((const NcBandwidthClaim *)b->claims->pdata[i])->share;
    if (b->claims->pdata[i] == g_queue_peek_head(&b->endgames))
      endgame = &shares[i];
  }
  nc_bandwidth_share_out(nc_bandwidth_usable((uint64_t)total, reserve), shares, count, endgame);
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
  g_queue_remove(&b->endgames, claim);
  nc_bandwidth_divide_locked(b);
  g_free(claim);
}

/* --- endgames --- */

bool
nc_bandwidth_ask_endgame(NcBandwidthClaim *claim)
{
  NcBandwidth *b = claim->bandwidth;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&b->lock);

  if (!g_queue_find(&b->endgames, claim)) {
    g_queue_push_tail(&b->endgames, claim);
    nc_bandwidth_divide_locked(b);
  }
  return g_queue_peek_head(&b->endgames) == claim;
}

void
nc_bandwidth_end_endgame(NcBandwidthClaim *claim)
{
  NcBandwidth *b = claim->bandwidth;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&b->lock);

  if (g_queue_remove(&b->endgames, claim))
    nc_bandwidth_divide_locked(b);
}

bool
nc_bandwidth_is_alone(NcBandwidthClaim *claim)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&claim->bandwidth->lock);
  return claim->bandwidth->claims->len == 1;
}
