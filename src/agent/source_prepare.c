/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's half, until memory flows: session, clocks, the destination's
 * preparation, movers and their connections, QEMU's socket and its keeper.
 */
#include "agent/source_migration.h"
#include "agent/pause_share.h"
#include "agent/shadow_budget.h"
#include "agent/stored_pages.h"
#include "agent/warm_return.h"
#include "base/bytes.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/tcp.h"
#include "crypto/digest.h"
#include "qemu/balloon.h"
#include "qemu/footprint.h"
#include "qemu/machine_spec.h"
#include "qemu/migration_qmp.h"
#include "wire/shadow.h"
#include "wire/stored.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define NC_COMPARE_BYTES_PER_MS 20000u     /* 20 MB/s */
#define NC_COMPARE_MOST_MS (24 * 3600 * 1000)
#define NC_CLOCK_SAMPLES 5
#define NC_STORED_PIECE_BYTES ((size_t)64 << 10)
#define NC_CLOCK_GAP_US 1000 /* what delays one should not delay all */
#define NC_QEMU_CONNECT_MS 5000
#define NC_NEAR_RTT_US 3000
#define NC_STREAMS_NEAR 2
#define NC_STREAMS_LOSSY 4

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

static bool
nc_source_send(NcSource *s, json_t *question, GError **error)
{
  nc_autojson json_t *owned = question;
  return nc_peer_send(s->m->link, owned, error);
}

static json_t *
nc_source_expect(NcSource *s, const char *expected_type, int timeout_ms, GError **error)
{
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

/* Takes the answers to the questions about clocks; the shortest exchange bounds the error best. */
static bool
nc_source_read_clock(NcSource *s, const int64_t asked_us[NC_CLOCK_SAMPLES], GError **error)
{
  int64_t best_rtt = INT64_MAX;

  for (int i = 0; i < NC_CLOCK_SAMPLES; i++) {
    int64_t t0 = asked_us[i], t1, t2;
    nc_autojson json_t *answer = nc_source_expect(s, "clock", s->m->deps->config->connect_timeout_ms, error);
    int64_t t3 = nc_wall_us();
    if (!answer || !nc_json_int(answer, "t1", 0, INT64_MAX, &t1, error) || !nc_json_int(answer, "t2", 0, INT64_MAX, &t2, error))
      return false;
    int64_t rtt = (t3 - t0) - (t2 - t1);
    if (rtt < best_rtt) {
      best_rtt = rtt;
      s->clock_offset_us = ((t1 - t0) + (t2 - t3)) / 2;
    }
  }
  s->link_rtt_us = MAX(best_rtt, 0);
  nc_migration_set(s->m, "clock_offset_us", json_integer(s->clock_offset_us));
  nc_migration_set(s->m, "link_rtt_us", json_integer(s->link_rtt_us));
  return true;
}

/*
 * Near, connections are for the processors: each has a thread. Far, one per path, if it does not take losses for
 * congestion: several on one path make each other wait, as the slowest holds back what is behind its batch. Else
 * four, which together lose less of their speed to a loss.
 */
static int
nc_source_choose_streams(NcSource *s, int paths)
{
  int each = s->link_rtt_us < NC_NEAR_RTT_US ? NC_STREAMS_NEAR : nc_dialler_has_bbr() ? 1 : NC_STREAMS_LOSSY;
  return MIN(MAX(each, paths), NC_MIG_MAX_STREAMS);
}

/* Those of the request, else those the destination names, else where its agent is. */
static bool
nc_source_choose_paths(NcSource *s, const char *offered, GError **error)
{
  nc_autojson json_t *record = nc_migration_snapshot(s->m);
  const char *wanted = nc_json_string_or(record, "paths", "");
  const char *text = wanted[0] ? wanted : offered[0] ? offered : s->address;
  g_auto(GStrv) paths = nc_tcp_paths_parse(text);

  if (!paths || !paths[0])
    return nc_fail(error, NC_ERROR_PROTOCOL, "the destination names paths that are none: %.200s", text);
  if (s->streams == 0)
    s->streams = nc_source_choose_streams(s, (int)g_strv_length(paths));
  nc_source_path_set(s->path, (const char *const *)paths, (unsigned)s->streams);
  nc_migration_set(s->m, "paths", json_string(text));
  nc_migration_set(s->m, "streams", json_integer(s->streams));
  return true;
}

/* The epoch to hand over, one above what either side has on disk, the channels of QEMU's, and the ways to go. */
static bool
nc_source_choose_epoch(NcSource *s, GError **error)
{
  int64_t theirs;
  nc_autojson json_t *answer = nc_source_expect(s, "mig_probed", s->m->deps->config->connect_timeout_ms, error);
  if (!answer || !nc_json_int(answer, "epoch", 0, INT64_MAX - 1, &theirs, error))
    return false;
  s->m->epoch = MAX(s->held_epoch, (uint64_t)theirs) + 1;
  nc_migration_set(s->m, "epoch", json_integer((json_int_t)s->m->epoch));
  if (!nc_algorithm_may_postcopy(s->algorithm, nc_json_bool_or(answer, "postcopy", false), s->m->peer, &s->postcopy, error))
    return false;
  NcQmp *qmp = nc_machine_lease_qmp(s->m->lease);
  s->preempt = s->postcopy && qmp && nc_qemu_preempt_is_sound(qmp);
  return nc_source_choose_paths(s, nc_json_string_or(answer, "paths", ""), error) && nc_migration_persist(s->m, true, error);
}

NcShadowSize
nc_source_shadow_size(NcSource *s)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(nc_machine_lease_spec(s->m->lease), NULL);
  if (!spec)
    return (NcShadowSize){ 0 };
  return nc_shadow_budget(s->m->deps->config, nc_machine_spec_memory_bytes(spec), 0, s->disks != NULL);
}

/* So that the destination knows what it can go back to, and until when. */
static void
nc_source_put_checkpoint(NcMigration *m, json_t *request)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  json_t *checkpoint = json_object_get(record, "checkpoint");

  if (!json_is_string(checkpoint))
    return;
  json_object_set(request, "checkpoint", checkpoint);
  json_object_set(request, "checkpoint_keep_s", json_object_get(record, "checkpoint_keep_s"));
}

/* The other node may have backing files to read first, from a disk that need not be fast. */
static int
nc_source_prepare_timeout_ms(const NcSource *s)
{
  uint64_t bytes = s->disks ? nc_source_disks_compared_bytes(s->disks) : 0;
  return s->m->deps->config->prepare_timeout_ms + (int)MIN(bytes / NC_COMPARE_BYTES_PER_MS, (uint64_t)NC_COMPARE_MOST_MS);
}

/* The list that follows mig_accepted, to the mover. Far away it may be under way for seconds: a cancel is heard meanwhile. */
static bool
nc_source_take_stored(NcSource *s, json_t *request, json_t *answer, GError **error)
{
  int64_t pages = nc_json_int_or(answer, "stored_pages", 0);
  int64_t most = nc_json_bool_or(request, "stored", false) ? NC_STORED_PAGES_MAX : 0;

  nc_migration_set(s->m, "stored_listed", json_integer(pages));
  if (pages == 0)
    return true;
  if (pages < 0 || pages > most)
    return nc_fail(error, NC_ERROR_PROTOCOL, "the destination announces a list of %" G_GINT64_FORMAT " stored pages", pages);
  size_t length = (size_t)pages * NC_STORED_PREFIX_BYTES;
  g_autofree uint8_t *list = g_malloc(length);
  for (size_t done = 0; done < length;) {
    size_t piece = MIN(length - done, NC_STORED_PIECE_BYTES);
    if (nc_source_must_stop(s))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
    if (!nc_peer_recv_bytes(s->m->link, list + done, piece, error)) {
      g_prefix_error(error, "the destination's list of stored pages: ");
      return false;
    }
    done += piece;
  }
  nc_stored_pages_give(s->m, list, (uint32_t)pages);
  return true;
}

static bool
nc_source_ask_to_prepare(NcSource *s, const uint8_t psk[NC_MIG_PSK_BYTES], GError **error)
{
  NcMigration *m = s->m;
  g_autofree char *hex = nc_hex_encode(psk, NC_MIG_PSK_BYTES);
  NcShadowSize size = nc_source_shadow_size(s);
  nc_autojson json_t *request =
      json_pack("{s:s, s:s, s:s, s:b, s:I, s:O, s:s, s:i, s:s, s:i, s:i, s:i, s:I, s:I, s:b, s:b}", "type", "mig_prepare", "migration", m->id, "vm", m->vm,
                "running", s->was_running, "epoch", (json_int_t)m->epoch, "spec", nc_machine_lease_spec(m->lease), "psk", hex, "streams", s->streams,
                "compression", s->compression, "pause_budget_ms", s->max_downtime_ms, "max_downtime_ms", s->max_downtime_ms, "path_timeout_ms",
                m->deps->config->path_timeout_ms, "shadow_frames", (json_int_t)size.frames, "block_frames", (json_int_t)size.blocks, "postcopy",
                s->postcopy, "preempt", s->preempt);
  json_object_set_new(request, "ahead", json_true());
  if (s->disks)
    json_object_set_new(request, "disks", nc_source_disks_offer(s->disks));
  nc_source_put_checkpoint(m, request);
  nc_warm_return_offer(m, request);
  nc_stored_pages_ask(m, request);
  if (!nc_source_send(s, json_incref(request), error))
    return false;
  nc_autojson json_t *answer = nc_source_expect(s, "mig_accepted", nc_source_prepare_timeout_ms(s), error);
  if (!answer || !nc_source_take_stored(s, request, answer, error))
    return false;
  if (s->disks && !nc_source_disks_take_verdict(s->disks, answer))
    g_clear_pointer(&s->disks, nc_source_disks_free);
  size = nc_shadow_agree(size, answer);
  nc_migration_set(m, "shadow_bytes", json_integer((json_int_t)size.frames * NC_SHADOW_PAGE_BYTES));
  nc_migration_set(m, "block_bytes", json_integer((json_int_t)size.blocks * NC_SHADOW_PAGE_BYTES));
  /* What disks and memory have in common is found by itself (wire/blocks.h), and must not go twice. */
  s->may_go_ahead = size.frames > 0 && size.blocks == 0 && nc_json_bool_or(answer, "ahead", false) && !nc_json_bool_or(answer, "kept_shadow", false);
  return nc_warm_return_begin(m, request, answer, size, error);
}

int
nc_source_accept_qemu(NcSource *s, int timeout_ms, GError **error)
{
  struct pollfd p = { .fd = s->listener, .events = POLLIN };
  if (poll(&p, 1, timeout_ms) != 1) {
    nc_fail(error, NC_ERROR_TIMEOUT, "the source's QEMU did not connect to its mover within %d ms", timeout_ms);
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

/* A QEMU without the mover's end of it would be in a worse state than one that is undone: that is what keeps it, too. */
void
nc_source_take_preempt(NcSource *s)
{
  NcQmp *qmp = nc_machine_lease_qmp(s->m->lease);
  g_autoptr(GError) error = NULL;

  if (!s->preempt || s->preempt_taken || s->listener < 0 || !qmp)
    return;
  nc_autofd int accepted = nc_source_accept_qemu(s, 0, &error);
  if (accepted < 0) {
    if (error->code != NC_ERROR_TIMEOUT)
      nc_migration_note(s->m, "warning", "%s", error->message);
    return;
  }
  s->preempt_taken = true;
  nc_fd_clear(&s->listener);
  s->preempt_keeper = nc_keeper_new(accepted, &error);
  if (!s->preempt_keeper || !nc_qemu_getfd(qmp, NC_KEEPER_PREEMPT_NAME, accepted, &error) || !s->m->mover ||
      !nc_mover_process_send(s->m->mover, json_pack("{s:s, s:s}", "op", "qemu", "channel", "preempt"), accepted, &error))
    nc_migration_note(s->m, "warning", "QEMU's channel for requested pages: %s", error ? error->message : "there is no mover");
}

/*
 * The link has nothing to do until QEMU has set up its dirty tracking: pages go ahead of it. A guest that will say which of its
 * pages are free saves more by that. What fails here costs the head start and nothing else.
 */
static void
nc_source_go_ahead(NcSource *s)
{
  NcMigration *m = s->m;
  g_autoptr(GError) error = NULL;
  nc_autofd int pages = -1;
  nc_autojson json_t *record = nc_migration_snapshot(m);
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(nc_machine_lease_spec(m->lease), NULL);

  if (!s->may_go_ahead || !spec || nc_json_bool_or(record, "free_page_hints", false))
    return;
  uint64_t least = nc_footprint_least_bytes(nc_machine_spec_memory_bytes(spec));
  s->page_feed = nc_page_feed_new(nc_machine_lease_pid(m->lease), least, &pages, &error);
  if (!s->page_feed || !nc_mover_process_send(m->mover, json_pack("{s:s}", "op", "ahead"), pages, &error))
    nc_log(NC_LOG_INFO, "migration", "%s: no head start: %s", m->id, error->message);
}

/*
 * QEMU connects, and before a byte is forwarded gets a duplicate of our end:
 * from here on the death of mover and agent can't make it resume the guest.
 */
bool
nc_source_begin_memory(NcSource *s, GError **error)
{
  NcMigration *m = s->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU on the source died");
  s->memory_begun = true;
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(m->lease), "out.sock", NULL);
  /* An adopted QEMU may run as another user; the directory is closed to others, and the process is checked below. */
  s->listener = nc_unix_listen(path, 0666, error);
  if (s->listener < 0)
    return false;
  nc_source_go_ahead(s);
  if (!nc_qemu_migrate(qmp, path, error))
    return false;
  nc_migration_note(m, "qemu-migrates", "it prepares its dirty tracking");
  nc_autofd int accepted = nc_source_accept_qemu(s, NC_QEMU_CONNECT_MS, error);
  if (accepted < 0)
    return false;
  if (!s->preempt)
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
  if (!nc_migration_persist(m, false, error) ||
      !nc_mover_process_send(m->mover, json_pack("{s:s, s:s}", "op", "qemu", "channel", "main"), accepted, error))
    return false;
  nc_source_take_preempt(s);
  return true;
}

/* All questions at once, since each round trip to a far destination is dear; the clocks' first, they need a quiet peer. */
static bool
nc_source_ask_first(NcSource *s, int64_t ret_asked_us[NC_CLOCK_SAMPLES], GError **error)
{
  for (int i = 0; i < NC_CLOCK_SAMPLES; i++) {
    ret_asked_us[i] = nc_wall_us();
    if (!nc_source_send(s, json_pack("{s:s, s:I}", "type", "clock", "t0", (json_int_t)ret_asked_us[i]), error))
      return false;
    g_usleep(NC_CLOCK_GAP_US);
  }
  return nc_source_send(s, json_pack("{s:s, s:s}", "type", "mig_probe", "vm", s->m->vm), error);
}

static bool
nc_source_open_session(NcSource *s, GError **error)
{
  int64_t asked_us[NC_CLOCK_SAMPLES];
  NcMigration *m = s->m;
  m->link = nc_nodes_connect(m->deps->nodes, m->peer, m->deps->config->connect_timeout_ms, error);
  if (!m->link) {
    g_prefix_error(error, "the destination %s (%s) can't be reached from the source: ", m->peer, s->address);
    return false;
  }
  if (!nc_source_ask_first(s, asked_us, error) || !nc_source_read_clock(s, asked_us, error) || !nc_source_choose_epoch(s, error))
    return false;
  nc_migration_note(m, "session", "round trip %.1f ms", (double)s->link_rtt_us / 1000);
  return true;
}

/* What has to be true before the migration is under way. */
typedef struct {
  bool prepared; /* the destination's QEMU waits */
  bool ready;    /* the movers have found each other */
} NcSourceReadiness;

static bool
nc_source_take_mover_word(NcSource *s, NcInboxItem *item, NcSourceReadiness *r, GError **error)
{
  const char *event = nc_json_string_or(item->message, "ev", "");

  r->ready = r->ready || g_str_equal(event, "ready");
  nc_source_path_on_mover(s->path, item->message);
  if (item->message && !g_str_equal(event, "error"))
    return true;
  nc_migration_mover_error(s->m, item->message, error);
  return false;
}

static bool
nc_source_take_peer_word(NcSource *s, NcInboxItem *item, NcSourceReadiness *r, GError **error)
{
  const char *type = nc_json_string_or(item->message, "type", "");

  if (!item->message)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "the connection to the destination's agent (%s) is gone", s->m->peer);
  if (g_str_equal(type, "mig_refused")) {
    nc_error_set_json(error, json_object_get(item->message, "error"));
    return false;
  }
  r->prepared = r->prepared || g_str_equal(type, "mig_prepared");
  return true;
}

/* One item while both sides get ready. False ends the migration; *ret_keep: it is for whoever comes after us. */
static bool
nc_source_take_word(NcSource *s, NcInboxItem *item, NcSourceReadiness *r, bool *ret_keep, GError **error)
{
  *ret_keep = false;
  switch (item->source) {
  case NC_FROM_MOVER:
    return nc_source_take_mover_word(s, item, r, error);
  case NC_FROM_PEER:
    return nc_source_take_peer_word(s, item, r, error);
  case NC_FROM_QMP: /* QEMU is under way already: what it says belongs to the copying */
    *ret_keep = item->message != NULL;
    return item->message || nc_fail(error, NC_ERROR_QEMU, "the QEMU on the source died");
  case NC_FROM_LIMITS: /* the mover may have been started with the rate before */
    *ret_keep = true;
    return true;
  default: /* a cancel is seen by its flag */
    return true;
  }
}

static bool
nc_source_collect_readiness(NcSource *s, GQueue *later, GError **error)
{
  int64_t deadline = nc_mono_us() + (int64_t)s->m->deps->config->prepare_timeout_ms * 1000;
  NcSourceReadiness r = { 0 };

  while (nc_mono_us() < deadline) {
    bool keep = false;
    if (r.prepared && r.ready)
      return true;
    if (nc_source_must_stop(s))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
    g_autoptr(NcInboxItem) item = nc_inbox_pop(s->m->inbox, 100);
    if (item && !nc_source_take_word(s, item, &r, &keep, error))
      return false;
    if (keep)
      g_queue_push_tail(later, g_steal_pointer(&item));
  }
  return nc_fail(error, NC_ERROR_TIMEOUT, "%s within %d ms",
                 r.prepared ? "the movers did not find each other" : "the destination's QEMU was not ready", s->m->deps->config->prepare_timeout_ms);
}

static bool
nc_source_await_readiness(NcSource *s, GError **error)
{
  GQueue later = G_QUEUE_INIT;
  NcInboxItem *item;
  bool ok = nc_source_collect_readiness(s, &later, error);

  while ((item = g_queue_pop_head(&later)) != NULL) {
    nc_inbox_push(s->m->inbox, item->source, g_steal_pointer(&item->message));
    nc_inbox_item_free(item);
  }
  return ok;
}

bool
nc_source_start_mover(NcSource *s, const uint8_t psk[NC_MIG_PSK_BYTES], GError **error)
{
  const NcMoverOrder order = {
    .is_source = true,
    .migration = s->m->id,
    .psk = psk,
    .streams = s->streams,
    .compression = s->compression,
    .max_cpu = s->max_cpu,
    .pause_budget_ms = s->max_downtime_ms,
    .rate_bps = nc_migration_int(s->m, "rate_limit_bps"),
    .yield = nc_migration_qos(s->m) == NC_QOS_BACKGROUND,
  };
  s->mover_failed = false;
  s->m->mover = nc_migration_start_mover(s->m, &order, error);
  return s->m->mover != NULL;
}

/*
 * The destination has accepted and starts its QEMU; meanwhile the movers connect and
 * our QEMU begins, since setting up its dirty tracking takes as long as all the rest. If there are disks to copy, these come first.
 */
static bool
nc_source_start_both(NcSource *s, GError **error)
{
  nc_source_path_dial(s->path);
  if ((!s->disks && !nc_source_begin_memory(s, error)) || !nc_source_path_await(s->path, error))
    return false;
  nc_migration_note(s->m, "movers-connected", "%d connections", s->streams);
  return nc_source_await_readiness(s, error);
}

/*
 * For the record: will the guest say which of its pages are free? QEMU does not ask it where post-copy is possible (it would
 * not have the pages that the guest then asks for), and a guest that stands still can't answer.
 */
static void
nc_source_note_hints(NcSource *s, NcQmp *qmp)
{
  NcBalloonHints hints = s->postcopy || !s->was_running ? NC_BALLOON_DOES_NOT_HINT : nc_qemu_balloon_hints(qmp);

  if (hints == NC_BALLOON_HINTS_PAGES)
    nc_source_forecast_expect_free_pages(s->forecast);
  nc_migration_set(s->m, "free_page_hints", hints == NC_BALLOON_UNKNOWN ? json_null() : json_boolean(hints == NC_BALLOON_HINTS_PAGES));
}

static bool
nc_source_set_up_qemu(NcSource *s, NcQmp *qmp, GError **error)
{
  /* The limit is of the wire, and the mover's: QEMU's would be one of bytes before compression. */
  s->endgame = nc_migration_look_endgame(s->m, NC_ENDGAME_FAR);
  NcQemuMigrationParams params = { .downtime_limit_ms = s->endgame == NC_ENDGAME_HOLD ? NC_PAUSE_HELD_MS : (uint32_t)s->max_downtime_ms,
                                   .postcopy = s->postcopy,
                                   .preempt = s->preempt,
                                   .may_throttle = nc_migration_int(s->m, "max_throttle") > 0 };
  g_autoptr(GError) problem = NULL;

  bool ok = nc_qemu_migration_setup_source(qmp, &params, &problem);
  if (!ok && s->postcopy && s->algorithm == NC_ALGORITHM_AUTO) { /* this machine can't; without it, it may */
    nc_migration_note(s->m, "warning", "no post-copy: %s", problem->message);
    s->postcopy = params.postcopy = false;
    g_clear_error(&problem);
    ok = nc_qemu_migration_setup_source(qmp, &params, &problem);
  }
  if (!ok) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  s->preempt = s->postcopy && nc_qemu_has_preempt_channel(qmp);
  if (s->postcopy)
    nc_source_forecast_allow_postcopy(s->forecast, s->algorithm == NC_ALGORITHM_POSTCOPY);
  nc_source_note_hints(s, qmp);
  return true;
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
  if (!nc_migration_run_hooks(m, "pre-", error))
    return false;
  nc_migration_watch_qemu(m);
  nc_qemu_closefd(qmp, NC_KEEPER_NAME, NULL); /* of an attempt that a crash cut short */
  nc_qemu_closefd(qmp, NC_KEEPER_PREEMPT_NAME, NULL);
  nc_qemu_sample_dirty_rate(qmp, NULL); /* for the first forecasts; those later know better */
  s->disks = nc_source_disks_new(m, qmp); /* before the session: it may take its time, to read backing files */
  if (!nc_source_open_session(s, error) || !nc_source_set_up_qemu(s, qmp, error))
    return false;
  nc_random_bytes(psk, sizeof psk);
  nc_fault_point("source-prepare");
  bool ok = nc_source_start_mover(s, psk, error) && nc_source_ask_to_prepare(s, psk, error);
  nc_secret_clear(psk, sizeof psk);
  if (!ok)
    return false;
  nc_migration_note(m, "accepted", "the destination prepares");
  nc_migration_attach_link(m, g_steal_pointer(&m->link));
  return nc_source_start_both(s, error) && nc_migration_step(m, NC_EV_DEST_READY, NULL);
}
