/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migration.h"
#include "agent/hooks.h"
#include "agent/migration_views.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"

#include <string.h>

NcMigration *
nc_migration_new(const NcMigrationsDeps *deps, bool is_source, const char *id, const char *vm, const char *peer,
                 uint64_t epoch, json_t *record)
{
  NcMigration *m = g_new0(NcMigration, 1);
  m->deps = deps;
  m->id = g_strdup(id);
  m->vm = g_strdup(vm);
  m->peer = g_strdup(peer);
  m->is_source = is_source;
  m->epoch = epoch;
  m->shadow_fd = -1;
  m->inbox = nc_inbox_new();
  m->state = is_source ? NC_S_PREPARING : NC_D_RECEIVING;
  g_mutex_init(&m->lock);
  g_mutex_init(&m->link_lock);
  g_mutex_init(&m->claim_lock);
  nc_endgame_init(&m->endgame);
  m->record = record ? record : json_object();
  return m;
}

static void
nc_migration_release_bandwidth(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->claim_lock);
  g_clear_pointer(&m->claim, nc_bandwidth_release);
}

void
nc_migration_free(NcMigration *m)
{
  if (!m)
    return;
  nc_migration_release_bandwidth(m);
  nc_migration_drop_link(m);
  nc_mover_process_free(m->mover);
  nc_stored_giver_free(m->stored);
  nc_fd_clear(&m->shadow_fd);
  nc_keeper_free(m->keeper);
  if (m->lease) { /* novacrond stops: the next one takes it up again */
    nc_machine_lease_set_event_func(m->lease, NULL, NULL);
    nc_machine_lease_abandon(m->lease);
  }
  nc_inbox_unref(m->inbox);
  json_decref(m->record);
  g_mutex_clear(&m->lock);
  g_mutex_clear(&m->link_lock);
  g_mutex_clear(&m->claim_lock);
  nc_endgame_clear(&m->endgame);
  g_free(m->id);
  g_free(m->vm);
  g_free(m->peer);
  g_free(m);
}

void
nc_migration_set(NcMigration *m, const char *key, json_t *value)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  json_object_set_new(m->record, key, value);
}

void
nc_migration_forget(NcMigration *m, const char *const *keys)
{
  for (; *keys; keys++)
    nc_migration_set(m, *keys, json_null());
}

void
nc_migration_flow_is_over(NcMigration *m)
{
  nc_migration_set(m, "wire_rate_bps", json_integer(0));
  nc_migration_set(m, "rate_bps", json_null());
}

int64_t
nc_migration_int(NcMigration *m, const char *key)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  return nc_json_int_or(m->record, key, 0);
}

json_t *
nc_migration_snapshot(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  return json_deep_copy(m->record);
}

/* The record, with what tells of the change. */
static bool
nc_migration_write(NcMigration *m, bool begins_attempt, const NcAuditEntry *entry, const char *event, const char *event_detail,
                   bool durable, GError **error)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  const NcMigrationRow row = { .id = m->id,
                               .vm = m->vm,
                               .state = nc_handoff_state_name(m->state),
                               .finished = nc_handoff_is_final(m->state),
                               .record = record,
                               .begins_attempt = begins_attempt };
  return nc_journal_step_migration(m->deps->journal, &row, entry, event, event_detail, durable, error);
}

static bool
nc_migration_record(NcMigration *m, const NcAuditEntry *entry, const char *event, const char *event_detail, bool durable, GError **error)
{
  return nc_migration_write(m, false, entry, event, event_detail, durable, error);
}

bool
nc_migration_step(NcMigration *m, NcHandoffEvent event, const char *detail)
{
  NcHandoffState next;
  if (!nc_handoff_step(m->state, event, &next)) {
    nc_log(NC_LOG_WARNING, "agent", "migration %s: %s is not possible in state %s: ignored", m->id,
           nc_handoff_event_name(event), nc_handoff_state_name(m->state));
    return false;
  }
  nc_log(NC_LOG_INFO, "agent", "migration %s of %s: %s -> %s (%s)%s%s", m->id, m->vm, nc_handoff_state_name(m->state),
         nc_handoff_state_name(next), nc_handoff_event_name(event), detail ? ": " : "", detail ? detail : "");
  nc_autojson json_t *change = json_pack("{s:s, s:s, s:s, s:s}", "from", nc_handoff_state_name(m->state), "to", nc_handoff_state_name(next),
                                         "event", nc_handoff_event_name(event), "detail", detail ? detail : "");
  const NcAuditEntry entry = { .kind = "migration.state", .subject = m->id, .vm = m->vm, .detail = change };
  m->state = next;
  nc_migration_set(m, "state", json_string(nc_handoff_state_name(next)));
  nc_migration_set(m, "phase", json_string(nc_handoff_phase(next)));
  g_autoptr(GError) error = NULL;
  /* Not durable by itself: the run right is the truth, this is the story. */
  if (!nc_migration_record(m, &entry, nc_handoff_event_name(event), detail, false, &error))
    nc_log(NC_LOG_ERR, "agent", "migration %s: its record could not be written: %s", m->id, error->message);
  return true;
}

void
nc_migration_note(NcMigration *m, const char *event, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *detail = g_strdup_vprintf(format, args);
  va_end(args);
  g_autoptr(GError) error = NULL;
  if (!nc_journal_add_event(m->deps->journal, m->id, event, detail, false, &error))
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s", m->id, error->message);
}

void
nc_migration_enter_phase(NcMigration *m, const char *phase)
{
  nc_migration_set(m, "phase", json_string(phase));
  nc_migration_note(m, "phase", "%s", phase);
}

bool
nc_migration_persist(NcMigration *m, bool durable, GError **error)
{
  return nc_migration_record(m, NULL, NULL, NULL, durable, error);
}

bool
nc_migration_create(NcMigration *m, GError **error)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  nc_autojson json_t *detail = json_object();
  static const char *const keys[] = { "source", "destination", "role", "algorithm", "compression", "max_downtime_ms", "bandwidth_limit_bps" };
  const NcAuditEntry entry = { .kind = "migration.created", .subject = m->id, .vm = m->vm, .detail = detail };

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
    if (json_object_get(record, keys[i]))
      json_object_set(detail, keys[i], json_object_get(record, keys[i]));
  return nc_migration_write(m, m->is_attempt, &entry, NULL, NULL, true, error);
}

void
nc_migration_audit(NcMigration *m, const char *kind, json_t *detail)
{
  nc_autojson json_t *owned = detail;
  const NcAuditEntry entry = { .kind = kind, .subject = m->id, .vm = m->vm, .detail = owned };
  g_autoptr(GError) error = NULL;

  if (!nc_journal_audit(m->deps->journal, &entry, false, NULL, &error))
    nc_log(NC_LOG_ERR, "agent", "migration %s: transaction log: %s", m->id, error->message);
}

void
nc_migration_tell_head(NcMigration *m)
{
  json_t *head = nc_migration_has_link(m) ? nc_audit_tell(m->deps->audit) : NULL;
  if (head)
    nc_migration_tell(m, json_pack("{s:s, s:s, s:o}", "type", "mig_head", "migration", m->id, "audit", head), NULL);
}

bool
nc_migration_hear_head(NcMigration *m, json_t *message)
{
  if (!g_str_equal(nc_json_string_or(message, "type", ""), "mig_head"))
    return false;
  if (g_atomic_int_compare_and_exchange(&m->head_heard, 0, 1))
    nc_audit_hear(m->deps->audit, m->peer, m->id, json_object_get(message, "audit"));
  return true;
}

/* How long one took that has not completed, whose source has not noted it. */
static void
nc_migration_note_total(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  int64_t total_ms = nc_migration_record_elapsed_ms(record, nc_wall_us());

  if (total_ms >= 0)
    nc_migration_set(m, "total_ms", json_integer(total_ms));
}

/* Before the record says that it has ended: else a scrape could find it neither among those under way nor counted. */
static void
nc_migration_count(NcMigration *m, const char *outcome)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  nc_metrics_count_end(m->deps->metrics, record, outcome, nc_wall_us());
}

/* When the record says that it has ended, and before its history does. */
static void
nc_migration_end_alerts(NcMigration *m, const char *outcome)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  nc_alerts_end(m->deps->alerts, record, outcome);
}

void
nc_migration_finish(NcMigration *m, const char *outcome, const GError *error)
{
  g_autofree char *now = nc_time_format(nc_wall_us());
  if (!g_str_equal(outcome, "completed"))
    nc_migration_note_total(m);
  nc_migration_count(m, outcome);
  nc_migration_release_bandwidth(m);
  nc_fd_clear(&m->shadow_fd); /* the record may stay for long */
  nc_migration_set(m, "finished", json_string(now));
  nc_migration_set(m, "outcome", json_string(outcome));
  nc_migration_set(m, "phase", json_string(nc_handoff_phase(m->state)));
  nc_migration_set(m, "attention", json_null());
  if (error) {
    nc_migration_set(m, "error", nc_error_to_json(error));
    nc_migration_note(m, "error", "%s", error->message);
    nc_log(NC_LOG_WARNING, "agent", "migration %s of %s %s: %s", m->id, m->vm, outcome, error->message);
  }
  nc_migration_end_alerts(m, outcome);
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *detail = json_pack("{s:s, s:o?}", "outcome", outcome, "error", error ? nc_error_to_json(error) : NULL);
  const NcAuditEntry entry = { .kind = "migration.finished", .subject = m->id, .vm = m->vm, .detail = detail };
  if (!nc_migration_record(m, &entry, "finished", outcome, true, &problem))
    nc_log(NC_LOG_ERR, "agent", "migration %s: its end could not be written: %s", m->id, problem->message);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  m->finished = true;
}

bool
nc_migration_is_finished(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  return m->finished;
}

void
nc_migration_want_back(NcMigration *m, bool wanted)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  m->wanted_back = wanted;
}

bool
nc_migration_permit_start(NcMigration *m, int64_t now_us)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  if (!m->wanted_back)
    m->permitted_us = now_us;
  return !m->wanted_back;
}

bool
nc_migration_word_counts(NcMigration *m, int64_t since_us, int64_t now_us)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  return now_us - since_us > NC_LET_GO_MS * INT64_C(1000) &&
         (m->permitted_us == 0 || now_us - m->permitted_us > NC_PERMIT_MS * INT64_C(1000));
}

/* Of the register, which holds its lock. */
static void
nc_migration_on_rate(uint64_t rate_bps, void *user_data)
{
  NcMigration *m = user_data;
  nc_migration_set(m, "rate_limit_bps", json_integer((json_int_t)rate_bps));
  nc_inbox_push(m->inbox, NC_FROM_LIMITS, NULL);
}

NcQos
nc_migration_qos(NcMigration *m)
{
  NcQos qos = NC_QOS_NORMAL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  nc_qos_from_name(nc_json_string_or(m->record, "qos", NULL), &qos);
  return qos;
}

NcDiskChain
nc_migration_disk_chain(NcMigration *m)
{
  NcDiskChain chain = NC_CHAIN_FLATTEN;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  nc_disk_chain_from_name(nc_json_string_or(m->record, "disk_chain", NULL), &chain);
  return chain;
}

void
nc_migration_claim_bandwidth(NcMigration *m)
{
  uint64_t limit_bps = (uint64_t)nc_migration_int(m, "bandwidth_limit_bps");
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->claim_lock);
  m->claim = nc_bandwidth_claim(m->deps->bandwidth, nc_migration_qos(m), limit_bps, nc_migration_on_rate, m);
  if (m->is_attempt)
    nc_endgame_set_controlled(&m->endgame, nc_mono_us());
}

NcEndgameAnswer
nc_migration_look_endgame(NcMigration *m, NcEndgameNeed need)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->claim_lock);
  return nc_endgame_look(&m->endgame, m->claim, need, nc_mono_us());
}

bool
nc_migration_is_alone(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->claim_lock);
  return !m->claim || nc_bandwidth_is_alone(m->claim);
}

void
nc_migration_end_endgame(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->claim_lock);
  nc_endgame_end(&m->endgame, m->claim);
}

void
nc_migration_limit(NcMigration *m, NcQos qos, uint64_t limit_bps)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->claim_lock);
  nc_migration_set(m, "qos", json_string(nc_qos_name(qos)));
  nc_migration_set(m, "bandwidth_limit_bps", json_integer((json_int_t)limit_bps));
  if (m->claim)
    nc_bandwidth_change(m->claim, qos, limit_bps);
  nc_inbox_push(m->inbox, NC_FROM_LIMITS, NULL); /* the class counts even where the rate stays */
}

bool
nc_migration_move_right(NcMigration *m, NcRightState from, uint64_t from_epoch, NcRightState to, uint64_t to_epoch,
                        GError **error)
{
  NcRight right = { .epoch = to_epoch, .state = to };
  g_strlcpy(right.vm, m->vm, sizeof right.vm);
  g_strlcpy(right.migration, m->id, sizeof right.migration);
  if (to == NC_RIGHT_INCOMING || to == NC_RIGHT_RELEASED)
    g_strlcpy(right.peer, m->peer, sizeof right.peer);
  if (!nc_journal_set_right(m->deps->journal, &right, from, from_epoch, error)) {
    g_prefix_error(error, "the run right of %s could not become %s(%" G_GUINT64_FORMAT ") on the %s: ", m->vm,
                   nc_right_name(to), to_epoch, m->is_source ? "source" : "destination");
    return false;
  }
  return true;
}

static void
nc_migration_copy_number(NcMigration *m, json_t *from, const char *source_key, const char *key)
{
  json_t *value = json_object_get(from, source_key);
  if (json_is_number(value))
    json_object_set(m->record, key, value);
}

/* How the source codes: now, and how many batches were coded how. */
static void
nc_migration_copy_coding(NcMigration *m, json_t *from)
{
  json_t *coding = json_object_get(from, "coding"), *batches = json_object_get(from, "coded_batches");

  if (json_is_string(coding))
    json_object_set(m->record, "coding", coding);
  if (json_is_object(batches))
    json_object_set(m->record, "coded_batches", batches);
}

/* What the disks' connections had to say, which is on the wire, too. */
static int64_t
nc_migration_disk_bytes(json_t *progress)
{
  int64_t sum = 0;
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(progress, "disks"), i, disk) sum += nc_json_int_or(disk, "stream_bytes", 0);
  return sum;
}

void
nc_migration_take_progress(NcMigration *m, json_t *progress)
{
  static const struct {
    const char *from, *to;
  } keys[] = {
    { "stream_bytes", "stream_bytes" },
    { "wire_bytes", "wire_bytes" },
    { "wire_rate_bps", "wire_rate_bps" },
    { "pages", "pages" },
    { "zero_pages", "zero_pages" },
    { "fill_pages", "fill_pages" },
    { "page_bytes_in", "page_bytes_in" },
    { "page_bytes_out", "page_bytes_out" },
    { "rtt_us", "rtt_us" },
    { "in_flight_bytes", "in_flight_bytes" },
    { "window_bytes", "window_bytes" },
    { "cpu_ms", "mover_cpu_ms" },
    { "rss_bytes", "mover_rss_bytes" },
    { "batches", "batches" },
    { "reference_pages", "reference_pages" },
    { "ahead_pages", "ahead_pages" },
    { "delta_pages", "delta_pages" },
    { "delta_bytes", "delta_bytes" },
    { "block_pages", "block_pages" },
    { "page_blocks", "page_blocks" },
    { "repeated_blocks", "repeated_blocks" },
    { "stored_pages", "stored_pages" },
    { "whole_none_bytes", "whole_none_bytes" },
    { "whole_lz4_bytes", "whole_lz4_bytes" },
    { "whole_zstd_bytes", "whole_zstd_bytes" },
    { "operations_none_bytes", "operations_none_bytes" },
    { "operations_lz4_bytes", "operations_lz4_bytes" },
    { "operations_zstd_bytes", "operations_zstd_bytes" },
    { "resent_batches", "resent_batches" },
    { "resent_bytes", "resent_bytes" },
    { "reconnects", "reconnects" },
    { "encode_us", "encode_us" },
    { "encode_cpu_us", "encode_cpu_us" },
    { "coding_us", "coding_us" },
    { "decode_us", "decode_us" },
    { "link_wait_us", "link_wait_us" },
    { "encoder_wait_us", "encoder_wait_us" },
    { "shaped_rate_bps", "shaped_rate_bps" },
    { "coding_switches", "coding_switches" },
  };
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
    nc_migration_copy_number(m, progress, keys[i].from, keys[i].to);
  nc_migration_copy_coding(m, progress);
  json_t *connections = json_object_get(progress, "connections");
  if (json_is_array(connections))
    json_object_set(m->record, "connections", connections);
  int64_t stream = nc_json_int_or(m->record, "stream_bytes", 0) + nc_migration_disk_bytes(progress);
  int64_t wire = nc_json_int_or(m->record, "wire_bytes", 0), link_bps = nc_link_rate_take(&m->link_rate, wire, nc_mono_us());
  if (link_bps > 0)
    json_object_set_new(m->record, "link_rate_bps", json_integer((json_int_t)link_bps));
  if (wire > 0)
    json_object_set_new(m->record, "ratio", json_real((double)stream / (double)wire));
}

static void
nc_migration_on_mover(json_t *message, gpointer user_data)
{
  nc_inbox_push(user_data, NC_FROM_MOVER, message);
}

/* What a mover counts begins at 0 again with each; of the one before it must not be lost. */
static void
nc_migration_begin_counting(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  nc_metrics_count_attempt(m->deps->metrics, m->record);
}

NcMoverProcess *
nc_migration_start_mover(NcMigration *m, const NcMoverOrder *order, GError **error)
{
  const NcConfig *config = m->deps->config;
  const NcMoverProgram program = { .binary = config->mover_binary, .uid = (uid_t)config->mover_uid, .gid = (gid_t)config->mover_gid };

  nc_migration_begin_counting(m);
  nc_migration_set(m, "mover_started_us", json_integer(nc_wall_us()));
  return nc_mover_process_start(&program, order, nc_migration_on_mover, m->inbox, error);
}

void
nc_migration_mover_error(NcMigration *m, json_t *event, GError **error)
{
  const char *side = m->is_source ? "source" : "destination";
  if (!event) {
    nc_fail(error, NC_ERROR_INTERNAL, "the mover on the %s (%s) ended unexpectedly", side, nc_nodes_self(m->deps->nodes));
    return;
  }
  nc_error_set_json(error, event);
  g_prefix_error(error, "%s mover: ", side);
}

static gpointer
nc_migration_link_reader(gpointer data)
{
  NcMigration *m = data;
  for (;;) {
    g_autoptr(GError) error = NULL;
    json_t *message = nc_peer_recv(m->link, -1, &error);
    if (!message)
      break;
    if (nc_migration_hear_head(m, message))
      json_decref(message);
    else
      nc_inbox_push(m->inbox, NC_FROM_PEER, message);
  }
  if (!g_atomic_int_get(&m->link_dropped))
    nc_inbox_push(m->inbox, NC_FROM_PEER, NULL);
  return NULL;
}

void
nc_migration_attach_link(NcMigration *m, NcPeer *link)
{
  nc_migration_drop_link(m);
  g_atomic_int_set(&m->link_dropped, 0);
  m->link = link;
  m->link_reader = g_thread_new("peer-reader", nc_migration_link_reader, m);
}

void
nc_migration_drop_link(NcMigration *m)
{
  if (!m->is_source || !m->link)
    return; /* the destination's is lent by its session */
  g_atomic_int_set(&m->link_dropped, 1);
  nc_peer_shutdown(m->link);
  if (m->link_reader)
    g_thread_join(g_steal_pointer(&m->link_reader));
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->link_lock);
  g_clear_pointer(&m->link, nc_peer_free);
}

void
nc_migration_lend_link(NcMigration *m, NcPeer *link)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->link_lock);
  m->link = link;
}

void
nc_migration_reclaim_link(NcMigration *m, NcPeer *link)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->link_lock);
  if (m->link == link)
    m->link = NULL;
}

void
nc_migration_cut_link(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->link_lock);
  if (m->link)
    nc_peer_shutdown(m->link);
}

bool
nc_migration_has_link(NcMigration *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->link_lock);
  return m->link != NULL;
}

void
nc_migration_borrow(NcMigration *m)
{
  g_atomic_int_inc(&m->borrowers);
}

void
nc_migration_return(NcMigration *m)
{
  g_atomic_int_add(&m->borrowers, -1);
}

bool
nc_migration_has_borrower(NcMigration *m)
{
  return g_atomic_int_get(&m->borrowers) > 0;
}

bool
nc_migration_tell(NcMigration *m, json_t *message, GError **error)
{
  nc_autojson json_t *owned = message;
  g_autofree char *point = g_strdup_printf("tell-%s", nc_json_string_or(message, "type", ""));

  nc_fault_point(point); /* late; */
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->link_lock);
  if (!m->link)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "no connection to %s", m->peer);
  if (nc_fault_asks(point, "twice") && !nc_peer_send(m->link, owned, error)) /* and said again */
    return false;
  return nc_peer_send(m->link, owned, error);
}

bool
nc_migration_tell_with(NcMigration *m, json_t *message, const GByteArray *bytes, GError **error)
{
  if (!bytes || bytes->len == 0)
    return nc_migration_tell(m, message, error);
  nc_autojson json_t *owned = message;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->link_lock);
  if (!m->link)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "no connection to %s", m->peer);
  return nc_peer_send_with(m->link, owned, bytes->data, bytes->len, error);
}

static void
nc_migration_on_qmp(json_t *event, gpointer user_data)
{
  nc_inbox_push(user_data, NC_FROM_QMP, event ? json_incref(event) : NULL);
}

bool
nc_migration_run_hooks(NcMigration *m, const char *prefix, GError **error)
{
  const NcConfig *config = m->deps->config;
  nc_autojson json_t *record = nc_migration_snapshot(m);
  nc_autojson json_t *what =
      json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:O?}", "migration", m->id, "vm", m->vm, "source", nc_json_string_or(record, "source", ""),
                "destination", nc_json_string_or(record, "destination", ""), "role", m->is_source ? "source" : "destination", "epoch",
                (json_int_t)m->epoch, "spec", m->lease ? nc_machine_lease_spec(m->lease) : NULL);
  unsigned ran = 0;
  bool ok = nc_hooks_run(config->hooks_dir, prefix, what, config->hook_timeout_ms, &ran, error);

  if (ran > 0)
    nc_migration_note(m, "hooks", "%u of %s* in %s", ran, prefix, config->hooks_dir);
  return ok;
}

void
nc_migration_watch_qemu(NcMigration *m)
{
  nc_machine_lease_set_event_func(m->lease, nc_migration_on_qmp, m->inbox);
}

int64_t
nc_qmp_event_us(json_t *event)
{
  json_t *stamp = json_object_get(event, "timestamp");
  return nc_json_int_or(stamp, "seconds", 0) * 1000000 + nc_json_int_or(stamp, "microseconds", 0);
}
