/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is: nodes, the machines on them, and the links between them.
 *
 * Nodes, machines and links have dense numbers, given in the order in which they are added, and names. What was removed leaves its number behind,
 * without a name: a machine's is given to another one later, a node's never again. A machine always has a node. While it moves it has a reservation at another one as well; a node's ${used} counts both, so what was promised can't be
 * given away twice, and it is never more than the capacity. Of disks that is so where nodes say how much there is in all (scenarios do);
 * where they say how much their file systems have free, see fleet/disk_room.h. A node is cordoned so that nothing more comes to it.
 *
 * Links form trees: a node hangs at a link (a rack's uplink, say), that one perhaps at another. What goes from one node to another
 * leaves by its own network card, climbs to where both trees meet, and comes down: links above that, and those
 * common to both, are not used. Each link carries its rate in both directions at once.
 *
 * To find a place for a machine, nodes that may be one are indexed by their free memory (room_tree.h): all, those of each link, and
 * those with each label.
 *
 * Not thread-safe. All structs are for reading; only this module writes them.
 */
#pragma once

#include "base/error.h"
#include "fleet/room_tree.h"

#define NC_FLEET_NONE UINT32_MAX
#define NC_FLEET_MOST_DIRECTORIES 64u /* that disks of the fleet's machines are in, and that are told apart */
#define NC_FLEET_MOST_DIRECTORIES_OF_NODE (NC_FLEET_MOST_DIRECTORIES / 4) /* that its machines may be the first with */
#define NC_FLEET_MOST_DIRECTORY_BYTES 256u
#define NC_FLEET_MOST_DISKS 32u /* directories that the disks of one machine are in */
#define NC_FLEET_MOST_LABELS 16u /* of a node or a machine: each is a tree to keep */
#define NC_FLEET_MOST_UPLINKS 6u /* from a node to the top */
#define NC_FLEET_MOST_UPLINK_BPS INT64_C(1000000000000) /* that a node may tell of one */
#define NC_FLEET_MOST (1u << 24) /* nodes, machines, links */

typedef struct NcFleet NcFleet;

typedef enum {
  NC_PRIORITY_CRITICAL,
  NC_PRIORITY_HIGH,
  NC_PRIORITY_NORMAL,
  NC_PRIORITY_LOW,
  NC_PRIORITY_COUNT
} NcPriority;

/* "critical", "high", "normal", "low". */
const char *nc_priority_name(NcPriority priority);
/* false: ${name} (may be NULL) is none. */
bool nc_priority_from_name(const char *name, NcPriority *ret);

typedef struct {
  const char *name;
  uint64_t rate_bps; /* bytes per second in each direction; 0: no limit */
  int64_t rtt_us;    /* what it adds to a round trip */
  uint32_t uplink;   /* the link it hangs at; NC_FLEET_NONE: it is a top */
} NcLinkSpec;

/* A file system of a node, and what of the fleet's directories is on it. */
typedef struct {
  const char *const *directories; /* NULL-terminated; those that no machine has a disk in (nc_fleet_know_directory()) are skipped */
  uint64_t free_bytes;            /* what it has for disks that come; what disks of arriving machines have taken already counts as free */
  bool is_missing;                /* there is no such directory */
} NcFileSystemSpec;

/* What of a machine's disks is to be copied when it moves. */
typedef struct {
  const char *directory;
  uint64_t bytes;
} NcDirectoryNeed;

typedef struct {
  const char *name;
  NcRoom capacity;
  const NcFileSystemSpec *file_systems; /* then its disks are not counted in ${capacity} */
  unsigned file_system_count;           /* 0: it says nothing of them */
  uint64_t rate_bps;         /* of its network card, in each direction; 0: no limit */
  uint32_t link;             /* NC_FLEET_NONE: none that counts */
  const char *const *labels; /* NULL-terminated, or NULL */
  unsigned in_limit, out_limit; /* migrations at a time; 0: the queue's default */
} NcNodeSpec;

/* What is known of a guest's memory. */
typedef struct {
  double content_bytes; /* what of it is no untouched page */
  double dirty_bps, working_set_bytes;
  double ratio;         /* content per byte on the wire, more than 0 */
  double max_downtime_s;
  bool may_postcopy;
} NcGuest;

typedef struct {
  const char *name;
  uint32_t node;
  NcRoom need;
  const NcDirectoryNeed *disks; /* if there are any, ${need}'s disk is their sum, whatever it says */
  unsigned disk_count;          /* NC_FLEET_MOST_DISKS at most */
  const char *const *requires; /* labels; NULL-terminated, or NULL */
  NcPriority priority;         /* when its node is evacuated */
  bool is_stopped;             /* no QEMU runs it: it can't be migrated */
  NcGuest guest;
} NcMachineSpec;

typedef struct {
  char *name;
  uint64_t rate_bps;
  int64_t rtt_us;
  uint32_t uplink;
  NcRoomTree tree; /* of the nodes that hang at it itself */
} NcLink;

typedef struct {
  uint64_t free_bytes, promised_bytes;
  uint64_t told_bytes; /* ${free_bytes}, as its node told it last: machines have arrived since */
  bool is_missing;
} NcFileSystem;

typedef struct {
  uint32_t directory;
  uint64_t bytes;
} NcDiskNeed;

typedef struct {
  char *name;
  NcRoom capacity, used;
  NcFileSystem *file_systems;
  unsigned file_system_count;   /* 0: it says nothing of them */
  uint8_t *on_file_system;      /* of each directory that may be, the number + 1; 0: nothing is said of it; NULL if nothing is said at all */
  uint64_t rate_bps;
  uint32_t link;
  unsigned in_limit, out_limit;
  bool is_down, is_cordoned;
  uint32_t first_machine; /* of those on it, linked by next; NC_FLEET_NONE: none */
  uint32_t machine_count;
  uint32_t *labels; /* sorted */
  unsigned label_count;
  NcRoomEntry *entries; /* in the trees of all, of the link, of each label, if ${is_indexed} */
  bool is_indexed;
} NcNode;

typedef struct {
  char *name;
  NcRoom need;
  NcDiskNeed *disks; /* in directories that are known; each once */
  unsigned disk_count;
  uint32_t node;
  uint32_t reserved; /* the node it is going to; NC_FLEET_NONE */
  uint32_t next, previous;
  uint32_t *requires; /* labels, sorted */
  unsigned require_count;
  NcPriority priority;
  bool is_stopped;
  NcGuest guest;
} NcMachine;

NcFleet *nc_fleet_new(void);
void nc_fleet_free(NcFleet *f); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcFleet, nc_fleet_free)

/* All copy what they need. NC_FLEET_NONE on error: NC_ERROR_EXISTS, NC_ERROR_INVALID; of machines NC_ERROR_RESOURCE. */
uint32_t nc_fleet_add_link(NcFleet *f, const NcLinkSpec *spec, GError **error);
uint32_t nc_fleet_add_node(NcFleet *f, const NcNodeSpec *spec, GError **error);
uint32_t nc_fleet_add_machine(NcFleet *f, const NcMachineSpec *spec, GError **error);

/* It is gone. false: NC_ERROR_CONFLICT, it has a reservation. With a queue: nc_queue_remove_machine(). */
bool nc_fleet_remove_machine(NcFleet *f, uint32_t machine, GError **error);
/* false: NC_ERROR_CONFLICT, machines are on it or on their way to it. With a queue: nc_queue_remove_node(). */
bool nc_fleet_remove_node(NcFleet *f, uint32_t node, GError **error);

/* With those that were removed. */
uint32_t nc_fleet_link_count(const NcFleet *f);
uint32_t nc_fleet_node_count(const NcFleet *f);
uint32_t nc_fleet_machine_count(const NcFleet *f);
/* Numbers below the count; borrowed, until the next one is added. The name of what was removed is NULL. */
const NcLink *nc_fleet_link(const NcFleet *f, uint32_t link);
const NcNode *nc_fleet_node(const NcFleet *f, uint32_t node);
const NcMachine *nc_fleet_machine(const NcFleet *f, uint32_t machine);
/* By name; NC_FLEET_NONE: there is none. */
uint32_t nc_fleet_find_link(const NcFleet *f, const char *name);
uint32_t nc_fleet_find_node(const NcFleet *f, const char *name);
uint32_t nc_fleet_find_machine(const NcFleet *f, const char *name);
/* The label's text, borrowed. */
const char *nc_fleet_label_name(const NcFleet *f, uint32_t label);
/* The memory of the largest node. */
uint64_t nc_fleet_largest_memory(const NcFleet *f);

void nc_fleet_set_down(NcFleet *f, uint32_t node, bool is_down);
void nc_fleet_set_cordoned(NcFleet *f, uint32_t node, bool is_cordoned);
void nc_fleet_set_stopped(NcFleet *f, uint32_t machine, bool is_stopped);

/* What of ${node} is free; of disk, what all its file systems have together, or NC_ROOM_ANY_DISK if it says nothing of them. */
NcRoom nc_fleet_free_room(const NcFleet *f, uint32_t node);
/* The first label that ${machine} requires and ${node} does not have; NC_FLEET_NONE if it has them all. */
uint32_t nc_fleet_missing_label(const NcFleet *f, uint32_t machine, uint32_t node);
/* Keeps room for ${machine} at ${node}; false: there is not enough, or it has a reservation or is there already. */
bool nc_fleet_reserve(NcFleet *f, uint32_t machine, uint32_t node);
/* Likewise for one that is on its way there: what its file systems have left is not asked. */
bool nc_fleet_reserve_again(NcFleet *f, uint32_t machine, uint32_t node);
/* Gives the reservation back, if there is one. */
void nc_fleet_unreserve(NcFleet *f, uint32_t machine);
/* ${machine} has arrived where it has a reservation, which it must have; what it had on the other node is free. */
void nc_fleet_arrive(NcFleet *f, uint32_t machine);

/* The trees that hold each node that may take ${machine}: the one with the fewest nodes; NULL if a label is on no node. */
const NcRoomTree *nc_fleet_tree_for(const NcFleet *f, uint32_t machine);
/* Of the nodes at ${link}. */
const NcRoomTree *nc_fleet_tree_of_link(const NcFleet *f, uint32_t link);

/*
 * The links from node ${from} to node ${to}: *ret_up and *ret_down (each with room for NC_FLEET_MOST_UPLINKS) are climbed and
 * descended. *ret_rtt_us: the sum of what they add.
 */
typedef struct {
  uint32_t up[NC_FLEET_MOST_UPLINKS], down[NC_FLEET_MOST_UPLINKS];
  unsigned up_count, down_count;
  int64_t rtt_us;
} NcWayBetween;
void nc_fleet_way(const NcFleet *f, uint32_t from, uint32_t to, NcWayBetween *ret);
