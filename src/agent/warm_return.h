/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration's shadow, between its mover and the register of kept ones (agent/kept_shadows.h): what both halves of a migration
 * do so that a machine's way back is one of differences. The source offers what it has kept of the way here, the destination says
 * whether it has kept the same, and only then both movers get it; otherwise they begin with an empty one.
 */
#pragma once

#include "agent/migration.h"
#include "mover/process.h"

/* Source: what may be used, into ${request} (mig_prepare), if anything. */
void nc_warm_return_offer(NcMigration *m, json_t *request);
/* Destination: hands the mover its shadow of ${size}; *ret_used: it is the one that ${request} offers. */
bool nc_warm_return_answer(NcMigration *m, json_t *request, NcShadowSize size, bool *ret_used, GError **error);
/* Source: the same, as ${answer} (mig_accepted) to ${request} says. */
bool nc_warm_return_begin(NcMigration *m, json_t *request, json_t *answer, NcShadowSize size, GError **error);
/* New movers with a shadow of their own: what the first ones had is not kept. */
void nc_warm_return_forget(NcMigration *m);
/* The migration has completed and the mover is gone: its shadow is for the way back. */
void nc_warm_return_keep(NcMigration *m);
