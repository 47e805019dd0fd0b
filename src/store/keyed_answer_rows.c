/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keyed_answer.h"
#include "store/journal_internal.h"

typedef struct {
  bool found;
  char *request_sha256;
  char *text; /* empty: none yet */
} NcAnswerRow;

static void
nc_answer_row_clear(NcAnswerRow *row)
{
  g_free(row->request_sha256);
  g_free(row->text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcAnswerRow, nc_answer_row_clear)

static bool
nc_answer_take(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcAnswerRow *answer = data;
  nc_answer_row_clear(answer);
  *answer = (NcAnswerRow){ .found = true, .request_sha256 = g_strdup(nc_db_column(row, 0)), .text = g_strdup(nc_db_column(row, 1)) };
  return true;
}

/* Of one that is on record. */
static bool
nc_answer_read(const NcKeyedRequest *request, const NcAnswerRow *row, json_t **ret_answer, GError **error)
{
  if (!g_str_equal(row->request_sha256, request->request_sha256))
    return nc_fail(error, NC_ERROR_CONFLICT, "this idempotency key was used for another request: choose a new one");
  if (!row->text[0])
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "a request with this idempotency key is being done, or was when novacrond was ended: look at what has become of it, and ask "
                   "again with a new key if nothing has");
  *ret_answer = json_loads(row->text, 0, NULL);
  return *ret_answer || nc_fail(error, NC_ERROR_CORRUPT, "the answer to a request in this node's journal is not readable");
}

static bool
nc_answer_begin_locked(NcJournal *journal, const NcKeyedRequest *request, int64_t now_us, json_t **ret_answer, GError **error)
{
  const NcDbValue then[] = { NC_INT(now_us - NC_KEYED_ANSWER_KEEP_US), NC_INT(now_us - NC_KEYED_PENDING_KEEP_US) };
  const NcDbValue values[] = { NC_TEXT(request->actor), NC_TEXT(request->key), NC_TEXT(request->request_sha256), NC_INT(now_us) };
  g_auto(NcAnswerRow) row = { 0 };

  if (!nc_db_run(journal->db, "DELETE FROM keyed_answer WHERE at_us<?1 AND (answer<>'' OR at_us<?2)", then, 2, NULL, NULL, error) ||
      !nc_db_run(journal->db, "SELECT request_sha256, answer FROM keyed_answer WHERE actor=?1 AND key=?2", values, 2, nc_answer_take, &row, error))
    return false;
  if (row.found)
    return nc_answer_read(request, &row, ret_answer, error);
  return nc_db_run(journal->db, "INSERT INTO keyed_answer(actor, key, request_sha256, at_us, answer) VALUES(?1, ?2, ?3, ?4, '')", values, 4, NULL,
                   NULL, error);
}

bool
nc_journal_begin_keyed(NcJournal *journal, const NcKeyedRequest *request, int64_t now_us, json_t **ret_answer, GError **error)
{
  *ret_answer = NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  if (!nc_db_begin(journal->db, true, error))
    return false;
  return nc_db_end(journal->db, nc_answer_begin_locked(journal, request, now_us, ret_answer, error), error);
}

bool
nc_journal_end_keyed(NcJournal *journal, const NcKeyedRequest *request, json_t *answer, GError **error)
{
  g_autofree char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
  const NcDbValue values[] = { NC_TEXT(request->actor), NC_TEXT(request->key), NC_TEXT(text ? text : "") };

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  if (!nc_db_begin(journal->db, true, error))
    return false;
  bool ok = text ? nc_db_run(journal->db, "UPDATE keyed_answer SET answer=?3 WHERE actor=?1 AND key=?2", values, 3, NULL, NULL, error)
                 : nc_db_run(journal->db, "DELETE FROM keyed_answer WHERE actor=?1 AND key=?2", values, 2, NULL, NULL, error);
  return nc_db_end(journal->db, ok, error);
}
