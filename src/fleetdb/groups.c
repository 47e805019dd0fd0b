/* SPDX-License-Identifier: Apache-2.0 */
#include "fleetdb/groups.h"
#include "base/ident.h"
#include "fleetdb/events.h"
#include "fleetdb/rows.h"

static const NcOrder nc_newest_first = { .key = "seq", .is_descending = true };

/* --- batches --- */

static const NcRowsColumn nc_batch_columns[] = {
  { "seq", NC_COLUMN_INT },    { "id", NC_COLUMN_TEXT },        { "policy", NC_COLUMN_TEXT },
  { "actor", NC_COLUMN_TEXT }, { "created_us", NC_COLUMN_INT }, { "detail", NC_COLUMN_JSON },
};
static const NcRows nc_batch_table = NC_ROWS("batch", "batch", nc_batch_columns);

/* In lists without the detail, which may tell of a thousand machines each. */
static const NcRowsColumn nc_batch_list_columns[] = {
  { "seq", NC_COLUMN_INT },    { "id", NC_COLUMN_TEXT },        { "policy", NC_COLUMN_TEXT },
  { "actor", NC_COLUMN_TEXT }, { "created_us", NC_COLUMN_INT }, { "detail", NC_COLUMN_JSON, "'{}'" },
};
static const NcRows nc_batch_list_table = NC_ROWS("batch", "batch", nc_batch_list_columns);

bool
nc_fleetdb_add_batch(NcFleetDb *db, const char *id, const char *policy, const char *actor, json_t *detail, GError **error)
{
  g_autofree char *text = nc_fleetdb_dump(detail, "{}", error);
  const NcSqlValue values[] = { NC_SQL_TEXT(id), NC_SQL_TEXT(policy), NC_SQL_TEXT(actor), NC_SQL_INT(nc_wall_us()), NC_SQL_TEXT(text) };
  const NcFleetEvent event = { .kind = "batch.submitted", .subject = id };

  return text &&
         nc_fleetdb_change(db, "INSERT INTO batch(id, policy, actor, created_us, detail) VALUES($1, $2, $3, $4, $5)", values, 5, error) &&
         nc_fleetdb_add_event(db, &event, NULL, error);
}

json_t *
nc_fleetdb_get_batch(NcFleetDb *db, const char *id, GError **error)
{
  return nc_rows_get(db, &nc_batch_table, "id", id, error);
}

json_t *
nc_fleetdb_list_batches(NcFleetDb *db, const NcPage *page, char **ret_next, GError **error)
{
  g_auto(NcWhere) where = { 0 };
  nc_where_init(&where);
  return nc_rows_page(db, &nc_batch_list_table, &where, &nc_newest_first, page, ret_next, error);
}

/* --- evacuations --- */

static const NcRowsColumn nc_evacuation_columns[] = {
  { "seq", NC_COLUMN_INT },        { "id", NC_COLUMN_TEXT },        { "nodes", NC_COLUMN_JSON },  { "state", NC_COLUMN_TEXT },
  { "is_finished", NC_COLUMN_BOOL }, { "actor", NC_COLUMN_TEXT },   { "created_us", NC_COLUMN_INT }, { "changed_us", NC_COLUMN_INT },
  { "reason", NC_COLUMN_TEXT },    { "detail", NC_COLUMN_JSON },
};
static const NcRows nc_evacuation_table = NC_ROWS("evacuation", "evacuation", nc_evacuation_columns);

static const NcRowsColumn nc_item_columns[] = {
  { "position", NC_COLUMN_INT }, { "machine", NC_COLUMN_TEXT },   { "source", NC_COLUMN_TEXT }, { "destination", NC_COLUMN_TEXT },
  { "wave", NC_COLUMN_INT },     { "migration", NC_COLUMN_TEXT },
  /* Where it is taken, which need not be where the plan had it go. */
  { "goes_to", NC_COLUMN_TEXT,
    "COALESCE((SELECT NULLIF(m.destination, '') FROM migration m WHERE m.id=evacuation_item.migration), destination)" },
  /* Of its migration, if there is one; an item's own reason says why there is none. */
  { "state", NC_COLUMN_TEXT, "COALESCE((SELECT m.state FROM migration m WHERE m.id=evacuation_item.migration), state)" },
  { "reason", NC_COLUMN_TEXT, "COALESCE((SELECT m.reason FROM migration m WHERE m.id=evacuation_item.migration), reason)" },
};
static const NcRows nc_item_table = NC_ROWS("evacuation_item", "item", nc_item_columns);

/* What an evacuation may become; nothing leaves an end. */
static const struct {
  const char *state;
  bool is_final, from_cancelling;
} nc_evacuation_states[] = {
  { "running", false, false }, { "cancelling", false, true }, { "completed", true, false }, { "failed", true, true }, { "cancelled", true, true },
};

static bool
nc_tell_evacuation(NcFleetDb *db, const char *id, const char *state, const char *reason, GError **error)
{
  nc_autojson json_t *detail = json_pack("{s:s, s:s}", "state", state, "reason", reason ? reason : "");
  const NcFleetEvent event = { .kind = "evacuation.state", .subject = id, .detail = detail };
  return (detail || nc_fail(error, NC_ERROR_INVALID, "the reason for the state of evacuation %s is not UTF-8", id)) &&
         nc_fleetdb_add_event(db, &event, NULL, error);
}

static bool
nc_add_item(NcFleetDb *db, const char *evacuation, size_t position, const NcEvacuationItem *item, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(evacuation),
                                NC_SQL_TEXT(item->machine),
                                NC_SQL_INT(position),
                                NC_SQL_INT(item->wave),
                                NC_SQL_TEXT(item->source),
                                NC_SQL_TEXT(item->destination ? item->destination : ""),
                                NC_SQL_TEXT(item->reason ? item->reason : "") };
  return nc_fleetdb_change(db,
                           "INSERT INTO evacuation_item(evacuation, machine, position, wave, source, destination, migration, reason)"
                           " VALUES($1, $2, $3, $4, $5, $6, '', $7)",
                           values, 7, error);
}

bool
nc_fleetdb_add_evacuation(NcFleetDb *db, const NcEvacuationRecord *evacuation, GError **error)
{
  nc_autojson json_t *nodes = json_array();
  for (const char *const *node = evacuation->nodes; *node; node++)
    json_array_append_new(nodes, json_string(*node));
  g_autofree char *node_text = nc_fleetdb_dump(nodes, "[]", error);
  g_autofree char *detail = node_text ? nc_fleetdb_dump(evacuation->detail, "{}", error) : NULL;
  const NcSqlValue values[] = { NC_SQL_TEXT(evacuation->id), NC_SQL_TEXT(node_text), NC_SQL_TEXT(evacuation->actor),
                                NC_SQL_INT(nc_wall_us()), NC_SQL_TEXT(detail) };

  if (!detail ||
      !nc_fleetdb_change(db,
                         "INSERT INTO evacuation(id, nodes, state, is_finished, actor, created_us, changed_us, reason, detail)"
                         " VALUES($1, $2, 'planned', 0, $3, $4, $4, '', $5)",
                         values, 5, error))
    return false;
  for (size_t i = 0; i < evacuation->count; i++)
    if (!nc_add_item(db, evacuation->id, i, &evacuation->items[i], error))
      return false;
  return nc_tell_evacuation(db, evacuation->id, "planned", NULL, error);
}

/* The state it is in. Caller frees; NULL on error. */
static char *
nc_evacuation_state(NcFleetDb *db, const char *id, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(id) };
  char *state = NULL;

  if (!nc_fleetdb_query(db, "SELECT state FROM evacuation WHERE id=$1", values, 1, nc_fleetdb_take_text, &state, error))
    return NULL;
  if (!state)
    nc_fail(error, NC_ERROR_NOT_FOUND, "the controller knows no evacuation %s", id);
  return state;
}

/* Its row in nc_evacuation_states; -1: none ("planned", which nothing becomes). */
static int
nc_evacuation_state_index(const char *state)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_evacuation_states); i++)
    if (g_str_equal(nc_evacuation_states[i].state, state))
      return (int)i;
  return -1;
}

bool
nc_fleetdb_set_evacuation(NcFleetDb *db, const char *id, const char *state, const char *reason, GError **error)
{
  const int to = nc_evacuation_state_index(state);
  g_autofree char *now = to >= 0 ? nc_evacuation_state(db, id, error) : NULL;

  if (to < 0)
    return nc_fail(error, NC_ERROR_INTERNAL, "an evacuation can't become %s", state);
  if (!now)
    return false;
  const int from = nc_evacuation_state_index(now);
  if (from == to)
    return true;
  if (from >= 0 && (nc_evacuation_states[from].is_final || (g_str_equal(now, "cancelling") && !nc_evacuation_states[to].from_cancelling)))
    return nc_fail(error, NC_ERROR_CONFLICT, "evacuation %s is %s and can't be %s any more", id, now, state);
  const NcSqlValue values[] = { NC_SQL_TEXT(id), NC_SQL_TEXT(state), NC_SQL_INT(nc_evacuation_states[to].is_final),
                                NC_SQL_INT(nc_wall_us()), NC_SQL_TEXT(reason ? reason : "") };
  return nc_fleetdb_change(db, "UPDATE evacuation SET state=$2, is_finished=$3, changed_us=$4, reason=$5 WHERE id=$1", values, 5, error) &&
         nc_tell_evacuation(db, id, state, reason, error);
}

bool
nc_fleetdb_set_item(NcFleetDb *db, const char *evacuation, const char *machine, const char *migration, const char *reason, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(evacuation), NC_SQL_TEXT(machine), NC_SQL_TEXT(migration ? migration : ""),
                                NC_SQL_TEXT(reason ? reason : "") };
  g_autofree char *present = NULL;

  if (!nc_fleetdb_query(db, "SELECT migration FROM evacuation_item WHERE evacuation=$1 AND machine=$2", values, 2, nc_fleetdb_take_text,
                        &present, error))
    return false;
  if (!present)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "machine %s is not part of evacuation %s", machine, evacuation);
  if (present[0])
    return nc_fail(error, NC_ERROR_CONFLICT, "machine %s has migration %s in evacuation %s already", machine, present, evacuation);
  return nc_fleetdb_change(db, "UPDATE evacuation_item SET migration=$3, reason=$4 WHERE evacuation=$1 AND machine=$2", values, 4, error);
}

bool
nc_fleetdb_set_item_gone(NcFleetDb *db, const char *evacuation, const char *machine, const char *reason, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(evacuation), NC_SQL_TEXT(machine) };
  return nc_fleetdb_set_item(db, evacuation, machine, NULL, reason, error) &&
         nc_fleetdb_change(db, "UPDATE evacuation_item SET state='gone' WHERE evacuation=$1 AND machine=$2", values, 2, error);
}

bool
nc_fleetdb_count_pending_items(NcFleetDb *db, const char *evacuation, uint64_t *ret, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(evacuation) };
  int64_t count = 0;

  if (!nc_fleetdb_query(db, "SELECT COUNT(*) FROM evacuation_item WHERE evacuation=$1 AND migration='' AND reason=''", values, 1,
                        nc_fleetdb_take_number, &count, error))
    return false;
  *ret = (uint64_t)count;
  return true;
}

json_t *
nc_fleetdb_get_evacuation(NcFleetDb *db, const char *id, GError **error)
{
  return nc_rows_get(db, &nc_evacuation_table, "id", id, error);
}

json_t *
nc_fleetdb_list_evacuations(NcFleetDb *db, bool unfinished_only, const NcPage *page, char **ret_next, GError **error)
{
  g_auto(NcWhere) where = { 0 };
  nc_where_init(&where);
  if (unfinished_only)
    nc_where_add(&where, "is_finished", "=", NC_SQL_INT(0));
  return nc_rows_page(db, &nc_evacuation_table, &where, &nc_newest_first, page, ret_next, error);
}

json_t *
nc_fleetdb_list_items(NcFleetDb *db, const char *evacuation, const NcPage *page, char **ret_next, GError **error)
{
  const NcOrder order = { .key = "position" };
  g_auto(NcWhere) where = { 0 };
  nc_where_init(&where);
  nc_where_text(&where, "evacuation", evacuation);
  return nc_rows_page(db, &nc_item_table, &where, &order, page, ret_next, error);
}
