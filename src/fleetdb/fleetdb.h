/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the controllers know of the fleet, in one database: SQLite for one controller, PostgreSQL for several.
 *
 * This header: opening it, who leads, and transactions. The rows: fleetdb/inventory.h (nodes, machines), migrations.h, groups.h
 * (batches, evacuations), events.h, access.h (tokens, idempotency keys). docs/fleet-database.md describes the tables.
 *
 * Who leads. One row, the lease, says who, under which epoch, and until when by the database's own clock. Whoever finds it run out
 * takes it with the next epoch; so does who finds that much more is left than it was taken for: the clock was ahead then. Time
 * only decides when somebody else may lead; what is safe does not depend on it: each write names the epoch in which it was
 * decided, and its transaction begins by locking the lease's row and looking whether that epoch still leads, held by whom this
 * NcFleetDb took it for. If not, nothing is written, and the error is NC_FLEETDB_FENCED. So a leader that stood
 * still for an hour can't undo what its successor has done; not even if the server failed over to a standby that had not heard of
 * its lease, and gave the same epoch to the successor.
 *
 * What follows from the lock: writes are one after the other, so that ids of events grow in the order in which they become visible.
 *
 * Exactly once. When the connection breaks during a commit, nobody knows whether it happened. The lease's row counts writes: the transaction
 * is begun again on a new connection, and if the count is one more than it was, the first one had happened. Nothing is done twice or lost,
 * as long as only one NcFleetDb writes in an epoch.
 *
 * Errors: NC_ERROR_UNREACHABLE: the database does not answer, and did not for ${patience_ms}: try later; nothing was changed, unless
 * that happened during a commit. Then nobody knows, and to read is not enough: the server's old process may still be committing (it waits for
 * a synchronous standby, say), and be done after the read. So after a write that ended like this, the caller makes another one, which
 * may be empty, until it succeeds or is fenced: it waits for the lease's row, which the old process has locked until it is done. What is read
 * after that, or within it, is what there is. NC_ERROR_EXISTS: a key is taken. NC_ERROR_CONFLICT: not in this state.
 * NC_ERROR_INVALID: a value that can't be kept; so is an object or array that takes more than NC_MSG_MAX_BYTES as text. Others: as they are.
 *
 * Any thread; one at a time. Calls block for the disk or the server.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"

/* Only this, and only from nc_fleetdb_write(): another controller leads now. For branching; never for users. */
#define NC_FLEETDB_ERROR (nc_fleetdb_error_quark())
GQuark nc_fleetdb_error_quark(void);
#define NC_FLEETDB_FENCED 0

typedef struct NcFleetDb NcFleetDb;

typedef struct {
  int statement_ms; /* the longest that one statement may take (PostgreSQL) */
  int patience_ms;  /* how long a call tries again when the connection is lost or the server asks for it */
} NcFleetDbOptions;

#define NC_FLEETDB_OPTIONS_DEFAULT { .statement_ms = 3000, .patience_ms = 5000 }

/*
 * Is ${database} (the key `database`) one that can be opened: "postgresql://..." or "postgres://...", or an absolute path?
 * NC_ERROR_INVALID.
 */
bool nc_fleetdb_check(const char *database, GError **error);
/*
 * Opens or creates it and brings its schema to the newest version. ${options} NULL: defaults. An SQLite file is locked: a second
 * controller gets NC_ERROR_CONFLICT. One that a newer NovaCron wrote: NC_ERROR_INVALID. NULL on error.
 */
NcFleetDb *nc_fleetdb_open(const char *database, const NcFleetDbOptions *options, GError **error);
void nc_fleetdb_close(NcFleetDb *db); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcFleetDb, nc_fleetdb_close)
/* Can several controllers share it? */
bool nc_fleetdb_is_shared(const NcFleetDb *db);

/* --- who leads --- */

#define NC_FLEETDB_MOST_HOLDER 256

typedef struct {
  char holder[NC_FLEETDB_MOST_HOLDER];  /* "": nobody */
  char address[NC_FLEETDB_MOST_HOLDER]; /* where it takes requests */
  uint64_t epoch;  /* 0: nobody has ever led */
  int64_t left_us; /* until it runs out; negative: it has */
} NcFleetLease;

/*
 * Takes the lease, or extends it, for ${ttl_ms} from now, if nobody else has it. ${holder} must be another one after each start of the
 * process (a name and nc_id_new()). *ret: who has it now, whether that is ${holder} or not; extended, the epoch stays the same, also when
 * it had run out and nobody had taken it. Writes by ${db} are ${holder}'s from then on, if it has it. False only on error.
 */
bool nc_fleetdb_take_lease(NcFleetDb *db, const char *holder, const char *address, int64_t ttl_ms, NcFleetLease *ret, GError **error);
/* Gives it back, so that another one need not wait. If ${holder} has it under ${epoch}; else nothing happens. */
bool nc_fleetdb_release_lease(NcFleetDb *db, const char *holder, uint64_t epoch, GError **error);
bool nc_fleetdb_look_at_lease(NcFleetDb *db, NcFleetLease *ret, GError **error);

/* --- transactions --- */

/*
 * Changes ${db} by functions that are marked "in a write"; false with ${error} undoes it all. It may be called again from the beginning, so
 * that it must not do anything else, and set what it sets in ${data} each time.
 */
typedef bool (*NcFleetWriteFunc)(NcFleetDb *db, gpointer data, GError **error);

/*
 * Runs ${func} in one transaction, as the leader of ${epoch}. When it returns true, a power cut can't take it back.
 * NC_FLEETDB_FENCED: another one leads, or ${db} itself never took the lease, and nothing was changed (of an earlier commit whose end is
 * unknown: it may have happened).
 * Not from within ${func}. Reading within ${func} sees what it has written.
 */
bool nc_fleetdb_write(NcFleetDb *db, uint64_t epoch, NcFleetWriteFunc func, gpointer data, GError **error);
