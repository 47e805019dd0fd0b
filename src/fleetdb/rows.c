/* SPDX-License-Identifier: Apache-2.0 */
#include "fleetdb/rows.h"

#include <string.h>

/* --- rows --- */

/* What we wrote ourselves, perhaps long ago: read with bounds all the same. */
static json_t *
nc_column_json(const char *text)
{
  return strlen(text) <= NC_MSG_MAX_BYTES ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
}

static json_t *
nc_column_value(const NcRowsColumn *column, const NcSqlRow *row, int index)
{
  switch (column->type) {
  case NC_COLUMN_TEXT:
    return json_string(nc_sql_text(row, index));
  case NC_COLUMN_INT:
    return json_integer(nc_sql_number(row, index));
  case NC_COLUMN_BOOL:
    return json_boolean(nc_sql_number(row, index) != 0);
  case NC_COLUMN_JSON:
    return nc_column_json(nc_sql_text(row, index));
  }
  return NULL;
}

json_t *
nc_rows_object(const NcRows *table, const NcSqlRow *row, GError **error)
{
  nc_autojson json_t *object = json_object();

  for (int i = 0; i < table->count; i++) {
    if (json_object_set_new(object, table->columns[i].name, nc_column_value(&table->columns[i], row, i)) == 0)
      continue;
    nc_fail(error, NC_ERROR_CORRUPT, "%s in a row of %s of the fleet's database is not readable", table->columns[i].name, table->table);
    return NULL;
  }
  return g_steal_pointer(&object);
}

char *
nc_rows_columns(const NcRows *table)
{
  GString *text = g_string_new(NULL);
  for (int i = 0; i < table->count; i++) {
    const NcRowsColumn *column = &table->columns[i];
    g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", column->expression ? column->expression : column->name);
  }
  return g_string_free(text, FALSE);
}

typedef struct {
  const NcRows *table;
  json_t *rows;
} NcRowsList;

static bool
nc_append_row(const NcSqlRow *row, gpointer data, GError **error)
{
  NcRowsList *list = data;
  json_t *object = nc_rows_object(list->table, row, error);
  return object && json_array_append_new(list->rows, object) == 0;
}

json_t *
nc_rows_query(NcFleetDb *db, const NcRows *table, const char *statement, const NcSqlValue *values, int count, GError **error)
{
  nc_autojson json_t *rows = json_array();
  NcRowsList list = { table, rows };
  return nc_fleetdb_query(db, statement, values, count, nc_append_row, &list, error) ? g_steal_pointer(&rows) : NULL;
}

json_t *
nc_rows_get(NcFleetDb *db, const NcRows *table, const char *key, const char *value, GError **error)
{
  g_autofree char *columns = nc_rows_columns(table);
  g_autofree char *statement = g_strdup_printf("SELECT %s FROM %s WHERE %s=$1", columns, table->table, key);
  const NcSqlValue values[] = { NC_SQL_TEXT(value) };
  nc_autojson json_t *rows = nc_rows_query(db, table, statement, values, 1, error);

  if (!rows)
    return NULL;
  if (json_array_size(rows) == 0) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "the controller knows no %s %s", table->kind, value);
    return NULL;
  }
  return json_incref(json_array_get(rows, 0));
}

/* --- conditions --- */

void
nc_where_init(NcWhere *where)
{
  where->text = g_string_new(NULL);
  where->count = 0;
}

void
nc_where_clear(NcWhere *where)
{
  g_string_free(where->text, TRUE);
}

int
nc_where_value(NcWhere *where, NcSqlValue value)
{
  g_assert(where->count < NC_WHERE_MOST); /* filters are ours, and few */
  where->values[where->count++] = value;
  return where->count;
}

void
nc_where_add(NcWhere *where, const char *column, const char *operator, NcSqlValue value)
{
  int number = nc_where_value(where, value);
  g_string_append_printf(where->text, " AND %s%s$%d", column, operator, number);
}

void
nc_where_text(NcWhere *where, const char *column, const char *text)
{
  if (text)
    nc_where_add(where, column, "=", NC_SQL_TEXT(text));
}

/* --- pages --- */

unsigned
nc_page_limit(const NcPage *page)
{
  return page->limit ? MIN(page->limit, NC_PAGE_MOST) : NC_PAGE_USUAL;
}

/* What follows "KIND:" in a cursor; NULL: it is no cursor of this list. */
static const char *
nc_cursor_key(const NcRows *table, const char *cursor)
{
  size_t length = strlen(table->kind);
  bool fits = strlen(cursor) <= NC_CURSOR_MOST_BYTES && strncmp(cursor, table->kind, length) == 0 && cursor[length] == ':';
  return fits && cursor[length + 1] && g_utf8_validate(cursor, -1, NULL) ? cursor + length + 1 : NULL;
}

bool
nc_page_begin(const NcRows *table, NcWhere *where, const NcOrder *order, const NcPage *page, char **ret_text, GError **error)
{
  const char *operator = order->is_descending ? "<" : ">";
  guint64 number = 0;

  if (!page->cursor || !page->cursor[0])
    return true;
  const char *key = nc_cursor_key(table, page->cursor);
  if (!key || (!order->is_text && !g_ascii_string_to_unsigned(key, 10, 0, G_MAXINT64, &number, NULL)))
    return nc_fail(error, NC_ERROR_INVALID, "this is no cursor of this list: take the one that came with its page before, or none");
  *ret_text = g_strdup(key);
  nc_where_add(where, order->key, operator, order->is_text ? NC_SQL_TEXT(*ret_text) : NC_SQL_INT(number));
  return true;
}

char *
nc_page_end(const NcRows *table, json_t *rows, const NcOrder *order, unsigned limit)
{
  if (json_array_size(rows) <= limit)
    return NULL;
  json_array_remove(rows, limit);
  json_t *key = json_object_get(json_array_get(rows, limit - 1), order->key);
  return order->is_text ? g_strdup_printf("%s:%s", table->kind, json_string_value(key))
                        : g_strdup_printf("%s:%" JSON_INTEGER_FORMAT, table->kind, json_integer_value(key));
}

json_t *
nc_rows_page(NcFleetDb *db, const NcRows *table, NcWhere *where, const NcOrder *order, const NcPage *page, char **ret_next, GError **error)
{
  const unsigned limit = nc_page_limit(page);
  g_autofree char *columns = nc_rows_columns(table);
  g_autofree char *behind = NULL;

  if (!nc_page_begin(table, where, order, page, &behind, error))
    return NULL;
  int last = nc_where_value(where, NC_SQL_INT(limit + 1));
  g_autofree char *statement = g_strdup_printf("SELECT %s FROM %s WHERE 1=1%s ORDER BY %s %s LIMIT $%d", columns, table->table,
                                               where->text->str, order->key, order->is_descending ? "DESC" : "ASC", last);
  json_t *rows = nc_rows_query(db, table, statement, where->values, where->count, error);
  if (!rows)
    return NULL;
  g_autofree char *next = nc_page_end(table, rows, order, limit);
  if (ret_next)
    *ret_next = g_steal_pointer(&next);
  return rows;
}
