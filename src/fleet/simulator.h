/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fleet whose migrations are only computed: the real queue, placement, budget and planner, against a model of what takes time.
 *
 * Discrete events: the end of a migration's phase, a task of the scenario, a time the queue waits for. Between two of them rates are
 * constant. A migration prepares; sends its memory in rounds (rounds.h), as fast as its part of every resource on its way lets it; asks for its
 * endgame when what is left fits into its pause, sending no more than its guest dirties while it waits for that; pauses; ends. Where rounds do
 * not shrink it goes on in post-copy, or fails. Each attempt fails with the scenario's probability at some point of its first round. The
 * same scenario gives the same report, to the byte.
 *
 * Not thread-safe; no clock, no files.
 */
#pragma once

#include "fleet/scenario.h"
#include "fleet/traffic.h"

typedef struct NcSimulator NcSimulator;

/* ${scenario}: borrowed; its fleet is changed. */
NcSimulator *nc_simulator_new(NcScenario *scenario);
void nc_simulator_free(NcSimulator *s); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcSimulator, nc_simulator_free)

/* To the next event and through it; false: there is none any more. */
bool nc_simulator_step(NcSimulator *s);
/* What was, as novacron-scenario(5) describes it. New reference. */
json_t *nc_simulator_report(NcSimulator *s);

/* For those who look on. */
int64_t nc_simulator_now_us(const NcSimulator *s);
NcQueue *nc_simulator_queue(const NcSimulator *s);
NcTraffic *nc_simulator_traffic(const NcSimulator *s);
/* Migrations whose guests stand still now, over a link in one direction. */
unsigned nc_simulator_pauses_over(const NcSimulator *s, uint32_t link, bool is_down);
