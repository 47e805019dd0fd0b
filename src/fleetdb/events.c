/* SPDX-License-Identifier: Apache-2.0 */
#include "fleetdb/events.h"
#include "base/ident.h"
#include "fleetdb/rows.h"

static const NcRowsColumn nc_event_columns[] = {
  { "id", NC_COLUMN_INT },       { "at_us", NC_COLUMN_INT },       { "kind", NC_COLUMN_TEXT },
  { "subject", NC_COLUMN_TEXT }, { "migration", NC_COLUMN_TEXT }, { "detail", NC_COLUMN_JSON },
};
static const NcRows nc_event_table = NC_ROWS("event", "event", nc_event_columns);

bool
nc_fleetdb_add_event(NcFleetDb *db, const NcFleetEvent *event, uint64_t *ret_id, GError **error)
{
  g_autofree char *detail = nc_fleetdb_dump(event->detail, "{}", error);
  const NcSqlValue values[] = { NC_SQL_INT(nc_wall_us()), NC_SQL_TEXT(event->kind), NC_SQL_TEXT(event->subject),
                                NC_SQL_TEXT(event->migration ? event->migration : ""), NC_SQL_TEXT(detail) };
  int64_t id = 0;

  if (!detail)
    return false;
  if (!nc_fleetdb_change_returning(db, "INSERT INTO event(at_us, kind, subject, migration, detail) VALUES($1, $2, $3, $4, $5) RETURNING id",
                                   values, 5, nc_fleetdb_take_number, &id, error))
    return false;
  if (ret_id)
    *ret_id = (uint64_t)id;
  return true;
}

json_t *
nc_fleetdb_list_events(NcFleetDb *db, uint64_t after, const char *migration, unsigned limit, GError **error)
{
  const NcOrder order = { .key = "id" };
  const NcPage page = { .limit = limit };
  g_auto(NcWhere) where = { 0 };

  nc_where_init(&where);
  nc_where_add(&where, "id", ">", NC_SQL_INT(MIN(after, (uint64_t)G_MAXINT64)));
  nc_where_text(&where, "migration", migration);
  return nc_rows_page(db, &nc_event_table, &where, &order, &page, NULL, error);
}

/* Its own, which are no migration's, and those of its migrations: each part by an index. One condition with OR would look at all events. */
json_t *
nc_fleetdb_list_group_events(NcFleetDb *db, uint64_t after, const char *group, unsigned limit, GError **error)
{
  const NcPage page = { .limit = limit };
  const NcSqlValue values[] = { NC_SQL_TEXT(group), NC_SQL_INT(MIN(after, (uint64_t)G_MAXINT64)), NC_SQL_INT(nc_page_limit(&page)) };
  g_autofree char *columns = nc_rows_columns(&nc_event_table);
  g_autofree char *statement =
    g_strdup_printf("SELECT %s FROM event WHERE id IN"
                    " (SELECT id FROM (SELECT id FROM event WHERE migration='' AND subject=$1 AND id>$2 ORDER BY id LIMIT $3) AS own UNION"
                    " SELECT id FROM (SELECT e.id FROM event e JOIN migration m ON e.migration=m.id WHERE m.%s=$1 AND e.id>$2"
                    " ORDER BY e.id LIMIT $3) AS parts) ORDER BY id LIMIT $3",
                    columns, g_str_has_prefix(group, "bat-") ? "batch" : "evacuation");

  return nc_rows_query(db, &nc_event_table, statement, values, 3, error);
}

typedef struct {
  int64_t oldest, newest;
} NcEventRange;

static bool
nc_take_range(const NcSqlRow *row, gpointer data, GError **error)
{
  NcEventRange *range = data;
  range->oldest = nc_sql_number(row, 0);
  range->newest = nc_sql_number(row, 1);
  return true;
}

bool
nc_fleetdb_event_range(NcFleetDb *db, uint64_t *ret_oldest, uint64_t *ret_newest, GError **error)
{
  NcEventRange range = { 0, 0 };
  /* Two queries: SQLite finds either end in its index at once, but not both together. */
  if (!nc_fleetdb_query(db, "SELECT (SELECT COALESCE(MIN(id), 0) FROM event), (SELECT COALESCE(MAX(id), 0) FROM event)", NULL, 0,
                        nc_take_range, &range, error))
    return false;
  *ret_oldest = (uint64_t)range.oldest;
  *ret_newest = (uint64_t)range.newest;
  return true;
}

/* --- pruning --- */

/* The newest one stays, however old: whoever has read up to an earlier one sees by it that others came and went. */
#define NC_NOT_THE_NEWEST "id<(SELECT MAX(id) FROM event)"

/* In this order; $1: before when, $2: how many. A group goes when nothing of it is left. */
static const struct {
  size_t before; /* in NcPrune */
  const char *statement;
} nc_prunes[] = {
  { G_STRUCT_OFFSET(NcPrune, events_before_us),
    "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at_us<$1 AND " NC_NOT_THE_NEWEST " ORDER BY at_us LIMIT $2)" },
  { G_STRUCT_OFFSET(NcPrune, keys_before_us),
    "DELETE FROM idempotency WHERE (actor, key) IN (SELECT actor, key FROM idempotency WHERE created_us<$1 ORDER BY created_us LIMIT $2)" },
  { G_STRUCT_OFFSET(NcPrune, history_before_us),
    "DELETE FROM event WHERE id IN (SELECT e.id FROM event e JOIN migration m ON e.migration=m.id WHERE m.is_finished=1 AND m.finished_us<$1"
    " AND e." NC_NOT_THE_NEWEST " LIMIT $2)" },
  { G_STRUCT_OFFSET(NcPrune, history_before_us),
    "DELETE FROM migration WHERE seq IN (SELECT seq FROM migration m WHERE is_finished=1 AND finished_us<$1 AND NOT EXISTS"
    " (SELECT 1 FROM event WHERE migration=m.id) ORDER BY seq LIMIT $2)" },
  { G_STRUCT_OFFSET(NcPrune, history_before_us),
    "DELETE FROM batch WHERE seq IN (SELECT seq FROM batch b WHERE created_us<$1 AND NOT EXISTS (SELECT 1 FROM migration WHERE batch=b.id)"
    " ORDER BY seq LIMIT $2)" },
  { G_STRUCT_OFFSET(NcPrune, history_before_us),
    "DELETE FROM evacuation_item WHERE (evacuation, machine) IN (SELECT i.evacuation, i.machine FROM evacuation_item i JOIN evacuation e"
    " ON i.evacuation=e.id WHERE e.is_finished=1 AND e.changed_us<$1 LIMIT $2)" },
  { G_STRUCT_OFFSET(NcPrune, history_before_us),
    "DELETE FROM evacuation WHERE seq IN (SELECT seq FROM evacuation e WHERE is_finished=1 AND changed_us<$1 AND NOT EXISTS"
    " (SELECT 1 FROM evacuation_item WHERE evacuation=e.id) ORDER BY seq LIMIT $2)" },
  { G_STRUCT_OFFSET(NcPrune, history_before_us),
    "DELETE FROM token WHERE id IN (SELECT id FROM token WHERE (expires_us>0 AND expires_us<$1) OR (ended_us>0 AND ended_us<$1) LIMIT $2)" },
};

bool
nc_fleetdb_prune(NcFleetDb *db, const NcPrune *prune, uint64_t *ret_removed, GError **error)
{
  uint64_t removed = 0;

  for (size_t i = 0; i < G_N_ELEMENTS(nc_prunes); i++) {
    const int64_t before_us = G_STRUCT_MEMBER(int64_t, prune, nc_prunes[i].before);
    const NcSqlValue values[] = { NC_SQL_INT(before_us), NC_SQL_INT(prune->limit) };
    if (!nc_fleetdb_change(db, nc_prunes[i].statement, values, 2, error))
      return false;
    removed += (uint64_t)db->sql->changes;
  }
  *ret_removed = removed;
  return true;
}
