/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's half, until memory flows: session, clocks, the destination's
 * preparation, movers and their connections, QEMU's socket and its keeper.
 */
#include "agent/source_migration.h"
#include "base/bytes.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/tcp.h"
#include "crypto/digest.h"
#include "qemu/migration_qmp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define NC_PREFACE_BYTES 32
#define NC_CLOCK_SAMPLES 5
#define NC_QEMU_CONNECT_MS 5000

/* The next message of the destination, in slices, so that a cancel is heard meanwhile. */
static json_t *
nc_source_recv(NcSource *s, int timeout_ms, GError **error)
{
  int64_t deadline = nc_mono_us() + (int64_t)timeout_ms * 1000;

  while (nc_mono_us() < deadline) {
    g_autoptr(GError) problem = NULL;
    if (nc_source_must_stop(s)) {
      nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
      return NULL;
    }
    json_t *answer = nc_peer_recv(s->m->link, 100, &problem);
    if (answer)
      return answer;
    if (!g_error_matches(problem, NC_ERROR, NC_ERROR_TIMEOUT)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return NULL;
    }
  }
  nc_fail(error, NC_ERROR_TIMEOUT, "the destination %s did not answer within %d ms", s->m->peer, timeout_ms);
  return NULL;
}

static json_t *
nc_source_ask(NcSource *s, json_t *question, const char *expected_type, int timeout_ms, GError **error)
{
  nc_autojson json_t *owned = question;

  if (!nc_peer_send(s->m->link, owned, error))
    return NULL;
  nc_autojson json_t *answer = nc_source_recv(s, timeout_ms, error);
  if (!answer) {
    g_prefix_error(error, "waiting for the destination's %s: ", expected_type);
    return NULL;
  }
  const char *type = nc_json_string_or(answer, "type", "");
  if (g_str_equal(type, expected_type))
    return g_steal_pointer(&answer);
  if (g_str_equal(type, "refused") || g_str_equal(type, "mig_refused"))
    nc_error_set_json(error, json_object_get(answer, "error"));
  else
    nc_fail(error, NC_ERROR_PROTOCOL, "the destination answered %s where %s was due", type, expected_type);
  return NULL;
}

bool
nc_source_measure_clock(NcSource *s, GError **error)
{
  int64_t best_rtt = INT64_MAX;

  for (int i = 0; i < NC_CLOCK_SAMPLES; i++) {
    int64_t t0 = nc_wall_us(), t1, t2;
    nc_autojson json_t *answer = nc_source_ask(s, json_pack("{s:s, s:I}", "type", "clock", "t0", (json_int_t)t0), "clock",
                                               s->m->deps->config->connect_timeout_ms, error);
    int64_t t3 = nc_wall_us();
    if (!answer || !nc_json_int(answer, "t1", 0, INT64_MAX, &t1, error) || !nc_json_int(answer, "t2", 0, INT64_MAX, &t2, error))
      return false;
    int64_t rtt = (t3 - t0) - (t2 - t1);
    if (rtt < best_rtt) { /* the shortest exchange bounds the error best */
      best_rtt = rtt;
      s->clock_offset_us = ((t1 - t0) + (t2 - t3)) / 2;
    }
  }
  s->link_rtt_us = MAX(best_rtt, 0);
  nc_migration_set(s->m, "clock_offset_us", json_integer(s->clock_offset_us));
  nc_migration_set(s->m, "link_rtt_us", json_integer(s->link_rtt_us));
  return true;
}

/* The epoch to hand over: one above what either side has on disk. */
static bool
nc_source_choose_epoch(NcSource *s, GError **error)
{
  int64_t theirs;
  nc_autojson json_t *answer = nc_source_ask(s, json_pack("{s:s, s:s}", "type", "mig_probe", "vm", s->m->vm), "mig_probed",
                                             s->m->deps->config->connect_timeout_ms, error);
  if (!answer || !nc_json_int(answer, "epoch", 0, INT64_MAX - 1, &theirs, error))
    return false;
  s->m->epoch = MAX(s->held_epoch, (uint64_t)theirs) + 1;
  nc_migration_set(s->m, "epoch", json_integer((json_int_t)s->m->epoch));
  return nc_migration_persist(s->m, true, error);
}

static bool
nc_source_ask_to_prepare(NcSource *s, const uint8_t psk[NC_MIG_PSK_BYTES], GError **error)
{
  NcMigration *m = s->m;
  g_autofree char *hex = nc_hex_encode(psk, NC_MIG_PSK_BYTES);
  json_t *request =
      json_pack("{s:s, s:s, s:s, s:b, s:I, s:O, s:s, s:i, s:s, s:i, s:i}", "type", "mig_prepare", "migration", m->id, "vm", m->vm,
                "running", s->was_running, "epoch", (json_int_t)m->epoch, "spec", nc_machine_lease_spec(m->lease), "psk", hex, "streams", s->streams,
                "compression", s->compression, "pause_budget_ms", s->max_downtime_ms, "max_downtime_ms", s->max_downtime_ms);
  nc_autojson json_t *answer = nc_source_ask(s, request, "mig_prepared", m->deps->config->prepare_timeout_ms, error);
  return answer != NULL;
}

/* docs/protocols.md section 4 */
static bool
nc_source_preface(NcSource *s, int fd, int index, GError **error)
{
  uint8_t preface[NC_PREFACE_BYTES] = { 'N', 'C', 'W', '1' };
  uint8_t answer;
  size_t length = strlen(s->m->id);

  if (length > NC_PREFACE_BYTES - 8)
    return nc_fail(error, NC_ERROR_INTERNAL, "migration id %s is too long", s->m->id);
  nc_store_be16(preface + 4, 1);
  nc_store_be16(preface + 6, (uint16_t)index);
  memcpy(preface + 8, s->m->id, length);
  if (!nc_write_all(fd, preface, sizeof preface, error) ||
      !nc_read_all(fd, &answer, 1, s->m->deps->config->connect_timeout_ms, error))
    return false;
  return answer == 0 || nc_fail(error, NC_ERROR_PROTOCOL, "the destination did not take connection %d (answer %u)", index, answer);
}

static bool
nc_source_connect_mover(NcSource *s, GError **error)
{
  for (int i = 0; i < s->streams; i++) {
    nc_autofd int fd = nc_tcp_connect(s->address, s->m->deps->config->connect_timeout_ms, error);
    if (fd < 0 || !nc_source_preface(s, fd, i, error)) {
      g_prefix_error(error, "connection %d of the movers to %s: ", i, s->address);
      return false;
    }
    if (!nc_mover_process_send(s->m->mover, json_pack("{s:s, s:i}", "op", "conn", "index", i), fd, error))
      return false;
  }
  return true;
}

/* Waits for the mover's `ready`; a cancel or a failure of anybody ends the wait. */
static bool
nc_source_await_ready(NcSource *s, GError **error)
{
  int64_t deadline = nc_mono_us() + (int64_t)s->m->deps->config->connect_timeout_ms * 1000;

  while (nc_mono_us() < deadline) {
    if (nc_source_must_stop(s))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
    g_autoptr(NcInboxItem) item = nc_inbox_pop(s->m->inbox, 100);
    const char *event = item ? nc_json_string_or(item->message, "ev", "") : "";
    if (!item || (item->source != NC_FROM_MOVER && item->source != NC_FROM_QMP))
      continue;
    if (item->source == NC_FROM_MOVER && g_str_equal(event, "ready"))
      return true;
    if (item->source == NC_FROM_MOVER && (!item->message || g_str_equal(event, "error"))) {
      nc_migration_mover_error(s->m, item->message, error);
      return false;
    }
    if (item->source == NC_FROM_QMP && !item->message)
      return nc_fail(error, NC_ERROR_QEMU, "the QEMU on the source died");
  }
  return nc_fail(error, NC_ERROR_TIMEOUT, "the movers did not find each other within %d ms", s->m->deps->config->connect_timeout_ms);
}

static int
nc_source_accept_qemu(NcSource *s, GError **error)
{
  struct pollfd p = { .fd = s->listener, .events = POLLIN };
  if (poll(&p, 1, NC_QEMU_CONNECT_MS) != 1) {
    nc_fail(error, NC_ERROR_QEMU, "the source's QEMU did not connect to its mover within %d ms", NC_QEMU_CONNECT_MS);
    return -1;
  }
  nc_autofd int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
  struct ucred who;
  socklen_t length = sizeof who;
  if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "accepting QEMU's migration connection");
    return -1;
  }
  if (who.pid != nc_machine_lease_pid(s->m->lease)) {
    nc_fail(error, NC_ERROR_FORBIDDEN, "process %d connected in place of the machine's QEMU (%d)", (int)who.pid,
            (int)nc_machine_lease_pid(s->m->lease));
    return -1;
  }
  return nc_fd_steal(&fd);
}

/*
 * QEMU connects, and before a byte is forwarded gets a duplicate of our end:
 * from here on the death of mover and agent can't make it resume the guest.
 */
static bool
nc_source_start_qemu(NcSource *s, GError **error)
{
  NcMigration *m = s->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU on the source died");
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(m->lease), "out.sock", NULL);
  /* An adopted QEMU may run as another user; the directory is closed to others, and the process is checked below. */
  s->listener = nc_unix_listen(path, 0666, error);
  if (s->listener < 0 || !nc_qemu_migrate(qmp, path, error))
    return false;
  nc_autofd int accepted = nc_source_accept_qemu(s, error);
  if (accepted < 0)
    return false;
  nc_fd_clear(&s->listener);
  if (!nc_qemu_getfd(qmp, NC_KEEPER_NAME, accepted, error))
    return false;
  nc_fault_point("source-keeper");
  nc_migration_note(m, "keeper", "QEMU holds its peer itself");
  s->keeper = nc_keeper_new(accepted, error);
  if (!s->keeper)
    return false;
  /* A later novacrond finds the descriptor in QEMU by this. */
  nc_migration_set(m, "keeper_inode", json_integer((json_int_t)nc_keeper_inode(s->keeper)));
  return nc_migration_persist(m, false, error) &&
         nc_mover_process_send(m->mover, json_pack("{s:s, s:s}", "op", "qemu", "channel", "main"), accepted, error);
}

static bool
nc_source_open_session(NcSource *s, GError **error)
{
  NcMigration *m = s->m;
  m->link = nc_nodes_connect(m->deps->nodes, m->peer, m->deps->config->connect_timeout_ms, error);
  if (!m->link) {
    g_prefix_error(error, "the destination %s (%s) can't be reached from the source: ", m->peer, s->address);
    return false;
  }
  return nc_source_measure_clock(s, error);
}

static bool
nc_source_start_movers(NcSource *s, const uint8_t psk[NC_MIG_PSK_BYTES], GError **error)
{
  NcMigration *m = s->m;
  NcMoverSetup setup = {
    .is_source = true,
    .migration = m->id,
    .psk = psk,
    .streams = s->streams,
    .compression = s->compression,
    .pause_budget_ms = s->max_downtime_ms,
  };
  m->mover = nc_mover_process_start(m->deps->config, &setup, m->inbox, error);
  return m->mover && nc_source_connect_mover(s, error) && nc_source_await_ready(s, error);
}

bool
nc_source_prepare(NcSource *s, GError **error)
{
  NcMigration *m = s->m;
  uint8_t psk[NC_MIG_PSK_BYTES];
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);

  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU on the source does not answer");
  s->was_running = nc_qemu_is_running(qmp);
  nc_migration_set(m, "was_running", json_boolean(s->was_running));
  nc_migration_watch_qemu(m);
  nc_qemu_closefd(qmp, NC_KEEPER_NAME, NULL); /* of an attempt that a crash cut short */
  NcQemuMigrationParams params = { .max_bandwidth_bps = (uint64_t)s->bandwidth_limit_bps,
                                   .downtime_limit_ms = (uint32_t)s->max_downtime_ms };
  if (!nc_qemu_migration_setup_source(qmp, &params, error))
    return false;
  if (!nc_source_open_session(s, error) || !nc_source_choose_epoch(s, error))
    return false;
  nc_random_bytes(psk, sizeof psk);
  nc_fault_point("source-prepare");
  bool ok = nc_source_ask_to_prepare(s, psk, error);
  if (ok) {
    NcPeer *link = g_steal_pointer(&m->link);
    nc_migration_attach_link(m, link);
    ok = nc_source_start_movers(s, psk, error);
  }
  nc_secret_clear(psk, sizeof psk);
  return ok && nc_source_start_qemu(s, error) && nc_migration_step(m, NC_EV_DEST_READY, NULL);
}
