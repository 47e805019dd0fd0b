/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMUs of different versions offer, reduced to what a migration of ours needs. */
#include "qemu/migration_qmp.h"
#include "base/ident.h"

#include <string.h>

#define NC_QMP_QUICK_MS 10000
#define NC_QEMU_CONT_RETRY_US 20000
#define NC_PREEMPT_SOUND_SINCE 8 /* QEMU's major version */
/* QEMU refuses 0 on some versions, and its default is 128 MiB/s: one exabyte per second is "none". */
#define NC_NO_BANDWIDTH_LIMIT (INT64_C(1) << 60)

static const char *const nc_status_names[] = {
  [NC_QEMU_MIGRATION_NONE] = "none",
  [NC_QEMU_MIGRATION_SETUP] = "setup",
  [NC_QEMU_MIGRATION_ACTIVE] = "active",
  [NC_QEMU_MIGRATION_PRE_SWITCHOVER] = "pre-switchover",
  [NC_QEMU_MIGRATION_DEVICE] = "device",
  [NC_QEMU_MIGRATION_POSTCOPY] = "postcopy-active",
  [NC_QEMU_MIGRATION_POSTCOPY_PAUSED] = "postcopy-paused",
  [NC_QEMU_MIGRATION_POSTCOPY_RECOVER] = "postcopy-recover",
  [NC_QEMU_MIGRATION_COMPLETED] = "completed",
  [NC_QEMU_MIGRATION_FAILED] = "failed",
  [NC_QEMU_MIGRATION_CANCELLING] = "cancelling",
  [NC_QEMU_MIGRATION_CANCELLED] = "cancelled",
  [NC_QEMU_MIGRATION_OTHER] = NULL,
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_status_names) == NC_QEMU_MIGRATION_STATUS_COUNT);

typedef enum {
  NC_CAP_REQUIRED,
  NC_CAP_WANTED,
  NC_CAP_OFF,
  NC_CAP_POSTCOPY, /* on where both sides agreed to it */
  NC_CAP_PREEMPT,  /* the same */
  NC_CAP_THROTTLE, /* on where the guest may be slowed down: it can't be switched on later */
} NcCapUse;

/*
 * Each capability that this version has an opinion about. Those not listed stay
 * as they are: a machine that was set up for, say, x-ignore-shared needs it.
 */
static const struct {
  const char *name;
  NcCapUse use;
} nc_capabilities[] = {
  { "events", NC_CAP_REQUIRED },
  { "return-path", NC_CAP_REQUIRED },           /* without it the source would not wait for the destination */
  { "pause-before-switchover", NC_CAP_REQUIRED }, /* the release happens there */
  { "late-block-activate", NC_CAP_WANTED },     /* implied, and gone, in newer QEMUs */
  { "xbzrle", NC_CAP_OFF },
  { "multifd", NC_CAP_OFF },
  { "compress", NC_CAP_OFF },
  { "postcopy-ram", NC_CAP_POSTCOPY },
  { "postcopy-preempt", NC_CAP_PREEMPT },
  { "background-snapshot", NC_CAP_OFF },
  { "block", NC_CAP_OFF },
  { "x-colo", NC_CAP_OFF },
  { "release-ram", NC_CAP_OFF }, /* the source's RAM is what a reclaim resumes from */
  { "zero-copy-send", NC_CAP_OFF },
  { "auto-converge", NC_CAP_THROTTLE },
  { "mapped-ram", NC_CAP_OFF },
};

static json_t *
nc_find_capability(json_t *offered, const char *name)
{
  return nc_json_find(offered, "capability", name);
}

static bool
nc_capability_is_wanted(NcCapUse use, const NcQemuMigrationParams *params)
{
  switch (use) {
  case NC_CAP_OFF:
    return false;
  case NC_CAP_POSTCOPY:
    return params->postcopy;
  case NC_CAP_PREEMPT:
    return params->postcopy && params->preempt;
  case NC_CAP_THROTTLE:
    return params->may_throttle;
  default:
    return true;
  }
}

/* The changes that ${offered} needs; new reference, NULL with *error if something required is missing. */
static json_t *
nc_plan_capabilities(json_t *offered, const NcQemuMigrationParams *params, GError **error)
{
  json_t *changes = json_array();
  g_autoptr(GString) missing = g_string_new(NULL);

  for (size_t i = 0; i < G_N_ELEMENTS(nc_capabilities); i++) {
    const char *name = nc_capabilities[i].name;
    json_t *entry = nc_find_capability(offered, name);
    bool on = nc_capability_is_wanted(nc_capabilities[i].use, params);
    if (!entry && nc_capabilities[i].use == NC_CAP_REQUIRED)
      g_string_append_printf(missing, "%s%s", missing->len ? ", " : "", name);
    if (entry && nc_json_bool_or(entry, "state", false) != on)
      json_array_append_new(changes, json_pack("{s:s, s:b}", "capability", name, "state", on));
  }
  if (missing->len == 0)
    return changes;
  json_decref(changes);
  nc_fail(error, NC_ERROR_QEMU, "this QEMU lacks migration capabilities: %s (7.2 or newer is needed)", missing->str);
  return NULL;
}

static bool
nc_setup_capabilities(NcQmp *qmp, const NcQemuMigrationParams *params, GError **error)
{
  nc_autojson json_t *offered = nc_qmp_call(qmp, "query-migrate-capabilities", NULL, -1, NC_QMP_QUICK_MS, error);
  if (!offered)
    return false;
  json_t *changes = nc_plan_capabilities(offered, params, error);
  if (!changes)
    return false;
  if (json_array_size(changes) == 0) {
    json_decref(changes);
    return true;
  }
  return nc_qmp_do(qmp, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", changes), error);
}

/* QEMU's own judgement is switched off by the threshold: it compares bytes before compression. One percent is its least. */
static json_t *
nc_throttle_parameters(int percent, int threshold)
{
  return json_pack("{s:i, s:i, s:i, s:i}", "cpu-throttle-initial", percent, "cpu-throttle-increment", 99, "max-cpu-throttle",
                   percent, "throttle-trigger-threshold", threshold);
}

bool
nc_qemu_set_throttle(NcQmp *qmp, int percent, GError **error)
{
  return nc_qmp_do(qmp, "migrate-set-parameters", nc_throttle_parameters(percent, 1), error);
}

/* Page sampling, the default mode: any other crashes QEMU 7.2 under TCG. */
bool
nc_qemu_sample_dirty_rate(NcQmp *qmp, GError **error)
{
  return nc_qmp_do(qmp, "calc-dirty-rate", json_pack("{s:i, s:i}", "calc-time", 1, "sample-pages", 1024), error);
}

bool
nc_qemu_sampled_dirty_rate(NcQmp *qmp, uint64_t *ret_bps)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "query-dirty-rate", NULL, -1, NC_QMP_QUICK_MS, NULL);
  int64_t mib = nc_json_int_or(answer, "dirty-rate", -1);

  if (!g_str_equal(nc_json_string_or(answer, "status", ""), "measured") || mib < 0)
    return false;
  *ret_bps = (uint64_t)mib << 20;
  return true;
}

bool
nc_qemu_migration_setup_source(NcQmp *qmp, const NcQemuMigrationParams *params, GError **error)
{
  json_int_t bandwidth = params->max_bandwidth_bps ? (json_int_t)params->max_bandwidth_bps : NC_NO_BANDWIDTH_LIMIT;
  return nc_setup_capabilities(qmp, params, error) &&
         (!params->may_throttle || nc_qmp_do(qmp, "migrate-set-parameters", nc_throttle_parameters(1, 100), error)) &&
         nc_qmp_do(qmp, "migrate-set-parameters",
                   json_pack("{s:I, s:I}", "max-bandwidth", bandwidth, "downtime-limit", (json_int_t)params->downtime_limit_ms),
                   error);
}

bool
nc_qemu_migration_setup_destination(NcQmp *qmp, bool postcopy, bool preempt, GError **error)
{
  const NcQemuMigrationParams params = { .postcopy = postcopy, .preempt = preempt };
  return nc_setup_capabilities(qmp, &params, error);
}

bool
nc_qemu_preempt_is_sound(NcQmp *qmp)
{
  int version[3];

  nc_qmp_version(qmp, version);
  return version[0] >= NC_PREEMPT_SOUND_SINCE;
}

bool
nc_qemu_has_preempt_channel(NcQmp *qmp)
{
  nc_autojson json_t *offered = nc_qmp_call(qmp, "query-migrate-capabilities", NULL, -1, NC_QMP_QUICK_MS, NULL);
  return nc_json_bool_or(nc_find_capability(offered, "postcopy-preempt"), "state", false);
}

static NcQemuMigrationStatus
nc_status_from_name(const char *name)
{
  for (int i = 0; i < NC_QEMU_MIGRATION_STATUS_COUNT; i++)
    if (nc_status_names[i] && g_str_equal(nc_status_names[i], name))
      return (NcQemuMigrationStatus)i;
  if (g_str_has_prefix(name, "postcopy-recover")) /* 9.1 has a state before it */
    return NC_QEMU_MIGRATION_POSTCOPY_RECOVER;
  if (g_str_has_prefix(name, "postcopy"))
    return NC_QEMU_MIGRATION_POSTCOPY;
  return NC_QEMU_MIGRATION_OTHER;
}

static uint64_t
nc_unsigned(json_t *object, const char *key)
{
  int64_t n = nc_json_int_or(object, key, 0);
  return n > 0 ? (uint64_t)n : 0;
}

bool
nc_qemu_knows_postcopy(NcQmp *qmp)
{
  nc_autojson json_t *offered = nc_qmp_call(qmp, "query-migrate-capabilities", NULL, -1, NC_QMP_QUICK_MS, NULL);
  return nc_find_capability(offered, "postcopy-ram") != NULL;
}

uint64_t
nc_qemu_memory_bytes(NcQmp *qmp)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "query-memory-size-summary", NULL, -1, NC_QMP_QUICK_MS, NULL);
  return nc_unsigned(answer, "base-memory") + nc_unsigned(answer, "plugged-memory");
}

static char *
nc_join_strings(json_t *array)
{
  g_autoptr(GString) text = g_string_new(NULL);
  size_t i;
  json_t *entry;
  json_array_foreach(array, i, entry)
  {
    if (json_is_string(entry))
      g_string_append_printf(text, "%s%s", text->len ? "; " : "", json_string_value(entry));
  }
  return text->len ? g_strdup(text->str) : NULL;
}

bool
nc_qemu_migration_query(NcQmp *qmp, NcQemuMigrationInfo *ret, GError **error)
{
  return nc_qemu_migration_query_for(qmp, NC_QMP_QUICK_MS, ret, error);
}

bool
nc_qemu_migration_query_for(NcQmp *qmp, int timeout_ms, NcQemuMigrationInfo *ret, GError **error)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "query-migrate", NULL, -1, timeout_ms, error);
  if (!answer)
    return false;
  json_t *ram = json_object_get(answer, "ram");
  *ret = (NcQemuMigrationInfo){
    .status = nc_status_from_name(nc_json_string_or(answer, "status", "none")),
    .error_desc = g_strdup(nc_json_string_or(answer, "error-desc", NULL)),
    .blocked_reasons = nc_join_strings(json_object_get(answer, "blocked-reasons")),
    .total_ms = nc_unsigned(answer, "total-time"),
    .downtime_ms = nc_unsigned(answer, "downtime"),
    .expected_downtime_ms = nc_unsigned(answer, "expected-downtime"),
    .ram_total_bytes = nc_unsigned(ram, "total"),
    .ram_remaining_bytes = nc_unsigned(ram, "remaining"),
    .ram_transferred_bytes = nc_unsigned(ram, "transferred"),
    .ram_normal_pages = nc_unsigned(ram, "normal"),
    .ram_duplicate_pages = nc_unsigned(ram, "duplicate"),
    .ram_page_size = nc_unsigned(ram, "page-size"),
    .dirty_sync_count = nc_unsigned(ram, "dirty-sync-count"),
    .dirty_pages_rate = nc_unsigned(ram, "dirty-pages-rate"),
    .throttle_percent = nc_unsigned(answer, "cpu-throttle-percentage"),
    .ram_mbps = json_number_value(json_object_get(ram, "mbps")),
  };
  return true;
}

void
nc_qemu_migration_info_clear(NcQemuMigrationInfo *info)
{
  g_clear_pointer(&info->error_desc, g_free);
  g_clear_pointer(&info->blocked_reasons, g_free);
}

NcQemuMigrationStatus
nc_qemu_migration_status(NcQmp *qmp)
{
  NcQemuMigrationInfo info;
  if (!nc_qemu_migration_query(qmp, &info, NULL))
    return NC_QEMU_MIGRATION_NONE;
  nc_qemu_migration_info_clear(&info);
  return info.status;
}

const char *
nc_qemu_migration_status_name(NcQemuMigrationStatus status)
{
  return nc_status_names[status] ? nc_status_names[status] : "a state unknown here";
}

bool
nc_qemu_migration_status_is_under_way(NcQemuMigrationStatus status)
{
  switch (status) {
  case NC_QEMU_MIGRATION_NONE:
  case NC_QEMU_MIGRATION_COMPLETED:
  case NC_QEMU_MIGRATION_FAILED:
  case NC_QEMU_MIGRATION_CANCELLED:
    return false;
  default:
    return true;
  }
}

bool
nc_qemu_migration_is_under_way(NcQmp *qmp)
{
  NcQemuMigrationInfo info;
  if (!nc_qemu_migration_query(qmp, &info, NULL))
    return nc_qmp_is_alive(qmp);
  nc_qemu_migration_info_clear(&info);
  return nc_qemu_migration_status_is_under_way(info.status);
}

bool
nc_qemu_migrate(NcQmp *qmp, const char *path, GError **error)
{
  g_autofree char *uri = g_strdup_printf("unix:%s", path);
  return nc_qmp_do(qmp, "migrate", json_pack("{s:s}", "uri", uri), error);
}

bool
nc_qemu_migrate_fd(NcQmp *qmp, const char *name, GError **error)
{
  g_autofree char *uri = g_strdup_printf("fd:%s", name);
  return nc_qmp_do(qmp, "migrate", json_pack("{s:s}", "uri", uri), error);
}

bool
nc_qemu_migrate_incoming(NcQmp *qmp, const char *path, GError **error)
{
  g_autofree char *uri = g_strdup_printf("unix:%s", path);
  return nc_qmp_do(qmp, "migrate-incoming", json_pack("{s:s}", "uri", uri), error);
}

bool
nc_qemu_migrate_cancel(NcQmp *qmp, GError **error)
{
  return nc_qmp_do(qmp, "migrate_cancel", NULL, error);
}

bool
nc_qemu_start_postcopy(NcQmp *qmp, GError **error)
{
  return nc_qmp_do(qmp, "migrate-start-postcopy", NULL, error);
}

bool
nc_qemu_migrate_recover(NcQmp *qmp, const char *path, GError **error)
{
  g_autofree char *uri = g_strdup_printf("unix:%s", path);
  return nc_qmp_do_oob(qmp, "migrate-recover", json_pack("{s:s}", "uri", uri), error);
}

bool
nc_qemu_migrate_resume(NcQmp *qmp, const char *path, GError **error)
{
  g_autofree char *uri = g_strdup_printf("unix:%s", path);
  return nc_qmp_do(qmp, "migrate", json_pack("{s:s, s:b}", "uri", uri, "resume", 1), error);
}

bool
nc_qemu_migrate_pause(NcQmp *qmp, GError **error)
{
  return nc_qmp_do_oob(qmp, "migrate-pause", NULL, error);
}

bool
nc_qemu_migrate_continue(NcQmp *qmp, GError **error)
{
  return nc_qmp_do(qmp, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"), error);
}

bool
nc_qemu_set_downtime_limit(NcQmp *qmp, uint32_t limit_ms, GError **error)
{
  return nc_qmp_do(qmp, "migrate-set-parameters", json_pack("{s:I}", "downtime-limit", (json_int_t)limit_ms), error);
}

bool
nc_qemu_set_max_bandwidth(NcQmp *qmp, uint64_t bps, GError **error)
{
  json_int_t limit = bps ? (json_int_t)bps : NC_NO_BANDWIDTH_LIMIT;
  return nc_qmp_do(qmp, "migrate-set-parameters", json_pack("{s:I}", "max-bandwidth", limit), error);
}

bool
nc_qemu_cont(NcQmp *qmp, GError **error)
{
  return nc_qmp_do(qmp, "cont", NULL, error);
}

bool
nc_qemu_cont_after_migration(NcQmp *qmp, int timeout_ms, GError **error)
{
  int64_t deadline = nc_mono_us() + timeout_ms * INT64_C(1000);

  for (;;) {
    g_autoptr(GError) refusal = NULL;
    if (nc_qemu_is_running(qmp) || (nc_qemu_cont(qmp, &refusal) && nc_qemu_is_running(qmp)))
      return true;
    if (nc_mono_us() >= deadline || !nc_qmp_is_alive(qmp)) {
      if (!refusal)
        return nc_fail(error, NC_ERROR_QEMU, "QEMU was told to run the machine and does not");
      g_propagate_error(error, g_steal_pointer(&refusal));
      return false;
    }
    g_usleep(NC_QEMU_CONT_RETRY_US);
  }
}

bool
nc_qemu_is_running(NcQmp *qmp)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "query-status", NULL, -1, NC_QMP_QUICK_MS, NULL);
  return nc_json_bool_or(answer, "running", false);
}

bool
nc_qemu_is_loaded(NcQmp *qmp)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "query-status", NULL, -1, NC_QMP_QUICK_MS, NULL);
  return answer && !g_str_equal(nc_json_string_or(answer, "status", "inmigrate"), "inmigrate");
}

bool
nc_qemu_is_stopped(NcQmp *qmp)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "query-status", NULL, -1, NC_QMP_QUICK_MS, NULL);
  return !nc_json_bool_or(answer, "running", true);
}

bool
nc_qemu_announce_self(NcQmp *qmp, int timeout_ms, GError **error)
{
  json_t *rounds = json_pack("{s:i, s:i, s:i, s:i}", "initial", 50, "max", 550, "rounds", 5, "step", 100);
  nc_autojson json_t *answer = nc_qmp_call(qmp, "announce-self", rounds, -1, timeout_ms, error);
  return answer != NULL;
}

bool
nc_qemu_getfd(NcQmp *qmp, const char *name, int fd, GError **error)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, "getfd", json_pack("{s:s}", "fdname", name), fd, NC_QMP_QUICK_MS, error);
  return answer != NULL;
}

bool
nc_qemu_closefd(NcQmp *qmp, const char *name, GError **error)
{
  return nc_qmp_do(qmp, "closefd", json_pack("{s:s}", "fdname", name), error);
}
