/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations as they are read: one, a page, a count. Each filter of a page has an index that ends with the page's order (schema.c). */
#include "fleetdb/migration_table.h"
#include "fleetdb/migrations.h"

static const NcRowsColumn nc_migration_columns[] = {
  { "seq", NC_COLUMN_INT },           { "id", NC_COLUMN_TEXT },          { "machine", NC_COLUMN_TEXT },     { "source", NC_COLUMN_TEXT },
  { "destination", NC_COLUMN_TEXT },  { "state", NC_COLUMN_TEXT },       { "is_finished", NC_COLUMN_BOOL }, { "priority", NC_COLUMN_TEXT },
  { "attempts", NC_COLUMN_INT },      { "epoch", NC_COLUMN_INT },        { "batch", NC_COLUMN_TEXT },       { "evacuation", NC_COLUMN_TEXT },
  { "actor", NC_COLUMN_TEXT },        { "submitted_us", NC_COLUMN_INT }, { "started_us", NC_COLUMN_INT },   { "finished_us", NC_COLUMN_INT },
  { "not_before_us", NC_COLUMN_INT }, { "reason", NC_COLUMN_TEXT },      { "cancel_reason", NC_COLUMN_TEXT }, { "request", NC_COLUMN_JSON },
  { "result", NC_COLUMN_JSON },
};
const NcRows nc_migration_table = NC_ROWS("migration", "migration", nc_migration_columns);

json_t *
nc_fleetdb_get_migration(NcFleetDb *db, const char *id, GError **error)
{
  return nc_rows_get(db, &nc_migration_table, "id", id, error);
}

static void
nc_where_filter(NcWhere *where, const NcMoveFilter *filter)
{
  if (filter->selection != NC_MOVES_ALL)
    nc_where_add(where, "is_finished", "=", NC_SQL_INT(filter->selection == NC_MOVES_FINISHED));
  nc_where_text(where, "state", filter->state);
  nc_where_text(where, "machine", filter->machine);
  nc_where_text(where, "source", filter->source);
  nc_where_text(where, "destination", filter->destination);
  nc_where_text(where, "batch", filter->batch);
  nc_where_text(where, "evacuation", filter->evacuation);
}

/*
 * Of a node as source or destination: a page of each by its own index, and of both together one page. "source=$1 OR destination=$1" would have
 * all of them sorted for each page.
 */
static json_t *
nc_list_of_node(NcFleetDb *db, const char *node, NcWhere *where, const NcOrder *order, const NcPage *page, char **ret_next, GError **error)
{
  const unsigned limit = nc_page_limit(page);
  const char *direction = order->is_descending ? "DESC" : "ASC";
  g_autofree char *columns = nc_rows_columns(&nc_migration_table), *behind = NULL;

  if (!nc_page_begin(&nc_migration_table, where, order, page, &behind, error))
    return NULL;
  int number = nc_where_value(where, NC_SQL_TEXT(node)), last = nc_where_value(where, NC_SQL_INT(limit + 1));
  g_autofree char *statement =
    g_strdup_printf("SELECT %s FROM migration WHERE seq IN (SELECT seq FROM (SELECT seq FROM migration WHERE source=$%d%s ORDER BY seq %s"
                    " LIMIT $%d) AS a UNION SELECT seq FROM (SELECT seq FROM migration WHERE destination=$%d%s ORDER BY seq %s LIMIT $%d)"
                    " AS b) ORDER BY seq %s LIMIT $%d",
                    columns, number, where->text->str, direction, last, number, where->text->str, direction, last, direction, last);
  json_t *rows = nc_rows_query(db, &nc_migration_table, statement, where->values, where->count, error);
  if (!rows)
    return NULL;
  g_autofree char *next = nc_page_end(&nc_migration_table, rows, order, limit);
  if (ret_next)
    *ret_next = g_steal_pointer(&next);
  return rows;
}

json_t *
nc_fleetdb_list_migrations(NcFleetDb *db, const NcMoveFilter *filter, const NcPage *page, char **ret_next, GError **error)
{
  const NcOrder order = { .key = "seq", .is_descending = !filter->is_oldest_first };
  g_auto(NcWhere) where = { 0 };

  nc_where_init(&where);
  nc_where_filter(&where, filter);
  return filter->node ? nc_list_of_node(db, filter->node, &where, &order, page, ret_next, error)
                      : nc_rows_page(db, &nc_migration_table, &where, &order, page, ret_next, error);
}

static bool
nc_take_count(const NcSqlRow *row, gpointer data, GError **error)
{
  return json_object_set_new(data, nc_sql_text(row, 0), json_integer(nc_sql_number(row, 1))) == 0 ||
         nc_fail(error, NC_ERROR_CORRUPT, "the fleet's database has a migration in a state that is not readable");
}

json_t *
nc_fleetdb_count_migrations(NcFleetDb *db, const char *batch, const char *evacuation, GError **error)
{
  g_auto(NcWhere) where = { 0 };
  nc_autojson json_t *counts = json_object();

  nc_where_init(&where);
  nc_where_text(&where, "batch", batch);
  nc_where_text(&where, "evacuation", evacuation);
  g_autofree char *statement = g_strdup_printf("SELECT state, COUNT(*) FROM migration WHERE 1=1%s GROUP BY state", where.text->str);
  for (int i = 0; i < NC_MOVE_COUNT; i++)
    json_object_set_new(counts, nc_move_state_name((NcMoveState)i), json_integer(0));
  return nc_fleetdb_query(db, statement, where.values, where.count, nc_take_count, counts, error) ? g_steal_pointer(&counts) : NULL;
}
