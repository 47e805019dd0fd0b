/* SPDX-License-Identifier: Apache-2.0 */
/* The lease: one row, changed by one statement that looks at it with the database's own clock. */
#include "fleetdb/fleetdb_internal.h"

#include <string.h>

typedef struct {
  const char *holder, *address;
  int64_t ttl_ms;
  uint64_t epoch;
  NcFleetLease lease;
} NcLeaseWish;

static bool
nc_take_lease_row(const NcSqlRow *row, gpointer data, GError **error)
{
  NcFleetLease *lease = data;
  g_strlcpy(lease->holder, nc_sql_text(row, 0), sizeof lease->holder);
  g_strlcpy(lease->address, nc_sql_text(row, 1), sizeof lease->address);
  lease->epoch = (uint64_t)nc_sql_number(row, 2);
  lease->left_us = nc_sql_number(row, 3);
  return true;
}

bool
nc_fleetdb_look_at_lease(NcFleetDb *db, NcFleetLease *ret, GError **error)
{
  g_autofree char *query =
    g_strdup_printf("SELECT holder, address, epoch, until_us-%s FROM lease WHERE name='leader'", db->sql->backend->clock_us);
  NcFleetLease lease = { 0 };

  if (!nc_fleetdb_query(db, query, NULL, 0, nc_take_lease_row, &lease, error))
    return false;
  *ret = lease;
  return true;
}

/*
 * If more than twice of what it was taken for is left, the database's clock was ahead when it was, and has been put right: nobody waits for that,
 * which may be years. (Twice: a clock that steps back a little takes nobody's lease away.)
 *
 * PostgreSQL: a statement that had to wait for the row looks at it once more, so of two that come at once only one takes it. Run twice, it
 * extends what it took.
 */
static bool
nc_take_lease(NcFleetDb *db, gpointer data, GError **error)
{
  NcLeaseWish *wish = data;
  const NcSqlValue values[] = { NC_SQL_TEXT(wish->holder), NC_SQL_TEXT(wish->address), NC_SQL_INT(wish->ttl_ms * 1000) };
  const char *clock_us = db->sql->backend->clock_us;
  g_autofree char *take = g_strdup_printf("UPDATE lease SET epoch=CASE WHEN holder=$1 THEN epoch ELSE epoch+1 END, holder=$1, address=$2,"
                                          " until_us=%s+$3, ttl_us=$3 WHERE name='leader' AND (holder=$1 OR holder='' OR until_us<=%s"
                                          " OR (ttl_us>0 AND until_us>%s+2*ttl_us))",
                                          clock_us, clock_us, clock_us);
  return nc_fleetdb_change(db, take, values, 3, error) && nc_fleetdb_look_at_lease(db, &wish->lease, error);
}

bool
nc_fleetdb_take_lease(NcFleetDb *db, const char *holder, const char *address, int64_t ttl_ms, NcFleetLease *ret, GError **error)
{
  NcLeaseWish wish = { .holder = holder, .address = address, .ttl_ms = ttl_ms };

  if (!holder[0] || strlen(holder) >= NC_FLEETDB_MOST_HOLDER || strlen(address) >= NC_FLEETDB_MOST_HOLDER || ttl_ms < 1 ||
      ttl_ms > G_MAXINT)
    return nc_fail(error, NC_ERROR_INTERNAL, "a lease without a holder, or with one that is too long");
  g_rec_mutex_lock(&db->lock);
  bool ok = nc_fleetdb_transact(db, nc_take_lease, &wish, error);
  if (ok && g_str_equal(wish.lease.holder, holder))
    g_strlcpy(db->holder, holder, sizeof db->holder); /* as whom it writes from now on */
  g_rec_mutex_unlock(&db->lock);
  if (ok)
    *ret = wish.lease;
  return ok;
}

static bool
nc_release_lease(NcFleetDb *db, gpointer data, GError **error)
{
  const NcLeaseWish *wish = data;
  const NcSqlValue values[] = { NC_SQL_TEXT(wish->holder), NC_SQL_INT(wish->epoch) };
  return nc_fleetdb_change(db, "UPDATE lease SET holder='', address='', until_us=0 WHERE name='leader' AND holder=$1 AND epoch=$2", values,
                           2, error);
}

bool
nc_fleetdb_release_lease(NcFleetDb *db, const char *holder, uint64_t epoch, GError **error)
{
  NcLeaseWish wish = { .holder = holder, .epoch = epoch };
  return nc_fleetdb_transact(db, nc_release_lease, &wish, error);
}
