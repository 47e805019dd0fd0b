/* SPDX-License-Identifier: Apache-2.0 */
#include "fleetdb/inventory.h"
#include "base/ident.h"
#include "fleetdb/events.h"
#include "fleetdb/rows.h"

static bool
nc_tell(NcFleetDb *db, const char *kind, const char *subject, GError **error)
{
  const NcFleetEvent event = { .kind = kind, .subject = subject };
  return nc_fleetdb_add_event(db, &event, NULL, error);
}

static bool
nc_room_is_sane(const NcRoom *room)
{
  return room->memory_bytes <= G_MAXINT64 && room->disk_bytes <= G_MAXINT64 && room->cpus <= G_MAXINT64;
}

/* --- nodes --- */

static const NcRowsColumn nc_node_columns[] = {
  { "name", NC_COLUMN_TEXT },      { "address", NC_COLUMN_TEXT },  { "memory_bytes", NC_COLUMN_INT }, { "disk_bytes", NC_COLUMN_INT },
  { "cpus", NC_COLUMN_INT },       { "rate_bps", NC_COLUMN_INT },  { "in_limit", NC_COLUMN_INT },     { "out_limit", NC_COLUMN_INT },
  { "labels", NC_COLUMN_JSON },    { "is_cordoned", NC_COLUMN_BOOL }, { "evacuation", NC_COLUMN_TEXT }, { "joined_us", NC_COLUMN_INT },
  { "seen_us", NC_COLUMN_INT },    { "detail", NC_COLUMN_JSON },   { "file_systems", NC_COLUMN_JSON },
};
static const NcRows nc_node_table = NC_ROWS("node", "node", nc_node_columns);

bool
nc_fleetdb_put_node(NcFleetDb *db, const NcNodeRecord *node, GError **error)
{
  g_autofree char *labels = nc_fleetdb_dump(node->labels, "[]", error);
  g_autofree char *detail = labels ? nc_fleetdb_dump(node->detail, "{}", error) : NULL;
  const NcSqlValue values[] = { NC_SQL_TEXT(node->name),
                                NC_SQL_TEXT(node->address),
                                NC_SQL_INT(node->capacity.memory_bytes),
                                NC_SQL_INT(node->capacity.disk_bytes),
                                NC_SQL_INT(node->capacity.cpus),
                                NC_SQL_INT(node->rate_bps),
                                NC_SQL_INT(node->in_limit),
                                NC_SQL_INT(node->out_limit),
                                NC_SQL_TEXT(labels),
                                NC_SQL_INT(nc_wall_us()),
                                NC_SQL_TEXT(detail) };

  if (!detail)
    return false;
  if (!nc_name_is_valid(node->name) || !nc_room_is_sane(&node->capacity) || node->rate_bps > G_MAXINT64)
    return nc_fail(error, NC_ERROR_INVALID, "a node needs a name (" NC_NAME_RULE ") and a capacity that can be counted");
  return nc_fleetdb_change(db,
                           "INSERT INTO node(name, address, memory_bytes, disk_bytes, cpus, rate_bps, in_limit, out_limit, labels,"
                           " is_cordoned, evacuation, joined_us, seen_us, detail) VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, '', $10, $10,"
                           " $11) ON CONFLICT(name) DO UPDATE SET address=excluded.address, memory_bytes=excluded.memory_bytes,"
                           " disk_bytes=excluded.disk_bytes, cpus=excluded.cpus, rate_bps=excluded.rate_bps, in_limit=excluded.in_limit,"
                           " out_limit=excluded.out_limit, labels=excluded.labels, seen_us=excluded.seen_us, detail=excluded.detail",
                           values, 11, error) &&
         nc_tell(db, "node.joined", node->name, error);
}

/* Did the last statement find the node? */
static bool
nc_node_was_there(NcFleetDb *db, const char *name, GError **error)
{
  return db->sql->changes == 1 || nc_fail(error, NC_ERROR_NOT_FOUND, "the controller knows no node %s", name);
}

bool
nc_fleetdb_set_file_systems(NcFleetDb *db, const char *name, json_t *file_systems, GError **error)
{
  g_autofree char *text = nc_fleetdb_dump(file_systems, "[]", error);
  const NcSqlValue values[] = { NC_SQL_TEXT(name), NC_SQL_TEXT(text), NC_SQL_INT(nc_wall_us()) };

  return text && nc_fleetdb_change(db, "UPDATE node SET file_systems=$2, seen_us=$3 WHERE name=$1", values, 3, error) &&
         nc_node_was_there(db, name, error);
}

bool
nc_fleetdb_node_seen(NcFleetDb *db, const char *name, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(name), NC_SQL_INT(nc_wall_us()) };
  return nc_fleetdb_change(db, "UPDATE node SET seen_us=$2 WHERE name=$1", values, 2, error) && nc_node_was_there(db, name, error);
}

bool
nc_fleetdb_set_cordoned(NcFleetDb *db, const char *name, bool is_cordoned, const char *evacuation, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(name), NC_SQL_INT(is_cordoned), NC_SQL_TEXT(evacuation ? evacuation : "") };
  bool ok = evacuation ? nc_fleetdb_change(db, "UPDATE node SET is_cordoned=$2, evacuation=$3 WHERE name=$1", values, 3, error)
                       : nc_fleetdb_change(db, "UPDATE node SET is_cordoned=$2 WHERE name=$1", values, 2, error);
  return ok && nc_node_was_there(db, name, error) && nc_tell(db, is_cordoned ? "node.cordoned" : "node.uncordoned", name, error);
}

bool
nc_fleetdb_remove_node(NcFleetDb *db, const char *name, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(name) };
  g_autofree char *migration = NULL;

  if (!nc_fleetdb_query(db, "SELECT id FROM migration WHERE is_finished=0 AND (source=$1 OR destination=$1) LIMIT 1", values, 1,
                        nc_fleetdb_take_text, &migration, error))
    return false;
  if (migration)
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s from or to node %s is not finished: cancel it, or wait for it", migration, name);
  return nc_fleetdb_change(db, "DELETE FROM machine WHERE node=$1", values, 1, error) &&
         nc_fleetdb_change(db, "DELETE FROM node WHERE name=$1", values, 1, error) && nc_node_was_there(db, name, error) &&
         nc_tell(db, "node.removed", name, error);
}

json_t *
nc_fleetdb_get_node(NcFleetDb *db, const char *name, GError **error)
{
  return nc_rows_get(db, &nc_node_table, "name", name, error);
}

json_t *
nc_fleetdb_list_nodes(NcFleetDb *db, const NcPage *page, char **ret_next, GError **error)
{
  const NcOrder order = { .key = "name", .is_text = true };
  g_auto(NcWhere) where = { 0 };
  nc_where_init(&where);
  return nc_rows_page(db, &nc_node_table, &where, &order, page, ret_next, error);
}

/* --- machines --- */

static const NcRowsColumn nc_machine_columns[] = {
  { "name", NC_COLUMN_TEXT },      { "node", NC_COLUMN_TEXT },       { "epoch", NC_COLUMN_INT },     { "state", NC_COLUMN_TEXT },
  { "memory_bytes", NC_COLUMN_INT }, { "disk_bytes", NC_COLUMN_INT }, { "cpus", NC_COLUMN_INT },     { "priority", NC_COLUMN_TEXT },
  { "requires", NC_COLUMN_JSON },  { "seen_us", NC_COLUMN_INT },     { "detail", NC_COLUMN_JSON },   { "disks", NC_COLUMN_JSON },
};
static const NcRows nc_machine_table = NC_ROWS("machine", "machine", nc_machine_columns);

/* A node that does not hold the right tells of a machine. */
static bool
nc_note_machine(NcFleetDb *db, const NcMachineRecord *machine, const char *detail, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(machine->name),  NC_SQL_TEXT(machine->node),  NC_SQL_INT(machine->epoch),
                                NC_SQL_TEXT(machine->state), NC_SQL_INT(nc_wall_us()), NC_SQL_TEXT(detail) };
  return nc_fleetdb_change(db, "UPDATE machine SET state=$4, seen_us=$5, detail=$6 WHERE name=$1 AND node=$2 AND epoch<=$3", values, 6, error);
}

/* ${disks}: NC_SEE_DISKS, or "" if nothing is said of them: then what is known stays. */
#define NC_SEE_DISKS ", disk_bytes=excluded.disk_bytes, disks=excluded.disks"
#define NC_SEE_MACHINE(disks)                                                                                                              \
  "INSERT INTO machine(name, node, epoch, state, memory_bytes, disk_bytes, cpus, priority, requires, seen_us, detail, disks)"              \
  " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT(name) DO UPDATE SET node=excluded.node,"                        \
  " epoch=excluded.epoch, state=excluded.state, memory_bytes=excluded.memory_bytes, cpus=excluded.cpus,"                                   \
  " priority=excluded.priority, requires=excluded.requires, seen_us=excluded.seen_us, detail=excluded.detail" disks                        \
  " WHERE excluded.epoch>=machine.epoch"

bool
nc_fleetdb_see_machine(NcFleetDb *db, const NcMachineRecord *machine, bool *ret_is_news, GError **error)
{
  g_autofree char *labels = nc_fleetdb_dump(machine->requires, "[]", error);
  g_autofree char *disks = labels ? nc_fleetdb_dump(machine->disks, "[]", error) : NULL;
  g_autofree char *detail = disks ? nc_fleetdb_dump(machine->detail, "{}", error) : NULL;
  const NcSqlValue values[] = { NC_SQL_TEXT(machine->name),
                                NC_SQL_TEXT(machine->node),
                                NC_SQL_INT(machine->epoch),
                                NC_SQL_TEXT(machine->state),
                                NC_SQL_INT(machine->need.memory_bytes),
                                NC_SQL_INT(machine->need.disk_bytes),
                                NC_SQL_INT(machine->need.cpus),
                                NC_SQL_TEXT(nc_priority_name(machine->priority)),
                                NC_SQL_TEXT(labels),
                                NC_SQL_INT(nc_wall_us()),
                                NC_SQL_TEXT(detail),
                                NC_SQL_TEXT(disks) };

  if (!detail)
    return false;
  if (!nc_name_is_valid(machine->name) || !nc_name_is_valid(machine->node) || !nc_room_is_sane(&machine->need) || machine->epoch > G_MAXINT64)
    return nc_fail(error, NC_ERROR_INVALID, "a machine needs a name, a node (" NC_NAME_RULE ") and sizes that can be counted");
  if (ret_is_news)
    *ret_is_news = false;
  if (machine->lacks_right)
    return nc_note_machine(db, machine, detail, error);
  if (!nc_fleetdb_change(db, machine->disks ? NC_SEE_MACHINE(NC_SEE_DISKS) : NC_SEE_MACHINE(""), values, 12, error))
    return false;
  if (ret_is_news)
    *ret_is_news = db->sql->changes == 1;
  return true;
}

bool
nc_fleetdb_forget_machine(NcFleetDb *db, const char *name, const char *node, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(name), NC_SQL_TEXT(node) };
  return nc_fleetdb_change(db, "DELETE FROM machine WHERE name=$1 AND node=$2", values, 2, error);
}

json_t *
nc_fleetdb_get_machine(NcFleetDb *db, const char *name, GError **error)
{
  return nc_rows_get(db, &nc_machine_table, "name", name, error);
}

json_t *
nc_fleetdb_list_machines(NcFleetDb *db, const char *node, const NcPage *page, char **ret_next, GError **error)
{
  const NcOrder order = { .key = "name", .is_text = true };
  g_auto(NcWhere) where = { 0 };
  nc_where_init(&where);
  nc_where_text(&where, "node", node);
  return nc_rows_page(db, &nc_machine_table, &where, &order, page, ret_next, error);
}
