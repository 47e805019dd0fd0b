/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/endgame.h"

void
nc_endgame_init(NcEndgame *e)
{
  *e = (NcEndgame){ 0 };
  g_mutex_init(&e->lock);
}

void
nc_endgame_clear(NcEndgame *e)
{
  g_mutex_clear(&e->lock);
}

void
nc_endgame_set_controlled(NcEndgame *e, int64_t now_us)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&e->lock);
  e->is_controlled = true;
  e->heard_us = now_us;
}

static double
nc_endgame_ahead_ms(NcEndgame *e)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&e->lock);
  return e->is_controlled ? NC_ENDGAME_AHEAD_CONTROLLED_MS : NC_ENDGAME_AHEAD_MS;
}

NcEndgameNeed
nc_endgame_need(NcEndgame *e, const NcEndgameOutlook *outlook)
{
  bool first_pass = outlook->since_first_pass_us < 0;

  if (outlook->postcopy)
    return NC_ENDGAME_OPEN;
  if (!outlook->is_known) /* what has sent next to nothing is never known */
    return first_pass ? NC_ENDGAME_FAR : NC_ENDGAME_NEAR;
  if (!outlook->converges)
    return first_pass ? NC_ENDGAME_FAR : NC_ENDGAME_OPEN;
  bool is_near = outlook->last_round_ms <= nc_endgame_ahead_ms(e) || outlook->since_first_pass_us >= NC_ENDGAME_OVERDUE_US;
  return is_near ? NC_ENDGAME_NEAR : NC_ENDGAME_FAR;
}

static void
nc_endgame_give_back_locked(NcEndgame *e, NcBandwidthClaim *claim)
{
  e->has = false;
  if (claim)
    nc_bandwidth_end_endgame(claim);
}

/* It waits in no queue of the node's while it waits for the controller: another one's endgame would wait for both. */
static bool
nc_endgame_ask_locked(NcEndgame *e, NcBandwidthClaim *claim, int64_t now_us)
{
  bool is_free = !e->is_controlled || e->is_granted || now_us - e->heard_us >= NC_ENDGAME_AWAY_US;

  if (e->has || is_free)
    e->has = nc_bandwidth_ask_endgame(claim);
  else
    nc_bandwidth_end_endgame(claim);
  return e->has;
}

static NcEndgameAnswer
nc_endgame_look_near_locked(NcEndgame *e, NcBandwidthClaim *claim, int64_t now_us)
{
  e->is_wanted = true;
  if (e->looked_us > 0)
    e->waited_us += now_us - e->looked_us;
  e->looked_us = 0;
  if (nc_endgame_ask_locked(e, claim, now_us))
    return NC_ENDGAME_HAS;
  if (e->waited_us >= NC_ENDGAME_MOST_US) {
    nc_bandwidth_end_endgame(claim);
    return NC_ENDGAME_WITHOUT;
  }
  e->looked_us = now_us;
  return NC_ENDGAME_WAIT;
}

NcEndgameAnswer
nc_endgame_look(NcEndgame *e, NcBandwidthClaim *claim, NcEndgameNeed need, int64_t now_us)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&e->lock);

  if (claim && need == NC_ENDGAME_NEAR)
    return nc_endgame_look_near_locked(e, claim, now_us);
  e->is_wanted = false;
  e->looked_us = 0;
  nc_endgame_give_back_locked(e, claim);
  if (!claim || need == NC_ENDGAME_OPEN)
    return NC_ENDGAME_WITHOUT;
  return !e->is_controlled && nc_bandwidth_is_alone(claim) ? NC_ENDGAME_WITHOUT : NC_ENDGAME_HOLD;
}

void
nc_endgame_end(NcEndgame *e, NcBandwidthClaim *claim)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&e->lock);

  nc_endgame_give_back_locked(e, claim);
  e->is_wanted = e->is_granted = false;
  e->looked_us = e->waited_us = 0;
}

int64_t
nc_endgame_waited_us(NcEndgame *e)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&e->lock);
  return e->waited_us;
}

bool
nc_endgame_hear(NcEndgame *e, bool says, bool is_granted, int64_t now_us)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&e->lock);

  e->heard_us = now_us;
  if (says)
    e->is_granted = is_granted;
  e->is_granted = e->is_granted && e->is_wanted;
  return e->is_wanted;
}
