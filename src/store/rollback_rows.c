/* SPDX-License-Identifier: Apache-2.0 */
/* Rollbacks as rows of the journal. */
#include "store/journal_internal.h"

bool
nc_journal_put_rollback(NcJournal *journal, const NcRollbackRow *row, const NcAuditEntry *audit, bool durable, GError **error)
{
  g_autofree char *text = nc_journal_dump(row->record, error);
  const NcDbValue values[] = { NC_TEXT(row->id), NC_TEXT(row->migration), NC_INT(row->finished), NC_TEXT(text) };

  if (!text)
    return false;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  if (!nc_db_begin(journal->db, durable, error))
    return false;
  bool ok = nc_db_run(journal->db,
                      "INSERT INTO rollback(id, migration, finished, record) VALUES(?1, ?2, ?3, ?4)"
                      " ON CONFLICT(id) DO UPDATE SET finished=excluded.finished, record=excluded.record",
                      values, 4, NULL, NULL, error) &&
            (!audit || nc_audit_append_locked(journal, audit, error));
  return nc_db_end(journal->db, ok, error);
}

json_t *
nc_journal_list_rollbacks(NcJournal *journal, const char *migration, bool unfinished_only, GError **error)
{
  const NcDbValue values[] = { NC_TEXT(migration ? migration : ""), NC_INT(unfinished_only) };
  return nc_journal_read_list(journal,
                              "SELECT record FROM rollback WHERE (?1='' OR migration=?1) AND (?2=0 OR finished=0) ORDER BY seq", values, 2,
                              nc_journal_append_record, error);
}
