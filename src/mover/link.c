/* SPDX-License-Identifier: Apache-2.0 */
/* The poll loop of a link's connection: which frame is next, and what has come; and what happens when it is lost. */
#include "mover/link.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/log.h"
#include "crypto/psk.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "mover/outbox.h"
#include "mover/session.h"
#include "mover/source.h"
#include "mover/urgent.h"

#include <linux/tcp.h> /* newer than <netinet/tcp.h>: what the kernel counts */
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define NC_LINK_CHUNK_BYTES 16384u /* a TLS record */
#define NC_LINK_READS_PER_TURN 64  /* then it is writing's turn: at most 1 MiB */
#define NC_LINK_LINGER_US 2000000  /* for the peer to close, after our last frame; one that is denied processors reads it late */
#define NC_LINK_CANDIDATES 4       /* sockets that shake hands at a time: one, its successor, and some of strangers */

/* Ends of connections that are part of the plan. */
typedef enum {
  NC_LINK_RUNNING,
  NC_LINK_CLOSING, /* `last` is to be sent */
  NC_LINK_DRAINING /* sent; nothing more goes out */
} NcLinkPhase;

/* A socket that shakes hands. */
typedef struct {
  NcLink *link;
  int fd;
} NcLinkCandidate;

struct NcLink {
  NcMover *mover;
  unsigned index;
  int wake_fd;
  atomic_bool asleep; /* in poll(): whoever has something writes wake_fd */
  atomic_bool up;     /* there is a connection */
  atomic_uint candidates;
  NcKernelView kernel;
  _Atomic uint64_t sent_bytes, received_bytes; /* written by the link's thread */
  _Atomic uint32_t path;

  pthread_mutex_t lock; /* protects this group */
  pthread_cond_t given; /* there is a next one */
  NcTls *next;          /* the connection to use from now on; NULL: none, or taken */
  GByteArray *last;     /* set once: closing */

  /* all below: the thread's own, from `phase` on of the present connection */
  NcBatchDecoder *decoder;
  int fd;
  NcTls *tls;
  NcLinkPhase phase;
  bool has_hello;      /* the peer's has come */
  bool deaf;           /* what it says is no longer listened to: the failure is on its way */
  GByteArray *hello;   /* ours, not sent yet */
  int64_t deadline_us; /* for HELLO, or of lingering; 0: none */
  short want;          /* poll events that TLS or waiting bulk asks for */

  /* going out: one frame at a time, copied into one record at a time */
  NcOutFrame frame;
  size_t frame_done;
  uint8_t chunk[NC_LINK_CHUNK_BYTES];
  size_t chunk_length, chunk_done;
  NcShaperPort port;
  size_t bulk_bytes;   /* of the record being filled, how far bulk may fill it */
  int64_t bulk_ask_us; /* bulk has to wait until then; 0: it has not */
  bool pong_due;
  uint64_t pong_value;
  int64_t next_ping_us;

  /* coming in */
  uint8_t header[NC_FRAME_HEADER_BYTES];
  size_t header_done;
  NcFrame in;
  uint8_t *payload; /* NC_FRAME_PAYLOAD_MAX bytes, reused: a frame is handled before the next */
  size_t payload_done;
};

unsigned
nc_link_index(const NcLink *l)
{
  return l->index;
}

NcBatchDecoder *
nc_link_decoder(NcLink *l)
{
  return l->decoder;
}

void
nc_link_wake(NcLink *l)
{
  uint64_t one = 1;
  if (atomic_exchange(&l->asleep, false) && write(l->wake_fd, &one, sizeof one) < 0)
    return; /* it has been woken so often already that it can't count them */
}

void
nc_link_close_after(NcLink *l, const GByteArray *last)
{
  GByteArray *copy = g_byte_array_sized_new(last->len);

  g_byte_array_append(copy, last->data, last->len);
  pthread_mutex_lock(&l->lock);
  g_clear_pointer(&l->last, g_byte_array_unref);
  l->last = copy;
  pthread_mutex_unlock(&l->lock);
  nc_link_wake(l);
}

bool
nc_link_is_down(NcLink *l)
{
  return !atomic_load(&l->up);
}

/* An error that the connection survives: so that the peer can still be told. */
static void
nc_link_refuse(NcLink *l, GError *error)
{
  l->deaf = true;
  g_prefix_error(&error, "connection %u: ", l->index);
  nc_mover_fail(l->mover, error);
}

/* Options that fail make a connection worse, not wrong. Sockets that are not TCP (tests) have none. */
static void
nc_link_set_option(NcLink *l, int fd, int level, int option, int value)
{
  if (setsockopt(fd, level, option, &value, sizeof value) < 0)
    nc_log(NC_LOG_DEBUG, "mover", "connection %u: socket option %d: %m", l->index, option);
}

/* A path that is dead is noticed within NC_MOVER_TCP_DEAD_S, whether we have something to send or not. */
static void
nc_link_tune(NcLink *l, int fd)
{
  nc_link_set_option(l, fd, IPPROTO_TCP, TCP_NODELAY, 1);
  nc_link_set_option(l, fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NC_MOVER_NOTSENT_BYTES);
  nc_link_set_option(l, fd, IPPROTO_TCP, TCP_USER_TIMEOUT, NC_MOVER_TCP_DEAD_S * 1000);
  nc_link_set_option(l, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  nc_link_set_option(l, fd, IPPROTO_TCP, TCP_KEEPIDLE, NC_MOVER_TCP_DEAD_S / 3);
  nc_link_set_option(l, fd, IPPROTO_TCP, TCP_KEEPINTVL, NC_MOVER_TCP_DEAD_S / 3);
  nc_link_set_option(l, fd, IPPROTO_TCP, TCP_KEEPCNT, 2);
}

static NcTls *
nc_link_shake_hands(NcLink *l, int fd, GError **error)
{
  const NcMoverSetup *setup = &l->mover->setup;

  nc_link_tune(l, fd);
  NcTls *tls = setup->is_source ? nc_tls_psk_client(fd, setup->psk, setup->migration, NC_MOVER_HANDSHAKE_MS, error)
                                : nc_tls_psk_server(fd, setup->psk, setup->migration, NC_MOVER_HANDSHAKE_MS, error);
  if (!tls)
    g_prefix_error(error, "connection %u to the %s's mover: ", l->index, nc_mover_other_side(l->mover));
  return tls;
}

/* The link's from now on. One that came before and was not used yet is closed. */
static void
nc_link_give(NcLink *l, NcTls *tls)
{
  pthread_mutex_lock(&l->lock);
  NcTls *older = l->next;
  l->next = tls;
  pthread_cond_signal(&l->given);
  pthread_mutex_unlock(&l->lock);
  nc_tls_free(older);
  nc_link_wake(l);
}

/*
 * Whoever connects to a destination may be a stranger, and a path may fail at any time. But what the source was
 * connected to at the beginning and is no mover of this migration won't be one at the next try.
 */
static bool
nc_link_is_hopeless(NcLink *l, const GError *error)
{
  bool network = error->code == NC_ERROR_UNREACHABLE || error->code == NC_ERROR_TIMEOUT || error->code == NC_ERROR_IO;
  return l->mover->setup.is_source && !network && !nc_mover_link_was_ready(l->mover, l->index);
}

static void *
nc_link_try(void *argument)
{
  g_autofree NcLinkCandidate *c = argument;
  NcLink *l = c->link;
  GError *error = NULL;
  NcTls *tls = nc_link_shake_hands(l, c->fd, &error);

  if (tls)
    nc_link_give(l, tls);
  else if (nc_link_is_hopeless(l, error))
    nc_mover_fail(l->mover, error);
  else
    nc_mover_link_refused(l->mover, l->index, error);
  atomic_fetch_sub(&l->candidates, 1);
  return NULL;
}

void
nc_link_admit(NcLink *l, int fd)
{
  if (atomic_fetch_add(&l->candidates, 1) >= NC_LINK_CANDIDATES) {
    atomic_fetch_sub(&l->candidates, 1);
    nc_log(NC_LOG_WARNING, "mover", "connection %u: too many at a time: one was closed", l->index);
    close(fd);
    return;
  }
  NcLinkCandidate *c = g_new(NcLinkCandidate, 1);
  *c = (NcLinkCandidate){ .link = l, .fd = fd };
  nc_mover_spawn("handshake", nc_link_try, c);
}

void
nc_link_stats(NcLink *l, NcLinkStats *ret)
{
  *ret = (NcLinkStats){ .up = atomic_load(&l->up), .sent_bytes = nc_counted(&l->sent_bytes), .received_bytes = nc_counted(&l->received_bytes) };
  nc_kernel_view_read(&l->kernel, &ret->kernel);
}

static bool
nc_link_is_carrier(const NcLink *l)
{
  return nc_mover_carrier(l->mover) == (int)l->index;
}

/* HELLO, then what is urgent, then our last word. NULL: none. */
static GByteArray *
nc_link_pop_urgent(NcLink *l)
{
  GByteArray *frame = g_steal_pointer(&l->hello);

  if (!frame && l->has_hello && nc_link_is_carrier(l))
    frame = nc_urgent_pop(l->mover->urgent);
  if (frame)
    return frame;
  pthread_mutex_lock(&l->lock);
  if (l->last && l->phase == NC_LINK_RUNNING) {
    frame = g_byte_array_ref(l->last);
    l->phase = NC_LINK_CLOSING;
  }
  pthread_mutex_unlock(&l->lock);
  return frame;
}

static GByteArray *
nc_link_make_ping(NcLink *l)
{
  int64_t now_us = nc_mono_us();

  if (l->pong_due) {
    l->pong_due = false;
    return nc_frame_encode_pong(l->pong_value);
  }
  if (!l->has_hello || now_us < l->next_ping_us || !nc_link_is_carrier(l))
    return NULL;
  l->next_ping_us = now_us + NC_MOVER_PING_US;
  return nc_frame_encode_ping((uint64_t)now_us);
}

/*
 * Does anything wait for the end of the frame that is under way? Pings and pongs don't count: ten times a second
 * they would make a burst of the rest of a batch. The time of our ping begins when it is made, and the source's
 * pong, which has to wait, is for the destination's progress only.
 */
static bool
nc_link_has_urgent(NcLink *l)
{
  if (nc_link_is_carrier(l) && nc_urgent_has(l->mover->urgent))
    return true;
  pthread_mutex_lock(&l->lock);
  bool has = l->last != NULL;
  pthread_mutex_unlock(&l->lock);
  return has;
}

/* A bulk frame once begun has to be finished: begin only where the kernel and the rate limit take it. */
static bool
nc_link_take_bulk(NcLink *l)
{
  struct pollfd p = { .fd = l->fd, .events = POLLOUT };
  NcMover *m = l->mover;

  if (!m->source || !l->has_hello || !atomic_load(&m->open) || nc_mover_is_stopped(m))
    return false;
  if (poll(&p, 1, 0) <= 0) {
    l->want |= POLLOUT;
    return false;
  }
  GByteArray *conclusion = nc_outbox_take_conclusion(nc_source_outbox(m->source)); /* whatever the rate limit says */
  if (conclusion) {
    nc_mover_send_urgent(m, conclusion);
    nc_outbox_concluded(nc_source_outbox(m->source));
  }
  return l->chunk_length < l->bulk_bytes && nc_outbox_take(nc_source_outbox(m->source), l->index, &l->frame);
}

/* Chooses the next frame; false if there is nothing to send. */
static bool
nc_link_next_frame(NcLink *l)
{
  l->frame_done = 0;
  if (l->phase != NC_LINK_RUNNING)
    return false;
  GByteArray *frame = nc_link_pop_urgent(l);
  if (!frame && l->phase == NC_LINK_RUNNING)
    frame = nc_link_make_ping(l);
  if (!frame)
    return nc_link_take_bulk(l);
  l->frame = (NcOutFrame){ .header = frame };
  return true;
}

/* The frame is copied: its memory is free to go. */
static void
nc_link_end_frame(NcLink *l)
{
  if (l->frame.is_batch)
    nc_outbox_written(nc_source_outbox(l->mover->source), &l->frame);
  nc_out_frame_clear(&l->frame);
}

/* Copies what fits of ${part}, which begins ${start} bytes into the frame, until the record has ${room} bytes. */
static void
nc_link_copy_part(NcLink *l, const GByteArray *part, size_t start, size_t room)
{
  if (!part || l->frame_done < start || l->frame_done >= start + part->len || l->chunk_length >= room)
    return;
  size_t skip = l->frame_done - start;
  size_t n = MIN(part->len - skip, room - l->chunk_length);
  memcpy(l->chunk + l->chunk_length, part->data + skip, n);
  l->chunk_length += n;
  l->frame_done += n;
}

/* How much of the record the frame may fill; a batch that something urgent waits for: all. */
static size_t
nc_link_room(NcLink *l, bool hurry)
{
  return l->frame.is_batch && !hurry ? l->bulk_bytes : NC_LINK_CHUNK_BYTES;
}

/* Fills the next record from as many frames as fit and may go. */
static void
nc_link_fill_chunk(NcLink *l)
{
  l->chunk_length = l->chunk_done = 0;
  l->bulk_ask_us = 0;
  l->bulk_bytes = nc_shaper_ask(l->mover->shaper, &l->port, NC_LINK_CHUNK_BYTES, &l->bulk_ask_us);
  bool hurry = l->frame.is_batch && l->bulk_bytes < NC_LINK_CHUNK_BYTES && nc_link_has_urgent(l);
  while (l->chunk_length < NC_LINK_CHUNK_BYTES && (l->frame.header || nc_link_next_frame(l))) {
    size_t room = nc_link_room(l, hurry);
    if (l->chunk_length >= room)
      break;
    size_t header = l->frame.header->len;
    size_t total = header + (l->frame.payload ? l->frame.payload->len : 0);
    nc_link_copy_part(l, l->frame.header, 0, room);
    nc_link_copy_part(l, l->frame.payload, header, room);
    if (l->frame_done == total) {
      nc_link_end_frame(l);
      hurry = false; /* the next one was not under way */
    }
  }
  if (l->chunk_length > 0)
    nc_shaper_charge(l->mover->shaper, &l->port, l->chunk_length);
}

/* One record at most. Returns false if the connection is broken; *moved tells whether anything happened. */
static bool
nc_link_write(NcLink *l, bool *moved, GError **error)
{
  size_t n;

  if (l->chunk_done == l->chunk_length) {
    nc_link_fill_chunk(l);
    if (l->chunk_length == 0)
      return true;
  }
  switch (nc_tls_try_write(l->tls, l->chunk + l->chunk_done, l->chunk_length - l->chunk_done, &n, error)) {
  case NC_TLS_DONE:
    l->chunk_done += n;
    nc_count(&l->mover->counters.wire_bytes, n);
    nc_count(&l->sent_bytes, n);
    *moved = true;
    return true;
  case NC_TLS_WANT_READ:
    l->want |= POLLIN;
    return true;
  case NC_TLS_WANT_WRITE:
    l->want |= POLLOUT;
    return true;
  default:
    return false;
  }
}

/*
 * What the kernel has measured while TCP and TLS shook hands is the round trip of an empty path; the first PONG may already
 * have waited behind batches, and a window computed from that keeps the path's queue full.
 */
static void
nc_link_seed_rtt(NcLink *l)
{
  struct tcp_info info = { 0 };
  socklen_t length = sizeof info;

  if (!l->mover->source || getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
    return;
  if (info.tcpi_min_rtt != 0 && info.tcpi_min_rtt != ~0u)
    nc_outbox_rtt(nc_source_outbox(l->mover->source), info.tcpi_min_rtt);
}

static bool
nc_link_take_pong(NcLink *l, GError **error)
{
  uint64_t sent_us, now_us = (uint64_t)nc_mono_us();

  if (!nc_frame_check_pong(&l->in, &sent_us, error))
    return false;
  if (sent_us > now_us || now_us - sent_us > G_USEC_PER_SEC * 3600ull)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a pong that answers no ping of ours");
  atomic_store_explicit(&l->mover->counters.rtt_us, now_us - sent_us, memory_order_relaxed);
  nc_shaper_rtt(l->mover->shaper, now_us - sent_us);
  if (l->mover->source)
    nc_outbox_rtt(nc_source_outbox(l->mover->source), now_us - sent_us);
  return true;
}

static bool
nc_link_handle_frame(NcLink *l, GError **error)
{
  NcMover *m = l->mover;

  if (l->phase != NC_LINK_RUNNING) /* too late for anything */
    return true;
  if (!l->has_hello) {
    if (!nc_session_check_hello(m, l->index, &l->in, error))
      return false;
    l->has_hello = true;
    l->deadline_us = 0;
    nc_mover_link_ready(m, l->index, nc_tls_cipher(l->tls));
    if (nc_link_is_carrier(l))
      nc_link_seed_rtt(l);
    if (nc_link_is_carrier(l) && m->setup.streams > 1) /* what is urgent has others' bulk to share the path with only */
      nc_link_set_option(l, l->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NC_MOVER_NOTSENT_URGENT_BYTES);
    return true;
  }
  switch (l->in.type) {
  case NC_FRAME_PING: /* latched: a peer that asks faster than it reads gets one answer */
    l->pong_due = true;
    return nc_frame_check_ping(&l->in, &l->pong_value, error);
  case NC_FRAME_PONG:
    return nc_link_take_pong(l, error);
  default:
    return nc_session_frame(m, l, &l->in, error);
  }
}

/* What has come is ${n} bytes longer; handles the frame if it is whole now. */
static bool
nc_link_advance(NcLink *l, size_t n, GError **error)
{
  if (l->header_done < sizeof l->header) {
    l->header_done += n;
    if (l->header_done < sizeof l->header)
      return true;
    if (!nc_frame_decode_header(l->header, &l->in, error))
      return false;
    l->in.payload = l->payload;
    l->payload_done = 0;
  } else {
    l->payload_done += n;
  }
  if (l->payload_done < l->in.payload_bytes)
    return true;
  l->header_done = 0;
  return nc_link_handle_frame(l, error);
}

/* Reads towards the end of the current header or payload, no further. */
static NcTlsResult
nc_link_read_some(NcLink *l, size_t *n, GError **error)
{
  bool in_header = l->header_done < sizeof l->header;
  uint8_t *to = in_header ? l->header + l->header_done : l->payload + l->payload_done;
  size_t room = in_header ? sizeof l->header - l->header_done : l->in.payload_bytes - l->payload_done;
  return nc_tls_try_read(l->tls, to, room, n, error);
}

/* The peer closed in order, without goodbye. */
static bool
nc_link_closed(NcLink *l, GError **error)
{
  return nc_fail(error, NC_ERROR_UNREACHABLE, "closed by the other side%s",
                 l->has_hello ? "" : " before it said hello");
}

/* Returns false if the connection is broken or what came is refused. */
static bool
nc_link_read(NcLink *l, bool *moved, GError **error)
{
  for (int i = 0; i < NC_LINK_READS_PER_TURN && !l->deaf; i++) {
    size_t n;
    GError *refusal = NULL;
    switch (nc_link_read_some(l, &n, error)) {
    case NC_TLS_DONE:
      break;
    case NC_TLS_WANT_READ:
      l->want |= POLLIN;
      return true;
    case NC_TLS_WANT_WRITE:
      l->want |= POLLOUT;
      return true;
    case NC_TLS_CLOSED:
      return nc_link_closed(l, error);
    default:
      return false;
    }
    *moved = true;
    nc_count(&l->mover->counters.wire_bytes, n);
    nc_count(&l->received_bytes, n);
    if (!nc_link_advance(l, n, &refusal))
      nc_link_refuse(l, refusal);
  }
  return true;
}

/* Microseconds until there is something to do by the clock; -1: nothing. */
static int64_t
nc_link_timeout_us(const NcLink *l)
{
  int64_t next_us = G_MAXINT64;

  if (l->deadline_us > 0)
    next_us = l->deadline_us;
  /* A record that waits for the socket is first, then the frame under way, then a ping. */
  bool has_record = l->chunk_done < l->chunk_length;
  if (l->has_hello && l->phase == NC_LINK_RUNNING && !has_record && !l->frame.header && nc_link_is_carrier(l))
    next_us = MIN(next_us, l->next_ping_us);
  if (l->bulk_ask_us > 0 && !has_record)
    next_us = MIN(next_us, l->bulk_ask_us);
  return next_us == G_MAXINT64 ? -1 : MAX(next_us - nc_mono_us(), 0);
}

static void
nc_link_sleep(NcLink *l)
{
  struct pollfd p[] = { { .fd = l->fd, .events = l->want }, { .fd = l->wake_fd, .events = POLLIN } };
  uint64_t ignored;
  int64_t left_us = nc_link_timeout_us(l);
  struct timespec left = { .tv_sec = left_us / G_USEC_PER_SEC, .tv_nsec = left_us % G_USEC_PER_SEC * 1000 };

  if (l->deaf)
    p[0].events &= ~POLLIN;
  if (p[0].events == 0)
    p[0].fd = -1; /* an error there would wake us again and again */
  ppoll(p, G_N_ELEMENTS(p), left_us < 0 ? NULL : &left, NULL);
  atomic_store(&l->asleep, false);
  if (p[1].revents && read(l->wake_fd, &ignored, sizeof ignored) < 0)
    return; /* drained by nobody else: can't happen, and would do no harm */
}

static bool
nc_link_is_replaced(NcLink *l)
{
  pthread_mutex_lock(&l->lock);
  bool is_replaced = l->next != NULL;
  pthread_mutex_unlock(&l->lock);
  return is_replaced;
}

/* False: a new connection would serve better. Not while a guest waits for what is on this one, and our last words are said on it. */
static bool
nc_link_look(NcLink *l, GError **error)
{
  NcSource *source = l->mover->source;
  bool stays = l->phase != NC_LINK_RUNNING || (source && nc_source_is_granting(source));

  return nc_kernel_view_look(&l->kernel, stays ? NULL : error) || stays;
}

/* One turn of writing and reading; false when the connection is over, with *error unless that was the plan. */
static bool
nc_link_turn(NcLink *l, bool *moved, GError **error)
{
  l->want = 0;
  if (nc_link_is_replaced(l) || !nc_link_look(l, error) || !nc_link_write(l, moved, error) || !nc_link_read(l, moved, error))
    return false;
  if (l->deadline_us > 0 && nc_mono_us() >= l->deadline_us)
    return l->phase == NC_LINK_RUNNING && nc_fail(error, NC_ERROR_TIMEOUT, "the other side did not say hello in time");
  if (l->phase == NC_LINK_CLOSING && !l->frame.header && l->chunk_done == l->chunk_length) {
    nc_tls_close_notify(l->tls);
    shutdown(l->fd, SHUT_WR);
    l->phase = NC_LINK_DRAINING;
    l->deaf = false; /* read on, so that the kernel does not answer with a reset, which could overtake our last frame */
    l->deadline_us = nc_mono_us() + NC_LINK_LINGER_US;
  }
  return true;
}

/* Until the connection is over; *error says why, NULL: that was the plan, or there is a better one. */
static void
nc_link_loop(NcLink *l, GError **error)
{
  bool announced = false; /* asleep was set, and nothing has moved since */

  for (;;) {
    bool moved = false;
    if (!nc_link_turn(l, &moved, error))
      break;
    if (moved) {
      announced = false;
    } else if (!announced) { /* one more look after others can see that we are about to sleep */
      atomic_store(&l->asleep, true);
      announced = true;
    } else {
      nc_link_sleep(l);
      announced = false;
    }
  }
  if (l->phase != NC_LINK_RUNNING || nc_link_is_replaced(l)) /* the other side may close the old one first */
    g_clear_error(error);
}

uint32_t
nc_link_path(NcLink *l)
{
  return atomic_load(&l->path);
}

/* The address without its port, which differs from connection to connection. */
static uint32_t
nc_link_hash_address(const struct sockaddr_storage *address)
{
  const struct sockaddr_in *v4 = (const void *)address;
  const struct sockaddr_in6 *v6 = (const void *)address;
  const uint8_t *bytes = address->ss_family == AF_INET6 ? v6->sin6_addr.s6_addr : (const uint8_t *)&v4->sin_addr;
  size_t length = address->ss_family == AF_INET6 ? 16 : address->ss_family == AF_INET ? 4 : 0;
  uint32_t hash = 2166136261u; /* FNV-1a */

  for (size_t i = 0; i < length; i++)
    hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}

static uint32_t
nc_link_find_path(int fd)
{
  struct sockaddr_storage here = { 0 }, there = { 0 };
  socklen_t here_length = sizeof here, there_length = sizeof there;

  getsockname(fd, (struct sockaddr *)&here, &here_length);
  getpeername(fd, (struct sockaddr *)&there, &there_length);
  return nc_link_hash_address(&here) * 31u + nc_link_hash_address(&there);
}

/* The next connection; waits for it. */
static void
nc_link_begin(NcLink *l)
{
  pthread_mutex_lock(&l->lock);
  while (!l->next)
    pthread_cond_wait(&l->given, &l->lock);
  l->tls = g_steal_pointer(&l->next);
  atomic_store(&l->up, true);
  pthread_mutex_unlock(&l->lock);
  l->fd = nc_tls_fd(l->tls);
  atomic_store(&l->path, nc_link_find_path(l->fd));
  nc_shaper_attach(l->mover->shaper, &l->port, l->fd);
  nc_kernel_view_begin(&l->kernel, l->fd, l->mover->source != NULL);
  l->phase = NC_LINK_RUNNING;
  l->has_hello = l->deaf = l->pong_due = false;
  l->chunk_length = l->chunk_done = l->frame_done = l->header_done = 0;
  l->next_ping_us = l->bulk_ask_us = 0;
  l->deadline_us = nc_mono_us() + NC_MOVER_HANDSHAKE_MS * 1000;
  l->hello = nc_session_hello(l->mover, l->index);
}

/* What it had begun is the next connection's, or another link's. ${error} is taken; NULL: nothing to tell. */
static void
nc_link_end(NcLink *l, GError *error)
{
  bool ended_well = l->phase != NC_LINK_RUNNING;

  shutdown(l->fd, SHUT_RDWR);
  g_clear_pointer(&l->hello, g_byte_array_unref);
  l->has_hello = false;
  if (!ended_well)
    nc_mover_lost_link(l->mover, l->index, error);
  nc_out_frame_clear(&l->frame); /* after the outbox's lock was held: what was read of it is ordered before its end by that */
  g_clear_pointer(&l->tls, nc_tls_free);
  l->fd = -1;
  atomic_store(&l->up, false);
}

static void *
nc_link_run(void *argument)
{
  NcLink *l = argument;

  l->decoder = nc_batch_decoder_new();
  if (l->mover->sink && l->mover->shadow)
    nc_batch_decoder_use_shadow(l->decoder, l->mover->shadow, false);
  if (l->mover->sink)
    nc_batch_decoder_use_blocks(l->decoder, l->mover->blocks);
  if (l->mover->sink)
    nc_batch_decoder_use_stored(l->decoder, l->mover->stored_pages);
  for (;;) {
    GError *error = NULL;
    nc_link_begin(l);
    nc_link_loop(l, &error);
    nc_link_end(l, error);
  }
  return NULL;
}

NcLink *
nc_link_new(NcMover *m, unsigned index)
{
  NcLink *l = g_new0(NcLink, 1);

  l->mover = m;
  l->index = index;
  l->fd = -1;
  l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  pthread_mutex_init(&l->lock, NULL);
  pthread_cond_init(&l->given, NULL);
  l->payload = g_malloc(NC_FRAME_PAYLOAD_MAX);
  nc_mover_spawn("link", nc_link_run, l);
  return l;
}
