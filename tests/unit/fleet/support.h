/* SPDX-License-Identifier: Apache-2.0 */
/* Small fleets for tests. */
#pragma once

#include "fleet/inventory.h"

#define GIB ((uint64_t)1 << 30)

/* Adds node ${name} with so much memory, and more of everything else than is ever needed. */
uint32_t add_node(NcFleet *f, const char *name, uint64_t memory_gib);
/* Adds machine ${name} to ${node}. */
uint32_t add_machine(NcFleet *f, const char *name, uint32_t node, uint64_t memory_gib);
/* A guest of a moderate kind. */
NcGuest guest_of(uint64_t memory_gib);

/* Nodes in some racks, machines of all sizes, some labels, cordons and absences. */
NcFleet *any_fleet(unsigned nodes, unsigned machines);
/* Nothing is used twice or more than there is; what a node uses is what is on it and on its way to it. */
void check_fleet(const NcFleet *f);
