/* SPDX-License-Identifier: Apache-2.0 */
/* What fleet_host.c (the thread), fleet_sight.c (what nodes say) and fleet_ops.c (what people ask) share. Nobody else
 * includes this. */
#pragma once

#include "agent/fleet_host.h"
#include "controller/controller.h"

typedef json_t *(*NcFleetFunc)(NcFleetHost *host, const char *actor, json_t *args, GError **error);

struct NcFleetHost {
  const NcFleetSide *side;
  NcFleetAgents *agents;
  GAsyncQueue *jobs; /* NcFleetJob* */
  GThread *thread;

  GMutex lock; /* protects is_quitting, and each call's is_done */
  GCond done;
  bool is_quitting;

  /* of the thread */
  NcFleetDb *db;            /* NULL: it could not be opened */
  NcController *controller; /* NULL likewise */
  char *db_problem;         /* why */
  uint64_t epoch;           /* in which ${seen} was told */
  GHashTable *seen;         /* node -> json_t*: what it said last and the controller has taken */
  int64_t looked_us, opened_us;
  bool is_troubled; /* told in the log */
};

/* Runs ${func} in the thread and waits for it. */
json_t *nc_fleet_host_call(NcFleetHost *host, NcFleetFunc func, const char *actor, json_t *args, GError **error);
/* In the thread: asks every joined node what it has; removes those that are gone from the roster. */
void nc_fleet_look_around(NcFleetHost *host);
/* In the thread: what ${node} has answered. */
void nc_fleet_take_look(NcFleetHost *host, const char *node, json_t *said);
