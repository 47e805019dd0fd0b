/* SPDX-License-Identifier: Apache-2.0 */
#include "store/bearer.h"
#include "base/ident.h"
#include "store/journal_internal.h"

#include <string.h>

#define NC_HASH_HEX_BYTES (2 * NC_SHA256_BYTES)
#define NC_BEARER_SELECT "SELECT id, subject, role, actor, created_us, expires_us, ended_us, secret_sha256 FROM bearer"
#define NC_BEARER_IS_GOOD "ended_us=0 AND (expires_us=0 OR expires_us>?1)"

static json_t *
nc_bearer_read(sqlite3_stmt *row)
{
  return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "id", nc_db_column(row, 0), "subject", nc_db_column(row, 1), "role",
                   nc_db_column(row, 2), "actor", nc_db_column(row, 3), "created_us", (json_int_t)nc_db_column_int(row, 4), "expires_us",
                   (json_int_t)nc_db_column_int(row, 5), "ended_us", (json_int_t)nc_db_column_int(row, 6));
}

static bool
nc_bearer_append(sqlite3_stmt *row, gpointer data, GError **error)
{
  json_t *bearer = nc_bearer_read(row);
  return (bearer && json_array_append_new(data, bearer) == 0) || nc_fail(error, NC_ERROR_CORRUPT, "a token in this node's journal is not readable");
}

static bool
nc_bearer_take_number(sqlite3_stmt *row, gpointer data, GError **error)
{
  *(int64_t *)data = nc_db_column_int(row, 0);
  return true;
}

/* Forgets what has been of no use for long; is there room for one more? */
static bool
nc_bearer_make_room(NcJournal *journal, int64_t now_us, GError **error)
{
  const NcDbValue then[] = { NC_INT(now_us - NC_BEARER_KEEP_US) }, now[] = { NC_INT(now_us) };
  int64_t good = 0;

  if (!nc_db_run(journal->db, "DELETE FROM bearer WHERE (ended_us>0 AND ended_us<?1) OR (expires_us>0 AND expires_us<?1)", then, 1, NULL, NULL,
                 error) ||
      !nc_db_run(journal->db, "SELECT count(*) FROM bearer WHERE " NC_BEARER_IS_GOOD, now, 1, nc_bearer_take_number, &good, error))
    return false;
  return good < NC_BEARER_MOST ||
         nc_fail(error, NC_ERROR_RESOURCE, "this node has %d tokens that are good, and does not keep more: revoke some (novacron token list)",
                 NC_BEARER_MOST);
}

bool
nc_journal_add_bearer(NcJournal *journal, const NcBearer *bearer, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(bearer->id),    NC_TEXT(bearer->secret_sha256), NC_TEXT(bearer->subject),  NC_TEXT(bearer->role),
                               NC_TEXT(bearer->actor), NC_INT(bearer->created_us),     NC_INT(bearer->expires_us) };

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  if (!nc_db_begin(journal->db, true, error))
    return false;
  bool ok = nc_bearer_make_room(journal, bearer->created_us, error) &&
            nc_db_run(journal->db,
                      "INSERT INTO bearer(id, secret_sha256, subject, role, actor, created_us, expires_us, ended_us)"
                      " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)",
                      values, 7, NULL, NULL, error);
  return nc_db_end(journal->db, ok, error);
}

typedef struct {
  json_t *bearer;
  char secret_sha256[NC_HASH_HEX_BYTES + 1];
} NcBearerRow;

static bool
nc_bearer_take(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcBearerRow *found = data;
  found->bearer = nc_bearer_read(row);
  g_strlcpy(found->secret_sha256, nc_db_column(row, 7), sizeof found->secret_sha256);
  return true;
}

json_t *
nc_journal_check_bearer(NcJournal *journal, const char *id, const char *secret_sha256, int64_t now_us, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(id) };
  NcBearerRow found = { 0 };

  if (!nc_journal_read(journal, NC_BEARER_SELECT " WHERE id=?1", values, 1, nc_bearer_take, &found, error))
    return NULL;
  nc_autojson json_t *bearer = found.bearer;
  const int64_t expires_us = nc_json_int_or(bearer, "expires_us", 0);
  /* The comparison is made also for a token that is not there: the time taken must not tell. */
  bool same = strlen(secret_sha256) == NC_HASH_HEX_BYTES && nc_constant_time_equal(found.secret_sha256, secret_sha256, NC_HASH_HEX_BYTES);
  if (bearer && same && nc_json_int_or(bearer, "ended_us", 1) == 0 && (expires_us == 0 || expires_us > now_us))
    return g_steal_pointer(&bearer);
  nc_fail(error, NC_ERROR_UNAUTHENTICATED, "the token is not known, has run out, or was ended: ask an administrator for a new one");
  return NULL;
}

json_t *
nc_journal_end_bearer(NcJournal *journal, const char *id, int64_t now_us, GError **error)
{
  const NcDbValue values[] = { NC_INT(now_us), NC_TEXT(id) }, key[] = { NC_TEXT(id) };
  NcBearerRow found = { 0 };

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  if (!nc_db_begin(journal->db, true, error))
    return NULL;
  bool ok = nc_db_run(journal->db, "UPDATE bearer SET ended_us=?1 WHERE id=?2 AND " NC_BEARER_IS_GOOD, values, 2, NULL, NULL, error) &&
            (nc_db_changes(journal->db) == 1 || nc_fail(error, NC_ERROR_NOT_FOUND, "there is no token \"%.64s\" that is still good", id)) &&
            nc_db_run(journal->db, NC_BEARER_SELECT " WHERE id=?1", key, 1, nc_bearer_take, &found, error);
  if (nc_db_end(journal->db, ok, error))
    return found.bearer;
  json_decref(found.bearer);
  return NULL;
}

json_t *
nc_journal_list_bearers(NcJournal *journal, GError **error)
{
  return nc_journal_read_list(journal, NC_BEARER_SELECT " ORDER BY id", NULL, 0, nc_bearer_append, error);
}
