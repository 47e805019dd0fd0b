/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration's source calls the machine back from its destination: that node begins a rollback of its own (mode "back"), which moves
 * the machine here as it is. Who runs it is that migration's handoff alone.
 *
 *   source -> destination                   destination -> source
 *   rb_look {migration}                     rb_state {state, attention, error}: of its last rollback that moves the machine back;
 *                                           "none" if there is none
 *   rb_back {migration}                     the same, after it has begun; or refused {error}
 */
#pragma once

#include "agent/rollback_ways.h"

/*
 * Returns when the right to run the machine of ${way}'s rollback is held here again; at once if it is. Asks node ${there} to begin
 * unless it has; that it was asked is in the record before (`called`), and from then on it is waited for, until it has said nothing for ten
 * minutes. One that can't be reached before that is an error. NC_ERROR_CANCELLED if novacrond stops. Blocks.
 */
bool nc_rollback_call_back(const NcRollbackWay *way, const char *there, GError **error);
