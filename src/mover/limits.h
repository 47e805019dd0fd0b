/* SPDX-License-Identifier: Apache-2.0 */
/* The mover's bounds in one place, each with its reason. Those of the wire itself: wire/limits.h. */
#pragma once

#include "wire/limits.h"

/*
 * Batches, and raw bytes, that may be ahead of what the destination has
 * delivered. Equal on both sides: the source stays within, the destination refuses
 * more. 64 MiB is what a 10 Gbit/s link of 25 ms holds at a ratio of 2.
 */
#define NC_MOVER_MAX_AHEAD 512u
#define NC_MOVER_MAX_AHEAD_BYTES (64ull << 20)

/* Raw batches beside one per encoder: one being read, one being written, one ready. */
#define NC_MOVER_SPARE_BATCHES 3
/* Smaller batches spend too much on their headers (100 bytes) and hashes. */
#define NC_MOVER_MIN_BATCH_BYTES (32u << 10)

/* An encoder that has used more than it is granted rests once that takes as long as this: a sleep costs some 60 us by
 * itself. */
#define NC_MOVER_REST_US 1000

/* So much of the stream goes into a shadow that will be kept, in any case (source.c): its beginning, and per second since. */
#define NC_MOVER_KEEP_FIRST_BYTES (64u << 20)
#define NC_MOVER_KEEP_BYTES_PER_S (192u << 20)

/* The reader waits this long for more before it sends a batch smaller than this. */
#define NC_MOVER_COALESCE_MS 1
#define NC_MOVER_COALESCE_BYTES (64u << 10)
/* And for the rest of a disk's block, of which nothing else is there: nobody can use a piece of one, and QEMU does not pause inside. */
#define NC_MOVER_BLOCK_MS 100
/* QEMU writes its last bytes without a break; with suppress-vmdesc only silence shows the end. */
#define NC_MOVER_GRANT_IDLE_MS 100

/* ACKs leave at most this often, unless this many bytes were delivered. */
#define NC_MOVER_ACK_US 5000
#define NC_MOVER_ACK_BYTES (256u << 10)
/* Boundaries whose digest is kept for a GRANT or END that arrives late. */
#define NC_MOVER_BOUNDARIES 1024u
/* Statements that name an offset not yet delivered: GRANT (again after a new epoch) and END. */
#define NC_MOVER_MAX_HELD 8u

/* Return path: a batch of it, and what may be unacknowledged. A bitmap of 1 TiB is 32 MiB: it flows. */
#define NC_MOVER_BACK_BATCH_BYTES (64u << 10)
#define NC_MOVER_BACK_WINDOW_BYTES (1u << 20)
/* The preempt channel likewise: half of it is for pages that a guest waits for (hot.h). 20 ms at 1 Gbit/s are 2.5 MB. */
#define NC_MOVER_PREEMPT_WINDOW_BYTES (2u << 20)
/* No more hot pages are asked for while this much of it is under way, or something urgent waits; we look again after a while. */
#define NC_MOVER_HOT_UNACKED_BYTES (NC_MOVER_PREEMPT_WINDOW_BYTES / 2)
#define NC_MOVER_HOT_AGAIN_US 1000
/*
 * Disks, to the destination: raw bytes that wait for TLS (less would leave an encoder idle), and that may be ahead of what
 * the destination's QEMU has taken: what 1 Gbit/s holds in 40 ms at a ratio of 3. Equal on both sides, for each disk.
 */
#define NC_MOVER_DISK_UNSENT_BYTES (1u << 20)
#define NC_MOVER_DISK_AHEAD 256u
#define NC_MOVER_DISK_AHEAD_BYTES (16u << 20)
/* And back: answers of 16 bytes, to at most some dozens of requests at a time. */
#define NC_MOVER_DISK_BACK_WINDOW_BYTES (128u << 10)
#define NC_MOVER_DISK_BACK_BATCHES 256u
/* Batches of such a channel under way: each costs a hundred bytes of headers, however small it is. */
#define NC_MOVER_ORDERED_BATCHES 8192u
/* PONGs that novacrond is told of: QEMU sends about five; one that sends many more is not to keep it busy. */
#define NC_MOVER_MAX_PONGS 32u

/* Urgent bytes not confirmed: the windows of such channels with their headers, also of all disks, and some statements. */
#define NC_MOVER_URGENT_BYTES (12u << 20)

/*
 * Unsent bytes the kernel may hold per connection: enough to keep it busy while
 * we are away, little enough that what is urgent soon leaves. On the carrier, if there are several,
 * it is a record's worth.
 */
#define NC_MOVER_NOTSENT_BYTES (128u << 10)
#define NC_MOVER_NOTSENT_URGENT_BYTES (16u << 10)
/*
 * A connection on which nothing is answered for this long is lost: another one is made, at the price of what was in
 * flight. Shorter than TCP's own patience, longer than the stalls of paths that work.
 */
#define NC_MOVER_TCP_DEAD_S 6

/*
 * Shaping (shaper.h). A record of bulk is 1/256 of a second's bytes, within bounds: so
 * that the rate is kept in every second, and records don't become all header.
 */
#define NC_MOVER_SHAPER_RECORDS 256u
#define NC_MOVER_SHAPER_RECORD_MIN 1024u
#define NC_MOVER_SHAPER_RECORD_MAX 16384u
/* Who waits for the bucket wakes up at most this often; it gives a burst of several times that. */
#define NC_MOVER_SHAPER_WAKE_US 1000u
/* How often the kernel is asked what it has sent. */
#define NC_MOVER_SHAPER_CHECK_US 10000
/* The most its answer may change the account at a time: many retransmissions are paid for, but don't stop bulk. */
#define NC_MOVER_SHAPER_CORRECTION (32 << 10)
