/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/audit.h: whatever is done to the log's rows or bytes, verify sees it and names the first bad entry. */
#include "base/bytes.h"
#include "base/io.h"
#include "store/audit_seal.h"
#include "store/journal.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRIES 24

typedef struct {
  char *dir;
  char *path;
  char *pristine; /* a copy of the journal's file, closed */
  NcAuditHead head;
} Fixture;

static void
add_entries(NcJournal *journal)
{
  g_autoptr(GError) error = NULL;

  for (int i = 0; i < ENTRIES; i++) {
    nc_autojson json_t *detail = json_pack("{s:i, s:s}", "i", i, "text", "what happened, with an ä");
    const NcAuditEntry entry = { .kind = i % 2 ? "request" : "migration.state",
                                 .subject = i % 3 ? "m-1" : NULL,
                                 .vm = "web1",
                                 .actor = i % 4 ? "uid:0" : NULL,
                                 .detail = detail };
    g_assert_true(nc_journal_audit(journal, &entry, false, NULL, &error));
    g_assert_no_error(error);
  }
}

static void
fill(NcJournal *journal)
{
  g_autoptr(GError) error = NULL;
  const NcRight held = { .vm = "web1", .epoch = 1, .state = NC_RIGHT_HELD };

  g_assert_true(nc_journal_set_right(journal, &held, NC_RIGHT_NONE, 0, &error));
  g_assert_no_error(error);
  add_entries(journal);
}

static void
setup(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  f->dir = g_dir_make_tmp("nc-audit-XXXXXX", &error);
  g_assert_no_error(error);
  f->path = g_build_filename(f->dir, "journal.db", NULL);
  f->pristine = g_build_filename(f->dir, "pristine.db", NULL);
  g_autoptr(NcJournal) journal = nc_journal_open(f->path, &error);
  g_assert_no_error(error);
  fill(journal);
  g_assert_true(nc_journal_audit_settle(journal, &f->head, &error));
  g_clear_pointer(&journal, nc_journal_close);
  g_autofree char *bytes = NULL;
  gsize length;
  g_assert_true(g_file_get_contents(f->path, &bytes, &length, NULL));
  g_assert_true(g_file_set_contents(f->pristine, bytes, (gssize)length, NULL));
}

static void
remove_tree(const char *path)
{
  GDir *dir = g_dir_open(path, 0, NULL);
  const char *name;
  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *below = g_build_filename(path, name, NULL);
    remove_tree(below);
  }
  if (dir)
    g_dir_close(dir);
  g_remove(path);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  remove_tree(f->dir);
  g_free(f->dir);
  g_free(f->path);
  g_free(f->pristine);
}

/* The journal as it was. */
static void
restore(Fixture *f)
{
  g_autofree char *bytes = NULL;
  gsize length;
  for (size_t i = 0; i < 2; i++) {
    g_autofree char *side = g_strconcat(f->path, i ? "-wal" : "-shm", NULL);
    g_unlink(side);
  }
  g_assert_true(g_file_get_contents(f->pristine, &bytes, &length, NULL));
  g_assert_true(g_file_set_contents(f->path, bytes, (gssize)length, NULL));
}

/* As an intruder would, who knows SQLite and the triggers. */
static void
tamper(Fixture *f, const char *sql)
{
  sqlite3 *db = NULL;
  char *message = NULL;
  g_assert_cmpint(sqlite3_open(f->path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_exec(db, "DROP TRIGGER audit_update; DROP TRIGGER audit_delete;", NULL, NULL, NULL), ==, SQLITE_OK);
  sqlite3_exec(db, sql, NULL, NULL, &message);
  g_assert_cmpstr(message, ==, NULL);
  sqlite3_close(db);
}

/* The number of the first bad entry; 0: all is well. */
static uint64_t
verify(Fixture *f, const NcAuditHead *head)
{
  g_auto(NcAuditReport) report = { .entries = 0 };
  g_autoptr(GError) error = NULL;
  g_assert_true(nc_audit_verify_file(f->path, head, head ? 1 : 0, &report, &error));
  g_assert_no_error(error);
  g_assert_true((report.problem != NULL) == (report.bad_seq != 0));
  if (!report.problem)
    g_assert_cmpuint(report.entries, ==, report.head.seq);
  return report.bad_seq;
}

static void
untouched_is_whole(Fixture *f, gconstpointer data)
{
  g_assert_cmpuint(f->head.seq, ==, ENTRIES + 2); /* begun, right, entries */
  g_assert_cmpuint(verify(f, NULL), ==, 0);
  g_assert_cmpuint(verify(f, &f->head), ==, 0);
}

static void
our_own_mistakes_are_refused(Fixture *f, gconstpointer data)
{
  static const char *const statements[] = { "DELETE FROM audit WHERE seq=3", "UPDATE audit SET vm='x' WHERE seq=3" };
  for (size_t i = 0; i < G_N_ELEMENTS(statements); i++) {
    sqlite3 *db = NULL;
    g_assert_cmpint(sqlite3_open(f->path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, statements[i], NULL, NULL, NULL), ==, SQLITE_CONSTRAINT);
    sqlite3_close(db);
  }
  g_assert_cmpuint(verify(f, &f->head), ==, 0);
}

/* Every column of every row, each in some byte of it. */
static void
any_altered_column_is_named(Fixture *f, gconstpointer data)
{
  static const char *const changes[] = {
    "at_us=at_us+1",
    "kind=kind||'x'",
    "subject=substr(subject,2)||'y'",
    "vm=upper(vm)||'z'",
    "actor='uid:1'||actor",
    "detail=replace(detail||' ','what','whom')",
    "hash=CASE substr(hash,1,1) WHEN '0' THEN '1' ELSE '0' END||substr(hash,2)",
    "hash=upper(hash)||''",
  };
  for (unsigned seq = 1; seq <= f->head.seq; seq++)
    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
      g_autofree char *sql = g_strdup_printf("UPDATE audit SET %s WHERE seq=%u", changes[i], seq);
      restore(f);
      tamper(f, sql);
      g_test_message("%s", sql);
      g_assert_cmpuint(verify(f, NULL), ==, seq);
    }
}

static void
any_removed_row_is_named(Fixture *f, gconstpointer data)
{
  for (unsigned seq = 1; seq < f->head.seq; seq++) {
    g_autofree char *gap = g_strdup_printf("DELETE FROM audit WHERE seq=%u", seq);
    /* And the rest moved up, so that the numbers show nothing. */
    g_autofree char *closed = g_strdup_printf("DELETE FROM audit WHERE seq=%u; UPDATE audit SET seq=-seq WHERE seq>%u;"
                                              "UPDATE audit SET seq=-seq-1 WHERE seq<0",
                                              seq, seq);
    restore(f);
    tamper(f, gap);
    g_assert_cmpuint(verify(f, NULL), ==, seq);
    restore(f);
    tamper(f, closed);
    g_assert_cmpuint(verify(f, NULL), ==, seq);
  }
}

static void
any_cut_end_is_named(Fixture *f, gconstpointer data)
{
  for (unsigned seq = 1; seq <= f->head.seq; seq++) {
    g_autofree char *sql = g_strdup_printf("DELETE FROM audit WHERE seq>=%u", seq);
    restore(f);
    tamper(f, sql);
    g_assert_cmpuint(verify(f, &f->head), ==, seq);
    g_assert_cmpuint(verify(f, NULL), ==, seq == 1 ? 1 : 0); /* why there are seals: the chain alone shows only that nothing is left */
  }
}

static void
any_two_swapped_rows_are_named(Fixture *f, gconstpointer data)
{
  for (unsigned a = 1; a < f->head.seq; a++) {
    unsigned b = (unsigned)g_test_rand_int_range((int)a + 1, (int)f->head.seq + 1);
    g_autofree char *sql = g_strdup_printf("UPDATE audit SET seq=-1 WHERE seq=%u; UPDATE audit SET seq=%u WHERE seq=%u;"
                                           "UPDATE audit SET seq=%u WHERE seq=-1",
                                           a, a, b, b);
    restore(f);
    tamper(f, sql);
    g_assert_cmpuint(verify(f, NULL), ==, a);
  }
}

/* Somebody who can compute hashes alters an entry and all hashes behind it: the seal says so. */
static void
a_chain_written_anew_is_seen(Fixture *f, gconstpointer data)
{
  g_unlink(f->path);
  g_autoptr(NcJournal) journal = nc_journal_open(f->path, NULL);
  fill(journal);
  g_clear_pointer(&journal, nc_journal_close);
  g_assert_cmpuint(verify(f, NULL), ==, 0);
  g_assert_cmpuint(verify(f, &f->head), ==, f->head.seq);
}

static char *
content(Fixture *f)
{
  sqlite3 *db = NULL;
  sqlite3_stmt *rows = NULL;
  GString *text = g_string_new(NULL);
  if (sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
      sqlite3_prepare_v2(db, "SELECT seq, at_us, kind, subject, vm, actor, detail FROM audit ORDER BY seq", -1, &rows, NULL) == SQLITE_OK)
    while (sqlite3_step(rows) == SQLITE_ROW)
      for (int i = 0; i < 7; i++)
        g_string_append_printf(text, "%s\n", (const char *)sqlite3_column_text(rows, i));
  sqlite3_finalize(rows);
  sqlite3_close(db);
  return g_string_free(text, FALSE);
}

/* Single bytes of the file: what verify lets pass reads exactly as before (another table's byte, an unused one). */
static void
any_altered_byte_is_seen_or_harmless(Fixture *f, gconstpointer data)
{
  g_autofree char *before = content(f);
  g_autofree char *bytes = NULL;
  gsize length;
  unsigned seen = 0;

  g_assert_true(g_file_get_contents(f->pristine, &bytes, &length, NULL));
  for (gsize at = (gsize)g_test_rand_int_range(0, 29); at < length; at += 29) {
    g_auto(NcAuditReport) report = { .entries = 0 };
    char kept = bytes[at];
    bytes[at] = (char)(bytes[at] ^ (1 << g_test_rand_int_range(0, 8)));
    g_assert_true(g_file_set_contents_full(f->path, bytes, (gssize)length, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    bytes[at] = kept;
    bool passed = nc_audit_verify_file(f->path, &f->head, 1, &report, NULL) && !report.problem;
    seen += !passed;
    if (passed) {
      g_autofree char *after = content(f);
      g_assert_cmpstr(after, ==, before);
    }
  }
  g_test_message("%u of %u altered bytes were seen", seen, (unsigned)(length / 29));
  g_assert_cmpuint(seen, >, 50); /* the log's own bytes are some kilobytes of the file */
}

static void
a_change_and_its_entry_go_together(Fixture *f, gconstpointer data)
{
  g_autoptr(NcJournal) journal = nc_journal_open(f->path, NULL);
  const NcAuditFilter rights = { .kind = "right" };
  const NcRight released = { .vm = "web1", .epoch = 2, .state = NC_RIGHT_RELEASED, .peer = "b", .migration = "m-2" };

  g_assert_false(nc_journal_set_right(journal, &released, NC_RIGHT_INCOMING, 1, NULL)); /* refused: no trace */
  g_assert_true(nc_journal_set_right(journal, &released, NC_RIGHT_HELD, 1, NULL));
  nc_autojson json_t *list = nc_journal_list_audit(journal, &rights, NULL);
  json_t *newest = json_array_get(list, 0);
  g_assert_cmpuint(json_array_size(list), ==, 2);
  g_assert_cmpstr(nc_json_string_or(newest, "subject", ""), ==, "m-2");
  g_assert_cmpstr(nc_json_string_or(json_object_get(newest, "detail"), "state", ""), ==, "released");
  g_assert_cmpstr(nc_json_string_or(json_object_get(newest, "detail"), "was", ""), ==, "held");
}

static void
a_long_detail_is_replaced_by_its_hash(Fixture *f, gconstpointer data)
{
  g_autoptr(NcJournal) journal = nc_journal_open(f->path, NULL);
  g_autofree char *much = g_strnfill(NC_AUDIT_DETAIL_MAX_BYTES + 1, 'x');
  nc_autojson json_t *detail = json_pack("{s:s}", "much", much);
  const NcAuditEntry entry = { .kind = "long", .detail = detail };
  const NcAuditFilter filter = { .kind = "long" };

  g_assert_true(nc_journal_audit(journal, &entry, true, NULL, NULL));
  nc_autojson json_t *list = nc_journal_list_audit(journal, &filter, NULL);
  g_assert_cmpint(nc_json_int_or(json_object_get(json_array_get(list, 0), "detail"), "omitted_bytes", 0), >, NC_AUDIT_DETAIL_MAX_BYTES);
  g_assert_cmpuint(verify(f, &f->head), ==, 0);
}

/* Killed at any moment: the log is whole, and holds at least what was settled. */
static void
a_crash_leaves_it_whole(Fixture *f, gconstpointer data)
{
  for (int round = 0; round < 8; round++) {
    int pipes[2];
    NcAuditHead settled;
    g_assert_cmpint(pipe(pipes), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
      NcJournal *journal = nc_journal_open(f->path, NULL);
      for (;;) {
        add_entries(journal);
        if (!nc_journal_audit_settle(journal, &settled, NULL) || write(pipes[1], &settled, sizeof settled) != sizeof settled)
          _exit(1);
      }
    }
    close(pipes[1]);
    g_assert_cmpint(read(pipes[0], &settled, sizeof settled), ==, sizeof settled);
    g_usleep((gulong)g_test_rand_int_range(0, 20000));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    NcAuditHead next;
    while (read(pipes[0], &next, sizeof next) == sizeof next)
      settled = next;
    close(pipes[0]);
    g_assert_cmpuint(verify(f, &settled), ==, 0);
  }
}

static void
a_seal_is_the_nodes(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *seal_path = g_build_filename(f->dir, NC_AUDIT_SEAL_FILE, NULL);
  g_autofree char *cert_path = g_build_filename(f->dir, "pki", "node.crt", NULL);
  g_autofree char *key_path = g_build_filename(f->dir, "pki", "node.key", NULL);
  NcAuditSeal seal;

  g_assert_true(nc_pki_init(f->dir, "test", "host-a", "127.0.0.1:7450", 0, &error));
  g_autoptr(NcCert) cert = nc_cert_load(cert_path, &error);
  g_autoptr(NcKey) key = nc_key_load(key_path, &error);
  g_autoptr(NcKey) other = nc_key_new(&error);
  g_assert_no_error(error);
  g_assert_false(nc_audit_seal_read(seal_path, cert, &seal, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&error);
  g_assert_true(nc_audit_seal_write(seal_path, "host-a", &f->head, key, &error));
  g_assert_true(nc_audit_seal_read(seal_path, cert, &seal, &error));
  g_assert_cmpuint(seal.head.seq, ==, f->head.seq);
  g_assert_cmpmem(seal.head.hash, sizeof seal.head.hash, f->head.hash, sizeof f->head.hash);
  /* Any change of its text makes it another one, or none. */
  g_autofree char *bytes = NULL;
  gsize length;
  g_assert_true(g_file_get_contents(seal_path, &bytes, &length, NULL));
  for (gsize i = 0; i < length; i++) {
    NcAuditSeal altered;
    char kept = bytes[i];
    bytes[i] = (char)(kept ^ 1);
    g_assert_true(g_file_set_contents_full(seal_path, bytes, (gssize)length, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    bytes[i] = kept;
    if (nc_audit_seal_read(seal_path, cert, &altered, NULL)) {
      g_assert_cmpuint(altered.head.seq, ==, seal.head.seq);
      g_assert_cmpmem(altered.head.hash, sizeof altered.head.hash, seal.head.hash, sizeof seal.head.hash);
    }
  }
  g_assert_true(nc_audit_seal_write(seal_path, "host-a", &f->head, other, &error));
  g_assert_false(nc_audit_seal_read(seal_path, cert, &seal, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
}

static void
heads_are_read(void)
{
  static const char *const bad[] = { "", ":", "1", "1:", "1:00", "-1:", "0:", "x:" };
  const char *hash = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
  g_autofree char *good = g_strdup_printf("4711:%s", hash);
  NcAuditHead head;

  g_assert_true(nc_audit_head_parse(good, &head));
  g_assert_cmpuint(head.seq, ==, 4711);
  g_assert_cmpint(head.hash[31], ==, 0x1f);
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autofree char *longer = g_strdup_printf("%s%s0", bad[i], hash);
    g_assert_false(nc_audit_head_parse(bad[i], &head));
    g_assert_false(nc_audit_head_parse(longer, &head));
  }
}

/* A journal of before there was a log gets one, and keeps what it had. */
static void
an_older_journal_begins_one(Fixture *f, gconstpointer data)
{
  NcRight right;

  tamper(f, "DROP TABLE audit; DROP TABLE rollback; DROP TABLE attempt; DROP TABLE bearer; DROP TABLE keyed_answer; DELETE FROM setting; PRAGMA user_version=1");
  g_autoptr(NcJournal) journal = nc_journal_open(f->path, NULL);
  g_assert_nonnull(journal);
  g_assert_true(nc_journal_get_right(journal, "web1", &right, NULL));
  g_assert_cmpint(right.state, ==, NC_RIGHT_HELD);
  g_assert_cmpuint(verify(f, NULL), ==, 0);
  const NcAuditFilter all = { .limit = 0 };
  nc_autojson json_t *list = nc_journal_list_audit(journal, &all, NULL);
  g_assert_cmpuint(json_array_size(list), ==, 1);
  g_assert_cmpstr(nc_json_string_or(json_array_get(list, 0), "kind", ""), ==, "audit.begun");
}

/* Not so one whose log was emptied: its beginning is remembered elsewhere in the journal. */
static void
an_emptied_log_is_not_begun_again(Fixture *f, gconstpointer data)
{
  tamper(f, "DELETE FROM audit; CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, ''); END");
  g_autoptr(NcJournal) journal = nc_journal_open(f->path, NULL);
  g_assert_nonnull(journal);
  g_assert_cmpuint(verify(f, NULL), ==, 1);
}

static void
other_files_are_no_journals(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_auto(NcAuditReport) report = { .entries = 0 };
  g_autofree char *path = g_build_filename(f->dir, "other", NULL);

  g_assert_false(nc_audit_verify_file(path, NULL, 0, &report, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&error);
  g_assert_true(g_file_set_contents(path, "not a database, and long enough to be looked at", -1, NULL));
  g_assert_false(nc_audit_verify_file(path, NULL, 0, &report, &error));
  g_assert_nonnull(error);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define TEST(function) g_test_add("/store/audit/" #function, Fixture, NULL, setup, function, teardown)
  TEST(untouched_is_whole);
  TEST(our_own_mistakes_are_refused);
  TEST(any_altered_column_is_named);
  TEST(any_removed_row_is_named);
  TEST(any_cut_end_is_named);
  TEST(any_two_swapped_rows_are_named);
  TEST(a_chain_written_anew_is_seen);
  TEST(any_altered_byte_is_seen_or_harmless);
  TEST(a_change_and_its_entry_go_together);
  TEST(a_long_detail_is_replaced_by_its_hash);
  TEST(a_crash_leaves_it_whole);
  TEST(a_seal_is_the_nodes);
  TEST(an_older_journal_begins_one);
  TEST(an_emptied_log_is_not_begun_again);
  TEST(other_files_are_no_journals);
  g_test_add_func("/store/audit/heads_are_read", heads_are_read);
  return g_test_run();
}
