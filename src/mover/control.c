/* SPDX-License-Identifier: Apache-2.0 */
/* novacrond's messages one by one, and how the mover ends. */
#include "mover/control.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/msg.h"
#include "mover/back_receiver.h"
#include "mover/back_sender.h"
#include "mover/disk_sink.h"
#include "mover/disk_source.h"
#include "mover/hot.h"
#include "mover/link.h"
#include "mover/links.h"
#include "mover/mover.h"
#include "mover/preempt_receiver.h"
#include "mover/preempt_sender.h"
#include "mover/sink.h"
#include "mover/source.h"
#include "mover/stored_pages.h"
#include "mover/urgent.h"
#include "wire/blocks.h"
#include "wire/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define NC_CONTROL_DEFAULT_PAUSE_MS 300
#define NC_CONTROL_DEFAULT_PROGRESS_MS 250
#define NC_CONTROL_FLUSH_MS 1000 /* for the last frames to a peer, and the last bytes to QEMU */

struct NcControl {
  NcMover mover;
  unsigned processors; /* asking later would open a file */
  bool started;
  bool has_qemu, has_preempt;
  int64_t next_progress_us;
};

typedef struct {
  const char *op;
  bool needs_start; /* refused before it; the others after it */
  bool source_only;
  /* ${fd}: the descriptor that came along or -1; to be stolen if it is kept */
  bool (*handle)(NcControl *c, json_t *message, int *fd, GError **error);
} NcControlOp;

NcControl *
nc_control_new(int fd, GError **error)
{
  NcControl *c = g_new0(NcControl, 1);
  NcMover *m = &c->mover;

  c->processors = g_get_num_processors();
  json_object_seed(0);                                          /* reads /dev/urandom, once */
  g_error_free(g_error_new_literal(NC_ERROR, NC_ERROR_IO, "")); /* registers the domain while there is one thread */
  m->control_fd = fd;
  pthread_mutex_init(&m->event_lock, NULL);
  pthread_mutex_init(&m->state_lock, NULL);
  pthread_cond_init(&m->opened, NULL);
  m->carrier = -1;
  m->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (m->wake_fd < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "eventfd");
    g_clear_pointer(&c, nc_control_free);
  }
  return c;
}

void
nc_control_free(NcControl *c)
{
  if (!c)
    return;
  nc_fd_clear(&c->mover.statm_fd);
  nc_fd_clear(&c->mover.wake_fd);
  g_free(c);
}

static bool
nc_control_parse_role(json_t *message, bool *ret_is_source, GError **error)
{
  const char *role = nc_json_string(message, "role", error);
  if (!role)
    return false;
  *ret_is_source = g_str_equal(role, "source");
  return *ret_is_source || g_str_equal(role, "destination")
             ? true
             : nc_fail(error, NC_ERROR_PROTOCOL, "\"role\" must be \"source\" or \"destination\"");
}

/* Coding may use ${cores}: no more encoders than that, and if it is not a whole number they are paced (outbox.c). */
static void
nc_control_grant_cores(NcMoverSetup *setup, double cores)
{
  setup->workers = MIN(setup->workers, (unsigned)ceil(cores));
  setup->cores = MIN(setup->workers, cores);
}

static bool
nc_control_parse_numbers(json_t *message, unsigned processors, NcMoverSetup *setup, GError **error)
{
  int64_t streams;
  int64_t rate = nc_json_int_or(message, "rate_bps", 0);
  int64_t workers = nc_json_int_or(message, "workers", 0);
  int64_t max_cpu = nc_json_int_or(message, "max_cpu", 100);
  int64_t pause = nc_json_int_or(message, "pause_budget_ms", NC_CONTROL_DEFAULT_PAUSE_MS);
  int64_t progress = nc_json_int_or(message, "progress_ms", NC_CONTROL_DEFAULT_PROGRESS_MS);

  if (!nc_json_int(message, "streams", 1, NC_MOVER_MAX_STREAMS, &streams, error))
    return false;
  if (rate < 0)
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"rate_bps\" must not be negative");
  if (workers <= 0) /* as many as there are processors */
    workers = processors;
  setup->rate_bps = setup->is_source ? (uint64_t)rate : 0;
  setup->yields = setup->is_source && nc_json_bool_or(message, "yield", false);
  setup->streams = (unsigned)streams;
  setup->workers = (unsigned)MIN(workers, NC_MOVER_MAX_WORKERS);
  nc_control_grant_cores(setup, processors * (double)CLAMP(max_cpu, 1, 100) / 100);
  setup->pause_budget_ms = (unsigned)CLAMP(pause, 1, 600000);
  setup->progress_ms = (unsigned)CLAMP(progress, 20, 60000);
  return true;
}

static bool
nc_control_parse_start(json_t *message, unsigned processors, NcMoverSetup *setup, GError **error)
{
  const char *migration = nc_json_string(message, "migration", error);
  const char *psk = migration ? nc_json_string(message, "psk", error) : NULL;
  const char *compression = psk ? nc_json_string(message, "compression", error) : NULL;

  if (!compression || !nc_control_parse_role(message, &setup->is_source, error) ||
      !nc_control_parse_numbers(message, processors, setup, error) ||
      !nc_compression_parse(compression, &setup->policy, error))
    return false;
  if (!nc_name_is_valid(migration))
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"migration\": %s", NC_NAME_RULE);
  if (!nc_hex_decode(psk, setup->psk, sizeof setup->psk))
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"psk\" must be %zu bytes in hexadecimal", sizeof setup->psk);
  nc_secret_clear((char *)psk, strlen(psk)); /* the message is ours */
  setup->migration = g_strdup(migration);
  setup->compression = g_strdup(compression);
  return true;
}

static bool
nc_control_start(NcControl *c, json_t *message, int *fd, GError **error)
{
  NcMover *m = &c->mover;

  if (!nc_control_parse_start(message, c->processors, &m->setup, error))
    return false;
  m->urgent = nc_urgent_new();
  m->shaper = nc_shaper_new(m->setup.rate_bps, m->setup.yields);
  if (m->setup.is_source) {
    m->hot = nc_hot_new();
    m->source = nc_source_new(m);
    m->back_receiver = nc_back_receiver_new(m);
    m->preempt_sender = nc_preempt_sender_new(m);
    m->disk_source = nc_disk_source_new(m);
  } else {
    m->sink = nc_sink_new(m);
    m->back_sender = nc_back_sender_new(m);
    m->preempt_receiver = nc_preempt_receiver_new(m);
    m->disk_sink = nc_disk_sink_new(m);
  }
  c->started = true;
  c->next_progress_us = nc_mono_us();
  return true;
}

/* Their threads look without a lock at what is given before the first connection and before QEMU. */
static bool
nc_control_is_idle(const NcControl *c)
{
  for (unsigned i = 0; i < NC_MOVER_MAX_STREAMS; i++)
    if (c->mover.links[i])
      return false;
  return !c->has_qemu;
}

static bool
nc_control_shadow(NcControl *c, json_t *message, int *fd, GError **error)
{
  NcMover *m = &c->mover;
  int64_t frames, kept = nc_json_int_or(message, "kept", 0), blocks = nc_json_int_or(message, "blocks", 0);

  if (!nc_json_int(message, "frames", 1, NC_SHADOW_FRAMES_MAX, &frames, error))
    return false;
  if (!nc_control_is_idle(c) || m->shadow)
    return nc_fail(error, NC_ERROR_CONFLICT, "shadow given twice, or too late");
  if (blocks > 0 && !(m->blocks = nc_blocks_new((uint32_t)MIN(blocks, NC_SHADOW_FRAMES_MAX), m->setup.is_source, error)))
    return false;
  m->shadow = nc_shadow_new(*fd, (uint32_t)frames, error);
  m->shadow_is_kept = *fd >= 0;
  m->kept_frames = *fd >= 0 ? (uint32_t)CLAMP(kept, 0, frames) : 0;
  return m->shadow != NULL;
}

static bool
nc_control_is_stream_socket(int fd)
{
  int type = 0;
  socklen_t length = sizeof type;
  return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

/* What the destination's page store holds: at the source the list itself, at the destination a socket to get pages by. */
static bool
nc_control_stored(NcControl *c, json_t *message, int *fd, GError **error)
{
  NcMover *m = &c->mover;
  int64_t pages;

  if (!nc_json_int(message, "pages", 1, NC_STORED_PAGES_MAX, &pages, error))
    return false;
  if (!nc_control_is_idle(c) || m->stored_index || m->stored_pages)
    return nc_fail(error, NC_ERROR_CONFLICT, "stored pages given twice, or too late");
  if (m->setup.is_source)
    return (m->stored_index = nc_mover_stored_list(*fd, (uint32_t)pages, error)) != NULL;
  if (!nc_control_is_stream_socket(*fd))
    return nc_fail(error, NC_ERROR_PROTOCOL, "stored pages: no stream socket came with it");
  m->stored_pages = nc_mover_stored_pages(nc_fd_steal(fd), (uint32_t)pages);
  return true;
}

static bool
nc_control_conn(NcControl *c, json_t *message, int *fd, GError **error)
{
  NcMover *m = &c->mover;
  int64_t index;

  if (!nc_json_int(message, "index", 0, m->setup.streams - 1, &index, error))
    return false;
  if (!nc_control_is_stream_socket(*fd))
    return nc_fail(error, NC_ERROR_PROTOCOL, "connection %d: no stream socket came with it", (int)index);
  if (!m->links[index])
    m->links[index] = nc_link_new(m, (unsigned)index);
  nc_link_admit(m->links[index], nc_fd_steal(fd));
  return true;
}

/* QEMU's sockets stay open until the process ends: see mover.h. */
static void
nc_control_start_main(NcMover *m, int qemu)
{
  if (m->setup.is_source) {
    nc_back_receiver_start(m->back_receiver, qemu);
    nc_source_start(m->source, qemu);
  } else {
    nc_sink_start(m->sink, qemu);
    nc_back_sender_start(m->back_sender, qemu);
  }
}

static void
nc_control_start_preempt(NcMover *m, int qemu)
{
  if (m->setup.is_source)
    nc_preempt_sender_start(m->preempt_sender, qemu);
  else
    nc_preempt_receiver_start(m->preempt_receiver, qemu);
}

static bool
nc_control_qemu(NcControl *c, json_t *message, int *fd, GError **error)
{
  const char *channel = nc_json_string(message, "channel", error);

  if (!channel)
    return false;
  bool is_preempt = g_str_equal(channel, "preempt");
  bool *has = is_preempt ? &c->has_preempt : &c->has_qemu;
  if ((!is_preempt && !g_str_equal(channel, "main")) || *has || !nc_control_is_stream_socket(*fd))
    return nc_fail(error, NC_ERROR_PROTOCOL, "QEMU's channel \"%s\": %s", channel,
                   *has ? "given twice" : "no such channel, or no stream socket came with it");
  *has = true;
  (is_preempt ? nc_control_start_preempt : nc_control_start_main)(&c->mover, nc_fd_steal(fd));
  return true;
}

/* A pipe with pages of the guest's memory. */
static bool
nc_control_ahead(NcControl *c, json_t *message, int *fd, GError **error)
{
  if (*fd < 0)
    return nc_fail(error, NC_ERROR_PROTOCOL, "pages ahead: no pipe came with it");
  if (!nc_source_start_ahead(c->mover.source, *fd, error))
    return false;
  nc_fd_steal(fd);
  return true;
}

/* A disk's connection to QEMU: of its NBD client at the source, to its NBD server at the destination. */
static bool
nc_control_disk(NcControl *c, json_t *message, int *fd, GError **error)
{
  NcMover *m = &c->mover;
  int64_t index;

  if (!nc_json_int(message, "index", 0, NC_WIRE_DISKS_MAX - 1, &index, error))
    return false;
  if (!nc_control_is_stream_socket(*fd))
    return nc_fail(error, NC_ERROR_PROTOCOL, "disk %d: no stream socket came with it", (int)index);
  bool ok = m->setup.is_source ? nc_disk_source_start(m->disk_source, (unsigned)index, *fd, error)
                               : nc_disk_sink_start(m->disk_sink, (unsigned)index, *fd, error);
  if (ok)
    nc_fd_steal(fd);
  return ok;
}

static bool
nc_control_grant(NcControl *c, json_t *message, int *fd, GError **error)
{
  int64_t epoch;
  if (!nc_json_int(message, "epoch", 1, G_MAXINT64, &epoch, error))
    return false;
  if (!c->has_qemu)
    return nc_fail(error, NC_ERROR_CONFLICT, "grant before QEMU's channel");
  nc_source_grant(c->mover.source, (uint64_t)epoch);
  return true;
}

static bool
nc_control_rate(NcControl *c, json_t *message, int *fd, GError **error)
{
  int64_t rate;
  if (!nc_json_int(message, "bps", 0, G_MAXINT64, &rate, error))
    return false;
  nc_shaper_set(c->mover.shaper, (uint64_t)rate, nc_json_bool_or(message, "yield", false));
  nc_mover_wake_links(&c->mover);
  return true;
}

static bool
nc_control_deliver_shut(NcControl *c, json_t *message, int *fd, GError **error)
{
  nc_back_receiver_deliver_shut(c->mover.back_receiver);
  return true;
}

/* Waits until ${is_done}, at most NC_CONTROL_FLUSH_MS; novacrond going away still ends us at once. */
static void
nc_control_wait_until(NcControl *c, bool (*is_done)(NcMover *m))
{
  int64_t deadline_us = nc_mono_us() + NC_CONTROL_FLUSH_MS * 1000;

  while (!is_done(&c->mover) && nc_mono_us() < deadline_us) {
    struct pollfd p = { .fd = c->mover.control_fd, .events = POLLRDHUP };
    poll(&p, 1, 2);
    if (p.revents & (POLLRDHUP | POLLHUP | POLLERR))
      _exit(EXIT_FAILURE);
  }
}

static bool
nc_control_links_are_down(NcMover *m)
{
  for (unsigned i = 0; i < NC_MOVER_MAX_STREAMS; i++)
    if (m->links[i] && !nc_link_is_down(m->links[i]))
      return false;
  return true;
}

static bool
nc_control_qemu_has_all(NcMover *m)
{
  return !m->back_receiver || nc_ordered_receiver_is_idle(nc_back_receiver_channel(m->back_receiver));
}

/* ${last}: the frame each connection ends with. */
static void
nc_control_close_links(NcControl *c, GByteArray *last)
{
  for (unsigned i = 0; i < NC_MOVER_MAX_STREAMS; i++)
    if (c->mover.links[i])
      nc_link_close_after(c->mover.links[i], last);
  nc_control_wait_until(c, nc_control_links_are_down);
}

static bool
nc_control_finish(NcControl *c, json_t *message, int *fd, GError **error)
{
  nc_control_wait_until(c, nc_control_qemu_has_all);
  atomic_store(&c->mover.stopped, true);
  atomic_store(&c->mover.peer_left, true); /* from here on connections may go */
  g_autoptr(GByteArray) bye = nc_frame_encode_bye();
  nc_control_close_links(c, bye);
  nc_mover_emit(&c->mover, nc_mover_progress(&c->mover, "done", nc_mono_us()));
  _exit(EXIT_SUCCESS);
}

static const NcControlOp nc_control_ops[] = {
  { "start", false, false, nc_control_start },
  { "shadow", true, false, nc_control_shadow },
  { "stored", true, false, nc_control_stored },
  { "conn", true, false, nc_control_conn },
  { "ahead", true, true, nc_control_ahead },
  { "qemu", true, false, nc_control_qemu },
  { "disk", true, false, nc_control_disk },
  { "grant", true, true, nc_control_grant },
  { "rate", true, true, nc_control_rate },
  { "deliver_shut", true, true, nc_control_deliver_shut },
  { "finish", true, false, nc_control_finish },
};

static bool
nc_control_dispatch(NcControl *c, json_t *message, int *fd, GError **error)
{
  const char *op = nc_json_string(message, "op", error);
  if (!op)
    return false;
  for (size_t i = 0; i < G_N_ELEMENTS(nc_control_ops); i++) {
    const NcControlOp *o = &nc_control_ops[i];
    if (!g_str_equal(o->op, op))
      continue;
    if (o->needs_start != c->started)
      return nc_fail(error, NC_ERROR_PROTOCOL, "\"%s\": %s", op, c->started ? "already started" : "not started");
    if (o->source_only && !c->mover.setup.is_source)
      return nc_fail(error, NC_ERROR_PROTOCOL, "\"%s\" is for the source", op);
    return o->handle(c, message, fd, error);
  }
  return nc_fail(error, NC_ERROR_PROTOCOL, "unknown op \"%s\"", op);
}

static void
nc_control_receive(NcControl *c)
{
  g_autoptr(GError) error = NULL;
  nc_autofd int fd = -1;
  nc_autojson json_t *message = nc_msg_recv(c->mover.control_fd, -1, &fd, &error);

  if (!message && error->domain == NC_ERROR && error->code == NC_ERROR_IO)
    _exit(EXIT_FAILURE); /* novacrond is gone */
  if (!message || !nc_control_dispatch(c, message, &fd, &error)) {
    g_prefix_error(&error, "novacrond's message: ");
    nc_mover_fail(&c->mover, g_steal_pointer(&error));
  }
}

/* Tells both novacrond and the peer why, then ends. */
static void G_GNUC_NORETURN
nc_control_die(NcControl *c, const GError *failure, bool from_peer)
{
  NcMover *m = &c->mover;
  g_autoptr(GByteArray) last =
      from_peer ? nc_frame_encode_bye() : nc_frame_encode_error(failure->code, failure->message);

  if (from_peer || !c->started)
    nc_mover_emit(m, json_pack("{s:s, s:s, s:s}", "ev", "error", "code", nc_error_code_name(failure->code), "message",
                               failure->message));
  else {
    g_autofree char *text = g_strdup_printf("%s mover: %s", nc_mover_side(m), failure->message);
    nc_mover_emit(
        m, json_pack("{s:s, s:s, s:s}", "ev", "error", "code", nc_error_code_name(failure->code), "message", text));
  }
  nc_control_close_links(c, last);
  _exit(EXIT_FAILURE);
}

static void
nc_control_check_failure(NcControl *c)
{
  pthread_mutex_lock(&c->mover.state_lock);
  GError *failure = c->mover.failure; /* never changes once set */
  bool from_peer = c->mover.failure_from_peer;
  pthread_mutex_unlock(&c->mover.state_lock);
  if (failure)
    nc_control_die(c, failure, from_peer);
}

/* Milliseconds until progress is due; -1 before start. */
static int
nc_control_timeout(const NcControl *c)
{
  if (!c->started)
    return -1;
  int64_t left_us = c->next_progress_us - nc_mono_us();
  return left_us <= 0 ? 0 : (int)(left_us / 1000 + 1);
}

static void
nc_control_report(NcControl *c)
{
  int64_t now_us = nc_mono_us();
  if (!c->started || now_us < c->next_progress_us)
    return;
  c->next_progress_us = now_us + c->mover.setup.progress_ms * 1000;
  nc_mover_emit_if_possible(&c->mover, nc_mover_progress(&c->mover, "progress", now_us));
}

void
nc_control_run(NcControl *c)
{
  for (;;) {
    struct pollfd p[] = {
      { .fd = c->mover.control_fd, .events = POLLIN },
      { .fd = c->mover.wake_fd, .events = POLLIN },
    };
    uint64_t ignored;
    poll(p, G_N_ELEMENTS(p), nc_control_timeout(c));
    if (p[1].revents && read(c->mover.wake_fd, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
      nc_log(NC_LOG_WARNING, "mover", "eventfd: %s", g_strerror(errno));
    if (p[0].revents)
      nc_control_receive(c);
    nc_control_check_failure(c);
    nc_control_report(c);
  }
}
