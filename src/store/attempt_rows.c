/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of attempts as rows of the journal, and how they are forgotten.
 *
 * The transaction that adds a name also drops what is too much, and raises the bar: the greatest id that was dropped,
 * as a setting. Names whose id lies ahead of this node's clock stay, however many: a controller whose clock was wrong
 * once must not raise the bar over everything that is asked for in the next years. (With a clock that is far off,
 * certificates are not valid either.)
 */
#include "base/ident.h"
#include "store/journal_internal.h"

#define NC_ATTEMPT_BAR "attempts_forgotten" /* the setting */

static const char *const nc_attempt_marks[] = {
  [NC_ATTEMPT_UNKNOWN] = "unknown", [NC_ATTEMPT_BEGAN] = "began",         [NC_ATTEMPT_CANCELLED] = "cancelled",
  [NC_ATTEMPT_FAILED] = "failed",   [NC_ATTEMPT_FORGOTTEN] = "forgotten",
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_attempt_marks) == NC_ATTEMPT_COUNT);

typedef struct {
  NcAttemptMark mark;
  json_t *detail; /* owned; NULL: of no interest, or none */
} NcAttemptRow;

static bool
nc_attempt_take(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcAttemptRow *attempt = data;
  const char *mark = nc_db_column(row, 0);

  for (int i = NC_ATTEMPT_BEGAN; i <= NC_ATTEMPT_FAILED; i++)
    if (g_str_equal(nc_attempt_marks[i], mark))
      attempt->mark = (NcAttemptMark)i;
  json_decref(attempt->detail);
  attempt->detail = json_loads(nc_db_column(row, 1), 0, NULL);
  if (attempt->mark == NC_ATTEMPT_UNKNOWN || !json_is_object(attempt->detail))
    return nc_fail(error, NC_ERROR_CORRUPT, "the name of an attempt in this node's journal is not readable");
  return true;
}

static bool
nc_attempt_take_bar(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcAttemptRow *attempt = data;
  attempt->mark = NC_ATTEMPT_FORGOTTEN;
  return true;
}

/* On error ${ret} may have a detail as well. */
static bool
nc_attempt_get_locked(NcJournal *journal, const char *name, NcAttemptRow *ret, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(name), NC_TEXT(NC_ATTEMPT_BAR), NC_INT(NC_ATTEMPT_ID_BYTES) };

  *ret = (NcAttemptRow){ .mark = NC_ATTEMPT_UNKNOWN };
  if (!nc_attempt_name_is_valid(name))
    return nc_fail(error, NC_ERROR_INVALID, NC_ATTEMPT_NAME_RULE);
  if (!nc_db_run(journal->db, "SELECT mark, detail FROM attempt WHERE name=?1", values, 1, nc_attempt_take, ret, error))
    return false;
  return ret->mark != NC_ATTEMPT_UNKNOWN ||
         nc_db_run(journal->db, "SELECT 1 FROM setting WHERE key=?2 AND value>=substr(?1, 1, ?3)", values, 3,
                   nc_attempt_take_bar, ret, error);
}

static bool
nc_attempt_take_id(sqlite3_stmt *row, gpointer data, GError **error)
{
  char **id = data;
  *id = g_strdup(nc_db_column(row, 0));
  return true;
}

/* Most often there is one too many. */
#define NC_ATTEMPTS_TO_FORGET "FROM attempt WHERE seq<=(SELECT max(seq) FROM attempt)-?1 AND substr(name, 5, ?2)<=?3"

static bool
nc_attempt_forget_locked(NcJournal *journal, GError **error)
{
  char now[NC_ID_TIME_DIGITS + 1];
  g_autofree char *id = NULL;

  nc_id_time(nc_wall_us(), now);
  const NcDbValue which[] = { NC_INT(NC_JOURNAL_KEEP_ATTEMPTS), NC_INT(NC_ID_TIME_DIGITS), NC_TEXT(now),
                              NC_INT(NC_ATTEMPT_ID_BYTES) };
  if (!nc_db_run(journal->db, "SELECT coalesce(max(substr(name, 1, ?4)), '') " NC_ATTEMPTS_TO_FORGET, which, 4,
                 nc_attempt_take_id, &id, error))
    return false;
  if (!id || !id[0])
    return true;
  const NcDbValue bar[] = { NC_TEXT(NC_ATTEMPT_BAR), NC_TEXT(id) };
  return nc_db_run(journal->db,
                   "INSERT INTO setting(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value=max(value, "
                   "excluded.value)",
                   bar, 2, NULL, NULL, error) &&
         nc_db_run(journal->db, "DELETE " NC_ATTEMPTS_TO_FORGET, which, 3, NULL, NULL, error);
}

static bool
nc_attempt_add_locked(NcJournal *journal, const char *name, NcAttemptMark mark, const char *detail, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(name), NC_INT(nc_wall_us()), NC_TEXT(nc_attempt_marks[mark]), NC_TEXT(detail) };
  return nc_db_run(journal->db, "INSERT INTO attempt(name, at_us, mark, detail) VALUES(?1, ?2, ?3, ?4)", values, 4,
                   NULL, NULL, error) &&
         nc_attempt_forget_locked(journal, error);
}

static bool
nc_attempt_note_row(sqlite3_stmt *row, gpointer data, GError **error)
{
  *(bool *)data = true;
  return true;
}

bool
nc_attempt_begin_locked(NcJournal *journal, const char *name, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(name) };
  bool has_record = false;
  NcAttemptRow present;
  bool ok =
      nc_attempt_get_locked(journal, name, &present, error) &&
      nc_db_run(journal->db, "SELECT 1 FROM migration WHERE id=?1", values, 1, nc_attempt_note_row, &has_record, error);

  json_decref(present.detail);
  if (ok && present.mark != NC_ATTEMPT_UNKNOWN)
    return nc_fail(error, NC_ERROR_CONFLICT, "attempt %s does not begin (again): its name is kept as %s on this node",
                   name, nc_attempt_marks[present.mark]);
  if (ok && has_record) /* of one that arrived here */
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "attempt %s does not begin: this node has a migration of that id, which is none of its attempts",
                   name);
  return ok && nc_attempt_add_locked(journal, name, NC_ATTEMPT_BEGAN, "{}", error);
}

bool
nc_journal_get_attempt(NcJournal *journal, const char *name, NcAttemptMark *ret, json_t **ret_detail, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  NcAttemptRow row;

  bool ok = nc_attempt_get_locked(journal, name, &row, error);
  nc_autojson json_t *detail = row.detail ? row.detail : json_object();
  if (!ok)
    return false;
  *ret = row.mark;
  if (ret_detail)
    *ret_detail = g_steal_pointer(&detail);
  return true;
}

static bool
nc_attempt_bar_locked(NcJournal *journal, const char *name, NcAttemptMark mark, const char *detail, NcAttemptMark *ret,
                      GError **error)
{
  NcAttemptRow present;
  bool ok = nc_attempt_get_locked(journal, name, &present, error);

  json_decref(present.detail);
  *ret = present.mark == NC_ATTEMPT_UNKNOWN ? mark : present.mark;
  return ok && (present.mark != NC_ATTEMPT_UNKNOWN || nc_attempt_add_locked(journal, name, mark, detail, error));
}

bool
nc_journal_bar_attempt(NcJournal *journal, const char *name, NcAttemptMark mark, json_t *detail, NcAttemptMark *ret,
                       GError **error)
{
  g_autofree char *text = nc_journal_dump(detail, error);
  NcAttemptMark now = NC_ATTEMPT_UNKNOWN;

  if (!text)
    return false;
  if ((mark != NC_ATTEMPT_CANCELLED && mark != NC_ATTEMPT_FAILED) || !json_is_object(detail))
    return nc_fail(error, NC_ERROR_INTERNAL, "an attempt is barred without a reason");
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  if (!nc_db_begin(journal->db, true, error) ||
      !nc_db_end(journal->db, nc_attempt_bar_locked(journal, name, mark, text, &now, error), error))
    return false;
  *ret = now;
  return true;
}
