/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of the transaction log: their hash, adding them, listing them. */
#include "store/audit.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "store/journal_internal.h"

#include <string.h>

#define NC_AUDIT_TAG "novacron-audit-1" /* its NUL is hashed, too */
#define NC_AUDIT_LIST_MAX 1000

static void
nc_audit_update_text(NcSha256 *sha, const char *data, size_t length)
{
  uint8_t prefix[4];
  nc_store_be32(prefix, (uint32_t)length);
  nc_sha256_update(sha, prefix, sizeof prefix);
  nc_sha256_update(sha, data, length);
}

void
nc_audit_hash(const uint8_t previous[NC_SHA256_BYTES], const NcAuditRow *row, uint8_t ret_hash[NC_SHA256_BYTES])
{
  g_autoptr(NcSha256) sha = nc_sha256_new();
  uint8_t numbers[16];

  nc_store_be64(numbers, row->seq);
  nc_store_be64(numbers + 8, (uint64_t)row->at_us);
  nc_sha256_update(sha, NC_AUDIT_TAG, sizeof NC_AUDIT_TAG);
  nc_sha256_update(sha, previous, NC_SHA256_BYTES);
  nc_sha256_update(sha, numbers, sizeof numbers);
  nc_audit_update_text(sha, row->kind.data, row->kind.length);
  nc_audit_update_text(sha, row->subject.data, row->subject.length);
  nc_audit_update_text(sha, row->vm.data, row->vm.length);
  nc_audit_update_text(sha, row->actor.data, row->actor.length);
  nc_audit_update_text(sha, row->detail.data, row->detail.length);
  nc_sha256_snapshot(sha, ret_hash);
}

/* --- adding --- */

static bool
nc_audit_take_head(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcAuditHead *head = data;
  head->seq = (uint64_t)sqlite3_column_int64(row, 0);
  return nc_hex_decode(nc_db_column(row, 1), head->hash, sizeof head->hash) ||
         nc_fail(error, NC_ERROR_CORRUPT, "the last entry of this node's transaction log is not readable: `novacron audit verify`");
}

static bool
nc_audit_read_head(NcDb *db, NcAuditHead *ret, GError **error)
{
  *ret = (NcAuditHead){ .seq = 0 };
  return nc_db_run(db, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", NULL, 0, nc_audit_take_head, ret, error);
}

/* A request may carry a machine's whole specification; what is kept of a monster is enough to recognise it. */
static char *
nc_audit_dump_detail(json_t *detail)
{
  char *text = detail ? json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS) : g_strdup("{}");
  size_t length = text ? strlen(text) : 0;

  if (text && length <= NC_AUDIT_DETAIL_MAX_BYTES)
    return text;
  g_autofree char *sha256 = nc_sha256_hex(text, length);
  g_free(text);
  return g_strdup_printf("{\"omitted_bytes\":%zu,\"sha256\":\"%s\"}", length, sha256);
}

static bool
nc_audit_append(NcDb *db, const NcAuditEntry *entry, uint64_t *ret_seq, GError **error)
{
  g_autofree char *detail = nc_audit_dump_detail(entry->detail);
  const char *subject = entry->subject ? entry->subject : "", *vm = entry->vm ? entry->vm : "";
  const char *actor = entry->actor ? entry->actor : "novacrond";
  NcAuditHead last;
  uint8_t hash[NC_SHA256_BYTES];

  if (!nc_audit_read_head(db, &last, error))
    return false;
  const NcAuditRow row = { .seq = last.seq + 1,
                           .at_us = nc_wall_us(),
                           .kind = { entry->kind, strlen(entry->kind) },
                           .subject = { subject, strlen(subject) },
                           .vm = { vm, strlen(vm) },
                           .actor = { actor, strlen(actor) },
                           .detail = { detail, strlen(detail) } };
  nc_audit_hash(last.hash, &row, hash);
  if (ret_seq)
    *ret_seq = row.seq;
  g_autofree char *hex = nc_hex_encode(hash, sizeof hash);
  const NcDbValue values[] = { NC_INT(row.seq), NC_INT(row.at_us), NC_TEXT(entry->kind), NC_TEXT(subject),
                               NC_TEXT(vm),     NC_TEXT(actor),    NC_TEXT(detail),      NC_TEXT(hex) };
  return nc_db_run(db,
                   "INSERT INTO audit(seq, at_us, kind, subject, vm, actor, detail, hash) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                   values, 8, NULL, NULL, error);
}

bool
nc_audit_append_locked(NcJournal *journal, const NcAuditEntry *entry, GError **error)
{
  return nc_audit_append(journal->db, entry, NULL, error);
}

static bool
nc_audit_take_begun(sqlite3_stmt *row, gpointer data, GError **error)
{
  *(bool *)data = true;
  return true;
}

bool
nc_audit_begin_log(NcDb *db, GError **error)
{
  const NcAuditEntry entry = { .kind = "audit.begun" };
  const NcDbValue values[] = { NC_TEXT("audit-begun"), NC_TEXT("1") };
  bool begun = false;

  if (!nc_db_run(db, "SELECT 1 FROM setting WHERE key='audit-begun'", NULL, 0, nc_audit_take_begun, &begun, error))
    return false;
  if (begun)
    return true;
  return nc_db_begin(db, true, error) &&
         nc_db_end(db,
                   nc_audit_append(db, &entry, NULL, error) &&
                       nc_db_run(db, "INSERT INTO setting(key, value) VALUES(?1, ?2)", values, 2, NULL, NULL, error),
                   error);
}

bool
nc_journal_audit(NcJournal *journal, const NcAuditEntry *entry, bool durable, uint64_t *ret_seq, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  return nc_db_begin(journal->db, durable, error) && nc_db_end(journal->db, nc_audit_append(journal->db, entry, ret_seq, error), error);
}

/* --- looking --- */

bool
nc_journal_audit_head(NcJournal *journal, NcAuditHead *ret, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  return nc_audit_read_head(journal->db, ret, error);
}

bool
nc_journal_audit_settle(NcJournal *journal, NcAuditHead *ret, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&journal->lock);
  const NcDbValue values[] = { NC_TEXT("audit-settled"), NC_INT(nc_wall_us()) };

  /* Any durable commit takes all that was committed before it to the disk. */
  if (!nc_db_begin(journal->db, true, error))
    return false;
  return nc_db_end(journal->db,
                   nc_audit_read_head(journal->db, ret, error) &&
                       nc_db_run(journal->db,
                                 "INSERT INTO setting(key, value) VALUES(?1, CAST(?2 AS TEXT))"
                                 " ON CONFLICT(key) DO UPDATE SET value=excluded.value",
                                 values, 2, NULL, NULL, error),
                   error);
}

static bool
nc_audit_append_row(sqlite3_stmt *row, gpointer data, GError **error)
{
  g_autofree char *at = nc_time_format(sqlite3_column_int64(row, 1));
  nc_autojson json_t *detail = json_loads(nc_db_column(row, 6), 0, NULL);
  json_t *entry = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:O?}", "seq", (json_int_t)sqlite3_column_int64(row, 0), "at", at,
                            "kind", nc_db_column(row, 2), "subject", nc_db_column(row, 3), "vm", nc_db_column(row, 4), "actor",
                            nc_db_column(row, 5), "hash", nc_db_column(row, 7), "detail", detail);
  if (!entry)
    return nc_fail(error, NC_ERROR_CORRUPT, "entry %" G_GINT64_FORMAT " of this node's transaction log is not readable: `novacron audit verify`",
                   (int64_t)sqlite3_column_int64(row, 0));
  return json_array_append_new(data, entry) == 0 || nc_fail(error, NC_ERROR_INTERNAL, "out of memory");
}

json_t *
nc_journal_list_audit(NcJournal *journal, const NcAuditFilter *filter, GError **error)
{
  unsigned limit = filter->limit ? MIN(filter->limit, NC_AUDIT_LIST_MAX) : NC_AUDIT_LIST_MAX;
  const NcDbValue values[] = { NC_TEXT(filter->kind ? filter->kind : ""), NC_TEXT(filter->subject ? filter->subject : ""),
                               NC_INT(filter->before ? (int64_t)filter->before : INT64_MAX), NC_INT(limit) };
  /* A connection of its own: a log of years is not looked through while a handoff waits for the journal. */
  g_autoptr(NcDb) db = nc_db_open_reader(journal->path, &nc_journal_kind, error);
  nc_autojson json_t *list = json_array();

  return db && nc_db_run(db,
                         "SELECT seq, at_us, kind, subject, vm, actor, detail, hash FROM audit"
                         " WHERE (?1='' OR kind=?1) AND (?2='' OR subject=?2 OR vm=?2) AND seq<?3 ORDER BY seq DESC LIMIT ?4",
                         values, 4, nc_audit_append_row, list, error)
             ? g_steal_pointer(&list)
             : NULL;
}
