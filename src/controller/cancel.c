/* SPDX-License-Identifier: Apache-2.0 */
/* What nobody wants any more. */
#include "controller/controller_internal.h"

#include <string.h>

typedef struct {
  NcController *c;
  const NcAsker *who;
  const char *reason;
  GPtrArray *under_way;   /* NcLive, borrowed: their agents have to end them */
  GPtrArray *last;        /* NcLive, borrowed: the attempt under way is their last one; NULL: none */
  const char *evacuation; /* NULL: none */
  NcEvacuating *evacuating;
  json_t *answer;
} NcCancelling;

static bool
nc_write_evacuation_cancel(NcFleetDb *db, const NcCancelling *cancel, GError **error)
{
  const GPtrArray *pending = cancel->evacuating->pending;

  for (guint i = 0; i < pending->len; i++)
    if (!nc_fleetdb_set_item(db, cancel->evacuation, ((NcPending *)pending->pdata[i])->machine, NULL, cancel->reason,
                             error))
      return false;
  return nc_fleetdb_set_evacuation(db, cancel->evacuation, "cancelling", cancel->reason, error);
}

/* It comes to its end, and if that is none that was wished for, it is not tried again: whoever leads then. */
static bool
nc_write_last_attempt(NcFleetDb *db, NcLive *live, GError **error)
{
  live->wish.retry_attempts = 0;
  nc_autojson json_t *request = nc_wish_save(&live->wish);
  return nc_fleetdb_ask_for(db, live->id, request, error);
}

/* Those that waited are among the changes already. */
static bool
nc_write_cancel(NcFleetDb *db, gpointer data, GError **error)
{
  const NcCancelling *cancel = data;
  bool is_over;

  for (guint i = 0; i < cancel->under_way->len; i++)
    if (!nc_fleetdb_ask_to_cancel(db, ((NcLive *)cancel->under_way->pdata[i])->id, cancel->reason, &is_over, error))
      return false;
  for (guint i = 0; cancel->last && i < cancel->last->len; i++)
    if (!nc_write_last_attempt(db, cancel->last->pdata[i], error))
      return false;
  return (!cancel->evacuating || nc_write_evacuation_cancel(db, cancel, error)) &&
         nc_keep_answer(db, cancel->who, cancel->answer, error);
}

/* Writes it all; then agents may be told, by the next step. New reference to the answer. */
static json_t *
nc_do_cancel(NcCancelling *cancel, GError **error)
{
  NcController *c = cancel->c;

  if (!nc_flush(c, nc_write_cancel, cancel, error))
    return NULL;
  for (guint i = 0; i < cancel->under_way->len; i++) {
    NcLive *live = cancel->under_way->pdata[i];
    if (!live->cancel_reason)
      live->cancel_reason = g_strdup(cancel->reason);
    live->heard_us = live->asked_us = G_MININT64 / 2;
    live->cancel_again_us = live->cancel_wait_us = 0;
  }
  if (cancel->evacuating) {
    cancel->evacuating->is_cancelling = true;
    g_ptr_array_set_size(cancel->evacuating->pending, 0);
  }
  return json_incref(cancel->answer);
}

json_t *
nc_controller_cancel(NcController *c, const NcAsker *who, const char *migration, const char *reason, GError **error)
{
  g_autoptr(GPtrArray) under_way = g_ptr_array_new();
  json_t *before;

  if (!nc_find_answer(c, who, &before, error) || before || !nc_check_reason(reason, error))
    return before;
  NcLive *live = g_hash_table_lookup(c->live, migration);
  if (!live) {
    nc_autojson json_t *row = nc_fleetdb_get_migration(c->db, migration, error);
    if (row)
      nc_fail(error, NC_ERROR_CONFLICT, "migration %s is %s already", migration, nc_json_string_or(row, "state", ""));
    return NULL;
  }
  nc_autojson json_t *answer =
      json_pack("{s:s, s:s}", "id", live->id, "state", live->is_under_way ? "cancelling" : "cancelled");
  if (live->is_under_way)
    g_ptr_array_add(under_way, live);
  else
    nc_queue_cancel(c->queue, live->item, reason, NULL); /* it waits; nc_hear_item() makes a change of it */
  NcCancelling cancel = { .c = c, .who = who, .reason = reason, .under_way = under_way, .answer = answer };
  return nc_do_cancel(&cancel, error);
}

/* --- many --- */

/* Those of ${group} that are under way. */
static void
nc_find_under_way(NcController *c, uint64_t group, GPtrArray *under_way)
{
  g_autoptr(GPtrArray) lives = nc_lives_under_way(c);

  for (guint i = 0; i < lives->len; i++) {
    NcLive *live = lives->pdata[i];
    if (nc_queue_item(c->queue, live->item)->request.group == group)
      g_ptr_array_add(under_way, live);
  }
}

static json_t *
nc_cancel_group(NcController *c, const NcAsker *who, const char *id, NcEvacuating *evacuating, bool also_running,
                const char *reason, GError **error)
{
  g_autoptr(GPtrArray) under_way = g_ptr_array_new(), none = g_ptr_array_new();
  uint64_t group = nc_group_of(c, id);
  NcCancelling cancel = { .c = c,
                          .who = who,
                          .reason = reason,
                          .under_way = also_running ? under_way : none,
                          .last = also_running ? NULL : under_way,
                          .evacuation = id,
                          .evacuating = evacuating };

  nc_find_under_way(c, group, under_way);
  unsigned cancelled = nc_queue_cancel_group(c->queue, group, reason);
  nc_autojson json_t *answer =
      json_pack("{s:s, s:i, s:i}", "id", id, "cancelled", (int)cancelled, "under_way", (int)under_way->len);
  cancel.answer = answer;
  return nc_do_cancel(&cancel, error);
}

json_t *
nc_controller_cancel_batch(NcController *c, const NcAsker *who, const char *batch, bool also_running,
                           const char *reason, GError **error)
{
  json_t *before;

  if (!nc_find_answer(c, who, &before, error) || before || !nc_check_reason(reason, error))
    return before;
  nc_autojson json_t *row = nc_fleetdb_get_batch(c->db, batch, error);
  return row ? nc_cancel_group(c, who, batch, NULL, also_running, reason, error) : NULL;
}

json_t *
nc_controller_cancel_evacuation(NcController *c, const NcAsker *who, const char *evacuation, bool also_running,
                                const char *reason, GError **error)
{
  json_t *before;

  if (!nc_find_answer(c, who, &before, error) || before || !nc_check_reason(reason, error))
    return before;
  NcEvacuating *e = g_hash_table_lookup(c->evacuations, evacuation);
  if (!e) {
    nc_autojson json_t *row = nc_fleetdb_get_evacuation(c->db, evacuation, error);
    if (row)
      nc_fail(error, NC_ERROR_CONFLICT, "evacuation %s is %s already", evacuation, nc_json_string_or(row, "state", ""));
    return NULL;
  }
  return nc_cancel_group(c, who, e->id, e, also_running, reason, error);
}
