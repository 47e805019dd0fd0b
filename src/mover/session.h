/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the frames between two movers mean: HELLO first, then each type with
 * the side and channel it is for. Anything else is NC_ERROR_PROTOCOL.
 */
#pragma once

#include "mover/mover.h"
#include "wire/frame.h"

/* Our HELLO for connection ${index}. */
GByteArray *nc_session_hello(const NcMover *m, unsigned index);
/* The peer's, on connection ${index}: does it fit ours? Takes its limits for what we send. */
bool nc_session_check_hello(NcMover *m, unsigned index, const NcFrame *frame, GError **error);
/* Any later frame except PING and PONG. Called by ${link}'s thread. False: the migration attempt is over. */
bool nc_session_frame(NcMover *m, NcLink *link, const NcFrame *frame, GError **error);
