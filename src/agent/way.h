/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way to another node, measured on a connection between agents before a migration: its round trip and what
 * it carries. For checks and plans; the messages are in preflight.h. Blocks; one thread per connection.
 */
#pragma once

#include "crypto/peer.h"

/* Sends ${question} (taken) and waits for the ${expected} answer, a new reference. A refusal comes with its own code. */
json_t *nc_way_ask(NcPeer *peer, json_t *question, const char *expected, GError **error);
/*
 * Five exchanges, of which the shortest counts; before any message of preflight.h, after which the other node answers only
 * those. *ret_offset_us: their clock minus ours.
 */
bool nc_way_measure_clock(NcPeer *peer, int64_t *ret_rtt_us, int64_t *ret_offset_us, GError **error);
/*
 * Fills the connection for a second and counts what arrives, bytes per second, without TCP's start: one connection's, so
 * the least that the way carries.
 */
bool nc_way_measure_rate(NcPeer *peer, int64_t rtt_us, double *ret_bps, GError **error);
