/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite in WAL mode, with an exclusive lock, an integrity check and schema steps at opening. */
#include "store/db.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct NcDb {
  const NcDbKind *kind;
  sqlite3 *handle;
  char *path;
  int lock_fd;
  int synchronous; /* what the connection is set to: 1 NORMAL, 2 FULL */
  bool refuses;    /* the next transaction: SQLite is told to write nothing */
};

static bool
nc_db_is_duplicate(NcDb *db)
{
  int code = sqlite3_extended_errcode(db->handle);
  return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY || code == SQLITE_CONSTRAINT_ROWID;
}

static bool
nc_db_fail(NcDb *db, const char *what, GError **error)
{
  const char *text = db->handle ? sqlite3_errmsg(db->handle) : "out of memory";

  switch (db->handle ? sqlite3_errcode(db->handle) : SQLITE_NOMEM) {
  case SQLITE_FULL:
    return nc_fail(error, NC_ERROR_RESOURCE,
                   "no space left for the %s at %s (this node): free space on that file system; nothing was changed", db->kind->name,
                   db->path);
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return nc_fail(error, NC_ERROR_CORRUPT,
                   "the %s at %s (this node) is damaged: %s; restore it from a backup: %s", db->kind->name, db->path, text,
                   db->kind->if_lost);
  case SQLITE_CONSTRAINT:
    return nc_fail(error, nc_db_is_duplicate(db) ? NC_ERROR_EXISTS : NC_ERROR_INVALID, "the %s at %s refuses this: %s", db->kind->name,
                   db->path, text);
  case SQLITE_READONLY:
  case SQLITE_CANTOPEN:
  case SQLITE_PERM:
    return nc_fail(error, NC_ERROR_IO, "can't open the %s at %s for writing: %s", db->kind->name, db->path, text);
  default:
    return nc_fail(error, NC_ERROR_IO, "the %s at %s: %s: %s", db->kind->name, db->path, what, text);
  }
}

static bool
nc_db_exec(NcDb *db, const char *sql, GError **error)
{
  return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK || nc_db_fail(db, sql, error);
}

static int
nc_db_bind(sqlite3_stmt *statement, const NcDbValue *values, int count)
{
  int status = SQLITE_OK;
  for (int i = 0; i < count && status == SQLITE_OK; i++)
    status = values[i].text ? sqlite3_bind_text(statement, i + 1, values[i].text, -1, SQLITE_STATIC)
                            : sqlite3_bind_int64(statement, i + 1, values[i].number);
  return status;
}

bool
nc_db_run(NcDb *db, const char *sql, const NcDbValue *values, int count, NcDbRowFunc func, gpointer data, GError **error)
{
  sqlite3_stmt *statement = NULL;
  bool ok = true;
  int status = sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL);

  if (status == SQLITE_OK)
    status = nc_db_bind(statement, values, count);
  if (status == SQLITE_OK) {
    while (ok && (status = sqlite3_step(statement)) == SQLITE_ROW)
      ok = !func || func(statement, data, error);
    if (ok && status != SQLITE_DONE)
      ok = nc_db_fail(db, sql, error);
  } else {
    ok = nc_db_fail(db, sql, error);
  }
  sqlite3_finalize(statement);
  return ok;
}

int
nc_db_changes(NcDb *db)
{
  return sqlite3_changes(db->handle);
}

const char *
nc_db_column(sqlite3_stmt *row, int index)
{
  const char *text = (const char *)sqlite3_column_text(row, index);
  return text ? text : "";
}

int64_t
nc_db_column_int(sqlite3_stmt *row, int index)
{
  return sqlite3_column_int64(row, index);
}

bool
nc_db_begin(NcDb *db, bool durable, GError **error)
{
  int wanted = durable ? 2 : 1;
  /* A FULL commit syncs the whole write-ahead log, so also the NORMAL commits before it. */
  if (db->synchronous != wanted) {
    if (!nc_db_exec(db, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", error))
      return false;
    db->synchronous = wanted;
  }
  return nc_db_exec(db, "BEGIN IMMEDIATE", error) && (!db->refuses || nc_db_exec(db, "PRAGMA query_only=ON", error));
}

void
nc_db_refuse_next(NcDb *db)
{
  db->refuses = true;
}

/* After the one that was refused. */
static void
nc_db_accept_again(NcDb *db)
{
  if (db->refuses)
    sqlite3_exec(db->handle, "PRAGMA query_only=OFF", NULL, NULL, NULL);
  db->refuses = false;
}

bool
nc_db_end(NcDb *db, bool ok, GError **error)
{
  bool committed = ok && nc_db_exec(db, "COMMIT", error);
  /* Some failures (disk full) have rolled back by themselves. */
  if (!committed && !sqlite3_get_autocommit(db->handle))
    sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
  nc_db_accept_again(db);
  return committed;
}

/* flock() is tied to the open file, so it goes with the process however that ends. */
static bool
nc_db_lock(NcDb *db, GError **error)
{
  g_autofree char *path = g_strdup_printf("%s.lock", db->path);
  char owner[32] = "";

  db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (db->lock_fd < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't open %s", path);
  if (flock(db->lock_fd, LOCK_EX | LOCK_NB) < 0) {
    if (errno != EWOULDBLOCK)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "can't lock %s", path);
    ssize_t n = pread(db->lock_fd, owner, sizeof owner - 1, 0);
    owner[n > 0 ? n : 0] = '\0';
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "the %s at %s is in use by another novacrond (process %s): stop that one, or use another data_dir", db->kind->name,
                   db->path, g_strchomp(owner)[0] ? owner : "unknown");
  }
  int length = snprintf(owner, sizeof owner, "%d\n", (int)getpid());
  if (ftruncate(db->lock_fd, 0) < 0 || pwrite(db->lock_fd, owner, (size_t)length, 0) != length)
    return nc_fail_errno(error, errno == ENOSPC ? NC_ERROR_RESOURCE : NC_ERROR_IO, errno, "can't write %s", path);
  return true;
}

static bool
nc_db_first_text(sqlite3_stmt *row, gpointer data, GError **error)
{
  char **text = data;
  if (!*text)
    *text = g_strdup(nc_db_column(row, 0));
  return true;
}

static bool
nc_db_first_int(sqlite3_stmt *row, gpointer data, GError **error)
{
  *(int64_t *)data = sqlite3_column_int64(row, 0);
  return true;
}

static bool
nc_db_check(NcDb *db, GError **error)
{
  g_autofree char *verdict = NULL;

  if (!nc_db_run(db, "PRAGMA quick_check(1)", NULL, 0, nc_db_first_text, &verdict, error))
    return false;
  if (g_strcmp0(verdict, "ok") != 0)
    return nc_fail(error, NC_ERROR_CORRUPT,
                   "the %s at %s (this node) is damaged: %s; restore it from a backup: %s", db->kind->name, db->path,
                   verdict ? verdict : "no answer", db->kind->if_lost);
  return true;
}

static bool
nc_db_step(NcDb *db, int from, GError **error)
{
  g_autofree char *number = g_strdup_printf("PRAGMA user_version=%d; PRAGMA application_id=%d;", from + 1,
                                             db->kind->application_id);

  if (!nc_db_begin(db, true, error))
    return false;
  return nc_db_end(db, nc_db_exec(db, db->kind->steps[from], error) && nc_db_exec(db, number, error), error);
}

static bool
nc_db_upgrade(NcDb *db, GError **error)
{
  int64_t version = 0, id = 0;
  const int newest = db->kind->step_count;

  if (!nc_db_run(db, "PRAGMA user_version", NULL, 0, nc_db_first_int, &version, error) ||
      !nc_db_run(db, "PRAGMA application_id", NULL, 0, nc_db_first_int, &id, error))
    return false;
  if (version != 0 && id != db->kind->application_id)
    return nc_fail(error, NC_ERROR_INVALID, "%s is not a %s of NovaCron: it is in use for something else", db->path, db->kind->name);
  if (version < 0 || version > newest)
    return nc_fail(error, NC_ERROR_INVALID,
                   "the %s at %s was written by a newer NovaCron (its schema is %d, this one knows %d): install that version again",
                   db->kind->name, db->path, (int)version, newest);
  for (int i = (int)version; i < newest; i++)
    if (!nc_db_step(db, i, error))
      return false;
  return true;
}

static bool
nc_db_open_locked(NcDb *db, GError **error)
{
  /* Before SQLite: it would create the file with the umask's permissions, and it holds token hashes and specifications. */
  nc_autofd int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    return nc_fail_errno(error, errno == ENOSPC ? NC_ERROR_RESOURCE : NC_ERROR_IO, errno, "can't open the %s at %s",
                         db->kind->name, db->path);
  nc_fd_clear(&fd);
  if (sqlite3_open_v2(db->path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK)
    return nc_db_fail(db, "open", error);
  sqlite3_busy_timeout(db->handle, 5000); /* somebody's backup reads; a second novacrond can't be there */
  return nc_db_exec(db, "PRAGMA journal_mode=WAL", error) && nc_db_check(db, error) && nc_db_upgrade(db, error);
}

NcDb *
nc_db_open_reader(const char *path, const NcDbKind *kind, GError **error)
{
  g_autoptr(NcDb) db = g_new0(NcDb, 1);
  int64_t id = 0;

  db->kind = kind;
  db->path = g_strdup(path);
  db->lock_fd = -1;
  if (access(path, R_OK) < 0) {
    nc_fail_errno(error, errno == ENOENT ? NC_ERROR_NOT_FOUND : NC_ERROR_IO, errno, "can't read the %s at %s", kind->name, path);
    return NULL;
  }
  if (sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK) {
    nc_db_fail(db, "open", error);
    return NULL;
  }
  sqlite3_busy_timeout(db->handle, 5000);
  if (!nc_db_run(db, "PRAGMA application_id", NULL, 0, nc_db_first_int, &id, error))
    return NULL;
  if (id != kind->application_id) {
    nc_fail(error, NC_ERROR_INVALID, "%s is not a %s of NovaCron", path, kind->name);
    return NULL;
  }
  return g_steal_pointer(&db);
}

NcDb *
nc_db_open(const char *path, const NcDbKind *kind, GError **error)
{
  NcDb *db = g_new0(NcDb, 1);
  db->kind = kind;
  db->path = g_strdup(path);
  db->lock_fd = -1;
  if (!nc_db_lock(db, error) || !nc_db_open_locked(db, error)) {
    nc_db_close(db);
    return NULL;
  }
  return db;
}

void
nc_db_close(NcDb *db)
{
  if (!db)
    return;
  sqlite3_close(db->handle);
  nc_fd_clear(&db->lock_fd);
  g_free(db->path);
  g_free(db);
}
