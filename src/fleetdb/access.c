/* SPDX-License-Identifier: Apache-2.0 */
#include "fleetdb/access.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "crypto/digest.h"
#include "fleetdb/rows.h"

#include <string.h>

#define NC_HASH_HEX_BYTES (2 * NC_SHA256_BYTES)

/* --- tokens --- */

static const NcRowsColumn nc_token_columns[] = {
  { "id", NC_COLUMN_TEXT },        { "kind", NC_COLUMN_TEXT },      { "subject", NC_COLUMN_TEXT },  { "role", NC_COLUMN_TEXT },
  { "actor", NC_COLUMN_TEXT },     { "created_us", NC_COLUMN_INT }, { "expires_us", NC_COLUMN_INT }, { "ended_us", NC_COLUMN_INT },
  { "secret_sha256", NC_COLUMN_TEXT }, /* last: lists leave it out */
};
static const NcRows nc_secret_table = NC_ROWS("token", "token", nc_token_columns);
static const NcRows nc_token_table = { "token", "token", nc_token_columns, (int)G_N_ELEMENTS(nc_token_columns) - 1 };

static bool
nc_is_hash(const char *hex)
{
  uint8_t bytes[NC_SHA256_BYTES];
  return nc_hex_decode(hex, bytes, sizeof bytes);
}

bool
nc_fleetdb_add_token(NcFleetDb *db, const NcFleetToken *token, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(token->id),            NC_SQL_TEXT(token->kind),  NC_SQL_TEXT(token->subject),
                                NC_SQL_TEXT(token->role),          NC_SQL_TEXT(token->actor), NC_SQL_INT(nc_wall_us()),
                                NC_SQL_INT(token->expires_us),     NC_SQL_INT(0),             NC_SQL_TEXT(token->secret_sha256) };

  if (!nc_name_is_valid(token->id) || !nc_is_hash(token->secret_sha256) || token->expires_us < 0 ||
      !(g_str_equal(token->kind, "bearer") || g_str_equal(token->kind, "join")))
    return nc_fail(error, NC_ERROR_INVALID, "a token needs a name, a kind and the hash of its secret");
  return nc_fleetdb_change(db,
                           "INSERT INTO token(id, kind, subject, role, actor, created_us, expires_us, ended_us, secret_sha256)"
                           " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                           values, 9, error);
}

/* The token, if it is good; NULL on error. */
static json_t *
nc_find_token(NcFleetDb *db, const char *kind, const char *id, const char *secret_sha256, int64_t now_us, GError **error)
{
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *token = nc_name_is_valid(id) ? nc_rows_get(db, &nc_secret_table, "id", id, &problem) : NULL;
  const char *known = nc_json_string_or(token, "secret_sha256", "");
  const int64_t expires_us = nc_json_int_or(token, "expires_us", 0);

  if (problem && !g_error_matches(problem, NC_ERROR, NC_ERROR_NOT_FOUND)) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
  }
  if (!token || strlen(known) != NC_HASH_HEX_BYTES || strlen(secret_sha256) != NC_HASH_HEX_BYTES ||
      !nc_constant_time_equal(known, secret_sha256, NC_HASH_HEX_BYTES) || !g_str_equal(nc_json_string_or(token, "kind", ""), kind) ||
      (expires_us > 0 && expires_us <= now_us) || nc_json_int_or(token, "ended_us", 1) != 0) {
    nc_fail(error, NC_ERROR_UNAUTHENTICATED, "the token is not known, has run out, or was used or ended: ask an administrator for a new one");
    return NULL;
  }
  json_object_del(token, "secret_sha256");
  return g_steal_pointer(&token);
}

json_t *
nc_fleetdb_check_token(NcFleetDb *db, const char *id, const char *secret_sha256, int64_t now_us, GError **error)
{
  return nc_find_token(db, "bearer", id, secret_sha256, now_us, error);
}

bool
nc_fleetdb_end_token(NcFleetDb *db, const char *id, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(id), NC_SQL_INT(nc_wall_us()) };
  if (!nc_fleetdb_change(db, "UPDATE token SET ended_us=$2 WHERE id=$1 AND ended_us=0", values, 2, error))
    return false;
  return db->sql->changes == 1 || nc_fail(error, NC_ERROR_NOT_FOUND, "there is no token %s that is still good", id);
}

json_t *
nc_fleetdb_use_token(NcFleetDb *db, const char *id, const char *secret_sha256, int64_t now_us, GError **error)
{
  nc_autojson json_t *token = nc_find_token(db, "join", id, secret_sha256, now_us, error);
  return token && nc_fleetdb_end_token(db, id, error) ? g_steal_pointer(&token) : NULL;
}

json_t *
nc_fleetdb_list_tokens(NcFleetDb *db, const NcPage *page, char **ret_next, GError **error)
{
  const NcOrder order = { .key = "id", .is_text = true };
  g_auto(NcWhere) where = { 0 };
  nc_where_init(&where);
  return nc_rows_page(db, &nc_token_table, &where, &order, page, ret_next, error);
}

/* --- idempotency keys --- */

static const NcRowsColumn nc_answer_columns[] = {
  { "request_sha256", NC_COLUMN_TEXT },
  { "status", NC_COLUMN_INT },
  { "answer", NC_COLUMN_JSON },
};
static const NcRows nc_answer_table = NC_ROWS("idempotency", "idempotency key", nc_answer_columns);

static bool
nc_is_key(const char *key)
{
  size_t length = 0;
  for (; key[length] && length <= NC_IDEMPOTENCY_KEY_MOST; length++)
    if (!g_ascii_isprint(key[length]))
      return false;
  return length > 0 && length <= NC_IDEMPOTENCY_KEY_MOST;
}

bool
nc_fleetdb_find_answer(NcFleetDb *db, const NcIdempotencyKey *key, json_t **ret_answer, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(key->actor), NC_SQL_TEXT(key->key) };

  if (!nc_is_key(key->key) || !nc_is_hash(key->request_sha256))
    return nc_fail(error, NC_ERROR_INVALID, "an idempotency key has 1 to %u printable ASCII characters", NC_IDEMPOTENCY_KEY_MOST);
  nc_autojson json_t *rows = nc_rows_query(
    db, &nc_answer_table, "SELECT request_sha256, status, answer FROM idempotency WHERE actor=$1 AND key=$2", values, 2, error);
  if (!rows)
    return false;
  json_t *row = json_array_get(rows, 0);
  if (row && !g_str_equal(nc_json_string_or(row, "request_sha256", ""), key->request_sha256))
    return nc_fail(error, NC_ERROR_CONFLICT, "this idempotency key was used for another request: choose a new one");
  if (row)
    json_object_del(row, "request_sha256");
  *ret_answer = json_incref(row);
  return true;
}

bool
nc_fleetdb_keep_answer(NcFleetDb *db, const NcIdempotencyKey *key, int status, json_t *answer, GError **error)
{
  g_autofree char *text = nc_fleetdb_dump(answer, "null", error);
  const NcSqlValue values[] = { NC_SQL_TEXT(key->actor), NC_SQL_TEXT(key->key), NC_SQL_TEXT(key->request_sha256),
                                NC_SQL_INT(status),      NC_SQL_TEXT(text),     NC_SQL_INT(nc_wall_us()) };
  return text && nc_fleetdb_change(db,
                                   "INSERT INTO idempotency(actor, key, request_sha256, status, answer, created_us)"
                                   " VALUES($1, $2, $3, $4, $5, $6)",
                                   values, 6, error);
}
