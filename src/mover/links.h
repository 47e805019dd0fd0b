/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The links together: which are up, which of them is the carrier of what is
 * urgent, and what happens when one is lost.
 *
 * The carrier is the first link that gets ready, and stays it until it is lost; then
 * any other that is up, or the next one to come. So there is never more than one
 * that sends URGENT frames, and their numbers arrive in order.
 *
 * novacrond hears of losses (`lost`) and returns (`back`), and connects again. Until
 * then nothing happens, and nobody here gives up: for how long to wait is its decision.
 */
#pragma once

#include "mover/mover.h"

/* Link ${index} has exchanged HELLO. The first time all have: the flow opens. Its thread. */
void nc_mover_link_ready(NcMover *m, unsigned index, const char *cipher);
/*
 * Link ${index}'s connection is over. ${error} is taken; NULL: a better one is here already. What it
 * had under way leaves by others, or by its next one. Its thread, after its last use of nc_urgent_pop().
 */
void nc_mover_lost_link(NcMover *m, unsigned index, GError *error);
/* Another connection for link ${index} failed before it was one; ${error} is taken. */
void nc_mover_link_refused(NcMover *m, unsigned index, GError *error);
/* Has it ever been ready? */
bool nc_mover_link_was_ready(NcMover *m, unsigned index);

/* The link that sends what is urgent; -1: none is up. Any thread. */
int nc_mover_carrier(NcMover *m);
/* Takes ${frame}: it leaves in front of all bulk, behind earlier urgent frames, and is not lost with a connection. */
void nc_mover_send_urgent(NcMover *m, GByteArray *frame);
/* Replaces what the next ACK of ${channel} will say. */
void nc_mover_send_ack(NcMover *m, uint8_t channel, uint64_t seq, uint64_t offset);
/* The other side has urgent frames below ${count}. Checked. */
bool nc_mover_confirmed(NcMover *m, uint64_t count, GError **error);

/* Blocks until all links are ready. Before, ${m}->links is the main thread's. */
void nc_mover_wait_open(NcMover *m);
/* Wakes every link that sleeps: there is bulk, or room for it. Any thread, no lock held. */
void nc_mover_wake_links(NcMover *m);
void nc_mover_wake_carrier(NcMover *m);
