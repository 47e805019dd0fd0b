/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agents that misbehave, as far as the port allows it (controller/agent_port.h), and the truth about where machines
 * are.
 *
 * Messages in both directions are lost, late, doubled, and pass each other. An agent may be dead for a while: then
 * nothing reaches it and it says nothing, but its migrations go on, and it remembers all names when it is back. What
 * the controller must never bring about is looked at when an attempt begins: that its machine is not under way already,
 * and is where the order says; that a name always means the same; that no limit is exceeded and that there is room.
 */
#pragma once

#include "../fleetdb/support.h"
#include "controller/controller.h"

#define GIB ((uint64_t)1 << 30)
#define SECOND ((int64_t)1000000)

typedef struct {
  char *name, *machine, *source, *destination; /* machine NULL: it will never begin */
  int64_t ends_us;
  NcReportState end; /* what becomes of it */
  bool may_pass;
  bool is_over;
  bool is_silenced;  /* it never ends by itself */
  uint64_t rate_bps; /* as told last */
  bool has_endgame;
  unsigned begun; /* in which order, from 1 */
} Attempt;

typedef struct {
  int64_t now_us;
  GRand *random;
  double loss, doubling; /* of messages */
  int64_t most_delay_us;
  double fails, fails_for_good; /* of attempts */
  double tells;                 /* how often one under way tells of itself */
  double endgames;              /* how many reports ask for one */
  uint64_t run_epoch;           /* that completed ones tell */
  int64_t least_run_us, most_run_us;

  GHashTable *attempts;                /* what agents keep: name to Attempt */
  GPtrArray *order;                    /* Attempt, as they began */
  GHashTable *places;                  /* machine to node: the truth */
  GHashTable *moves;                   /* machine to how often it arrived somewhere */
  GHashTable *needs;                   /* machine to uint64_t memory, owned */
  GHashTable *rooms;                   /* node to uint64_t memory, owned */
  GHashTable *dead;                    /* node to int64_t until when */
  GPtrArray *mail;                     /* messages under way */
  unsigned cluster, node_in, node_out; /* limits */
  int sends_left;                      /* of the controller before it "dies"; -1: it lives */
  unsigned starts_sent, cancels_sent, asks_sent;

  Bed bed;
  NcController *controller;
  NcControllerOptions options;
} World;

extern const NcAgentPort world_port;

/* A world without losses. With a database, and no controller yet. */
World *world_new(uint32_t seed);
void world_free(World *w);
/* One that leads. */
void world_lead(World *w);
NcController *world_controller(World *w, NcFleetDb *db, const char *name);
/* As if so much time had passed. */
void world_end_lease(NcFleetDb *db);
/* As kill -9 would, and then the lease runs out: nothing is given back, what it has not sent is lost. */
void world_kill(World *w);

void world_add_node(World *w, const char *name, uint64_t memory_gib);
void world_add_machine(World *w, const char *name, const char *node, uint64_t memory_gib, NcPriority priority);
const char *world_place(World *w, const char *machine);
Attempt *world_attempt(World *w, const char *name);
unsigned world_running(World *w);
void world_kill_agent(World *w, const char *node, int64_t for_us);

/* Time passes, mail arrives (at ${c}, or nowhere if it is NULL), attempts end; nodes that live are heard. */
void world_pass(World *w, NcController *c, int64_t us);
/* world_pass() and a step of the world's controller, ${times}. */
void world_turn(World *w, int64_t us, unsigned times);
/* All that is under way takes so much longer. */
void world_delay_mail(World *w, int64_t us);
/* Says so of an attempt, at once. */
bool world_report(World *w, NcController *c, const char *node, const char *name, NcReportState state, GError **error);

/* ${json} with ' for ". New reference. */
json_t *json_of(const char *json);
extern const NcAsker somebody;
