/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node_checks.h"
#include "base/ident.h"

#include <stdlib.h>

#define NC_LEAST_STATE_BYTES (INT64_C(64) << 20) /* the journal's, and room to write what went wrong */
#define NC_LITTLE_STATE_BYTES (INT64_C(512) << 20)
#define NC_CLOCK_WARN_US 1000000
#define NC_DAY_US (INT64_C(86400) * G_USEC_PER_SEC)
#define NC_EXPIRES_SOON_DAYS 30
#define NC_STORE_FULL 0.9                       /* of its budget */
#define NC_STORE_LEAST_BYTES (INT64_C(1) << 30) /* of disk */
#define NC_SEND_BUFFER_BYTES (1 << 20)          /* less does not fill 100 Mbit/s over 80 ms */
#define NC_LITTLE_MEMORY 0.05
#define NC_STILL_US (INT64_C(300) * G_USEC_PER_SEC) /* that a migration may say nothing new */

void
nc_peer_facts_free(gpointer data)
{
  NcPeerFacts *peer = data;
  g_free(peer->name);
  g_free(peer->address);
  g_free(peer->problem);
  g_free(peer);
}

void
nc_node_check_postcopy(json_t *list, int problem)
{
  static const char remedy[] = "sysctl vm.unprivileged_userfaultfd=1, or run novacrond with CAP_SYS_PTRACE";

  if (problem)
    nc_check_add(list, "post-copy", NC_CHECK_WARNING, remedy, "userfaultfd can't be used: %s; only pre-copy is possible",
                 g_strerror(problem));
  else
    nc_check_add(list, "post-copy", NC_CHECK_OK, NULL, "userfaultfd works");
}

void
nc_node_check_data_dir(json_t *list, const char *data_dir, int64_t free_bytes)
{
  if (free_bytes < 0)
    nc_check_add(list, "disk space", NC_CHECK_UNKNOWN, "look at data_dir", "it can't be found out for %s", data_dir);
  else if (free_bytes < NC_LEAST_STATE_BYTES)
    nc_check_add(list, "disk space", NC_CHECK_FAILED, "free some: what can't be recorded is not taken over",
                 "%" G_GINT64_FORMAT " MiB free for %s", free_bytes >> 20, data_dir);
  else if (free_bytes < NC_LITTLE_STATE_BYTES)
    nc_check_add(list, "disk space", NC_CHECK_WARNING, "free some before the journal can't be written any more",
                 "%" G_GINT64_FORMAT " MiB free for %s", free_bytes >> 20, data_dir);
  else
    nc_check_add(list, "disk space", NC_CHECK_OK, NULL, "%" G_GINT64_FORMAT " MiB free for %s", free_bytes >> 20, data_dir);
}

void
nc_node_check_clock(json_t *list, const char *check, const char *whose, int64_t offset_us)
{
  bool apart = ABS(offset_us) > NC_CLOCK_WARN_US;

  nc_check_add(list, check, apart ? NC_CHECK_WARNING : NC_CHECK_OK, apart ? "let NTP set both clocks" : NULL, "%s%s%.0f ms apart",
               whose ? whose : "", whose ? ": " : "", (double)offset_us / 1000);
}

/* --- this node --- */

/* ${may_have_ca_key}: by that key it can be renewed also when it has ended. */
static void
nc_node_check_certificate(json_t *list, const char *check, const char *whose, bool may_have_ca_key, int64_t expires_us, int64_t now_us)
{
  g_autofree char *at = nc_time_format(expires_us);
  int64_t days = (expires_us - now_us) / NC_DAY_US;
  const char *remedy = may_have_ca_key ? "novacron pki renew, there"
                                       : "let it join again: novacron node remove and node token on the node with the CA's key; on this one set "
                                         "data_dir/pki aside, then novacrond join --token, and cordon it again if it was";

  if (expires_us <= now_us)
    nc_check_add(list, check, NC_CHECK_FAILED, remedy, "%s ended on %.10s", whose, at);
  else
    nc_check_add(list, check, days < NC_EXPIRES_SOON_DAYS ? NC_CHECK_WARNING : NC_CHECK_OK,
                 days < NC_EXPIRES_SOON_DAYS ? "novacron pki renew, there" : NULL, "%s ends on %.10s, in %" G_GINT64_FORMAT " days", whose, at,
                 days);
}

static void
nc_node_check_store(json_t *list, const NcNodeFacts *f)
{
  double used = nc_json_number_or(f->store, "used_bytes", 0), budget = nc_json_number_or(f->store, "budget_bytes", 0);
  int64_t disk = nc_json_int_or(f->store, "disk_free_bytes", INT64_MAX);
  const char *directory = nc_json_string_or(f->store, "directory", "?");
  bool full = budget > 0 && used > NC_STORE_FULL * budget;

  if (!f->store)
    nc_check_add(list, "page store", NC_CHECK_FAILED, "journalctl -u novacrond has the reason, at its start", "%s",
                 f->store_problem ? f->store_problem : "not open");
  else if (nc_json_bool_or(f->store, "failed", false) || nc_json_bool_or(f->store, "read_only", false))
    nc_check_add(list, "page store", NC_CHECK_FAILED, "look at its disk (journalctl -k), restart novacrond when it is well, then novacron store verify",
                 "%s can't be written to any more", directory);
  else if (full)
    nc_check_add(list, "page store", NC_CHECK_WARNING, "delete checkpoints, novacron store gc, or a larger budget (store_budget_mib)",
                 "%.0f of %.0f MiB of its budget used", used / 1048576, budget / 1048576);
  else if (disk < NC_STORE_LEAST_BYTES)
    nc_check_add(list, "page store", NC_CHECK_WARNING, "free some, delete checkpoints, or novacron store gc",
                 "%" G_GINT64_FORMAT " MiB free on the disk of %s", disk >> 20, directory);
  else
    nc_check_add(list, "page store", NC_CHECK_OK, NULL, "%.0f MiB used, %" G_GINT64_FORMAT " MiB free on the disk of %s", used / 1048576,
                 disk >> 20, directory);
}

static void
nc_node_check_qemu(json_t *list, const NcNodeFacts *f)
{
  if (!f->qemu_version || f->qemu_version[0] == '\0')
    nc_check_add(list, "qemu", NC_CHECK_FAILED, "install QEMU, or correct qemu_binary in novacrond.conf and restart novacrond",
                 "%s can't be run", f->qemu_binary);
  else if (strtol(f->qemu_version, NULL, 10) < 7)
    nc_check_add(list, "qemu", NC_CHECK_WARNING, "QEMU 7.2 or newer", "%s is version %s", f->qemu_binary, f->qemu_version);
  else
    nc_check_add(list, "qemu", NC_CHECK_OK, NULL, "%s, version %s", f->qemu_binary, f->qemu_version);
}

static bool
nc_has_word(const char *list, const char *word)
{
  g_auto(GStrv) words = g_strsplit_set(list, " \t\n", -1);
  return g_strv_contains((const char *const *)words, word);
}

static void
nc_node_check_tcp(json_t *list, const NcNodeFacts *f)
{
  const char *now = f->congestion_control ? f->congestion_control : "?";

  if (!f->congestion_controls)
    nc_check_add(list, "congestion control", NC_CHECK_UNKNOWN, NULL, "/proc/sys does not say");
  else if (!nc_has_word(f->congestion_controls, "bbr"))
    nc_check_add(list, "congestion control", NC_CHECK_WARNING,
                 "modprobe tcp_bbr, and at each start (/etc/modules-load.d): needed where links lose segments", "%s; there is no bbr", now);
  else
    nc_check_add(list, "congestion control", NC_CHECK_OK, NULL, "%s; bbr is there for links with losses", now);
  if (f->send_buffer_bytes < 0)
    nc_check_add(list, "send buffer", NC_CHECK_UNKNOWN, NULL, "/proc/sys does not say");
  else if (f->send_buffer_bytes < NC_SEND_BUFFER_BYTES)
    nc_check_add(list, "send buffer", NC_CHECK_WARNING, "sysctl net.ipv4.tcp_wmem=\"4096 16384 4194304\"",
                 "at most %" G_GINT64_FORMAT " KiB: too little for long links", f->send_buffer_bytes >> 10);
  else
    nc_check_add(list, "send buffer", NC_CHECK_OK, NULL, "up to %" G_GINT64_FORMAT " KiB", f->send_buffer_bytes >> 10);
}

static void
nc_node_check_memory(json_t *list, const NcNodeFacts *f)
{
  bool little = (double)f->memory_available_bytes < NC_LITTLE_MEMORY * (double)f->memory_bytes;

  if (f->memory_bytes <= 0 || f->memory_available_bytes < 0)
    return;
  nc_check_add(list, "memory", little ? NC_CHECK_WARNING : NC_CHECK_OK, little ? "move machines away, or stop some" : NULL,
               "%" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " MiB available", f->memory_available_bytes >> 20, f->memory_bytes >> 20);
}

/* --- the others --- */

static void
nc_node_check_peer(json_t *list, const NcPeerFacts *peer, int64_t now_us)
{
  if (peer->problem) {
    nc_check_add(list, "peer", NC_CHECK_FAILED, "is that host up, novacrond running there, its port open, the way to it free?",
                 "%s (%s): %s", peer->name, peer->address, peer->problem);
    return;
  }
  nc_check_add(list, "peer", NC_CHECK_OK, NULL, "%s (%s) answers, round trip %.1f ms", peer->name, peer->address,
               (double)peer->rtt_us / 1000);
  nc_node_check_clock(list, "clock", peer->name, peer->offset_us);
  if (peer->expires_us > 0 && peer->expires_us - now_us < NC_EXPIRES_SOON_DAYS * NC_DAY_US) {
    g_autofree char *whose = g_strdup_printf("that of %s", peer->name);
    /* It has answered: one that has ended is not a peer's. */
    nc_node_check_certificate(list, "peer's certificate", whose, true, peer->expires_us, now_us);
  }
}

static void
nc_node_check_peers(json_t *list, const NcNodeFacts *f)
{
  guint n = f->peers ? f->peers->len : 0;

  if (n == 0)
    nc_check_add(list, "peer", NC_CHECK_OK, NULL, "this node is the only one of its cluster");
  for (guint i = 0; i < n; i++)
    nc_node_check_peer(list, f->peers->pdata[i], f->now_us);
  if (f->peers_left_out > 0)
    nc_check_add(list, "peer", NC_CHECK_UNKNOWN, "novacron doctor on other nodes", "%u more were not asked", f->peers_left_out);
}

/* --- migrations --- */

static int64_t
nc_record_quiet_us(json_t *record, int64_t now_us)
{
  json_t *events = json_object_get(record, "events");
  json_t *last = json_array_get(events, MAX(json_array_size(events), 1) - 1);
  const char *at =
      last ? nc_json_string_or(last, "at", "") : nc_json_string_or(record, "started", nc_json_string_or(record, "created", ""));
  g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(at, NULL);
  return time ? now_us - g_date_time_to_unix(time) * G_USEC_PER_SEC : 0;
}

/* One that says nothing new and carries nothing. In these phases it may. */
static bool
nc_record_stands_still(json_t *record, int64_t now_us)
{
  static const char *const slow[] = { "queued", "checkpoint", "disk_copy", NULL };
  return !g_strv_contains(slow, nc_json_string_or(record, "phase", "")) && nc_json_number_or(record, "wire_rate_bps", 0) <= 0 &&
         nc_record_quiet_us(record, now_us) > NC_STILL_US;
}

static void
nc_node_check_migrations(json_t *list, const NcNodeFacts *f)
{
  size_t i, wrong = 0;
  json_t *record;

  json_array_foreach(f->migrations, i, record)
  {
    const char *id = nc_json_string_or(record, "id", "?"), *vm = nc_json_string_or(record, "vm", "?"),
               *attention = nc_json_string_or(record, "attention", NULL);
    g_autofree char *remedy = g_strdup_printf("novacron doctor %s", id);
    if (attention || g_str_equal(nc_json_string_or(record, "phase", ""), "needs_attention"))
      nc_check_add(list, "migration", NC_CHECK_FAILED, attention ? attention : remedy, "%s of %s needs attention", id, vm);
    else if (nc_record_stands_still(record, f->now_us))
      nc_check_add(list, "migration", NC_CHECK_WARNING, remedy, "%s of %s has stood still for %.0f min in phase %s", id, vm,
                   (double)nc_record_quiet_us(record, f->now_us) / 6e7, nc_json_string_or(record, "phase", "?"));
    else
      continue;
    wrong++;
  }
  if (wrong == 0)
    nc_check_add(list, "migration", NC_CHECK_OK, NULL, "%zu under way, none stands still or needs attention",
                 json_array_size(f->migrations));
}

json_t *
nc_node_checks(const NcNodeFacts *f)
{
  json_t *list = json_array();

  nc_node_check_certificate(list, "certificate", "this node's", f->has_ca_key, f->certificate_expires_us, f->now_us);
  nc_node_check_data_dir(list, f->data_dir, f->data_free_bytes);
  nc_node_check_store(list, f);
  nc_node_check_memory(list, f);
  nc_node_check_qemu(list, f);
  nc_node_check_postcopy(list, f->userfaultfd_problem);
  nc_node_check_tcp(list, f);
  nc_node_check_peers(list, f);
  nc_node_check_migrations(list, f);
  return list;
}
