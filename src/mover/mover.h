/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mover: one side of one migration. Theory of operation, and what its
 * files share.
 *
 *   source       QEMU -> reader -> outbox[ encode x W ] -> link x N ==TLS==>
 *   destination  ==TLS==> link x N [ decode, verify ] -> sink [ reorder ] -> writer -> QEMU
 *   return path  QEMU -> back sender -> carrier ==TLS==> link -> back receiver -> QEMU
 *   preempt      QEMU -> preempt sender -> carrier ==TLS==> link -> preempt receiver -> QEMU
 *   disks        QEMU's NBD client -> disk source -> outbox -> link ==TLS==> link -> disk sink -> QEMU's NBD server,
 *                and its answers -> carrier ==TLS==> link -> disk source -> NBD client
 *
 * Threads. The main thread talks to novacrond and to nobody else (control.c):
 * whatever blocks on QEMU or the network, it still answers, and when
 * descriptor 3 closes it ends the process at once. Source: one reader
 * (source.c), W encoders (outbox.c). Destination: one writer (sink.c). Both:
 * one thread per TLS connection (link.c), which does reading and writing, as
 * OpenSSL's connections are not for two threads; one for the return path
 * (back_sender.c, back_receiver.c) and one for the preempt channel, if QEMU has it
 * (preempt_sender.c, preempt_receiver.c).
 *
 * Order. A batch gets its sequence number when the reader cuts it from the
 * stream, is encoded by any worker, leaves by any connection in sequence order,
 * is decoded and verified by the thread of the connection it arrived on, and put in order again by
 * the sink. The return path and the preempt channel are one batch sequence each, sent on the carrier (links.h,
 * ordered.h). What
 * concludes the stream (GRANT, END) names an offset; the sink holds it until
 * everything before that offset has been delivered.
 *
 * Urgency. Each connection writes records of at most 16 KiB; at each frame's
 * end it looks for urgent frames first, then for its acknowledgements, then
 * for bulk. Urgent frames travel on one of the connections, the carrier. A frame once begun is finished first, so
 * with more than one connection, the carrier lets the kernel hold less unsent
 * bulk than the others, and an urgent frame waits for one batch at most. Under a
 * rate limit (shaper.h) bulk waits for the bucket before each record, and a frame
 * that something urgent waits for is finished at once.
 *
 * Post-copy. From the package's last byte on the machine may run at the destination and
 * wait for any page that is still here. GRANT leaves behind the package while the stream goes on; nothing is
 * kept back to be filled, little is unsent, and what comes on the preempt channel overtakes
 * everything at each queue. What the guest has written often is asked for before it is missed (hot.h), by
 * the one thread that writes to the source's QEMU. The end of the main channel is held until the preempt channel's
 * pages were delivered (preempt_sender.h).
 *
 * Bounds. Everything that a peer, QEMU or a slow link could make grow has one:
 * raw bytes read from QEMU but not yet in TLS (outbox.h: a few batches, less on a
 * slow link; what is behind that stays in QEMU and is what QEMU measures);
 * unacknowledged wire bytes (wire/flight.h); batches and raw bytes ahead of the
 * next expected one at the destination (sink.h; more is a protocol error);
 * unacknowledged bytes of the return path and the preempt channel (ordered.h), urgent frames not confirmed (urgent.h), handshakes
 * at a time (link.c). Acknowledgements, pings and pongs are latched, not queued.
 *
 * Disks (disk_source.h, disk_sink.h) have two threads each on either side, one for each direction. They are opaque byte
 * streams of the agents' making: what closes them is news, told and passed on, and no failure. They have their own turns
 * and windows (outbox.h): a disk that stands still holds up nobody else. Blocks that are found in them are kept on both sides
 * (wire/blocks.h), so that what memory and disks both hold crosses once.
 *
 * The page store's pages (wire/stored.h) are got from novacrond by a socket of their own (stored_pages.h), by the thread that decodes.
 *
 * Failure. The first error wins: nc_mover_fail() keeps it and wakes the main
 * thread, which tells novacrond, tells the peer (ERROR on every connection that
 * lives) and exits with 1. From then on nothing is written to QEMU. QEMU
 * closing its socket is news (qemu_closed), not a failure. QEMU's sockets are
 * never closed or shut down by us before we exit: at the source that would
 * resume the guest.
 *
 * Losing a connection is not a failure: it is told (`lost`), and the link waits for
 * novacrond to give it another one (links.h, link.h). The outbox keeps every coded batch until it is
 * acknowledged and sends what a lost link had taken again; the sink takes a batch by its
 * number, from whatever connection, and drops what it has. QEMU sees a pause in the
 * flow. Only a connection that never worked is an error.
 *
 * Locks are pthread mutexes, not GMutex: the thread sanitizer sees the former.
 * No module takes another's lock while it holds its own, except those of the events
 * (nc_mover_emit), of what is urgent, of stored pages and of the disks' blocks (wire/blocks.h, taken also under the history's), which are leaves.
 */
#pragma once

#include "base/error.h"
#include "crypto/digest.h"
#include "mover/shaper.h"
#include "wire/batch.h"
#include "wire/rungs.h"
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NC_MOVER_MAX_STREAMS 16
#define NC_MOVER_MAX_WORKERS 32
#define NC_MOVER_HANDSHAKE_MS 10000 /* TLS and HELLO: the agents have just spoken, so the peer is there */
#define NC_MOVER_PING_US 100000

typedef struct NcLink NcLink;
typedef struct NcSource NcSource;
typedef struct NcSink NcSink;
typedef struct NcBackSender NcBackSender;
typedef struct NcBackReceiver NcBackReceiver;
typedef struct NcHot NcHot;
typedef struct NcPreemptSender NcPreemptSender;
typedef struct NcPreemptReceiver NcPreemptReceiver;
typedef struct NcUrgent NcUrgent;
typedef struct NcDiskSource NcDiskSource;
typedef struct NcDiskSink NcDiskSink;

/* Written by the data path without locks, read for progress. */
typedef struct {
  _Atomic uint64_t stream_bytes;         /* read from the source's QEMU / delivered to the destination's */
  _Atomic uint64_t preempt_bytes;        /* the same of the preempt channel */
  _Atomic uint64_t wire_bytes;           /* TLS payload, sent and received, all connections */
  _Atomic uint64_t delivered_wire_bytes; /* bulk frames acknowledged / received in order */
  _Atomic uint64_t batches;
  _Atomic uint64_t pages, zero_pages, fill_pages;
  _Atomic uint64_t reference_pages, delta_pages, delta_bytes;
  _Atomic uint64_t ahead_pages; /* sent before QEMU's stream (head_start.h), not among the pages */
  _Atomic uint64_t block_pages, repeated_blocks; /* pages and disk blocks that went as references to a disk's block */
  _Atomic uint64_t stored_pages;                 /* pages, ahead or not, that went as numbers of what the destination's page store holds */
  _Atomic uint64_t page_blocks;                  /* disk blocks that went as references to a page */
  _Atomic uint64_t resent_batches, resent_bytes;
  _Atomic uint64_t reconnects; /* connections that were lost and came again */
  _Atomic uint64_t encode_us, encode_cpu_us, coding_us; /* of all encoders; coding: in the compressor */
  _Atomic uint64_t decode_us;                           /* of all who decode */
  _Atomic uint64_t link_wait_us, encoder_wait_us;       /* of the reader, by whom it waited for */
  _Atomic uint64_t page_bytes_in, page_bytes_out;
  _Atomic uint64_t coded_bytes[NC_BATCH_SECTIONS][NC_CODEC_COUNT]; /* of batches that left from here, each the first time only */
  _Atomic uint64_t rtt_us;
  _Atomic uint64_t in_flight_bytes; /* unacknowledged / waiting for their turn */
  _Atomic uint64_t window_bytes;
  _Atomic uint64_t rung, rung_switches;    /* policy auto: the current coding, how often it has changed, */
  _Atomic uint64_t rung_batches[NC_RUNGS]; /* and how many batches had which */
} NcCounters;

/* What `start` says; fixed before there is a second thread. */
typedef struct {
  bool is_source;
  char *migration;
  uint8_t psk[32];
  unsigned streams;
  unsigned workers;
  char *compression;    /* as asked for, */
  NcBatchPolicy policy; /* and what it means */
  double cores;         /* that coding may use, at most one per worker. The source's */
  unsigned pause_budget_ms;
  unsigned progress_ms;
  uint64_t rate_bps; /* wire bytes per second to begin with; 0: no limit. The source's */
  bool yields;       /* gives way to other traffic. The source's */
} NcMoverSetup;

typedef struct NcMover {
  NcMoverSetup setup;
  NcCounters counters;

  int control_fd;
  int wake_fd;                /* eventfd: makes the main thread look at what follows */
  int statm_fd;               /* /proc/self/statm, -1 without /proc */
  pthread_mutex_t event_lock; /* one message at a time on control_fd */

  pthread_mutex_t state_lock; /* protects the rest of this group */
  pthread_cond_t opened;
  GError *failure;        /* the first one */
  bool failure_from_peer; /* it has told us: don't tell it back */
  uint32_t links_up;      /* one bit each: HELLO exchanged */
  uint32_t links_known;   /* the same, of any time */
  atomic_int carrier;     /* links.h; written with the lock held */

  /* Of the main thread: what the last progress saw, for the rate. */
  int64_t rate_us;
  uint64_t rate_wire_bytes;
  double rate_bps;

  atomic_bool stopped;     /* failed or finishing: nothing is written to QEMU any more */
  atomic_bool peer_left;   /* it said BYE: its connections may close */
  atomic_bool shut_passed; /* QEMU's SHUT was read or received: the peer may leave */
  atomic_bool ended;       /* destination: `end` was reported, nothing more is for QEMU: the source may leave */
  atomic_bool open;        /* all links are ready: bulk may flow */
  atomic_bool qemu_gone;   /* qemu_closed was reported */

  /* Made by the main thread before the first link; the role's half is NULL on the other side. */
  NcLink *links[NC_MOVER_MAX_STREAMS]; /* by index; NULL until `conn` */
  NcUrgent *urgent;
  NcShaper *shaper;                    /* bulk asks it; the destination's has no limit */
  NcSource *source;
  NcHot *hot;
  NcBackReceiver *back_receiver;
  NcPreemptSender *preempt_sender; /* idle unless QEMU has such a channel, like preempt_receiver */
  NcSink *sink;
  NcBackSender *back_sender;
  NcPreemptReceiver *preempt_receiver;
  NcDiskSource *disk_source; /* idle unless disks are copied, like disk_sink */
  NcDiskSink *disk_sink;
  NcShadow *shadow; /* NULL: pages are not kept. The reader's or the writer's */
  NcBlocks *blocks; /* NULL: contents of disks are not kept */
  NcStoredIndex *stored_index; /* source: what the destination's page store holds; NULL: nothing that is known */
  NcStoredPages *stored_pages; /* destination: where that is got from; NULL likewise */
  uint32_t kept_frames;  /* of it, from an earlier migration of this machine; told to the source */
  bool shadow_is_kept;   /* novacrond will keep it for the way back */
} NcMover;

/* "source" or "destination": ours, and the other one's. */
const char *nc_mover_side(const NcMover *m);
const char *nc_mover_other_side(const NcMover *m);

/* Sends an event to novacrond; ${event} is taken. Any thread. If novacrond is gone the process ends. */
void nc_mover_emit(NcMover *m, json_t *event);
/* The same, left out if novacrond does not read: for progress. */
void nc_mover_emit_if_possible(NcMover *m, json_t *event);

/* Ends the mover with ${error}, which is taken, unless it has failed before. Any thread; returns. */
void nc_mover_fail(NcMover *m, GError *error);
/* The peer's ERROR frame. */
void nc_mover_fail_from_peer(NcMover *m, int code, const char *text);
/* QEMU closed its socket. Reported once. Any thread. */
void nc_mover_qemu_closed(NcMover *m);

/*
 * Starts a detached thread, named for debuggers (${name}: at most 15 bytes, static). All of the mover's threads run
 * until the process ends: a thread blocked on QEMU can't be joined, and need not be.
 */
void nc_mover_spawn(const char *name, void *(*run)(void *), void *argument);

/* `progress` (or `done`): the keys of docs/protocols.md section 1. New reference. */
json_t *nc_mover_progress(NcMover *m, const char *event, int64_t now_us);

static inline bool
nc_mover_is_stopped(NcMover *m)
{
  return atomic_load_explicit(&m->stopped, memory_order_acquire);
}

static inline void
nc_count(_Atomic uint64_t *counter, uint64_t n)
{
  atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* What a batch consists of that leaves for the first time. Any thread. */
void nc_mover_count_sections(NcCounters *counters, const NcBatchSections *sections);

static inline uint64_t
nc_counted(_Atomic uint64_t *counter)
{
  return atomic_load_explicit(counter, memory_order_relaxed);
}
