/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The return path at the destination: QEMU's messages to the source, at once.
 *
 * One thread reads QEMU's reverse direction, finds whole messages and sends
 * them as urgent batches of channel 2. In front of SHUT it states what
 * was delivered forward (DIGEST), so that the source can compare. PONGs are news for
 * novacrond, too: in post-copy one of them says that the package is loaded. What is not
 * acknowledged is bounded; beyond, QEMU waits.
 *
 * A message of an unknown type ends the migration: behind it nobody could say
 * where SHUT is, and a SHUT that slips through ends the source's machine.
 */
#pragma once

#include "mover/ordered.h"

NcBackSender *nc_back_sender_new(NcMover *m);
/* Reads from ${qemu}, borrowed. Once. */
void nc_back_sender_start(NcBackSender *b, int qemu);
/* Its channel, for the links. */
NcOrderedSender *nc_back_sender_channel(NcBackSender *b);
