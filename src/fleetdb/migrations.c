/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked for, decided and known of migrations. Lists of them: migration_lists.c. */
#include "fleetdb/migrations.h"
#include "base/ident.h"
#include "fleetdb/events.h"
#include "fleetdb/migration_table.h"

/* --- states --- */

#define TO(state) (1u << NC_MOVE_##state)

static const struct {
  const char *name;
  unsigned next; /* where it may go */
} nc_move_states[] = {
  [NC_MOVE_QUEUED] = { "queued", TO(STARTING) | TO(REFUSED) | TO(CANCELLED) },
  [NC_MOVE_BACKOFF] = { "backoff", TO(STARTING) | TO(REFUSED) | TO(CANCELLED) | TO(FAILED) },
  [NC_MOVE_STARTING] = { "starting", TO(RUNNING) | TO(BACKOFF) | TO(COMPLETED) | TO(FAILED) | TO(REFUSED) | TO(CANCELLED) },
  [NC_MOVE_RUNNING] = { "running", TO(BACKOFF) | TO(COMPLETED) | TO(FAILED) | TO(CANCELLED) },
  [NC_MOVE_COMPLETED] = { "completed", 0 },
  [NC_MOVE_FAILED] = { "failed", 0 },
  [NC_MOVE_REFUSED] = { "refused", 0 },
  [NC_MOVE_CANCELLED] = { "cancelled", 0 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_move_states) == NC_MOVE_COUNT);

const char *
nc_move_state_name(NcMoveState state)
{
  return (unsigned)state < NC_MOVE_COUNT ? nc_move_states[state].name : "unknown";
}

bool
nc_move_state_from_name(const char *name, NcMoveState *ret)
{
  for (int i = 0; name && i < NC_MOVE_COUNT; i++) {
    if (g_str_equal(nc_move_states[i].name, name)) {
      *ret = (NcMoveState)i;
      return true;
    }
  }
  return false;
}

bool
nc_move_state_is_final(NcMoveState state)
{
  return (unsigned)state < NC_MOVE_COUNT && nc_move_states[state].next == 0;
}

bool
nc_move_may_step(NcMoveState from, NcMoveState to)
{
  return (unsigned)from < NC_MOVE_COUNT && (unsigned)to < NC_MOVE_COUNT && (nc_move_states[from].next & (1u << to)) != 0;
}

/* --- the row as it is --- */

typedef struct {
  bool is_found;
  NcMoveState state;
  unsigned attempts;
  char *cancel_reason; /* "": nobody wants it cancelled */
} NcMoveNow;

static void
nc_move_now_clear(NcMoveNow *now)
{
  g_free(now->cancel_reason);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcMoveNow, nc_move_now_clear)

static bool
nc_take_now(const NcSqlRow *row, gpointer data, GError **error)
{
  NcMoveNow *now = data;
  now->is_found = true;
  now->attempts = (unsigned)nc_sql_number(row, 1);
  now->cancel_reason = g_strdup(nc_sql_text(row, 2));
  return nc_move_state_from_name(nc_sql_text(row, 0), &now->state) ||
         nc_fail(error, NC_ERROR_CORRUPT, "the fleet's database has a migration in state \"%s\", which is none", nc_sql_text(row, 0));
}

/* Within a write nobody else changes it: the lease's row is locked. ${now}: empty. */
static bool
nc_look_at_move(NcFleetDb *db, const char *id, NcMoveNow *now, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(id) };

  if (!nc_fleetdb_query(db, "SELECT state, attempts, cancel_reason FROM migration WHERE id=$1", values, 1, nc_take_now, now, error))
    return false;
  return now->is_found || nc_fail(error, NC_ERROR_NOT_FOUND, "the controller knows no migration %s", id);
}

static bool
nc_tell_state(NcFleetDb *db, const char *id, NcMoveState state, unsigned attempt, const char *reason, GError **error)
{
  nc_autojson json_t *detail = json_pack("{s:s, s:i, s:s}", "state", nc_move_state_name(state), "attempt", (int)attempt, "reason",
                                         reason ? reason : "");
  const NcFleetEvent event = { .kind = "migration.state", .subject = id, .migration = id, .detail = detail };
  return (detail || nc_fail(error, NC_ERROR_INVALID, "the reason for what became of migration %s is not UTF-8", id)) &&
         nc_fleetdb_add_event(db, &event, NULL, error);
}

/* --- changes --- */

static bool
nc_check_is_free(NcFleetDb *db, const char *machine, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(machine) };
  g_autofree char *other = NULL;

  if (!nc_fleetdb_query(db, "SELECT id FROM migration WHERE machine=$1 AND is_finished=0", values, 1, nc_fleetdb_take_text, &other, error))
    return false;
  return !other || nc_fail(error, NC_ERROR_CONFLICT, "machine %s has migration %s, which is not finished: cancel it, or wait for it", machine,
                           other);
}

bool
nc_fleetdb_submit(NcFleetDb *db, const NcMoveRequest *request, GError **error)
{
  g_autofree char *text = nc_fleetdb_dump(request->request, "{}", error);
  const NcSqlValue values[] = { NC_SQL_TEXT(request->id),
                                NC_SQL_TEXT(request->machine),
                                NC_SQL_TEXT(request->source),
                                NC_SQL_TEXT(request->destination ? request->destination : ""),
                                NC_SQL_TEXT(nc_move_state_name(NC_MOVE_QUEUED)),
                                NC_SQL_TEXT(nc_priority_name(request->priority)),
                                NC_SQL_TEXT(request->batch ? request->batch : ""),
                                NC_SQL_TEXT(request->evacuation ? request->evacuation : ""),
                                NC_SQL_TEXT(request->actor),
                                NC_SQL_INT(request->submitted_us > 0 ? request->submitted_us : nc_wall_us()),
                                NC_SQL_TEXT(text) };

  if (!text || !nc_check_is_free(db, request->machine, error))
    return false;
  return nc_fleetdb_change(db,
                           "INSERT INTO migration(id, machine, source, destination, state, is_finished, priority, attempts, epoch, batch,"
                           " evacuation, actor, submitted_us, started_us, finished_us, not_before_us, reason, cancel_reason, request, result)"
                           " VALUES($1, $2, $3, $4, $5, 0, $6, 0, 0, $7, $8, $9, $10, 0, 0, 0, '', '', $11, '{}')",
                           values, 11, error) &&
         nc_tell_state(db, request->id, NC_MOVE_QUEUED, 0, NULL, error);
}

char *
nc_fleetdb_attempt_name(const char *id, unsigned attempt)
{
  return g_strdup_printf("%s.%u", id, attempt);
}

bool
nc_fleetdb_start(NcFleetDb *db, const char *id, const char *source, const char *destination, unsigned *ret_attempt, GError **error)
{
  g_auto(NcMoveNow) now = { 0 };

  if (!nc_look_at_move(db, id, &now, error))
    return false;
  if (!nc_move_may_step(now.state, NC_MOVE_STARTING))
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s can't be started: it is %s", id, nc_move_state_name(now.state));
  const NcSqlValue values[] = { NC_SQL_TEXT(id),           NC_SQL_TEXT(nc_move_state_name(NC_MOVE_STARTING)),
                                NC_SQL_INT(now.attempts + 1), NC_SQL_TEXT(source),
                                NC_SQL_TEXT(destination),  NC_SQL_INT(db->epoch),
                                NC_SQL_INT(nc_wall_us()) };
  if (!nc_fleetdb_change(db,
                         "UPDATE migration SET state=$2, attempts=$3, source=$4, destination=$5, epoch=$6, not_before_us=0,"
                         " started_us=CASE WHEN started_us=0 THEN $7 ELSE started_us END WHERE id=$1",
                         values, 7, error) ||
      !nc_tell_state(db, id, NC_MOVE_STARTING, now.attempts + 1, NULL, error))
    return false;
  *ret_attempt = now.attempts + 1;
  return true;
}

static bool
nc_write_step(NcFleetDb *db, const NcMoveStep *step, unsigned attempt, GError **error)
{
  const bool is_final = nc_move_state_is_final(step->to);
  g_autofree char *result = nc_fleetdb_dump(step->result, "", error);
  const NcSqlValue values[] = { NC_SQL_TEXT(step->id),
                                NC_SQL_TEXT(nc_move_state_name(step->to)),
                                NC_SQL_INT(is_final),
                                NC_SQL_INT(is_final ? nc_wall_us() : 0),
                                NC_SQL_INT(step->to == NC_MOVE_BACKOFF ? step->not_before_us : 0),
                                NC_SQL_TEXT(step->reason ? step->reason : ""),
                                NC_SQL_TEXT(result) };

  return result &&
         nc_fleetdb_change(db,
                           "UPDATE migration SET state=$2, is_finished=$3, finished_us=$4, not_before_us=$5, reason=$6,"
                           " result=CASE WHEN $7='' THEN result ELSE $7 END WHERE id=$1",
                           values, 7, error) &&
         nc_tell_state(db, step->id, step->to, attempt, step->reason, error);
}

bool
nc_fleetdb_step(NcFleetDb *db, const NcMoveStep *step, GError **error)
{
  g_auto(NcMoveNow) now = { 0 };

  if (step->to == NC_MOVE_STARTING)
    return nc_fail(error, NC_ERROR_INTERNAL, "a start is recorded as one");
  if (!nc_look_at_move(db, step->id, &now, error))
    return false;
  if (step->attempt != now.attempts)
    return nc_fail(error, NC_ERROR_CONFLICT, "news of attempt %u of migration %s is too late: it is %s, in attempt %u", step->attempt,
                   step->id, nc_move_state_name(now.state), now.attempts);
  if (now.state == step->to)
    return true;
  if (!nc_move_may_step(now.state, step->to))
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s is %s and can't be %s any more", step->id, nc_move_state_name(now.state),
                   nc_move_state_name(step->to));
  NcMoveStep final = *step;
  if (step->to == NC_MOVE_BACKOFF && now.cancel_reason[0]) {
    final.to = NC_MOVE_CANCELLED; /* what nobody wants is not tried again */
    final.reason = now.cancel_reason;
  }
  return nc_write_step(db, &final, now.attempts, error);
}

/* Its agent is to be told, by whoever leads. */
static bool
nc_keep_cancel(NcFleetDb *db, const char *id, const char *reason, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_TEXT(id), NC_SQL_TEXT(reason) };
  nc_autojson json_t *detail = json_pack("{s:s}", "reason", reason);
  const NcFleetEvent event = { .kind = "migration.cancelling", .subject = id, .migration = id, .detail = detail };

  if (!nc_fleetdb_change(db, "UPDATE migration SET cancel_reason=$2 WHERE id=$1 AND cancel_reason=''", values, 2, error))
    return false;
  return db->sql->changes == 0 || nc_fleetdb_add_event(db, &event, NULL, error);
}

bool
nc_fleetdb_ask_to_cancel(NcFleetDb *db, const char *id, const char *reason, bool *ret_is_over, GError **error)
{
  g_auto(NcMoveNow) now = { 0 };

  if (!reason[0])
    return nc_fail(error, NC_ERROR_INVALID, "a migration is cancelled for a reason");
  if (!nc_look_at_move(db, id, &now, error))
    return false;
  if (nc_move_state_is_final(now.state))
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s is %s already", id, nc_move_state_name(now.state));
  bool is_over = now.state == NC_MOVE_QUEUED || now.state == NC_MOVE_BACKOFF;
  const NcMoveStep step = { .id = id, .attempt = now.attempts, .to = NC_MOVE_CANCELLED, .reason = reason };
  if (!(is_over ? nc_write_step(db, &step, now.attempts, error) : nc_keep_cancel(db, id, reason, error)))
    return false;
  *ret_is_over = is_over;
  return true;
}

bool
nc_fleetdb_ask_for(NcFleetDb *db, const char *id, json_t *request, GError **error)
{
  g_autofree char *text = nc_fleetdb_dump(request, "{}", error);
  const NcSqlValue values[] = { NC_SQL_TEXT(id), NC_SQL_TEXT(text) };
  return text && nc_fleetdb_change(db, "UPDATE migration SET request=$2 WHERE id=$1", values, 2, error);
}
