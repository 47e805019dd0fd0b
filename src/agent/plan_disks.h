/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks in a plan: which of a machine's would be copied, how much they take, and what its guest writes to them. As a check looks at
 * them (disk_offer.h); no backing file is read for it. One thread.
 */
#pragma once

#include "agent/disk_offer.h"
#include "agent/machines.h"
#include "agent/plan_math.h"
#include "crypto/peer.h"

typedef struct NcPlanDisks NcPlanDisks;

/* Looks at the disks of ${spec} (JSON, borrowed). NULL: there are none that could be copied. */
NcPlanDisks *nc_plan_disks_new(json_t *spec, NcDiskChain chain, NcQmp *qmp);
/* Asks ${peer} (in a session that is measured already) which would be copied. */
bool nc_plan_disks_ask(NcPlanDisks *d, NcPeer *peer, const char *vm, GError **error);
/* Some time later: what the guest has written since. */
void nc_plan_disks_look_again(NcPlanDisks *d, NcQmp *qmp);
/* What they cost, and adds it to ${ret}. */
void nc_plan_disks_work_out(NcPlanDisks *d, const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms,
                            NcPlanResult *ret);
/* For the answer; ${d} NULL: none. New reference. */
json_t *nc_plan_disks_to_json(const NcPlanDisks *d);
void nc_plan_disks_free(NcPlanDisks *d); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPlanDisks, nc_plan_disks_free)
