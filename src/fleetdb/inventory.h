/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes that have joined, and the machines that they were last seen with.
 *
 * A machine may be told of by two nodes at the same time, while it moves or after a node was cut off. What counts is the run right
 * (design, section 5): a machine is where a node holds it, and of two that say so, where its epoch is greater, whichever comes last. The same
 * epoch is also that of a destination which only prepares (INCOMING), and of the source that has given it away (RELEASED): they say nothing of
 * where the machine is.
 */
#pragma once

#include "fleet/inventory.h"
#include "fleetdb/page.h"

/* --- nodes --- */

typedef struct {
  const char *name;    /* nc_name_is_valid() */
  const char *address; /* host:port */
  NcRoom capacity;              /* disk 0: nothing is said of it, or by file system */
  uint64_t rate_bps;            /* 0: no limit */
  unsigned in_limit, out_limit; /* 0: the queue's default */
  json_t *labels;               /* an array of strings, borrowed; NULL: none */
  json_t *detail;               /* an object, borrowed; NULL: {} */
} NcNodeRecord;

/* In a write. It joins, or what is known of it has changed; cordon, evacuation and file systems stay. */
bool nc_fleetdb_put_node(NcFleetDb *db, const NcNodeRecord *node, GError **error);
/*
 * In a write. ${file_systems}: borrowed, [{"directories": [PATH, ...], "free_bytes", "is_missing"}]: what it has for disks that come (fleet/disk_room.h).
 * NC_ERROR_NOT_FOUND. Adds no event.
 */
bool nc_fleetdb_set_file_systems(NcFleetDb *db, const char *name, json_t *file_systems, GError **error);
/* In a write. It was heard of just now; NC_ERROR_NOT_FOUND. Adds no event. */
bool nc_fleetdb_node_seen(NcFleetDb *db, const char *name, GError **error);
/*
 * In a write. Nothing more comes to a cordoned node. ${evacuation}: that empties it, "" for none; it stays as it is with NULL.
 * NC_ERROR_NOT_FOUND.
 */
bool nc_fleetdb_set_cordoned(NcFleetDb *db, const char *name, bool is_cordoned, const char *evacuation, GError **error);
/* In a write. With its machines. NC_ERROR_CONFLICT: a migration from or to it is not finished. NC_ERROR_NOT_FOUND. */
bool nc_fleetdb_remove_node(NcFleetDb *db, const char *name, GError **error);
/*
 * {name, address, memory_bytes, disk_bytes, cpus, rate_bps, in_limit, out_limit, labels, is_cordoned, evacuation, joined_us, seen_us,
 * detail, file_systems}. New reference; NC_ERROR_NOT_FOUND.
 */
json_t *nc_fleetdb_get_node(NcFleetDb *db, const char *name, GError **error);
/* By name. *ret_next: nc_rows_page(). New reference. */
json_t *nc_fleetdb_list_nodes(NcFleetDb *db, const NcPage *page, char **ret_next, GError **error);

/* --- machines --- */

typedef struct {
  const char *name;
  const char *node;
  uint64_t epoch;    /* of its run right on that node */
  bool lacks_right;  /* that node does not hold it: its right is not HELD */
  const char *state; /* as the node calls it: "running", ... */
  NcRoom need;
  /* Borrowed, [{"directory", "bytes"}]: those that are copied when it moves; NULL: nothing is said of them, what is known of them, and ${need}'s disk, stays. */
  json_t *disks;
  NcPriority priority;
  json_t *requires; /* labels, an array of strings, borrowed; NULL: none */
  json_t *detail;   /* an object, borrowed; NULL: {} */
} NcMachineRecord;

/*
 * In a write. *ret_is_news (may be NULL): false if it says nothing of where the machine is, because a greater epoch was seen, or ${lacks_right}. Of
 * the latter, only the state, the detail and the time are kept, and only if the machine was last seen on that node.
 */
bool nc_fleetdb_see_machine(NcFleetDb *db, const NcMachineRecord *machine, bool *ret_is_news, GError **error);
/* In a write. It is gone from ${node}, if that is where it was last seen. */
bool nc_fleetdb_forget_machine(NcFleetDb *db, const char *name, const char *node, GError **error);
/* {name, node, epoch, state, memory_bytes, disk_bytes, cpus, priority, requires, seen_us, detail, disks}. New reference; NC_ERROR_NOT_FOUND. */
json_t *nc_fleetdb_get_machine(NcFleetDb *db, const char *name, GError **error);
/* By name, of ${node} or all (NULL). New reference. */
json_t *nc_fleetdb_list_machines(NcFleetDb *db, const char *node, const NcPage *page, char **ret_next, GError **error);
