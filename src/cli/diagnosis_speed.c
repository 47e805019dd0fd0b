/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnosis_speed.h"
#include "cli/diagnosis.h"
#include "cli/migration_view.h"
#include "cli/units.h"

#include <math.h>

#define NC_SLOW_BPS 100e6 /* of memory per second; the threshold of the alert, too */
#define NC_SHORT_MS 2000  /* in less, getting ready is most of it */
#define NC_DISKS_SHORT_MS 5000 /* of disks, which have to get in step, too */
#define NC_LIMIT_USED 0.7 /* of a limit: then it is what holds it back */
#define NC_LIMIT_ROOM 1.3 /* times its limit could be delivered: the link is not what holds it back */
#define NC_LOSS_PERCENT 1.0
#define NC_WAITS 0.3       /* share of the time: much of it */
#define NC_DENIED 0.5      /* share of the encoders' time without a processor */
#define NC_IDLE_LINK 2.0   /* times more than was used could be delivered */
#define NC_MANY_TIMES 3.0       /* all of the memory copied */
#define NC_QUEUE_TIMES 2.0 /* a round trip that is so many times the smallest, */
#define NC_QUEUE_MS 5.0    /* and by so much longer, waits in a queue */

/* --- slow transfer --- */

typedef struct {
  char *cause;
  const char *remedy; /* static */
} NcReason;

static void
nc_reason_clear(NcReason *reason)
{
  g_free(reason->cause);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcReason, nc_reason_clear)

static bool
nc_has_queue(const NcFigures *f)
{
  return f->rtt_ms > f->min_rtt_ms * NC_QUEUE_TIMES && f->rtt_ms > f->min_rtt_ms + NC_QUEUE_MS;
}

/* Which limit it is that holds it back: its own, its share of the node's bandwidth, or that it gives way. */
static void
nc_reason_limit(json_t *record, const NcFigures *f, NcReason *ret)
{
  double own = nc_figure(record, "bandwidth_limit_bps"), shared = nc_figure(record, "rate_limit_bps");
  g_autofree char *limit = nc_format_rate(f->limit_bps);

  if (own > 0 && own <= f->limit_bps) {
    ret->cause = g_strdup_printf("the bandwidth limit of %s that this migration was given, of which %.0f %% were used", limit,
                                 100 * f->wire_bps / f->limit_bps);
    ret->remedy =
        f->has_ended ? "migrate with a higher --bandwidth, or with none" : "novacron limit ID --bandwidth 0 (none), or a higher one";
  } else if (shared > 0 && shared <= f->limit_bps) {
    ret->cause =
        g_strdup_printf("its share of this node's bandwidth, %s, of which %.0f %% were used", limit, 100 * f->wire_bps / f->limit_bps);
    ret->remedy = "raise bandwidth_total in novacrond.conf, give it a higher --qos, or let fewer run at once";
  } else {
    ret->cause = g_strdup_printf("it gives way to other traffic (class background), and was held to %s", limit);
    ret->remedy = "a higher --qos than background, or an hour with less traffic";
  }
}

/* The reader of QEMU's stream waits for encoders. */
static void
nc_reason_encoders(json_t *record, const NcFigures *f, NcReason *ret)
{
  int64_t most = nc_json_int_or(record, "max_cpu", 100);

  if (f->denied >= NC_DENIED) {
    ret->cause = g_strdup_printf("the source host denied processors: its encoders were ready to run and had none in %.0f %% of their time",
                                 100 * f->denied);
    ret->remedy = "take load from the source host (top; vmstat shows what a hypervisor below steals, as st), or move it at a quieter hour";
  } else if (most < 100) {
    ret->cause = g_strdup_printf("coding, which may use %d %% of the source's processors", (int)most);
    ret->remedy = "a higher max_cpu, or a lighter --compression (lz4, none)";
  } else {
    ret->cause = g_strdup("coding: the source's processors compress, hash and encrypt no faster");
    ret->remedy = "a lighter --compression (lz4, none), fewer migrations at once, or a less busy source host";
  }
}

/* It waits for the link, without a limit. */
static void
nc_reason_link(const NcFigures *f, NcReason *ret)
{
  g_autofree char *delivered = isnan(f->link_bps) ? g_strdup("?") : nc_format_rate(f->link_bps);
  g_autofree char *used = isnan(f->wire_bps) ? g_strdup("?") : nc_format_rate(f->wire_bps);

  if (!nc_has_queue(f) && f->link_bps > f->wire_bps * NC_IDLE_LINK) {
    ret->cause = g_strdup_printf(
        "the destination takes it slowly: its connections delivered %s when they could, and %s was taken on average", delivered, used);
    ret->remedy = "look at the destination's processors and disks (novacron doctor there), and what else it receives";
  } else if (nc_has_queue(f)) {
    ret->cause =
        g_strdup_printf("the link is saturated: %s on the wire, and the round trip grew from %.1f to %.1f ms in a queue on the way", used,
                        f->min_rtt_ms, f->rtt_ms);
    ret->remedy = "see what else uses the link, a faster one (--paths), or a heavier coding (--compression zstd:5)";
  } else {
    ret->cause =
        g_strdup_printf("the link is saturated: %s on the wire is what it carries (the kernel's last estimate: %s)", used, delivered);
    ret->remedy = "see what else uses the link, a faster one (--paths), or a heavier coding (--compression zstd:5)";
  }
}

/* Its limit is used up; or it waits, though its connections could deliver more than that (a busy host uses up no limit). */
static bool
nc_is_limited(const NcFigures *f, bool waits_for_link)
{
  return f->wire_bps >= NC_LIMIT_USED * f->limit_bps ||
         (waits_for_link && !(f->loss_percent > NC_LOSS_PERCENT) && f->link_bps > f->limit_bps * NC_LIMIT_ROOM);
}

/* What held the transfer back most; nothing: neither limit nor link nor coding. */
static void
nc_reason_of_rate(json_t *record, const NcFigures *f, NcReason *ret)
{
  bool waits_for_link = f->link_wait >= NC_WAITS && !(f->encoder_wait > f->link_wait);

  if (nc_is_limited(f, waits_for_link)) {
    nc_reason_limit(record, f, ret);
  } else if (f->loss_percent > NC_LOSS_PERCENT) {
    ret->cause = g_strdup_printf("losses: %.1f %% of the segments had to be sent again", f->loss_percent);
    ret->remedy = "look for a bad link or a full queue on the way; net.ipv4.tcp_available_congestion_control should have bbr on the source";
  } else if (f->encoder_wait >= NC_WAITS && !waits_for_link) {
    nc_reason_encoders(record, f, ret);
  } else if (waits_for_link) {
    nc_reason_link(f, ret);
  }
}

static void
nc_reason_of_memory(json_t *record, const NcFigures *f, NcReason *ret)
{
  nc_reason_of_rate(record, f, ret);
  if (ret->cause)
    return;
  ret->cause = g_strdup("neither link nor coding: the source's QEMU gave its pages no faster");
  ret->remedy = "look at the processors of the source host: QEMU, its guest and the mover share them";
}

void
nc_diagnose_transfer(json_t *list, json_t *record, const NcFigures *f)
{
  g_auto(NcReason) reason = { 0 };

  if (isnan(f->memory_bps) || isnan(f->wire_bps)) {
    if (!g_str_equal(nc_json_string_or(record, "phase", ""), "queued"))
      nc_finding_add(list, "transfer rate", NC_CHECK_OK, NULL, NULL, "memory has not flowed");
    return;
  }
  g_autofree char *memory = nc_format_rate(f->memory_bps);
  g_autofree char *wire = nc_format_rate(f->wire_bps);
  g_autofree char *time = nc_format_ms(f->memory_ms);
  g_autofree char *waits =
      isnan(f->link_wait) || isnan(f->encoder_wait)
          ? g_strdup("")
          : g_strdup_printf("; %.0f %% of it waiting for the link, %.0f %% for coding", 100 * f->link_wait, 100 * f->encoder_wait);
  bool slow = f->memory_bps < NC_SLOW_BPS && f->memory_ms >= NC_SHORT_MS;
  if (slow)
    nc_reason_of_memory(record, f, &reason);
  nc_finding_add(list, "transfer rate", slow ? NC_CHECK_WARNING : NC_CHECK_OK, reason.cause, reason.remedy,
                 "%s of memory, %s on the wire, for %s%s", memory, wire, time, waits);
  if (f->loss_percent > NC_LOSS_PERCENT)
    nc_finding_add(list, "loss", NC_CHECK_WARNING, "a bad link, or a queue on the way that overflows",
                   "look at the links between the nodes", "%.2f %% of the segments were sent again", f->loss_percent);
}

/* --- slow disks --- */

/* How long disks went ahead of the memory, in the last attempt; NAN: they have not, or do not now. */
static double
nc_disks_ms(json_t *record, const NcFigures *f)
{
  double from_ms = nc_figures_after(f, nc_json_string_or(nc_record_last_event(record, "disks-copying", NULL), "at", NULL));
  double step_ms = nc_figures_after(f, nc_json_string_or(nc_record_last_event(record, "disks-in-step", NULL), "at", NULL));
  bool is_on = f->has_ended || g_str_equal(nc_json_string_or(record, "phase", ""), "disk_copy");

  return step_ms >= from_ms ? step_ms - from_ms : is_on ? f->elapsed_ms - from_ms : NAN;
}

/* Of the time in which bytes were carried, not of the disks' alone: movers count waits of both as one. NAN: not known. */
static double
nc_share_of_flow(json_t *record, const NcFigures *f, const char *key)
{
  double share = nc_figure(record, key) / 1000 / f->flow_ms;
  return share > 1 ? 1 : share;
}

/* The mirrors have few requests under way: one that waits for a disk, at either end, asks for nothing more. */
static void
nc_reason_of_disks(json_t *record, const NcFigures *f, NcReason *ret)
{
  nc_reason_of_rate(record, f, ret);
  if (ret->cause)
    return;
  ret->cause = g_strdup_printf("neither link nor coding: a disk is read on %s, or written on %s, no faster", nc_json_string_or(record, "source", "the source"),
                               nc_json_string_or(record, "destination", "the destination"));
  ret->remedy = "iostat -x 1 on both nodes shows which disk is busy, and dmesg whether one fails; take other load from it, or move the machine at a quieter hour";
}

void
nc_diagnose_disks(json_t *list, json_t *record, const NcFigures *f)
{
  double copied = nc_migration_sum_disks(record, "copied_bytes"), wire = nc_migration_sum_disks(record, "wire_bytes"), ms = nc_disks_ms(record, f);
  g_auto(NcReason) reason = { 0 };
  NcFigures own = *f;

  if (!(copied > 0) || !(ms > 0))
    return;
  own.wire_bps = wire * 1000 / ms;
  own.link_wait = nc_share_of_flow(record, f, "link_wait_us");
  own.encoder_wait = nc_share_of_flow(record, f, "encoder_wait_us");
  double bps = copied * 1000 / ms;
  bool slow = bps < NC_SLOW_BPS && ms >= NC_DISKS_SHORT_MS;
  if (slow)
    nc_reason_of_disks(record, &own, &reason);
  g_autofree char *rate = nc_format_rate(bps);
  g_autofree char *sent = nc_format_rate(own.wire_bps);
  g_autofree char *time = nc_format_ms(ms);
  nc_finding_add(list, "disk copy", slow ? NC_CHECK_WARNING : NC_CHECK_OK, reason.cause, reason.remedy,
                 "%s of its disks, %s on the wire, for %s", rate, sent, time);
}

/* --- convergence --- */

static const char nc_converge_remedy[] =
    "allow post-copy (--algorithm auto or hybrid), more --bandwidth, a higher --max-throttle, a longer --max-downtime, or a quieter hour";

void
nc_diagnose_convergence(json_t *list, json_t *record, const NcFigures *f)
{
  json_t *last = nc_record_last_forecast(record);
  const char *code = nc_json_string_or(json_object_get(record, "error"), "code", "");
  bool gave_up = g_str_equal(code, "convergence"), postcopy = nc_json_bool_or(record, "postcopy", false);
  int64_t throttle = nc_json_int_or(record, "throttle", 0);

  if (isnan(f->dirty_bps) || isnan(f->effective_bps))
    return;
  g_autofree char *dirty = nc_format_rate(f->dirty_bps);
  g_autofree char *effective = nc_format_rate(f->effective_bps);
  g_autofree char *limit = f->limit_bps > 0 ? nc_format_rate(f->limit_bps) : NULL;
  g_autofree char *cause = g_strdup_printf("the guest dirties its memory faster than it can be sent%s%s",
                                           limit ? ", which the limit allows no faster than " : "", limit ? limit : "");
  bool hopeless = last && !nc_json_bool_or(last, "converges", true);
  double times = nc_figure(record, "ram_bytes") / nc_figure(record, "ram_total_bytes");
  if (gave_up || (hopeless && !postcopy))
    nc_finding_add(list, "convergence", gave_up ? NC_CHECK_FAILED : NC_CHECK_WARNING, cause, nc_converge_remedy,
                   "the guest dirties %s, and %s of its memory leave", dirty, effective);
  else if (throttle > 0)
    nc_finding_add(list, "convergence", NC_CHECK_WARNING, cause, nc_converge_remedy,
                   "the guest was slowed down by %d %%; it dirties %s, and %s leave", (int)throttle, dirty, effective);
  else if (times >= NC_MANY_TIMES)
    nc_finding_add(list, "convergence", NC_CHECK_WARNING, "the guest dirties much of what was sent, so that it has to be sent again", nc_converge_remedy,
                   "memory was copied %.1f times; the guest dirties %s, and %s leave", times, dirty, effective);
  else
    nc_finding_add(list, "convergence", NC_CHECK_OK, NULL, NULL, "the guest dirties %s, and %s of its memory leave%s", dirty, effective,
                   postcopy ? "; switched to post-copy" : "");
}

/* --- the pause --- */

/* What the pause consists of, in order: from one event of the history to the next. */
static const struct {
  const char *event, *until;
  const char *what, *remedy;
} nc_stages[] = {
  { "guest-stopped", "released", "recording the release of the run right at the source",
    "look at the disk of data_dir there: each fsync() of its journal takes that long" },
  { "released", "opaque", "the last dirty pages on their way",
    "more --bandwidth; --max-throttle, so that the guest leaves less to send; or --algorithm post-copy, whose pause has no pages in it" },
  { "opaque", "started", "device state, and the destination's QEMU loading it and starting",
    "look at the destination's processors and the disk of its data_dir (novacron doctor there); fewer devices and disks" },
};

/* The longest stage; NULL: the history does not tell. */
static const char *
nc_longest_stage(json_t *record, const NcFigures *f, double *ret_ms, const char **ret_remedy)
{
  const char *longest = NULL;

  *ret_ms = 0;
  for (size_t i = 0; i < G_N_ELEMENTS(nc_stages); i++) {
    json_t *from = nc_record_last_event(record, nc_stages[i].event, NULL), *to = nc_record_last_event(record, nc_stages[i].until, NULL);
    double ms = nc_figures_after(f, nc_json_string_or(to, "at", NULL)) - nc_figures_after(f, nc_json_string_or(from, "at", NULL));
    if (!(ms > *ret_ms))
      continue;
    *ret_ms = ms;
    *ret_remedy = nc_stages[i].remedy;
    longest = nc_stages[i].what;
  }
  return longest;
}

void
nc_diagnose_pause(json_t *list, json_t *record, const NcFigures *f)
{
  double pause = nc_figure(record, "pause_ms"), limit = nc_figure(record, "max_downtime_ms"), stage_ms;
  const char *remedy = "a higher --bandwidth, or --algorithm post-copy";

  if (isnan(pause)) {
    if (g_str_equal(nc_json_string_or(record, "outcome", ""), "completed"))
      nc_finding_add(list, "pause", NC_CHECK_UNKNOWN, NULL, NULL, "not recorded");
    return;
  }
  g_autofree char *text = nc_format_ms(pause);
  g_autofree char *promised =
      isnan(f->promised_pause_ms) ? g_strdup("") : g_strdup_printf("; the last forecast said %.0f ms", f->promised_pause_ms);
  g_autofree char *budget = isnan(limit) ? g_strdup("an unknown limit") : nc_format_ms(limit);
  if (!(pause > limit)) {
    nc_finding_add(list, "pause", NC_CHECK_OK, NULL, NULL, "%s, within %s%s", text, budget, promised);
    return;
  }
  const char *stage = nc_longest_stage(record, f, &stage_ms, &remedy);
  double disks = nc_figure(record, "disk_pause_ms");
  if (disks > stage_ms) {
    stage = "ending the copies of its disks";
    remedy = "fewer disks, or disks that both nodes see; a shorter round trip";
    stage_ms = disks;
  }
  g_autofree char *cause =
      stage ? g_strdup_printf("%.0f ms of it: %s", stage_ms, stage) : g_strdup("the history does not tell what took the time");
  nc_finding_add(list, "pause", NC_CHECK_WARNING, cause, remedy, "%s, over %s%s", text, budget, promised);
}
