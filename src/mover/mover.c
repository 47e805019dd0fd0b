/* SPDX-License-Identifier: Apache-2.0 */
/* What the mover's threads share: events, the first failure, progress. */
#include "mover/mover.h"
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
#include "mover/outbox.h"
#include "mover/preempt_receiver.h"
#include "mover/preempt_sender.h"
#include "mover/sink.h"
#include "mover/source.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define NC_MOVER_STACK_BYTES (2u << 20) /* LZ4 and jansson need the most: tens of KiB */

const char *
nc_mover_side(const NcMover *m)
{
  return m->setup.is_source ? "source" : "destination";
}

const char *
nc_mover_other_side(const NcMover *m)
{
  return m->setup.is_source ? "destination" : "source";
}

static void
nc_mover_emit_locked(NcMover *m, json_t *event)
{
  g_autoptr(GError) error = NULL;
  if (!nc_msg_send(m->control_fd, event, -1, &error)) {
    nc_log(NC_LOG_ERR, "mover", "novacrond is gone: %s", error->message);
    _exit(EXIT_FAILURE);
  }
}

void
nc_mover_emit(NcMover *m, json_t *event)
{
  pthread_mutex_lock(&m->event_lock);
  nc_mover_emit_locked(m, event);
  pthread_mutex_unlock(&m->event_lock);
  json_decref(event);
}

void
nc_mover_emit_if_possible(NcMover *m, json_t *event)
{
  struct pollfd p = { .fd = m->control_fd, .events = POLLOUT };

  pthread_mutex_lock(&m->event_lock);
  if (poll(&p, 1, 0) > 0 && (p.revents & POLLOUT))
    nc_mover_emit_locked(m, event);
  pthread_mutex_unlock(&m->event_lock);
  json_decref(event);
}

static void
nc_mover_wake_main(NcMover *m)
{
  uint64_t one = 1;
  if (write(m->wake_fd, &one, sizeof one) < 0)
    return; /* full: it is awake already */
}

static void
nc_mover_fail_as(NcMover *m, GError *error, bool from_peer)
{
  pthread_mutex_lock(&m->state_lock);
  bool first = !m->failure && !nc_mover_is_stopped(m);
  if (first) {
    m->failure = error;
    m->failure_from_peer = from_peer;
    atomic_store(&m->stopped, true);
  }
  pthread_mutex_unlock(&m->state_lock);
  nc_log(first ? NC_LOG_ERR : NC_LOG_DEBUG, "mover", "%s%s", first ? "" : "later: ", error->message);
  if (first)
    nc_mover_wake_main(m);
  else
    g_error_free(error);
}

void
nc_mover_fail(NcMover *m, GError *error)
{
  nc_mover_fail_as(m, error, false);
}

void
nc_mover_fail_from_peer(NcMover *m, int code, const char *text)
{
  g_autofree char *valid = g_utf8_make_valid(text, -1); /* goes into JSON */
  nc_mover_fail_as(m, g_error_new(NC_ERROR, code, "%s mover: %s", nc_mover_other_side(m), valid), true);
}

void
nc_mover_qemu_closed(NcMover *m)
{
  if (!atomic_exchange(&m->qemu_gone, true))
    nc_mover_emit(m, json_pack("{s:s, s:s}", "ev", "qemu_closed", "channel", "main"));
}

typedef struct {
  const char *name;
  void *(*run)(void *);
  void *argument;
} NcMoverThread;

/* Each thread names itself: naming another one opens a file. */
static void *
nc_mover_run_thread(void *data)
{
  NcMoverThread thread = *(NcMoverThread *)data;

  g_free(data);
  prctl(PR_SET_NAME, thread.name);
  return thread.run(thread.argument);
}

void
nc_mover_spawn(const char *name, void *(*run)(void *), void *argument)
{
  NcMoverThread *start = g_new(NcMoverThread, 1);
  pthread_attr_t attributes;
  pthread_t thread;

  *start = (NcMoverThread){ .name = name, .run = run, .argument = argument };
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, NC_MOVER_STACK_BYTES);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int r = pthread_create(&thread, &attributes, nc_mover_run_thread, start);
  if (r != 0) {
    nc_log(NC_LOG_ERR, "mover", "can't start thread %s: %s", name, g_strerror(r));
    _exit(EXIT_FAILURE);
  }
  pthread_attr_destroy(&attributes);
}

static uint64_t
nc_mover_rss_bytes(const NcMover *m)
{
  char text[128];
  unsigned long long total, resident;
  ssize_t n = m->statm_fd < 0 ? -1 : pread(m->statm_fd, text, sizeof text - 1, 0);

  if (n <= 0)
    return 0;
  text[n] = '\0';
  return sscanf(text, "%llu %llu", &total, &resident) == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static uint64_t
nc_mover_cpu_ms(void)
{
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) < 0)
    return 0;
  return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
         (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

/* Bytes per second that reached the other side, smoothed over a few reports. */
static double
nc_mover_rate(NcMover *m, int64_t now_us)
{
  uint64_t delivered = nc_counted(&m->counters.delivered_wire_bytes);
  int64_t elapsed_us = now_us - m->rate_us;

  if (m->rate_us > 0 && elapsed_us < 10000) /* `done` right behind a report */
    return m->rate_bps;
  if (m->rate_us > 0) {
    double now_bps = (double)(delivered - m->rate_wire_bytes) * 1e6 / (double)elapsed_us;
    m->rate_bps = m->rate_bps > 0 ? (m->rate_bps + now_bps) / 2 : now_bps;
  }
  m->rate_us = now_us;
  m->rate_wire_bytes = delivered;
  return m->rate_bps;
}

static void
nc_mover_add_chain(json_t *object, const char *key, const NcChain *chain)
{
  g_autofree char *hex = nc_hex_encode(chain->value, sizeof chain->value);
  json_object_set_new(object, key, json_string(hex));
}

static void
nc_mover_add_totals(NcMover *m, json_t *object)
{
  NcChain forward, backward, preempt;

  if (m->setup.is_source) {
    nc_outbox_position(nc_source_outbox(m->source), NC_CHANNEL_MAIN, &forward);
    nc_ordered_receiver_position(nc_back_receiver_channel(m->back_receiver), &backward);
    nc_ordered_sender_position(nc_preempt_sender_channel(m->preempt_sender), &preempt);
  } else {
    nc_sink_position(m->sink, &forward);
    nc_ordered_sender_position(nc_back_sender_channel(m->back_sender), &backward);
    nc_ordered_receiver_position(nc_preempt_receiver_channel(m->preempt_receiver), &preempt);
  }
  nc_mover_add_chain(object, "sha256", &forward);
  nc_mover_add_chain(object, "rev_sha256", &backward);
  nc_mover_add_chain(object, "preempt_sha256", &preempt);
}

/* How batches are coded: now, and of policy auto how many so far. */
static void
nc_mover_add_coding(NcMover *m, json_t *object)
{
  bool chosen = m->setup.policy.is_auto;
  const char *name = chosen ? nc_rung_name((unsigned)nc_counted(&m->counters.rung)) : m->setup.compression;
  json_t *batches = json_object();

  for (unsigned i = 0; chosen && i < NC_RUNGS; i++) {
    uint64_t n = nc_counted(&m->counters.rung_batches[i]);
    if (n > 0)
      json_object_set_new(batches, nc_rung_name(i), json_integer((json_int_t)n));
  }
  json_object_set_new(object, "coding", json_string(name));
  json_object_set_new(object, "coding_switches", json_integer((json_int_t)nc_counted(&m->counters.rung_switches)));
  json_object_set_new(object, "coded_batches", batches);
}

static json_t *
nc_mover_connection(NcLink *link, unsigned index)
{
  NcLinkStats s;
  nc_link_stats(link, &s);
  const NcKernelNumbers *kernel = &s.kernel;
  return json_pack("{s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "index", (int)index, "up", (int)s.up, "sent_bytes",
                   (json_int_t)s.sent_bytes, "received_bytes", (json_int_t)s.received_bytes, "retransmitted_bytes",
                   (json_int_t)kernel->retransmitted_bytes, "segments", (json_int_t)kernel->segments, "retransmitted_segments",
                   (json_int_t)kernel->retransmitted_segments, "rtt_us", (json_int_t)kernel->rtt_us, "min_rtt_us",
                   (json_int_t)kernel->min_rtt_us, "delivery_bps", (json_int_t)kernel->delivery_bps);
}

/* What each connection carries, and the kernel's view of it. */
static json_t *
nc_mover_connections(NcMover *m)
{
  json_t *list = json_array();

  for (unsigned i = 0; i < m->setup.streams; i++)
    if (m->links[i])
      json_array_append_new(list, nc_mover_connection(m->links[i], i));
  return list;
}

void
nc_mover_count_sections(NcCounters *counters, const NcBatchSections *sections)
{
  for (unsigned section = 0; section < NC_BATCH_SECTIONS; section++)
    for (unsigned codec = 0; codec < NC_CODEC_COUNT; codec++)
      if (sections->bytes[section][codec] > 0)
        nc_count(&counters->coded_bytes[section][codec], sections->bytes[section][codec]);
}

/* As whole_zstd_bytes, and so on. */
static void
nc_mover_add_sections(NcMover *m, json_t *object)
{
  static const char *const sections[] = { [NC_BATCH_SECTION_OPERATIONS] = "operations", [NC_BATCH_SECTION_WHOLE] = "whole" };

  for (unsigned section = 0; section < NC_BATCH_SECTIONS; section++)
    for (unsigned codec = 0; codec < NC_CODEC_COUNT; codec++) {
      g_autofree char *key = g_strdup_printf("%s_%s_bytes", sections[section], nc_codec_by_id(codec)->name);
      json_object_set_new(object, key, json_integer((json_int_t)nc_counted(&m->counters.coded_bytes[section][codec])));
    }
}

json_t *
nc_mover_progress(NcMover *m, const char *event, int64_t now_us)
{
  uint64_t hot_asked = 0, hot_seen = 0;

  if (m->hot)
    nc_hot_totals(m->hot, &hot_asked, &hot_seen);
  const struct {
    const char *key;
    uint64_t value;
  } numbers[] = {
    { "stream_bytes", nc_counted(&m->counters.stream_bytes) },
    { "preempt_bytes", nc_counted(&m->counters.preempt_bytes) },
    { "hot_asked", hot_asked },
    { "hot_pages", hot_seen },
    { "wire_bytes", nc_counted(&m->counters.wire_bytes) },
    { "pages", nc_counted(&m->counters.pages) },
    { "zero_pages", nc_counted(&m->counters.zero_pages) },
    { "fill_pages", nc_counted(&m->counters.fill_pages) },
    { "reference_pages", nc_counted(&m->counters.reference_pages) },
    { "ahead_pages", nc_counted(&m->counters.ahead_pages) },
    { "delta_pages", nc_counted(&m->counters.delta_pages) },
    { "delta_bytes", nc_counted(&m->counters.delta_bytes) },
    { "block_pages", nc_counted(&m->counters.block_pages) },
    { "stored_pages", nc_counted(&m->counters.stored_pages) },
    { "page_blocks", nc_counted(&m->counters.page_blocks) },
    { "repeated_blocks", nc_counted(&m->counters.repeated_blocks) },
    { "resent_batches", nc_counted(&m->counters.resent_batches) },
    { "resent_bytes", nc_counted(&m->counters.resent_bytes) },
    { "reconnects", nc_counted(&m->counters.reconnects) },
    { "encode_us", nc_counted(&m->counters.encode_us) },
    { "encode_cpu_us", nc_counted(&m->counters.encode_cpu_us) },
    { "coding_us", nc_counted(&m->counters.coding_us) },
    { "decode_us", nc_counted(&m->counters.decode_us) },
    { "link_wait_us", nc_counted(&m->counters.link_wait_us) },
    { "encoder_wait_us", nc_counted(&m->counters.encoder_wait_us) },
    { "page_bytes_in", nc_counted(&m->counters.page_bytes_in) },
    { "page_bytes_out", nc_counted(&m->counters.page_bytes_out) },
    { "wire_rate_bps", (uint64_t)nc_mover_rate(m, now_us) },
    { "rtt_us", nc_counted(&m->counters.rtt_us) },
    { "in_flight_bytes", nc_counted(&m->counters.in_flight_bytes) },
    { "window_bytes", nc_counted(&m->counters.window_bytes) },
    { "batches", nc_counted(&m->counters.batches) },
    { "shaped_rate_bps", nc_shaper_rate(m->shaper) },
    { "cpu_ms", nc_mover_cpu_ms() },
    { "rss_bytes", nc_mover_rss_bytes(m) },
  };
  json_t *object = json_pack("{s:s}", "ev", event);

  for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
    json_object_set_new(object, numbers[i].key, json_integer((json_int_t)numbers[i].value));
  nc_mover_add_sections(m, object);
  if (m->setup.is_source)
    nc_mover_add_coding(m, object);
  json_object_set_new(object, "connections", nc_mover_connections(m));
  json_object_set_new(object, "disks", m->setup.is_source ? nc_disk_source_progress(m->disk_source) : nc_disk_sink_progress(m->disk_sink));
  if (g_str_equal(event, "done"))
    nc_mover_add_totals(m, object);
  return object;
}
