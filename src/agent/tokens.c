/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tokens.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/role.h"
#include "crypto/digest.h"
#include "store/bearer.h"

#include <string.h>

#define NC_TOKEN_SECRET_BYTES 32
#define NC_TOKEN_OF_NODE "tok"
#define NC_TOKEN_OF_FLEET "ftok"

/* Tokens of the fleet that are looked up at a time, which may wait for its database: the others of the control socket's workers have other work. */
#define NC_TOKENS_LOOKUPS_MOST 4

struct NcTokens {
  NcJournal *journal;
  NcFleetHost *fleet;
  gint lookups; /* atomic; of the fleet's */
  GMutex lock; /* protects what follows */
  double credit; /* refusals that may be recorded now */
  int64_t credit_us;
  uint64_t unrecorded; /* since the last one that was */
};

NcTokens *
nc_tokens_new(NcJournal *journal, NcFleetHost *fleet)
{
  NcTokens *tokens = g_new0(NcTokens, 1);

  tokens->journal = journal;
  tokens->fleet = fleet;
  tokens->credit = NC_TOKENS_AUDIT_BURST;
  tokens->credit_us = nc_mono_us();
  g_mutex_init(&tokens->lock);
  return tokens;
}

void
nc_tokens_free(NcTokens *tokens)
{
  if (!tokens)
    return;
  g_mutex_clear(&tokens->lock);
  g_free(tokens);
}

static bool
nc_token_is_of_fleet(const char *id)
{
  return g_str_has_prefix(id, NC_TOKEN_OF_FLEET "-");
}

/* Null for 0: it never happens, or has not. */
static json_t *
nc_token_time(int64_t at_us)
{
  g_autofree char *text = at_us ? nc_time_format(at_us) : NULL;
  return text ? json_string(text) : json_null();
}

/* As people see it; ${row} as store/bearer.h and fleetdb/access.h have it. New reference. */
static json_t *
nc_token_view(json_t *row)
{
  const char *id = nc_json_string_or(row, "id", "");
  int64_t expires_us = nc_json_int_or(row, "expires_us", 0), ended_us = nc_json_int_or(row, "ended_us", 0);
  bool is_over = expires_us && expires_us <= nc_wall_us();

  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "id", id, "scope", nc_token_is_of_fleet(id) ? "fleet" : "node", "subject",
                   nc_json_string_or(row, "subject", ""), "role", nc_json_string_or(row, "role", ""), "state",
                   ended_us  ? "revoked"
                   : is_over ? "expired"
                             : "good",
                   "actor", nc_json_string_or(row, "actor", ""), "created", nc_token_time(nc_json_int_or(row, "created_us", 0)), "expires",
                   nc_token_time(expires_us), "revoked", nc_token_time(ended_us));
}

/* --- making one --- */

typedef struct {
  const char *subject, *role;
  bool of_fleet;
  int64_t ttl_s; /* 0: for ever */
} NcTokenWish;

static bool
nc_tokens_read_wish(NcTokens *tokens, json_t *args, NcTokenWish *ret, GError **error)
{
  const char *scope = nc_json_string_or(args, "scope", tokens->fleet ? "fleet" : "node");
  NcRole role;

  *ret = (NcTokenWish){ .ttl_s = NC_TOKENS_TTL_S, .of_fleet = g_str_equal(scope, "fleet") };
  if (!(ret->subject = nc_json_string(args, "subject", error)) || !(ret->role = nc_json_string(args, "role", error)))
    return false;
  if (!nc_name_is_valid(ret->subject))
    return nc_fail(error, NC_ERROR_INVALID, "a token's subject is a name: " NC_NAME_RULE);
  if (!nc_role_from_name(ret->role, &role))
    return nc_fail(error, NC_ERROR_INVALID, "a token's role is viewer, operator or admin");
  if (!ret->of_fleet && !g_str_equal(scope, "node"))
    return nc_fail(error, NC_ERROR_INVALID, "a token's scope is node or fleet");
  return !json_object_get(args, "expires_s") || nc_json_int(args, "expires_s", 0, NC_TOKENS_TTL_MAX_S, &ret->ttl_s, error);
}

static bool
nc_tokens_keep(NcTokens *tokens, const NcBearer *bearer, bool of_fleet, GError **error)
{
  if (!of_fleet)
    return nc_journal_add_bearer(tokens->journal, bearer, error);
  nc_autojson json_t *token = json_pack("{s:s, s:s, s:s, s:s, s:I}", "id", bearer->id, "secret_sha256", bearer->secret_sha256, "subject",
                                        bearer->subject, "role", bearer->role, "expires_us", (json_int_t)bearer->expires_us);
  return nc_fleet_host_add_token(tokens->fleet, bearer->actor, token, error);
}

/* Caller frees, with nc_secret_clear(). */
static char *
nc_token_new_secret(void)
{
  uint8_t bytes[NC_TOKEN_SECRET_BYTES];

  nc_random_bytes(bytes, sizeof bytes);
  char *hex = nc_hex_encode(bytes, sizeof bytes);
  nc_secret_clear(bytes, sizeof bytes);
  return hex;
}

json_t *
nc_tokens_create(NcTokens *tokens, const char *actor, json_t *args, GError **error)
{
  NcTokenWish wish;

  if (!nc_tokens_read_wish(tokens, args, &wish, error))
    return NULL;
  g_autofree char *id = nc_id_new(wish.of_fleet ? NC_TOKEN_OF_FLEET : NC_TOKEN_OF_NODE);
  g_autofree char *secret = nc_token_new_secret();
  g_autofree char *hash = nc_sha256_hex(secret, strlen(secret));
  g_autofree char *text = g_strdup_printf("%s.%s", id, secret);
  int64_t now_us = nc_wall_us();
  const NcBearer bearer = { .id = id,
                            .secret_sha256 = hash,
                            .subject = wish.subject,
                            .role = wish.role,
                            .actor = actor,
                            .created_us = now_us,
                            .expires_us = wish.ttl_s ? now_us + wish.ttl_s * G_USEC_PER_SEC : 0 };
  json_t *made = NULL;
  if (nc_tokens_keep(tokens, &bearer, wish.of_fleet, error))
    made = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "id", id, "token", text, "scope", wish.of_fleet ? "fleet" : "node", "subject",
                     wish.subject, "role", wish.role, "expires", nc_token_time(bearer.expires_us));
  nc_secret_clear(secret, strlen(secret));
  nc_secret_clear(text, strlen(text));
  return made;
}

/* --- looking, ending --- */

json_t *
nc_tokens_list(NcTokens *tokens, const char *actor, json_t *args, GError **error)
{
  nc_autojson json_t *rows = nc_journal_list_bearers(tokens->journal, error), *of_fleet = NULL, *views = json_array();
  size_t i;
  json_t *row;

  if (!rows || (tokens->fleet && !(of_fleet = nc_fleet_host_list_tokens(tokens->fleet, actor, error))))
    return NULL;
  if (of_fleet)
    json_array_extend(rows, of_fleet);
  json_array_foreach(rows, i, row) json_array_append_new(views, nc_token_view(row));
  return g_steal_pointer(&views);
}

json_t *
nc_tokens_revoke(NcTokens *tokens, const char *actor, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);

  if (!id)
    return NULL;
  if (nc_token_is_of_fleet(id))
    return nc_fleet_host_end_token(tokens->fleet, actor, id, error) ? json_pack("{s:s, s:s}", "id", id, "state", "revoked") : NULL;
  nc_autojson json_t *row = nc_journal_end_bearer(tokens->journal, id, nc_wall_us(), error);
  return row ? json_pack("{s:s, s:s}", "id", id, "state", "revoked") : NULL;
}

/* --- checking --- */

/* May one more refusal be recorded? *ret_unrecorded: how many were not, since the last one. */
static bool
nc_tokens_may_record(NcTokens *tokens, uint64_t *ret_unrecorded)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&tokens->lock);
  int64_t now_us = nc_mono_us();
  double earned = (double)(now_us - tokens->credit_us) * NC_TOKENS_AUDIT_PER_S / 1e6;

  tokens->credit = MIN(tokens->credit + earned, NC_TOKENS_AUDIT_BURST);
  tokens->credit_us = now_us;
  if (tokens->credit < 1) {
    tokens->unrecorded++;
    return false;
  }
  tokens->credit -= 1;
  *ret_unrecorded = tokens->unrecorded;
  tokens->unrecorded = 0;
  return true;
}

/* ${id}: what claims to be one; "" if nothing does. */
static void
nc_tokens_record_refusal(NcTokens *tokens, const char *id, const char *from)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *where = g_utf8_make_valid(from, -1);
  uint64_t unrecorded;

  if (!nc_tokens_may_record(tokens, &unrecorded))
    return;
  nc_autojson json_t *detail = json_pack("{s:s, s:I}", "from", where, "unrecorded", (json_int_t)unrecorded);
  const NcAuditEntry entry = { .kind = "token.refused", .subject = id[0] ? id : NULL, .detail = detail };
  nc_log(NC_LOG_WARNING, "agent", "a token that is not good was shown by %s: %s", where, id[0] ? id : "not even an id");
  if (!nc_journal_audit(tokens->journal, &entry, false, NULL, &error))
    nc_log(NC_LOG_ERR, "agent", "that a token was refused can't be recorded: %s", error->message);
}

/* "ID.SECRET" taken apart; ids of ours have no dot. */
static bool
nc_token_parse(const char *text, char ret_id[64], const char **ret_secret)
{
  const char *dot = strchr(text, '.');
  uint8_t bytes[NC_TOKEN_SECRET_BYTES];

  ret_id[0] = '\0';
  if (!dot || dot - text >= 64)
    return false;
  g_strlcpy(ret_id, text, (gsize)(dot - text) + 1);
  if (!nc_name_is_valid(ret_id)) {
    ret_id[0] = '\0';
    return false;
  }
  *ret_secret = dot + 1;
  bool valid = nc_hex_decode(dot + 1, bytes, sizeof bytes);
  nc_secret_clear(bytes, sizeof bytes);
  return valid;
}

static json_t *
nc_tokens_look_up_of_fleet(NcTokens *tokens, const char *actor, const char *id, const char *hash, GError **error)
{
  bool is_room = g_atomic_int_add(&tokens->lookups, 1) < NC_TOKENS_LOOKUPS_MOST;
  json_t *row = is_room ? nc_fleet_host_check_token(tokens->fleet, actor, id, hash, error) : NULL;

  g_atomic_int_add(&tokens->lookups, -1);
  if (!is_room)
    nc_fail(error, NC_ERROR_RESOURCE, "%d tokens of the fleet are being looked up, which takes long at the moment: ask again later", NC_TOKENS_LOOKUPS_MOST);
  return row;
}

static json_t *
nc_tokens_look_up(NcTokens *tokens, const char *actor, const char *id, const char *secret, GError **error)
{
  g_autofree char *hash = nc_sha256_hex(secret, strlen(secret));

  if (!nc_token_is_of_fleet(id))
    return nc_journal_check_bearer(tokens->journal, id, hash, nc_wall_us(), error);
  if (tokens->fleet)
    return nc_tokens_look_up_of_fleet(tokens, actor, id, hash, error);
  nc_fail(error, NC_ERROR_UNAUTHENTICATED, "tokens of the fleet are good on nodes with a controller, and this node has none");
  return NULL;
}

json_t *
nc_tokens_check(NcTokens *tokens, const char *actor, json_t *args, GError **error)
{
  const char *text = nc_json_string(args, "token", error), *secret = NULL;
  g_autoptr(GError) problem = NULL;
  char id[64];

  if (!text)
    return NULL;
  nc_autojson json_t *row = NULL;
  if (nc_token_parse(text, id, &secret))
    row = nc_tokens_look_up(tokens, actor, id, secret, &problem);
  else
    nc_fail(&problem, NC_ERROR_UNAUTHENTICATED, "that is no token: one reads ID.SECRET, as `novacron token create` has printed it");
  if (row)
    return nc_token_view(row);
  if (problem->code == NC_ERROR_UNAUTHENTICATED)
    nc_tokens_record_refusal(tokens, id, nc_json_string_or(args, "from", "?"));
  g_propagate_error(error, g_steal_pointer(&problem));
  return NULL;
}
