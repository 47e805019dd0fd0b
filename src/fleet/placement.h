/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a machine should go: filter, then score, with a reason for every node that was refused.
 *
 * Filters, in this order: it is the machine's own node; the node is down; cordoned; excluded by the caller; lacks a label; takes in
 * as many migrations as it may; lacks memory, processors, disk (disk_room.h).
 * Score: 100 times the share of the largest node's memory that is free there afterwards; 20 more if the way to it uses no link; 10 less for each
 * migration that is on its way there, down to 40 less; 50 less for a node where this machine's last attempt failed. Ties
 * go to more free memory, then to the node that was added first.
 *
 * The choice is exactly the best score of all nodes, but is found without looking at all of them: nodes are visited in the order of their
 * free memory until no further one can be better (room_tree.h).
 *
 * Not thread-safe, as the inventory.
 */
#pragma once

#include "fleet/inventory.h"

#include <jansson.h>

typedef enum {
  NC_REFUSAL_NONE,
  NC_REFUSAL_OWN,
  NC_REFUSAL_DOWN,
  NC_REFUSAL_CORDONED,
  NC_REFUSAL_EXCLUDED,
  NC_REFUSAL_LABEL,
  NC_REFUSAL_BUSY,
  NC_REFUSAL_MEMORY,
  NC_REFUSAL_CPUS,
  NC_REFUSAL_DISK,
  NC_REFUSAL_COUNT
} NcRefusal;

/* "own_node", "down", "cordoned", "excluded", "label", "busy", "memory", "cpus", "disk"; "" for none. */
const char *nc_refusal_name(NcRefusal refusal);

/* What the caller knows besides. */
typedef struct {
  const unsigned *incoming; /* migrations on their way to each node; NULL: none */
  unsigned in_limit;        /* the most, where a node has none of its own; 0: no limit, also of the node's own */
  uint32_t failed;          /* the node of the last attempt; NC_FLEET_NONE */
  bool (*is_excluded)(uint32_t node, const void *user_data); /* NULL: none is */
  const void *user_data;
} NcPlacementTerms;

/* Why ${node} can't take ${machine}, or its score. */
NcRefusal nc_placement_judge(const NcFleet *f, uint32_t machine, uint32_t node, const NcPlacementTerms *terms, double *ret_score);
/* The same in words; NULL: it can. Caller frees. */
char *nc_placement_why_not(const NcFleet *f, uint32_t machine, uint32_t node, const NcPlacementTerms *terms);
/* The best node; NC_FLEET_NONE: none can take it. */
uint32_t nc_placement_choose(const NcFleet *f, uint32_t machine, const NcPlacementTerms *terms);
/*
 * Looks at all nodes: {"machine", "chosen" (null: none), "nodes": [{"node", "score" or "refused" and "detail"}]}, best first, then the
 * refused ones by number. New reference.
 */
json_t *nc_placement_explain(const NcFleet *f, uint32_t machine, const NcPlacementTerms *terms);
/* "no node can take web1: of 12 nodes 1 is its own, 2 are cordoned, 9 lack memory (it needs 8192 MiB, the most free is 4096 MiB)"; of the first that lacks disk the
 * detail is told. Caller frees. */
char *nc_placement_complaint(const NcFleet *f, uint32_t machine, const NcPlacementTerms *terms);
