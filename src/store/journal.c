/* SPDX-License-Identifier: Apache-2.0 */
/* Run rights, machines, migrations, settings and tokens as rows of the SQLite file. */
#include "store/journal.h"
#include "base/fault.h"
#include "base/ident.h"
#include "crypto/digest.h"
#include "store/journal_internal.h"

#include <string.h>

/* Of finished migrations that are too many, whenever one ends; all of them go at opening. */
#define NC_JOURNAL_PRUNE_AT_ONCE 4
/* Longest history one answer shows; a migration makes some dozens of events. */
#define NC_JOURNAL_MAX_EVENTS 5000

static const char *const nc_right_names[] = {
  [NC_RIGHT_NONE] = "none",         [NC_RIGHT_HELD] = "held",       [NC_RIGHT_INCOMING] = "incoming",
  [NC_RIGHT_RELEASED] = "released", [NC_RIGHT_REFUSED] = "refused",
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_right_names) == NC_RIGHT_COUNT);

const char *
nc_right_name(NcRightState state)
{
  return (unsigned)state < NC_RIGHT_COUNT ? nc_right_names[state] : "unknown";
}

/* Not one by which a machine has come that may run here: who starts it has to know whether its source must be asked. Nor one that is being undone. */
#define NC_JOURNAL_TOO_OLD                                                                                             \
  "(SELECT id FROM migration WHERE finished=1 AND seq <="                                                              \
  " (SELECT seq FROM migration WHERE finished=1 ORDER BY seq DESC LIMIT 1 OFFSET ?1)"                                  \
  " AND id NOT IN (SELECT migration FROM run_right WHERE state='incoming' OR (state='held' AND vm IN (SELECT name FROM machine))" \
  " UNION ALL SELECT migration FROM rollback WHERE finished=0)"                                                        \
  " ORDER BY seq LIMIT ?2)"

/* In a transaction: the oldest ${most} of those that are too many, by indexes, so that others wait for some ten rows only. */
static bool
nc_journal_prune_some(NcDb *db, int64_t most, GError **error)
{
  const NcDbValue values[] = { NC_INT(NC_JOURNAL_KEEP_MIGRATIONS), NC_INT(most) };

  return nc_db_run(db, "DELETE FROM event WHERE migration IN " NC_JOURNAL_TOO_OLD, values, 2, NULL, NULL, error) &&
         nc_db_run(db, "DELETE FROM rollback WHERE finished=1 AND migration IN " NC_JOURNAL_TOO_OLD, values, 2, NULL, NULL, error) &&
         nc_db_run(db, "DELETE FROM migration WHERE id IN " NC_JOURNAL_TOO_OLD, values, 2, NULL, NULL, error);
}

static bool
nc_journal_prune(NcDb *db, GError **error)
{
  if (!nc_db_begin(db, false, error))
    return false;
  bool ok = nc_journal_prune_some(db, INT64_MAX, error) &&
            nc_db_run(db, "DELETE FROM event WHERE migration NOT IN (SELECT id FROM migration)", NULL, 0, NULL, NULL, error) &&
            nc_db_run(db, "DELETE FROM rollback WHERE finished=1 AND migration NOT IN (SELECT id FROM migration)", NULL, 0, NULL, NULL,
                      error);
  return nc_db_end(db, ok, error);
}

NcJournal *
nc_journal_open(const char *path, GError **error)
{
  g_autoptr(NcDb) db = nc_db_open(path, &nc_journal_kind, error);
  if (!db || !nc_journal_prune(db, error) || !nc_audit_begin_log(db, error))
    return NULL;
  NcJournal *journal = g_new0(NcJournal, 1);
  g_mutex_init(&journal->lock);
  journal->db = g_steal_pointer(&db);
  journal->path = g_strdup(path);
  return journal;
}

void
nc_journal_close(NcJournal *journal)
{
  if (!journal)
    return;
  nc_db_close(journal->db);
  g_mutex_clear(&journal->lock);
  g_free(journal->path);
  g_free(journal);
}

void
nc_journal_refuse_next(NcJournal *journal)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  nc_db_refuse_next(journal->db);
}

/* One writing statement as one transaction. */
static bool
nc_journal_write(NcJournal *journal, bool durable, const char *sql, const NcDbValue *values, int count, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  return nc_db_begin(journal->db, durable, error) &&
         nc_db_end(journal->db, nc_db_run(journal->db, sql, values, count, NULL, NULL, error), error);
}

bool
nc_journal_read(NcJournal *journal, const char *sql, const NcDbValue *values, int count, NcDbRowFunc func, gpointer data,
                GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  return nc_db_run(journal->db, sql, values, count, func, data, error);
}

static json_t *
nc_journal_parse(sqlite3_stmt *row, int column, GError **error)
{
  json_t *record = json_loads(nc_db_column(row, column), 0, NULL);
  if (!record)
    nc_fail(error, NC_ERROR_CORRUPT, "a record in this node's journal is not readable");
  return record;
}

static bool
nc_journal_take_record(sqlite3_stmt *row, gpointer data, GError **error)
{
  json_t **record = data;
  *record = nc_journal_parse(row, 0, error);
  return *record != NULL;
}

bool
nc_journal_append_record(sqlite3_stmt *row, gpointer data, GError **error)
{
  json_t *record = nc_journal_parse(row, 0, error);
  return record && (json_array_append_new(data, record) == 0 || nc_fail(error, NC_ERROR_INTERNAL, "out of memory"));
}

json_t *
nc_journal_read_list(NcJournal *journal, const char *sql, const NcDbValue *values, int count, NcDbRowFunc func, GError **error)
{
  nc_autojson json_t *list = json_array();
  return nc_journal_read(journal, sql, values, count, func, list, error) ? g_steal_pointer(&list) : NULL;
}

char *
nc_journal_dump(json_t *record, GError **error)
{
  char *text = json_dumps(record, JSON_COMPACT | JSON_ENCODE_ANY);
  if (!text)
    nc_fail(error, NC_ERROR_INTERNAL, "a record for the journal can't be encoded");
  return text;
}

/* --- run rights --- */

static bool
nc_journal_take_right(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcRight *right = data;
  const char *state = nc_db_column(row, 1);

  right->epoch = (uint64_t)sqlite3_column_int64(row, 0);
  for (int i = 0; i < NC_RIGHT_COUNT; i++)
    if (g_str_equal(nc_right_names[i], state))
      right->state = (NcRightState)i;
  if (right->state == NC_RIGHT_NONE)
    return nc_fail(error, NC_ERROR_CORRUPT, "the run right of %s in this node's journal has the unknown state \"%s\"", right->vm, state);
  g_strlcpy(right->peer, nc_db_column(row, 2), sizeof right->peer);
  g_strlcpy(right->migration, nc_db_column(row, 3), sizeof right->migration);
  return true;
}

static bool
nc_journal_get_right_locked(NcJournal *journal, const char *vm, NcRight *right, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(vm) };
  *right = (NcRight){ .state = NC_RIGHT_NONE };
  g_strlcpy(right->vm, vm, sizeof right->vm);
  return nc_db_run(journal->db, "SELECT epoch, state, peer, migration FROM run_right WHERE vm=?1", values, 1, nc_journal_take_right,
                   right, error);
}

bool
nc_journal_get_right(NcJournal *journal, const char *vm, NcRight *ret, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  NcRight right;

  if (!nc_journal_get_right_locked(journal, vm, &right, error))
    return false;
  *ret = right;
  return true;
}

static bool
nc_journal_event_locked(NcJournal *journal, const char *migration, const char *event, const char *detail, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(migration), NC_INT(nc_wall_us()), NC_TEXT(event), NC_TEXT(detail ? detail : "") };
  return nc_db_run(journal->db, "INSERT INTO event(migration, at_us, event, detail) VALUES(?1, ?2, ?3, ?4)", values, 4, NULL, NULL,
                   error);
}

/* Inside the transaction: nobody can change the record between the comparison and the write. */
static bool
nc_journal_swap_right_locked(NcJournal *journal, const NcRight *right, NcRightState expected_state, uint64_t expected_epoch,
                             GError **error)
{
  NcRight present;
  const NcDbValue values[] = { NC_TEXT(right->vm), NC_INT(right->epoch), NC_TEXT(nc_right_name(right->state)), NC_TEXT(right->peer),
                               NC_TEXT(right->migration) };
  g_autofree char *event = g_strdup_printf("right-%s", nc_right_name(right->state));
  g_autofree char *detail = g_strdup_printf("epoch %" G_GUINT64_FORMAT "%s%s", right->epoch, right->peer[0] ? ", other node " : "",
                                            right->peer);

  if (!nc_journal_get_right_locked(journal, right->vm, &present, error))
    return false;
  if (present.state != expected_state || present.epoch != expected_epoch)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "the run right of %s on this node is %s, epoch %" G_GUINT64_FORMAT "; expected was %s, epoch %" G_GUINT64_FORMAT,
                   right->vm, nc_right_name(present.state), present.epoch, nc_right_name(expected_state), expected_epoch);
  if (right->epoch < present.epoch)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "the run right of %s on this node has epoch %" G_GUINT64_FORMAT " and can't go down to %" G_GUINT64_FORMAT,
                   right->vm, present.epoch, right->epoch);
  nc_autojson json_t *change =
      json_pack("{s:s, s:I, s:s, s:I, s:s}", "state", nc_right_name(right->state), "epoch", (json_int_t)right->epoch, "was",
                nc_right_name(present.state), "was_epoch", (json_int_t)present.epoch, "other_node", right->peer);
  const NcAuditEntry entry = { .kind = "right", .subject = right->migration, .vm = right->vm, .detail = change };
  return nc_db_run(journal->db,
                   "INSERT INTO run_right(vm, epoch, state, peer, migration) VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(vm) DO UPDATE SET"
                   " epoch=excluded.epoch, state=excluded.state, peer=excluded.peer, migration=excluded.migration",
                   values, 5, NULL, NULL, error) &&
         (!right->migration[0] || nc_journal_event_locked(journal, right->migration, event, detail, error)) &&
         nc_audit_append_locked(journal, &entry, error);
}

bool
nc_journal_set_right(NcJournal *journal, const NcRight *right, NcRightState expected_state, uint64_t expected_epoch, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);

  if (right->state <= NC_RIGHT_NONE || right->state >= NC_RIGHT_COUNT || right->epoch > INT64_MAX || !right->vm[0])
    return nc_fail(error, NC_ERROR_INTERNAL, "a run right without machine, state or with an impossible epoch");
  nc_fault_point("journal-write"); /* a slow disk */
  if (!nc_db_begin(journal->db, true, error))
    return false;
  return nc_db_end(journal->db, nc_journal_swap_right_locked(journal, right, expected_state, expected_epoch, error), error);
}

static bool
nc_journal_append_name(sqlite3_stmt *row, gpointer data, GError **error)
{
  return json_array_append_new(data, json_string(nc_db_column(row, 0))) == 0 ||
         nc_fail(error, NC_ERROR_CORRUPT, "a name in this node's journal is not readable");
}

json_t *
nc_journal_list_rights(NcJournal *journal, NcRightState state, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(nc_right_name(state)) };
  return nc_journal_read_list(journal, "SELECT vm FROM run_right WHERE state=?1 ORDER BY vm", values, 1, nc_journal_append_name, error);
}

/* --- machines --- */

bool
nc_journal_put_machine(NcJournal *journal, const char *name, json_t *record, GError **error)
{
  g_autofree char *text = nc_journal_dump(record, error);
  const NcDbValue values[] = { NC_TEXT(name), NC_TEXT(text) };
  return text && nc_journal_write(journal, true,
                                  "INSERT INTO machine(name, record) VALUES(?1, ?2)"
                                  " ON CONFLICT(name) DO UPDATE SET record=excluded.record",
                                  values, 2, error);
}

json_t *
nc_journal_get_machine(NcJournal *journal, const char *name, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(name) };
  json_t *record = NULL;

  if (!nc_journal_read(journal, "SELECT record FROM machine WHERE name=?1", values, 1, nc_journal_take_record, &record, error))
    return NULL;
  if (!record)
    nc_fail(error, NC_ERROR_NOT_FOUND, "there is no machine %s on this node", name);
  return record;
}

json_t *
nc_journal_list_machines(NcJournal *journal, GError **error)
{
  return nc_journal_read_list(journal, "SELECT record FROM machine ORDER BY name", NULL, 0, nc_journal_append_record, error);
}

bool
nc_journal_delete_machine(NcJournal *journal, const char *name, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(name) };
  return nc_journal_write(journal, true, "DELETE FROM machine WHERE name=?1", values, 1, error);
}

/* --- migrations --- */

bool
nc_journal_step_migration(NcJournal *journal, const NcMigrationRow *row, const NcAuditEntry *audit, const char *event,
                          const char *event_detail, bool durable, GError **error)
{
  g_autofree char *text = nc_journal_dump(row->record, error);
  const NcDbValue values[] = { NC_TEXT(row->id), NC_TEXT(row->vm), NC_TEXT(row->state), NC_INT(row->finished), NC_TEXT(text) };

  if (!text)
    return false;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  if (!nc_db_begin(journal->db, durable, error))
    return false;
  bool ok = (!row->begins_attempt || nc_attempt_begin_locked(journal, row->id, error)) &&
            nc_db_run(journal->db,
                      "INSERT INTO migration(id, vm, state, finished, record) VALUES(?1, ?2, ?3, ?4, ?5)"
                      " ON CONFLICT(id) DO UPDATE SET vm=excluded.vm, state=excluded.state,"
                      " finished=excluded.finished, record=excluded.record",
                      values, 5, NULL, NULL, error) &&
            (!event || nc_journal_event_locked(journal, row->id, event, event_detail, error)) &&
            (!audit || nc_audit_append_locked(journal, audit, error)) &&
            (!row->finished || nc_journal_prune_some(journal->db, NC_JOURNAL_PRUNE_AT_ONCE, error));
  return nc_db_end(journal->db, ok, error);
}

bool
nc_journal_put_migration(NcJournal *journal, const char *id, const char *vm, const char *state, bool finished, json_t *record,
                         bool durable, GError **error)
{
  const NcMigrationRow row = { .id = id, .vm = vm, .state = state, .finished = finished, .record = record };
  return nc_journal_step_migration(journal, &row, NULL, NULL, NULL, durable, error);
}

json_t *
nc_journal_get_migration(NcJournal *journal, const char *id, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(id) };
  json_t *record = NULL;

  if (!nc_journal_read(journal, "SELECT record FROM migration WHERE id=?1", values, 1, nc_journal_take_record, &record, error))
    return NULL;
  if (!record && nc_id_is_of_fleet(id))
    nc_fail(error, NC_ERROR_NOT_FOUND, "migration %s is the fleet's, and this is for one of a node: name one of its attempts, %s.1 and so on, on the node that it leaves", id, id);
  else if (!record)
    nc_fail(error, NC_ERROR_NOT_FOUND, "there is no migration %s on this node", id);
  return record;
}

json_t *
nc_journal_list_migrations(NcJournal *journal, bool unfinished_only, unsigned limit, GError **error)
{
  const NcDbValue values[] = { NC_INT(unfinished_only), NC_INT(limit ? (int64_t)limit : -1) };
  return nc_journal_read_list(journal, "SELECT record FROM migration WHERE ?1=0 OR finished=0 ORDER BY seq DESC LIMIT ?2", values, 2,
                              nc_journal_append_record, error);
}

typedef struct {
  json_t *records;
  GArray *rows; /* int64_t */
} NcJournalPage;

static bool
nc_journal_append_to_page(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcJournalPage *page = data;
  int64_t seq = nc_db_column_int(row, 1);

  g_array_append_val(page->rows, seq);
  return nc_journal_append_record(row, page->records, error);
}

json_t *
nc_journal_page_migrations(NcJournal *journal, int64_t before, unsigned limit, GArray *ret_rows, GError **error)
{
  const NcDbValue values[] = { NC_INT(before > 0 ? before : INT64_MAX), NC_INT(CLAMP(limit, 1, NC_JOURNAL_PAGE)) };
  nc_autojson json_t *records = json_array();
  NcJournalPage page = { records, ret_rows };

  g_array_set_size(ret_rows, 0);
  return nc_journal_read(journal, "SELECT record, seq FROM migration WHERE seq<?1 ORDER BY seq DESC LIMIT ?2", values, 2,
                         nc_journal_append_to_page, &page, error)
             ? g_steal_pointer(&records)
             : NULL;
}

bool
nc_journal_add_event(NcJournal *journal, const char *migration, const char *event, const char *detail, bool durable, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  return nc_db_begin(journal->db, durable, error) &&
         nc_db_end(journal->db, nc_journal_event_locked(journal, migration, event, detail, error), error);
}

static bool
nc_journal_append_event(sqlite3_stmt *row, gpointer data, GError **error)
{
  g_autofree char *at = nc_time_format(sqlite3_column_int64(row, 0));
  json_t *event = json_pack("{s:s, s:s, s:s}", "at", at, "event", nc_db_column(row, 1), "detail", nc_db_column(row, 2));
  if (!event)
    return nc_fail(error, NC_ERROR_CORRUPT, "an event in this node's journal is not readable");
  return json_array_append_new(data, event) == 0 || nc_fail(error, NC_ERROR_INTERNAL, "out of memory");
}

json_t *
nc_journal_list_events(NcJournal *journal, const char *migration, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(migration), NC_INT(NC_JOURNAL_MAX_EVENTS) };
  return nc_journal_read_list(journal, "SELECT at_us, event, detail FROM (SELECT seq, at_us, event, detail FROM event WHERE migration=?1 "
                              "ORDER BY seq DESC LIMIT ?2) ORDER BY seq", values, 2, nc_journal_append_event, error);
}

static bool
nc_journal_append_numbered_event(sqlite3_stmt *row, gpointer data, GError **error)
{
  if (!nc_journal_append_event(row, data, error))
    return false;
  json_object_set_new(json_array_get(data, json_array_size(data) - 1), "id", json_integer(nc_db_column_int(row, 3)));
  return true;
}

json_t *
nc_journal_page_events(NcJournal *journal, const char *migration, int64_t after, unsigned limit, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(migration), NC_INT(after), NC_INT(limit) };
  return nc_journal_read_list(journal,
                              "SELECT at_us, event, detail, seq FROM event WHERE migration=?1 AND seq>?2 ORDER BY seq LIMIT ?3", values, 3,
                              nc_journal_append_numbered_event, error);
}

json_t *
nc_journal_page_events_back(NcJournal *journal, const char *migration, int64_t before, unsigned limit, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(migration), NC_INT(before), NC_INT(limit) };
  return nc_journal_read_list(journal,
                              "SELECT at_us, event, detail, seq FROM event WHERE migration=?1 AND seq<?2 ORDER BY seq DESC LIMIT ?3",
                              values, 3, nc_journal_append_numbered_event, error);
}

/* --- settings and tokens --- */

static bool
nc_journal_take_text(sqlite3_stmt *row, gpointer data, GError **error)
{
  char **text = data;
  *text = g_strdup(nc_db_column(row, 0));
  return true;
}

bool
nc_journal_put_value(NcJournal *journal, const char *key, const char *value, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(key), NC_TEXT(value) };
  return nc_journal_write(journal, true,
                          "INSERT INTO setting(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value=excluded.value",
                          values, 2, error);
}

char *
nc_journal_get_value(NcJournal *journal, const char *key, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(key) };
  char *value = NULL;
  nc_journal_read(journal, "SELECT value FROM setting WHERE key=?1", values, 1, nc_journal_take_text, &value, error);
  return value;
}

bool
nc_journal_add_token(NcJournal *journal, const char *token_id, const char *secret_sha256, const char *node_name, int64_t expires_us,
                     GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  const NcDbValue values[] = { NC_TEXT(token_id), NC_TEXT(secret_sha256), NC_TEXT(node_name ? node_name : ""), NC_INT(expires_us) };
  const NcDbValue now[] = { NC_INT(nc_wall_us()) };

  if (!nc_db_begin(journal->db, true, error))
    return false;
  /* Tokens that can't be used any more only tell how many there were. */
  bool ok = nc_db_run(journal->db, "DELETE FROM token WHERE expires_us<?1", now, 1, NULL, NULL, error) &&
            nc_db_run(journal->db, "INSERT INTO token(id, secret_sha256, node, expires_us) VALUES(?1, ?2, ?3, ?4)", values, 4, NULL,
                      NULL, error);
  return nc_db_end(journal->db, ok, error);
}

typedef struct {
  bool found, used;
  char secret_sha256[65];
  char node[64];
  int64_t expires_us;
} NcTokenRow;

static bool
nc_journal_take_token(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcTokenRow *token = data;
  token->found = true;
  g_strlcpy(token->secret_sha256, nc_db_column(row, 0), sizeof token->secret_sha256);
  g_strlcpy(token->node, nc_db_column(row, 1), sizeof token->node);
  token->expires_us = sqlite3_column_int64(row, 2);
  token->used = sqlite3_column_int64(row, 3) != 0;
  return true;
}

static bool
nc_journal_use_token_locked(NcJournal *journal, const char *token_id, const char *secret_sha256, int64_t now_us, NcTokenRow *token,
                            GError **error)
{
  const NcDbValue values[] = { NC_TEXT(token_id) };

  if (!nc_db_run(journal->db, "SELECT secret_sha256, node, expires_us, used FROM token WHERE id=?1", values, 1,
                 nc_journal_take_token, token, error))
    return false;
  /* The comparison is made also for a token that is not there: the time taken must not tell. */
  bool same = strlen(secret_sha256) == 64 && nc_constant_time_equal(token->secret_sha256, secret_sha256, 64);
  if (!token->found || !same || token->used || token->expires_us <= now_us)
    return nc_fail(error, NC_ERROR_TRUST, "the token is not valid: unknown, used already or expired; make a new one with "
                                          "`novacron node token` on the node that holds the CA's key");
  return nc_db_run(journal->db, "UPDATE token SET used=1 WHERE id=?1", values, 1, NULL, NULL, error);
}

bool
nc_journal_use_token(NcJournal *journal, const char *token_id, const char *secret_sha256, int64_t now_us, char **ret_node_name,
                     GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  NcTokenRow token = { .found = false };

  if (!nc_db_begin(journal->db, true, error))
    return false;
  if (!nc_db_end(journal->db, nc_journal_use_token_locked(journal, token_id, secret_sha256, now_us, &token, error), error))
    return false;
  if (ret_node_name)
    *ret_node_name = token.node[0] ? g_strdup(token.node) : NULL;
  return true;
}
