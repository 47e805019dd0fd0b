/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's bandwidth and the migrations that leave it: a register of claims.
 *
 * Each outgoing migration holds a claim from its beginning to its end. Whenever
 * one comes, goes or changes, and when the configuration's bandwidth_total or
 * bandwidth_reserve change, everything is divided anew (bandwidth_share.h) and each claim whose
 * rate is another now hears of it.
 *
 * Endgames, as budget.h has them for a fleet (decisions 061, 095): a claim asks for its endgame before its last round, and has it
 * alone on this node, with NC_BANDWIDTH_ENDGAME_PERCENT of what is usable for itself; the others' turn comes in the order in which they asked.
 *
 * Thread-safe. The functions given are called with the register's lock held: they must not
 * call back, and must not wait.
 */
#pragma once

#include "fleet/bandwidth_share.h"
#include "agent/config.h"

typedef struct NcBandwidth NcBandwidth;
typedef struct NcBandwidthClaim NcBandwidthClaim;

/* ${rate_bps}: what the claim has from now on; 0: no limit. */
typedef void (*NcBandwidthFunc)(uint64_t rate_bps, void *user_data);

/* ${config}: borrowed, outlives the register. */
NcBandwidth *nc_bandwidth_new(const NcConfig *config);
/* No claim may be left; NULL is fine. */
void nc_bandwidth_free(NcBandwidth *b);

/* Divides anew: the configuration was read again. */
void nc_bandwidth_reload(NcBandwidth *b);

/* A new claim, of the register's; ${func} is called before this returns. ${limit_bps}: its own, 0: none. */
NcBandwidthClaim *nc_bandwidth_claim(NcBandwidth *b, NcQos qos, uint64_t limit_bps, NcBandwidthFunc func,
                                     void *user_data);
void nc_bandwidth_change(NcBandwidthClaim *claim, NcQos qos, uint64_t limit_bps);

#define NC_BANDWIDTH_ENDGAME_PERCENT 75u
/* Asks for the endgame, or asks again: true if it has it. */
bool nc_bandwidth_ask_endgame(NcBandwidthClaim *claim);
/* Gives it back, or asks no longer. */
void nc_bandwidth_end_endgame(NcBandwidthClaim *claim);
/* Is there no other claim? Then nobody's last round can meet its own. */
bool nc_bandwidth_is_alone(NcBandwidthClaim *claim);

/* Ends and frees the claim, with its endgame; its function is not called any more. NULL is fine. */
void nc_bandwidth_release(NcBandwidthClaim *claim);
