/* SPDX-License-Identifier: Apache-2.0 */
/* What was decided in the model, on its way into the database. */
#include "controller/controller_internal.h"
#include "base/log.h"

void
nc_change_free(gpointer data)
{
  NcChange *change = data;

  g_free(change->id);
  g_free(change->reason);
  g_free(change->source);
  g_free(change->destination);
  g_free(change->machine);
  g_free(change->event);
  g_free(change->subject);
  json_decref(change->detail);
  g_free(change);
}

static NcChange *
nc_add_change(NcController *c, NcChangeKind kind, const char *migration)
{
  NcChange *change = g_new0(NcChange, 1);

  change->kind = kind;
  change->id = g_strdup(migration);
  g_ptr_array_add(c->changes, change);
  return change;
}

NcChange *
nc_add_step(NcController *c, const NcLive *live, NcMoveState to, const char *reason)
{
  NcChange *change = nc_add_change(c, NC_CHANGE_STEP, live->id);

  change->attempt = live->attempt;
  change->to = to;
  change->reason = reason ? g_utf8_make_valid(reason, -1) : NULL;
  return change;
}

void
nc_add_event(NcController *c, const char *kind, const char *subject, const char *migration, json_t *detail)
{
  NcChange *change = nc_add_change(c, NC_CHANGE_EVENT, migration);

  change->event = g_strdup(kind);
  change->subject = g_strdup(subject);
  change->detail = detail;
}

/* --- what the queue decides --- */

static void
nc_hear_start(NcController *c, NcLive *live, const NcItem *item)
{
  NcChange *change = nc_add_change(c, NC_CHANGE_START, live->id);

  change->source = g_strdup(nc_fleet_node(c->fleet, item->from)->name);
  change->destination = g_strdup(nc_fleet_node(c->fleet, item->to)->name);
  nc_live_begin(c, live, item->from, item->to);
  if (item->attempts == 1 && c->waits->len < NC_MOST_WAITS) {
    int64_t waited_us = MAX(c->now_us - item->submitted_us, 0);
    g_array_append_val(c->waits, waited_us);
  }
}

/* What the report of an attempt's end says besides. */
static void
nc_add_report(NcController *c, const NcLive *live, NcChange *change)
{
  if (!c->report)
    return;
  change->detail = json_incref(c->report->result);
  if (change->to != NC_MOVE_COMPLETED)
    return;
  change->machine = g_strdup(live->machine);
  change->source = g_strdup(nc_fleet_node(c->fleet, live->from)->name);
  change->destination = g_strdup(nc_fleet_node(c->fleet, live->to)->name);
  change->run_epoch = c->report->run_epoch;
}

static void
nc_hear_end(NcController *c, NcLive *live, const NcItem *item)
{
  static const NcMoveState states[] = { [NC_ITEM_COMPLETED] = NC_MOVE_COMPLETED,
                                        [NC_ITEM_FAILED] = NC_MOVE_FAILED,
                                        [NC_ITEM_REFUSED] = NC_MOVE_REFUSED,
                                        [NC_ITEM_CANCELLED] = NC_MOVE_CANCELLED };
  NcEvacuating *evacuating = g_hash_table_lookup(c->evacuations, live->evacuation);
  NcChange *change = nc_add_step(c, live, states[item->state], item->reason);

  if (live->is_under_way)
    nc_add_report(c, live, change);
  if (evacuating)
    evacuating->live--;
  nc_live_end_attempt(c, live);
  g_hash_table_remove(c->by_item, &live->item);
  g_hash_table_remove(c->live, live->id);
}

void
nc_hear_item(const NcItem *item, void *user_data)
{
  NcController *c = user_data;
  NcLive *live = g_hash_table_lookup(c->by_item, &item->id);

  if (!live) /* it was submitted and withdrawn before it became one of these */
    return;
  if (item->state == NC_ITEM_RUNNING) {
    nc_hear_start(c, live, item);
    return;
  }
  if (item->state != NC_ITEM_BACKOFF) {
    nc_hear_end(c, live, item);
    return;
  }
  NcChange *change = nc_add_step(c, live, NC_MOVE_BACKOFF, item->reason);
  change->not_before_us = item->not_before_us;
  nc_add_report(c, live, change);
  nc_live_end_attempt(c, live);
}

/* --- writing --- */

typedef struct {
  NcController *c;
  NcFleetWriteFunc func;
  gpointer data;
} NcFlush;

/* The machine's row says where it is now; the nodes will say so, too, but a model that is made before that has to know
 * it. */
static bool
nc_write_arrival(NcFleetDb *db, const NcChange *change, GError **error)
{
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *row = nc_fleetdb_get_machine(db, change->machine, &problem);

  if (!row && g_error_matches(problem, NC_ERROR, NC_ERROR_NOT_FOUND))
    return true; /* its node will tell of it */
  if (!row) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  /* Seen elsewhere since it began: if the report does not say which is newer, what was seen is. */
  if (change->run_epoch == 0 && !g_str_equal(nc_json_string_or(row, "node", ""), change->source))
    return true;
  NcMachineRecord record = { .name = change->machine,
                             .node = change->destination,
                             .epoch =
                                 change->run_epoch > 0 ? change->run_epoch : (uint64_t)nc_json_int_or(row, "epoch", 0),
                             .state = nc_json_string_or(row, "state", ""),
                             .need = { .memory_bytes = (uint64_t)nc_json_int_or(row, "memory_bytes", 0),
                                       .disk_bytes = (uint64_t)nc_json_int_or(row, "disk_bytes", 0),
                                       .cpus = (uint64_t)nc_json_int_or(row, "cpus", 0) },
                             .disks = json_object_get(row, "disks"),
                             .requires = json_object_get(row, "requires"),
                             .detail = json_object_get(row, "detail") };
  if (!nc_priority_from_name(nc_json_string_or(row, "priority", NULL), &record.priority))
    record.priority = NC_PRIORITY_NORMAL;
  return nc_fleetdb_see_machine(db, &record, NULL, error);
}

static bool
nc_write_change(NcFleetDb *db, NcChange *change, GError **error)
{
  const NcMoveStep step = { .id = change->id,
                            .attempt = change->attempt,
                            .to = change->to,
                            .reason = change->reason,
                            .not_before_us = change->not_before_us,
                            .result = change->detail };
  const NcFleetEvent event = {
    .kind = change->event, .subject = change->subject, .migration = change->id, .detail = change->detail
  };

  if (change->kind == NC_CHANGE_EVENT)
    return nc_fleetdb_add_event(db, &event, NULL, error);
  if (change->kind == NC_CHANGE_START)
    return nc_fleetdb_start(db, change->id, change->source, change->destination, &change->attempt, error);
  return nc_fleetdb_step(db, &step, error) && (!change->machine || nc_write_arrival(db, change, error));
}

static bool
nc_write_changes(NcFleetDb *db, gpointer data, GError **error)
{
  const NcFlush *flush = data;

  if (flush->func && !flush->func(db, flush->data, error))
    return false;
  for (guint i = 0; i < flush->c->changes->len; i++)
    if (!nc_write_change(db, flush->c->changes->pdata[i], error))
      return false;
  return true;
}

/* They are recorded: now, and not before, may they be sent. */
static void
nc_take_starts(NcController *c)
{
  for (guint i = 0; i < c->changes->len; i++) {
    const NcChange *change = c->changes->pdata[i];
    NcLive *live = change->kind == NC_CHANGE_START ? g_hash_table_lookup(c->live, change->id) : NULL;
    if (!live)
      continue;
    live->attempt = change->attempt;
    live->is_to_be_sent = true;
  }
}

bool
nc_flush(NcController *c, NcFleetWriteFunc func, gpointer data, GError **error)
{
  NcFlush flush = { c, func, data };
  g_autoptr(GError) problem = NULL;

  if (!func && c->changes->len == 0)
    return true;
  if (nc_fleetdb_write(c->db, c->epoch, nc_write_changes, &flush, &problem)) {
    nc_take_starts(c);
    g_ptr_array_set_size(c->changes, 0);
    return true;
  }
  if (g_error_matches(problem, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED)) {
    nc_step_down(c);
    return nc_fail(error, NC_ERROR_UNAVAILABLE, "controller %s does not lead any more; ask again: %s", c->name,
                   problem->message);
  }
  nc_log(NC_LOG_WARNING, "controller", "not written, and so not done: %s", problem->message);
  nc_forget_model(c);
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}
