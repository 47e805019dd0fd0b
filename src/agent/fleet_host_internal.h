/* SPDX-License-Identifier: Apache-2.0 */
/* What fleet_host.c (the thread), fleet_sight.c (what nodes say) and fleet_ops.c and
 * fleet_watch.c (what people ask) share. Nobody else
 * includes this. */
#pragma once

#include "agent/fleet_host.h"
#include "controller/controller.h"

struct NcFleetHost {
  const NcFleetSide *side;
  NcMetrics *metrics;
  NcFleetAgents *agents;
  GAsyncQueue *jobs; /* NcFleetJob* */
  GThread *thread;

  GMutex lock; /* protects what follows, and each call's is_done */
  GCond done;
  bool is_quitting;
  char *leader; /* as of the last turn; NULL: nobody */

  /* of the thread */
  NcFleetDb *db;            /* NULL: it could not be opened */
  NcController *controller; /* NULL likewise */
  char *db_problem;         /* why */
  uint64_t epoch;           /* in which ${seen} was told */
  GHashTable *seen;         /* node -> json_t*: what it said last and the controller has taken */
  int64_t looked_us, opened_us, measured_us;
  bool is_troubled; /* told in the log */
};

/* In the thread: asks every joined node what it has; removes those that are gone from the roster. */
void nc_fleet_look_around(NcFleetHost *host);
/* In the thread: fleet.watch (docs/protocols.md section 5), in fleet_watch.c. */
json_t *nc_fleet_do_watch(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error);
/* In the thread: what ${node} has answered. */
void nc_fleet_take_look(NcFleetHost *host, const char *node, json_t *said);
