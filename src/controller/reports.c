/* SPDX-License-Identifier: Apache-2.0 */
/* What agents say of attempts. */
#include "controller/controller_internal.h"
#include "base/ident.h"

#include <math.h>
#include <string.h>

/* "ID.ATTEMPT"; false: it is no name of an attempt. Caller frees *ret_id. */
static bool
nc_split_name(const char *name, char **ret_id, unsigned *ret_attempt)
{
  const char *point = strrchr(name, '.');
  guint64 attempt = 0;

  if (!point || !g_ascii_string_to_unsigned(point + 1, 10, 1, G_MAXINT, &attempt, NULL))
    return false;
  g_autofree char *id = g_strndup(name, (gsize)(point - name));
  if (!nc_name_is_valid(id))
    return false;
  *ret_id = g_steal_pointer(&id);
  *ret_attempt = (unsigned)attempt;
  return true;
}

/* The migration whose present attempt ${report} is of. */
static NcLive *
nc_find_reported(NcController *c, const NcAttemptReport *report, GError **error)
{
  g_autofree char *id = NULL;
  unsigned attempt = 0;

  if (strlen(report->name) > 128 || !nc_split_name(report->name, &id, &attempt)) {
    nc_fail(error, NC_ERROR_INVALID, "node \"%s\" reports of something that is no attempt", report->node);
    return NULL;
  }
  NcLive *live = g_hash_table_lookup(c->live, id);
  if (!live || !live->is_under_way || live->attempt != attempt) {
    nc_fail(error, NC_ERROR_CONFLICT,
            "attempt %s is not under way any more: what node \"%s\" reports of it comes too late", report->name,
            report->node);
    return NULL;
  }
  if (!g_str_equal(nc_fleet_node(c->fleet, live->from)->name, report->node)) {
    nc_fail(error, NC_ERROR_FORBIDDEN, "attempt %s is not node \"%s\"'s to report of: its source is \"%s\"",
            report->name, report->node, nc_fleet_node(c->fleet, live->from)->name);
    return NULL;
  }
  return live;
}

/* --- it runs --- */

static void
nc_take_phase(NcController *c, NcLive *live, const NcAttemptReport *report)
{
  json_t *sample = nc_sample_of(report->progress);

  if (isfinite(report->percent))
    live->percent = CLAMP(report->percent, 0, 100);
  if (sample) {
    json_decref(live->sample);
    live->sample = sample;
  }
  if (!report->phase || !nc_name_is_valid(report->phase) || g_strcmp0(live->phase, report->phase) == 0)
    return;
  g_free(live->phase);
  live->phase = g_strdup(report->phase);
  if (live->phase_events++ < NC_MOST_PHASE_EVENTS)
    nc_add_event(
        c, "migration.phase", live->id, live->id,
        json_pack("{s:s, s:f, s:i, s:s}", "phase", live->phase, "percent", live->percent, "attempt", (int)live->attempt,
                  "node", nc_fleet_node(c->fleet, live->from)->name));
}

static bool
nc_take_running(NcController *c, NcLive *live, const NcAttemptReport *report, GError **error)
{
  if (!live->is_confirmed)
    nc_add_step(c, live, NC_MOVE_RUNNING, NULL);
  live->is_confirmed = true;
  live->is_to_be_sent = false; /* it has it, by whatever way */
  live->unknowns = 0;
  nc_take_phase(c, live, report);
  live->wants_endgame = report->wants_endgame;
  if (live->wants_endgame)
    nc_budget_ask_endgame(live->flow);
  else
    nc_budget_end_endgame(live->flow);
  return nc_flush(c, NULL, NULL, error);
}

/* --- it is not known there --- */

static bool
nc_take_unknown(NcController *c, NcLive *live, GError **error)
{
  if (live->cancel_reason) { /* later ones come by themselves, less and less often */
    if (c->now_us >= live->cancel_again_us)
      nc_send_cancel(c, live);
    return true;
  }
  if (!live->is_confirmed) { /* the order was lost, or never left; an agent begins a name once */
    nc_send_start(c, live);
    return true;
  }
  /* Not a late answer to an early question, then. It may have moved, so it is not begun again. */
  if (++live->unknowns == 2)
    nc_add_event(
        c, "migration.lost", live->id, live->id,
        json_pack("{s:s, s:i}", "node", nc_fleet_node(c->fleet, live->from)->name, "attempt", (int)live->attempt));
  return nc_flush(c, NULL, NULL, error);
}

/* --- it has ended --- */

static char *
nc_reason_of(const NcLive *live, const NcAttemptReport *report)
{
  if (report->state == NC_REPORT_CANCELLED && live->cancel_reason)
    return g_strdup(live->cancel_reason);
  if (!report->reason || !report->reason[0])
    return g_strdup(report->state == NC_REPORT_CANCELLED ? "cancelled on its node" : "its node gave no reason");
  g_autofree char *cut = g_strndup(report->reason, NC_MOST_REASON_BYTES);
  return g_utf8_make_valid(cut, -1);
}

static bool
nc_take_end(NcController *c, NcLive *live, const NcAttemptReport *report, GError **error)
{
  g_autofree char *reason = nc_reason_of(live, report);
  NcEnd end = report->state == NC_REPORT_COMPLETED   ? NC_END_COMPLETED
              : report->state == NC_REPORT_CANCELLED ? NC_END_CANCELLED
                                                     : NC_END_FINAL;
  /* It was seen elsewhere meanwhile: the database knows where, and the model has to read it. */
  bool is_elsewhere = live->is_elsewhere && live->seen_at != (end == NC_END_COMPLETED ? live->to : live->from);

  if (end == NC_END_FINAL && report->may_pass)
    end = live->cancel_reason               ? NC_END_CANCELLED /* what nobody wants is not tried again */
          : live->wish.retry_attempts == 0 ? NC_END_FINAL
                                           : NC_END_MAY_PASS;
  c->report = report;
  nc_queue_ended(c->queue, live->item, end, reason, c->now_us);
  c->report = NULL;
  if (!nc_flush(c, NULL, NULL, error))
    return false;
  if (is_elsewhere || c->is_enlarged)
    nc_forget_model(c);
  return true;
}

bool
nc_controller_report(NcController *c, const NcAttemptReport *report, GError **error)
{
  if (!nc_controller_is_ready(c, error))
    return false;
  nc_controller_heard(c, report->node);
  NcLive *live = nc_find_reported(c, report, error);
  if (!live)
    return false;
  live->heard_us = c->now_us;
  switch (report->state) {
  case NC_REPORT_UNKNOWN:
    return nc_take_unknown(c, live, error);
  case NC_REPORT_RUNNING:
    return nc_take_running(c, live, report, error);
  case NC_REPORT_COMPLETED:
  case NC_REPORT_FAILED:
  case NC_REPORT_CANCELLED:
    return nc_take_end(c, live, report, error);
  case NC_REPORT_COUNT:
    break;
  }
  return nc_fail(error, NC_ERROR_INVALID, "node \"%s\" reports a state that is none", report->node);
}
