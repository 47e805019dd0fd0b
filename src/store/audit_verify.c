/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proving the transaction log: the chain from its first entry to its last, and heads that were seen elsewhere.
 *
 * The file may be anything: it is read by SQLite, and of its rows nothing is believed but that they have columns.
 */
#include "base/bytes.h"
#include "store/audit.h"
#include "store/journal_internal.h"

#include <inttypes.h>

typedef struct {
  NcAuditReport *report;
  const NcAuditHead *heads;
  size_t n_heads;
} NcAuditScan;

void
nc_audit_report_clear(NcAuditReport *report)
{
  g_clear_pointer(&report->problem, g_free);
}

/* The first problem ends the scan: behind it nothing can be said. */
static bool nc_audit_blame(NcAuditReport *report, uint64_t seq, const char *format, ...) G_GNUC_PRINTF(3, 4);

static bool
nc_audit_blame(NcAuditReport *report, uint64_t seq, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  report->bad_seq = seq;
  report->problem = g_strdup_vprintf(format, args);
  va_end(args);
  return false;
}

#define NC_AUDIT_TEXT(row, column)                                                                                               \
  {                                                                                                                              \
    .data = nc_db_column(row, column), .length = (size_t)sqlite3_column_bytes(row, column)                                       \
  }

static bool
nc_audit_scan_heads(NcAuditScan *scan, const NcAuditHead *entry)
{
  for (size_t i = 0; i < scan->n_heads; i++)
    if (scan->heads[i].seq == entry->seq && !nc_constant_time_equal(scan->heads[i].hash, entry->hash, NC_SHA256_BYTES)) {
      g_autofree char *wanted = nc_hex_encode(scan->heads[i].hash, NC_SHA256_BYTES);
      return nc_audit_blame(scan->report, entry->seq,
                            "entry %" PRIu64 " is not the one that was there, whose hash was %s: the log has been written anew",
                            entry->seq, wanted);
    }
  return true;
}

static bool
nc_audit_scan_row(sqlite3_stmt *row, gpointer data, GError **error)
{
  NcAuditScan *scan = data;
  NcAuditReport *report = scan->report;
  const uint64_t expected = report->head.seq + 1;
  const NcAuditRow fields = { .seq = (uint64_t)sqlite3_column_int64(row, 0),
                              .at_us = sqlite3_column_int64(row, 1),
                              .kind = NC_AUDIT_TEXT(row, 2),
                              .subject = NC_AUDIT_TEXT(row, 3),
                              .vm = NC_AUDIT_TEXT(row, 4),
                              .actor = NC_AUDIT_TEXT(row, 5),
                              .detail = NC_AUDIT_TEXT(row, 6) };
  NcAuditHead entry = { .seq = fields.seq };
  g_autofree char *hex = NULL;

  nc_audit_hash(report->head.hash, &fields, entry.hash);
  hex = nc_hex_encode(entry.hash, sizeof entry.hash);
  if (fields.seq != expected)
    nc_audit_blame(report, expected, "entry %" PRIu64 " is missing: after %" PRIu64 " comes %" PRId64, expected, report->head.seq,
                   (int64_t)fields.seq);
  else if (!g_str_equal(hex, nc_db_column(row, 7)))
    nc_audit_blame(report, expected,
                   "entry %" PRIu64 " was altered, or is not where it was: its hash does not fit what it says and what is before it",
                   expected);
  else
    nc_audit_scan_heads(scan, &entry);
  if (report->problem)
    return nc_fail(error, NC_ERROR_CORRUPT, "%s", report->problem);
  if (!report->broken_seq && g_str_equal(fields.kind.data, NC_AUDIT_BROKEN))
    report->broken_seq = fields.seq;
  report->head = entry;
  report->head_at_us = fields.at_us;
  report->entries++;
  return true;
}

/* Heads beyond the last entry: what they stand for was there, and is not any more. */
static void
nc_audit_check_end(NcAuditScan *scan)
{
  NcAuditReport *report = scan->report;

  for (size_t i = 0; i < scan->n_heads && !report->problem; i++)
    if (scan->heads[i].seq > report->head.seq)
      nc_audit_blame(report, report->head.seq + 1, "the log was cut: it ends with entry %" PRIu64 ", and there was an entry %" PRIu64,
                     report->head.seq, scan->heads[i].seq);
  if (!report->problem && report->broken_seq)
    nc_audit_blame(report, report->broken_seq,
                   "the chain is whole, but entry %" PRIu64 " tells that the log before it had been tampered with: `novacron audit list "
                   "--kind " NC_AUDIT_BROKEN "`",
                   report->broken_seq);
  if (!report->problem && report->head.seq == 0)
    nc_audit_blame(report, 1, "the log is empty: its first entry is made with the journal, so all of it was removed");
}

bool
nc_audit_verify_file(const char *path, const NcAuditHead *heads, size_t n_heads, NcAuditReport *ret, GError **error)
{
  NcAuditScan scan = { .report = ret, .heads = heads, .n_heads = n_heads };
  g_autoptr(GError) problem = NULL;

  *ret = (NcAuditReport){ .entries = 0 };
  g_autoptr(NcDb) db = nc_db_open_reader(path, &nc_journal_kind, error);
  if (!db)
    return false;
  if (!nc_db_run(db, "SELECT seq, at_us, kind, subject, vm, actor, detail, hash FROM audit ORDER BY seq", NULL, 0, nc_audit_scan_row,
                 &scan, &problem) &&
      !ret->problem) {
    if (problem->code != NC_ERROR_CORRUPT) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
    nc_audit_blame(ret, ret->head.seq + 1, "the log can't be read beyond entry %" PRIu64 ": %s", ret->head.seq, problem->message);
  }
  if (!ret->problem)
    nc_audit_check_end(&scan);
  return true;
}
