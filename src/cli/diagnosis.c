/* SPDX-License-Identifier: Apache-2.0 */
/* How it ended, and what was in its way: the outcome, connections, attempts, ways back. Rates and pauses: diagnosis_speed.c. */
#include "cli/diagnosis.h"
#include "cli/diagnosis_speed.h"
#include "cli/units.h"

#include <math.h>

#define NC_STANDS_STILL_MS 60000 /* nothing on the wire and nothing in its history */

void
nc_finding_add(json_t *list, const char *check, NcVerdict verdict, const char *cause, const char *remedy, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *value = g_strdup_vprintf(format, args);
  va_end(args);
  nc_check_add(list, check, verdict, remedy, "%s", value);
  json_object_set_new(json_array_get(list, json_array_size(list) - 1), "cause", json_string(cause ? cause : ""));
}

int
nc_findings_exit_status(json_t *list)
{
  NcVerdict worst = nc_checks_worst(list);
  return worst == NC_CHECK_FAILED ? 2 : worst == NC_CHECK_OK ? 0 : 1;
}

/* --- how it ended --- */

typedef struct {
  const char *code;
  const char *cause;
  const char *remedy; /* NULL: what the message says */
} NcFailure;

static const NcFailure nc_failures[] = {
  { "convergence", "the guest dirtied its memory faster than it could be sent",
    "allow post-copy (--algorithm auto or hybrid), give it more --bandwidth, a higher --max-throttle, a longer --max-downtime or "
    "--convergence-timeout, or "
    "a quieter hour" },
  { "unsuitable", "the destination can't run this machine", "novacron check shows what is missing there" },
  { "resource", "memory, disk or places were short",
    "free some at the node that the message names, or choose another; novacron check shows what there is" },
  { "unreachable", "the other side did not answer",
    "novacron doctor on both nodes; look at the network between them, and whether novacrond runs there" },
  { "timeout", "something took longer than allowed", "novacron doctor on both nodes; try again when they are less busy" },
  { "trust", "a certificate, the roster or a key was refused",
    "novacron node list and novacron doctor on both nodes: is it joined, are both clocks right?" },
  { "protocol", "one side said what the other does not understand", "novacron version on both nodes: run the same version" },
  { "corrupt", "bytes arrived that were not those that were sent",
    "look for failing memory or network cards on both hosts before the next try" },
  { "qemu", "QEMU said no, or died", "read QEMU's own log in qemu_log_dir on the node that the message names" },
  { "io", "reading or writing failed", "look at the disks of the node that the message names (journalctl -k)" },
  { "conflict", "the machine was not in a state for it", NULL },
  { "forbidden", "who asked may not do this", NULL },
  { "invalid", "what was asked for makes no sense", NULL },
  { "not_found", "something that was named does not exist", NULL },
  { "internal", "NovaCron made a mistake, or the system refused what it should not",
    "journalctl -u novacrond at that time; report it with novacron report" },
};

static const NcFailure *
nc_failure_of(const char *code)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_failures); i++)
    if (g_str_equal(nc_failures[i].code, code))
      return &nc_failures[i];
  return NULL;
}

static void
nc_diagnose_failure(json_t *list, json_t *record)
{
  json_t *error = json_object_get(record, "error");
  const char *code = nc_json_string_or(error, "code", "");
  const NcFailure *failure = nc_failure_of(code);

  nc_finding_add(list, "outcome", NC_CHECK_FAILED, failure ? failure->cause : "its record does not say",
                 failure && failure->remedy ? failure->remedy : "what the message says; novacron status ID has the whole history",
                 "failed (%s): %s", code[0] ? code : "no code", nc_json_string_or(error, "message", "the reason is not recorded"));
}

static void
nc_diagnose_under_way(json_t *list, json_t *record, const NcFigures *f)
{
  const char *attention = nc_json_string_or(record, "attention", NULL), *phase = nc_json_string_or(record, "phase", "?");
  const char *path = nc_json_string_or(record, "path", NULL);
  bool still = f->elapsed_ms - f->last_event_ms > NC_STANDS_STILL_MS && !(nc_figure(record, "wire_rate_bps") > 0);

  if (attention || g_str_equal(phase, "needs_attention"))
    nc_finding_add(list, "outcome", NC_CHECK_FAILED, "what is left can only be decided by somebody who knows what the other node does",
                   attention ? attention : "novacron status ID says what there is to decide", "needs attention, and waits");
  else if (path)
    nc_finding_add(list, "outcome", NC_CHECK_WARNING, "there is no connection to the destination: it waits for one",
                   "novacron doctor on both nodes; look at the network between them", "%s, no connection: %s", phase, path);
  else if (still && !g_str_equal(phase, "queued") && !g_str_equal(phase, "disk_copy") && !g_str_equal(phase, "checkpoint"))
    nc_finding_add(
        list, "outcome", NC_CHECK_WARNING,
        "something stands still: a QEMU that does not answer, a destination that takes nothing, or a hook that does not end",
        "novacron doctor on both nodes; novacron status ID --follow; novacron cancel ID gives up, and the machine stays where it is",
        "%s, with nothing on the wire and nothing in its history for %.0f s", phase, (f->elapsed_ms - f->last_event_ms) / 1000);
  else
    nc_finding_add(list, "outcome", NC_CHECK_OK, NULL, NULL, "under way: %s, %.0f %%", phase, nc_json_number_or(record, "progress", 0));
}

static void
nc_diagnose_outcome(json_t *list, json_t *record, const NcFigures *f)
{
  const char *outcome = nc_json_string_or(record, "outcome", "");
  g_autofree char *took = isnan(f->elapsed_ms) ? g_strdup("an unknown time") : nc_format_ms(f->elapsed_ms);

  if (g_str_equal(outcome, "failed"))
    nc_diagnose_failure(list, record);
  else if (g_str_equal(outcome, "cancelled"))
    nc_finding_add(list, "outcome", NC_CHECK_OK, NULL, NULL, "cancelled after %s, as somebody asked", took);
  else if (outcome[0])
    nc_finding_add(list, "outcome", NC_CHECK_OK, NULL, NULL, "%s in %s", outcome, took);
  else
    nc_diagnose_under_way(list, record, f);
}

/* --- what was in its way --- */

static void
nc_diagnose_integrity(json_t *list, json_t *record)
{
  json_t *equal = json_object_get(record, "sha256_equal");

  if (json_is_false(equal) || nc_record_last_event(record, "corrupt", NULL))
    nc_finding_add(list, "integrity", NC_CHECK_FAILED, "the two ends saw different bytes",
                   "look for failing memory or network cards on both hosts", "the SHA-256 of both ends differ");
  else if (json_is_true(equal))
    nc_finding_add(list, "integrity", NC_CHECK_OK, NULL, NULL, "both ends computed the same SHA-256");
}

static void
nc_diagnose_connections(json_t *list, json_t *record)
{
  double lost = nc_json_number_or(record, "reconnects", 0);
  g_autofree char *again = nc_format_bytes((int64_t)nc_json_number_or(record, "resent_bytes", 0));

  if (lost > 0)
    nc_finding_add(list, "connections", NC_CHECK_WARNING, "the network between the nodes, or a firewall in it, ends connections",
                   "look at its links; the history has the time and reason of each loss",
                   "%.0f were lost and made again, %s were sent again", lost, again);
}

static void
nc_diagnose_attempts(json_t *list, json_t *record)
{
  json_t *attempts = json_object_get(record, "attempts"), *last = json_array_get(attempts, MAX(json_array_size(attempts), 1) - 1);
  json_t *error = json_object_get(last, "error");
  const NcFailure *failure = nc_failure_of(nc_json_string_or(error, "code", ""));

  if (last)
    nc_finding_add(list, "attempts", NC_CHECK_WARNING, failure ? failure->cause : NULL, failure ? failure->remedy : NULL,
                   "%d failed before this one, the last: %s", (int)json_array_size(attempts),
                   nc_json_string_or(error, "message", "the reason is not recorded"));
}

/* The first step of ${rollback} that failed; NULL: none. Borrowed. */
static json_t *
nc_rollback_failed_step(json_t *rollback)
{
  json_t *steps = json_object_get(rollback, "steps"), *step;
  size_t i;

  json_array_foreach(steps, i, step)
  {
    if (g_str_equal(nc_json_string_or(step, "state", ""), "failed"))
      return step;
  }
  return NULL;
}

static void
nc_diagnose_rollback(json_t *list, json_t *rollback)
{
  const char *id = nc_json_string_or(rollback, "id", "?"), *state = nc_json_string_or(rollback, "state", "?");
  const char *attention = nc_json_string_or(rollback, "attention", NULL);
  const char *problem = nc_json_string_or(json_object_get(rollback, "error"), "message", NULL);
  json_t *step = nc_rollback_failed_step(rollback);
  const char *detail = nc_json_string_or(step, "detail", "");

  if (g_str_equal(state, "needs_attention") || step || problem)
    nc_finding_add(list, "way back", NC_CHECK_FAILED,
                   detail[0] ? detail
                   : problem ? problem
                             : "its record does not say",
                   attention ? attention
                             : "novacron rollback goes on where it stopped; novacron audit list --about ID has each step's tries",
                   "%s (%s), %s%s%s", id, nc_json_string_or(rollback, "mode", "?"), state, step ? ": step " : "",
                   step ? nc_json_string_or(step, "name", "?") : "");
  else
    nc_finding_add(list, "way back", g_str_equal(state, "running") ? NC_CHECK_WARNING : NC_CHECK_OK, NULL, NULL, "%s (%s), %s", id,
                   nc_json_string_or(rollback, "mode", "?"), state);
}

static void
nc_diagnose_checkpoint(json_t *list, json_t *record)
{
  const char *checkpoint = nc_json_string_or(record, "checkpoint", NULL), *outcome = nc_json_string_or(record, "outcome", "");

  if (checkpoint && g_str_equal(outcome, "failed"))
    nc_finding_add(list, "checkpoint", NC_CHECK_OK, NULL, "novacron checkpoint verify, before you rely on it", "%s was taken before it",
                   checkpoint);
  else if (!checkpoint && outcome[0] && nc_json_bool_or(record, "checkpoint_wanted", false))
    nc_finding_add(list, "checkpoint", NC_CHECK_WARNING, "it could not be taken, or was not reached", "novacron store status",
                   "one was asked for, and there is none");
}

static void
nc_diagnose_disk(json_t *list, json_t *disk)
{
  double limit = nc_figure(disk, "write_limit_bps");
  g_autofree char *text = limit > 0 ? nc_format_rate(limit) : NULL;

  if (text)
    nc_finding_add(list, "disk", NC_CHECK_WARNING, "the guest writes faster than the copy follows",
                   "more --bandwidth, or an hour in which it writes less", "%s: the guest may write %s",
                   nc_json_string_or(disk, "name", "?"), text);
}

json_t *
nc_diagnose(json_t *record, const NcFigures *f)
{
  json_t *list = json_array(), *part;
  size_t i;

  nc_diagnose_outcome(list, record, f);
  if (f->is_source) {
    nc_diagnose_disks(list, record, f);
    nc_diagnose_transfer(list, record, f);
    nc_diagnose_convergence(list, record, f);
    nc_diagnose_pause(list, record, f);
  } else {
    nc_finding_add(list, "side", NC_CHECK_UNKNOWN, "rates, rounds and the pause are known where the machine came from",
                   "ask there: novacron doctor ID", "this is the record of the destination; the source is %s",
                   nc_json_string_or(record, "source", "?"));
  }
  nc_diagnose_integrity(list, record);
  nc_diagnose_connections(list, record);
  nc_diagnose_attempts(list, record);
  json_array_foreach(json_object_get(record, "disks"), i, part) nc_diagnose_disk(list, part);
  json_array_foreach(json_object_get(record, "rollbacks"), i, part) nc_diagnose_rollback(list, part);
  nc_diagnose_checkpoint(list, record);
  return list;
}
