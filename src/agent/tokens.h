/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bearer tokens of people and programs: made, listed, revoked, and checked for the gate, which keeps none (decision 093).
 *
 * A token reads ID.SECRET. Those of a node ("tok-...") are in its journal and good at its gate, whatever else is up or down;
 * those of the fleet ("ftok-...") are in the fleet's database and good at the gate of each node that has a controller.
 * What is not good is an entry of the transaction log (kind "token.refused"), as far as NC_TOKENS_AUDIT_PER_S allows: strangers
 * must not be able to fill a log that is never shortened. Thread-safe.
 */
#pragma once

#include "agent/fleet_host.h"
#include "store/journal.h"

#define NC_TOKENS_TTL_S (90 * 86400)         /* unless said otherwise */
#define NC_TOKENS_TTL_MAX_S (3660LL * 86400) /* ten years */
#define NC_TOKENS_AUDIT_PER_S 1              /* refusals that are recorded, */
#define NC_TOKENS_AUDIT_BURST 20             /* and as many at once; the rest is counted in the next one */

typedef struct NcTokens NcTokens;

/* ${fleet} NULL: no controller here. All borrowed, all outlive it. */
NcTokens *nc_tokens_new(NcJournal *journal, NcFleetHost *fleet);
void nc_tokens_free(NcTokens *tokens); /* NULL is fine */

/* The control socket's token.* operations (docs/protocols.md section 5). New references. */
json_t *nc_tokens_create(NcTokens *tokens, const char *actor, json_t *args, GError **error);
json_t *nc_tokens_list(NcTokens *tokens, const char *actor, json_t *args, GError **error);
json_t *nc_tokens_revoke(NcTokens *tokens, const char *actor, json_t *args, GError **error);
/* NC_ERROR_UNAUTHENTICATED with one text for every kind of token that is not good. */
json_t *nc_tokens_check(NcTokens *tokens, const char *actor, json_t *args, GError **error);
