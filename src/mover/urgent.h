/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must neither wait nor get lost: statements (GRANT, DIGEST, END, RESEND)
 * and the return path.
 *
 * Outgoing frames are numbered and kept until the other side confirms them. They leave
 * by one connection at a time, the carrier (nc_mover_is_carrier); when that
 * is lost, the next one begins with what is not confirmed. Acknowledgements of batches
 * and confirmations are latched, not queued: only the last one counts, and a
 * new carrier repeats it.
 *
 * Incoming frames come in order on any carrier, and perhaps again on the next one:
 * those are dropped by their number.
 *
 * Thread-safe; the lock is a leaf. nc_urgent_pop() is the carrier's alone.
 */
#pragma once

#include "wire/frame.h"

typedef struct NcUrgent NcUrgent;

/* Lives as long as the process. */
NcUrgent *nc_urgent_new(void);

/* Takes ${frame}. False: too much is unconfirmed, which our senders' own windows should have prevented. */
bool nc_urgent_push(NcUrgent *u, GByteArray *frame);
/* Replaces what the next ACK of ${channel} will say. */
void nc_urgent_ack(NcUrgent *u, uint8_t channel, uint64_t seq, uint64_t offset);

/* The next frame for the carrier, a new reference; NULL: nothing waits. */
GByteArray *nc_urgent_pop(NcUrgent *u);
/* How many frames were pushed so far. */
uint64_t nc_urgent_pushed(NcUrgent *u);
/* Does the other side have the first ${count} of them? */
bool nc_urgent_is_confirmed(NcUrgent *u, uint64_t count);
/* Does a frame (not only a confirmation or acknowledgement) wait for a connection that takes it? */
bool nc_urgent_is_held_up(NcUrgent *u);
/*
 * Does anything wait that somebody is in a hurry for? Confirmations are not, they free memory; nor are acknowledgements of
 * disks' answers: under a rate limit they would hurry all bulk.
 */
bool nc_urgent_has(NcUrgent *u);
/* There is a new carrier, or none: what was not confirmed goes again. After the last nc_urgent_pop() of the old one. */
void nc_urgent_rewind(NcUrgent *u);
/* The other side has all frames below ${count}. Checked. */
bool nc_urgent_confirmed(NcUrgent *u, uint64_t count, GError **error);

/*
 * Frame ${number} has come. If *ret_new, it is to be handled now; nobody else handles one
 * before nc_urgent_end_arrival(), which is to be called in any case. A gap is NC_ERROR_PROTOCOL.
 */
bool nc_urgent_begin_arrival(NcUrgent *u, uint64_t number, bool *ret_new, GError **error);
void nc_urgent_end_arrival(NcUrgent *u);
