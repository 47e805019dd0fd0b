/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_desk.h"
#include "agent/fleet_courier.h"
#include "agent/fleet_handed.h"

/* Of the control socket's workers (control.c has 16): whatever the fleet's database or other nodes do, the node's own business goes on. */
#define NC_DESK_MOST 8
/* Of those, for programs that watch: people who ask come in all the same. */
#define NC_DESK_MOST_WATCHING 4

/* What the control socket's table has for one operation. */
typedef struct {
  NcFleetDesk *desk;
  const NcFleetOp *op;
} NcDeskRow;

struct NcFleetDesk {
  const NcFleetSide *side;
  NcFleetHost *host;
  NcFleetCourier *courier;
  NcFleetHanded *handed;
  gint under_way; /* atomic; of the control socket */
  gint watching;  /* likewise, of these those that watch */
  NcDeskRow rows[NC_FLEET_OPS];
};

/* Is ${answer} of something of which the leader knows more: a migration's row, or what there is to watch of one, or of many? */
static bool
nc_desk_is_under_way(json_t *answer)
{
  return json_is_false(json_object_get(answer, "ended")) ||
         (json_is_false(json_object_get(answer, "is_finished")) &&
          g_str_has_prefix(nc_json_string_or(answer, "id", ""), "mig-"));
}

/* What this node's controller knows of it; more, if the leader, ${leader}, can be asked. */
static json_t *
nc_desk_look_twice(NcFleetDesk *desk, const char *leader, const NcFleetErrand *errand, const NcFleetAsker *who,
                   GError **error)
{
  nc_autojson json_t *here = nc_fleet_host_do(desk->host, errand->op, who, errand->args, error);
  json_t *there = here && nc_desk_is_under_way(here) ? nc_fleet_courier_to(desk->courier, leader, errand, NULL) : NULL;

  return there ? there : g_steal_pointer(&here);
}

/* Nothing was done here, and others may be able to: they may reach the database, or know who leads. */
static bool
nc_desk_may_ask_others(NcFleetDesk *desk, const NcFleetOp *op, const GError *problem)
{
  bool is_undone = g_error_matches(problem, NC_ERROR, NC_ERROR_UNAVAILABLE) ||
                   (op->role == NC_ROLE_VIEWER && g_error_matches(problem, NC_ERROR, NC_ERROR_UNREACHABLE));
  return is_undone && nc_fleet_courier_knows_any(desk->courier);
}

/* By this node's controller; by another one, if this one can't. */
static json_t *
nc_desk_do_here(NcFleetDesk *desk, const NcFleetErrand *errand, const NcFleetAsker *who, GError **error)
{
  g_autoptr(GError) problem = NULL, other = NULL;
  json_t *result = nc_fleet_host_do(desk->host, errand->op, who, errand->args, &problem);

  if (result)
    return result;
  if (nc_desk_may_ask_others(desk, errand->op, problem)) {
    result = nc_fleet_courier_to_any(desk->courier, errand, &other);
    if (result)
      return result;
  }
  bool is_verdict = other && !g_error_matches(other, NC_ERROR, NC_ERROR_UNAVAILABLE);
  g_propagate_error(error, is_verdict ? g_steal_pointer(&other) : g_steal_pointer(&problem));
  return NULL;
}

static json_t *
nc_desk_do(const NcDeskRow *row, const char *actor, json_t *args, GError **error)
{
  NcFleetDesk *desk = row->desk;
  const char *self = nc_nodes_self(desk->side->nodes);
  const NcFleetErrand errand = { .op = row->op, .actor = actor, .args = args };
  g_autofree char *owner = nc_fleet_owner_of(actor, self);
  const NcFleetAsker who = { .actor = actor, .owner = owner };

  if (!desk->host)
    return nc_fleet_courier_to_any(desk->courier, &errand, error);
  g_autofree char *leader = nc_fleet_host_leader(desk->host);
  if (!leader || g_str_equal(leader, self) || row->op->by == NC_FLEET_BY_ANY) /* without a leader it says so itself */
    return nc_desk_do_here(desk, &errand, &who, error);
  return row->op->by == NC_FLEET_BY_LEADER ? nc_fleet_courier_to(desk->courier, leader, &errand, error)
                                           : nc_desk_look_twice(desk, leader, &errand, &who, error);
}

/* NcControlFunc of all fleet.* operations. */
static json_t *
nc_desk_ask(gpointer object, const char *actor, json_t *args, GError **error)
{
  const NcDeskRow *row = object;
  gint is_watch = row->op->is_watch;
  bool may_watch = g_atomic_int_add(&row->desk->watching, is_watch) < (is_watch ? NC_DESK_MOST_WATCHING : G_MAXINT);
  /* Who may not is not counted for a moment either: that would take a place from people. */
  bool is_room = may_watch && g_atomic_int_add(&row->desk->under_way, 1) < NC_DESK_MOST;
  json_t *answer = is_room ? nc_desk_do(row, actor, args, error) : NULL;

  g_atomic_int_add(&row->desk->under_way, may_watch ? -1 : 0);
  g_atomic_int_add(&row->desk->watching, -is_watch);
  if (!is_room)
    nc_fail(error, NC_ERROR_RESOURCE, "%d requests about the fleet are under way on node %s: ask again later",
            may_watch ? NC_DESK_MOST : NC_DESK_MOST_WATCHING, nc_nodes_self(row->desk->side->nodes));
  return answer;
}

void
nc_fleet_desk_fill_ops(NcFleetDesk *desk, NcControlOp ret_ops[NC_FLEET_OPS])
{
  for (size_t i = 0; i < NC_FLEET_OPS; i++)
    ret_ops[i] = (NcControlOp){
      .op = nc_fleet_ops[i].op, .func = nc_desk_ask, .object = &desk->rows[i], .role = nc_fleet_ops[i].role
    };
}

json_t *
nc_fleet_desk_answer(NcFleetDesk *desk, NcPeer *peer, json_t *message, GError **error)
{
  if (g_str_equal(nc_json_string_or(message, "type", ""), "fl_ask"))
    return nc_fleet_handed_answer(desk->handed, nc_peer_node(peer), message, error);
  return nc_fleet_side_answer(desk->side, peer, message, error);
}

NcFleetDesk *
nc_fleet_desk_new(const NcFleetSide *side, NcFleetHost *host)
{
  NcFleetDesk *desk = g_new0(NcFleetDesk, 1);

  desk->side = side;
  desk->host = host;
  desk->courier = nc_fleet_courier_new(side);
  desk->handed = nc_fleet_handed_new(side, host);
  for (size_t i = 0; i < NC_FLEET_OPS; i++)
    desk->rows[i] = (NcDeskRow){ .desk = desk, .op = &nc_fleet_ops[i] };
  return desk;
}

void
nc_fleet_desk_stop(NcFleetDesk *desk)
{
  nc_fleet_courier_stop(desk->courier);
}

void
nc_fleet_desk_free(NcFleetDesk *desk)
{
  if (!desk)
    return;
  nc_fleet_handed_free(desk->handed);
  nc_fleet_courier_free(desk->courier);
  g_free(desk);
}
