/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller from inside. Private to src/controller.
 *
 * The model is fleet, queue, traffic, and the tables of live migrations and evacuations below. It is there if
 * ${is_loaded}. The queue tells nc_hear_item() of what it decides; that becomes changes, which nc_flush() writes,
 * together with what the caller has to write, in one transaction. If that fails the model goes (nc_forget_model()), as
 * it is ahead of the database then.
 *
 * Files: controller.c (life, lease, the step), load.c (the model from the database), changes.c (what is to be written),
 * live.c (migrations that have not ended, and what agents are told), reports.c (what they say), requests.c, batches.c,
 * cancel.c, evacuate.c (what people ask), evacuating.c (evacuations under way), nodes.c (nodes and machines), sight.c
 * (what agents say of machines), describe.c.
 */
#pragma once

#include "controller/controller.h"
#include "controller/wish.h"
#include "fleet/traffic.h"
#include "fleetdb/access.h"
#include "fleetdb/events.h"
#include "fleetdb/groups.h"
#include "fleetdb/migrations.h"

#define NC_MOST_REASON_BYTES 512u
#define NC_ASK_ENDGAME_US INT64_C(200000) /* between two questions to one whose last round is near, or there */
#define NC_MOST_WAITS 4096u /* that nobody has asked for */
#define NC_MOST_PHASE_EVENTS 32u /* of an attempt: an agent that tells more has them in describe() only */

/* A migration that has not ended. */
typedef struct {
  uint64_t item;                           /* in the queue */
  char *id, *machine, *batch, *evacuation; /* "": part of none */
  NcWish wish;
  char *cancel_reason; /* NULL: nobody wants it to end */
  int64_t cancel_again_us, cancel_wait_us; /* when its agent is told again, if it runs on; 0: at once */

  unsigned attempt;  /* the last one that was recorded; 0: none */
  bool is_under_way; /* that one has begun, for all that is known, and not ended */
  bool is_confirmed; /* its agent has said so, and that is recorded */
  uint32_t from, to; /* of that one */
  NcFlow *flow;
  int64_t heard_us, asked_us;
  bool is_to_be_sent; /* by the end of this step */
  int64_t told_us;
  uint64_t told_bps;
  bool told_endgame;
  bool wants_endgame;
  bool is_elsewhere; /* the machine was seen on another node than where it starts from: */
  uint32_t seen_at;  /* there; NC_FLEET_NONE: it is not known */
  unsigned unknowns; /* how often in a row its agent did not know it, though it had it */
  char *phase;
  double percent;
  json_t *sample; /* what its agent told last of how fast it is (describe.c); NULL: nothing yet */
  unsigned phase_events;
} NcLive;

/* An evacuation that has not ended. */
typedef struct {
  char *id;
  char **nodes;
  uint64_t group;
  NcWish wish;
  bool is_cancelling, has_begun;
  GPtrArray *pending; /* NcPending: items that have no migration yet, in the plan's order */
  unsigned live;      /* of its migrations */
} NcEvacuating;

typedef struct {
  char *machine, *destination; /* NULL: any */
  bool is_done;                /* it has a migration, or a reason why not: */
  bool is_gone;                /* it has left in another way */
} NcPending;

/* What nc_flush() is to write. All texts are owned. */
typedef enum { NC_CHANGE_START, NC_CHANGE_STEP, NC_CHANGE_EVENT } NcChangeKind;
typedef struct {
  NcChangeKind kind;
  char *id;
  unsigned attempt; /* STEP: of which; START: after the write, which one it is */
  NcMoveState to;
  char *reason, *source, *destination, *machine;
  int64_t not_before_us;
  uint64_t run_epoch;
  json_t *detail; /* STEP: the result; EVENT */
  char *event, *subject;
} NcChange;

/* When a node last said something, and whether that is too long ago. */
typedef struct {
  int64_t at_us;
  bool is_silent;
} NcHeard;

struct NcController {
  NcFleetDb *db;
  NcControllerOptions options;
  char *name, *address, *holder;
  NcAgentPort port;
  void *agents;

  int64_t now_us;     /* the latest time seen */
  int64_t mono_us;    /* when that was, on a clock that nobody sets */
  int64_t renewed_us; /* when the lease was last extended; nc_mono_us(), before it was */
  uint64_t epoch;     /* 0: does not lead */
  NcFleetLease lease; /* as last seen */

  GArray *waits;       /* of int64_t: see nc_controller_take_waits() */
  int64_t prune_at_us; /* when the database is next rid of what is old; 0: not known yet */
  GHashTable *heard; /* name of a node to NcHeard, owned: outlives the model */

  bool told_left_out; /* in the log: directories are not counted */
  bool is_loaded;
  bool is_enlarged; /* a node has more in the model than it says, as more is on it */
  NcFleet *fleet;
  NcQueue *queue;
  NcTraffic *traffic;
  GHashTable *live;        /* id to NcLive, owned */
  GHashTable *by_item;     /* &item to NcLive */
  GHashTable *under_way;   /* a set of NcLive */
  GHashTable *evacuations; /* id to NcEvacuating, owned */
  GHashTable *groups;      /* id of a batch or evacuation to uint64_t, owned */
  uint64_t last_group;

  GPtrArray *changes;            /* NcChange, owned */
  const NcAttemptReport *report; /* that is being taken */
};

/* --- controller.c --- */

/*
 * The time ${passed_us} after ${now_us}, where the system's clock shows ${wall_us}: that, or where it was set meanwhile, half as fast or half
 * as fast again until it is. So time never stands still, and nobody is taken for silent because a clock was put right.
 */
int64_t nc_clock_follow(int64_t now_us, int64_t passed_us, int64_t wall_us);
int64_t nc_controller_now(NcController *c);
/* Makes the model, if there is none. False with NC_ERROR_UNAVAILABLE: it does not lead; others: as of nc_load_model().
 */
bool nc_controller_is_ready(NcController *c, GError **error);
void nc_step_down(NcController *c);
void nc_forget_model(NcController *c);

/* --- load.c --- */

bool nc_load_model(NcController *c, GError **error);
/* ${guest} of a machine's row or record: what its detail says, within bounds, or what its size says. */
NcGuest nc_guest_of(json_t *detail, uint64_t memory_bytes);
/* The texts of an array, NULL-terminated, borrowed; caller frees the array. */
const char **nc_texts(json_t *array);

/* --- disks.c --- */

/* File systems as rows have them; texts are borrowed. */
typedef struct {
  NcFileSystemSpec specs[NC_FLEET_MOST_DIRECTORIES];
  uint64_t arriving_bytes[NC_FLEET_MOST_DIRECTORIES];
  unsigned count;
} NcToldDisks;
void nc_told_disks_clear(NcToldDisks *told);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcToldDisks, nc_told_disks_clear)
/* Of an array; what is none is skipped. */
void nc_told_disks_read(json_t *file_systems, NcToldDisks *ret);
/* A machine's disks; texts are borrowed. How many. */
unsigned nc_needs_read(json_t *disks, NcDirectoryNeed ret[NC_FLEET_MOST_DISKS]);
/* Does an agent say that, within bounds? *ret_bytes: all together. */
bool nc_are_disks(json_t *said, uint64_t *ret_bytes);
/* ${record}'s disks are the model's from now on; false: that has to be read anew. */
bool nc_take_disks(NcController *c, uint32_t machine, const NcMachineRecord *record);
/* With what nodes that do not say how much disk they have may have of it. */
NcRoom nc_capacity_of(NcRoom room);

/* --- changes.c --- */

/* The queue's function. */
void nc_hear_item(const NcItem *item, void *user_data);
void nc_change_free(gpointer change);
/* STEP of ${live}'s present attempt; the reason is copied. */
NcChange *nc_add_step(NcController *c, const NcLive *live, NcMoveState to, const char *reason);
/* ${detail}: taken. ${migration}: NULL for none. */
void nc_add_event(NcController *c, const char *kind, const char *subject, const char *migration, json_t *detail);
/*
 * Writes ${func} (may be NULL) and then all changes. Then starts are known to ${c->live} and will be sent by the step.
 * On error the model is gone, and if another one leads, so is the lead.
 */
bool nc_flush(NcController *c, NcFleetWriteFunc func, gpointer data, GError **error);

/* --- links.c --- */

/* Into the empty model, of all nodes' rows. */
void nc_load_links(NcController *c, json_t *nodes);
/* The link at which a node hangs that says ${detail} (may be NULL); NC_FLEET_NONE. */
uint32_t nc_link_of(NcController *c, json_t *detail);
/* Would what that says of links change nothing? */
bool nc_links_are_known(NcController *c, json_t *detail);

/* --- live.c --- */

void nc_live_free(gpointer live);
/* Takes ${live}, whose item is in the queue. */
void nc_live_add(NcController *c, NcLive *live);
/* Its attempt is under way from now on, or was: it has a flow. */
void nc_live_begin(NcController *c, NcLive *live, uint32_t from, uint32_t to);
/* It has ended: its bandwidth is given back. */
void nc_live_end_attempt(NcController *c, NcLive *live);
/* Borrowed, in the order in which they were asked for; caller frees the array. */
GPtrArray *nc_lives_under_way(NcController *c);
/* The number of ${id}'s group in the queue. */
uint64_t nc_group_of(NcController *c, const char *id);
NcRequest nc_request_of(NcController *c, const NcLive *live, uint32_t machine, uint32_t destination);
/* Orders that are due: starts, rates, questions. */
void nc_send_orders(NcController *c);
void nc_send_start(NcController *c, NcLive *live);
void nc_send_cancel(NcController *c, NcLive *live);

/* --- describe.c --- */

/* What of ${said}, which an agent tells of an attempt's progress, is kept: numbers, within bounds. New reference; NULL if ${said} is none. */
json_t *nc_sample_of(json_t *said);

/* --- evacuating.c --- */

void nc_evacuating_free(gpointer evacuating);
void nc_pending_free(gpointer pending);
NcEvacuating *nc_evacuating_add(NcController *c, const char *id, json_t *nodes, json_t *saved_wish);
/* Submits what is pending, and ends what has ended. */
bool nc_advance_evacuations(NcController *c, GError **error);

/* In a step, with nothing else to be written: removes some of what ended before options.history_us, if it is time. */
bool nc_prune(NcController *c, GError **error);

/* --- sight.c --- */

/* Does an agent's word for a machine's state mean that no QEMU runs it? */
bool nc_state_is_stopped(const char *state);

/* --- nodes.c --- */

/* Notes what went silent. */
bool nc_look_for_silence(NcController *c, GError **error);
bool nc_is_silent(NcController *c, uint32_t node);
/* In a new model: who was silent before is silent; others have to say something from now on. */
void nc_recall_silence(NcController *c);

/* --- requests.c --- */

/*
 * Has it been answered before? True: *ret_answer is that answer (new reference), or NULL, then do it. False on error.
 */
bool nc_find_answer(NcController *c, const NcAsker *who, json_t **ret_answer, GError **error);
/* In a write: keeps ${answer} with the key, if there is one. */
bool nc_keep_answer(NcFleetDb *db, const NcAsker *who, json_t *answer, GError **error);
/* The machine's and the destination's numbers of a wish. */
bool nc_resolve_wish(NcController *c, NcWish *wish, uint32_t *ret_machine, uint32_t *ret_destination,
                     GError **error);
/* In a write. */
bool nc_write_submission(NcController *c, NcFleetDb *db, const NcLive *live, const char *actor, GError **error);
bool nc_check_reason(const char *reason, GError **error);
