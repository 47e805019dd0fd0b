/* SPDX-License-Identifier: Apache-2.0 */
/* The wire's bounds in one place, each with its reason. */
#pragma once

/*
 * Raw bytes (of QEMU's stream) in one batch. The target is what one core codes
 * in a few milliseconds, and at 1 Gbit/s a batch of it is on its way in two. The
 * maximum leaves room for a piece that can't be cut where one would like to.
 */
#define NC_BATCH_RAW_TARGET (256u << 10)
#define NC_BATCH_RAW_MAX (512u << 10)
/* A batch that does not compress is its raw bytes and this header (batch.h), and a few bytes of operations. */
#define NC_BATCH_HEADER_BYTES 60u
/* What the coded form may have more than the raw bytes, before and after compression: one operation at most. */
#define NC_BATCH_SLACK_BYTES (8u << 10) /* what operations may cost: 20 bytes for each of 128 pages is more than enough */

#define NC_FRAME_HEADER_BYTES 16u
/* The largest batch, and room for what later versions put before it. A receiver has one such buffer per connection. */
#define NC_FRAME_PAYLOAD_MAX (NC_BATCH_RAW_MAX + (64u << 10))
/* What an URGENT frame may hold: the largest batch of the return path (64 KiB and its headers), with room. */
#define NC_FRAME_URGENT_MAX (128u << 10)
/* Disks that are copied in one migration: as many as a machine file takes. */
#define NC_WIRE_DISKS_MAX 32u
/* Pages in a list of what the destination's page store holds (stored.h): 4 GiB of memory, in 16 MiB that go over before anything else. */
#define NC_STORED_PAGES_MAX (1u << 20)
/* Text of an ERROR frame: two lines in a journal. */
#define NC_FRAME_ERROR_TEXT_MAX 512u
/* Name of an error's code; the longest today has 15. */
#define NC_FRAME_ERROR_NAME_MAX 32u
/* A HELLO of a later version may be longer than ours; we read our part of it. */
#define NC_FRAME_HELLO_MAX 256u
/* Connections of one migration: index and count are below this in any version. */
#define NC_FRAME_STREAMS_MAX 256u

/* Levels of zstd we offer. Above 9, one core is slower than 100 Mbit/s; below -5, lz4 does better. */
#define NC_ZSTD_LEVEL_MIN (-5)
#define NC_ZSTD_LEVEL_MAX 9
#define NC_ZSTD_LEVEL_DEFAULT 1

/* The flight window (flight.h), wire bytes. */
#define NC_FLIGHT_MIN_BYTES (256ull << 10)     /* one batch can be on its way while the next is being coded */
#define NC_FLIGHT_MIN_LOCAL_BYTES (4ull << 20) /* RTT below NC_FLIGHT_LOCAL_RTT_US: threads take longer than it */
#define NC_FLIGHT_MAX_BYTES (64ull << 20)      /* 10 Gbit/s at 25 ms, doubled; and the memory a migration may cost */
#define NC_FLIGHT_START_BYTES (1ull << 20)     /* 10 ms at 1 Gbit/s: the first guess */
#define NC_FLIGHT_DRAIN_BYTES (64ull << 10)    /* least window while the minimum RTT is measured anew */
#define NC_FLIGHT_LOCAL_RTT_US 1000u
#define NC_FLIGHT_PAUSE_SHARE 0.10   /* of link rate x pause budget, what may queue beyond the BDP */
#define NC_FLIGHT_EXTRA_BDPS 0.5     /* but not more than this */
#define NC_FLIGHT_ENDS_SHARE 0.20    /* of link rate x pause budget, what may wait at the ends */
#define NC_FLIGHT_ACK_DELAY_US 5000u /* a receiver collects acknowledgements for as long as this */

/* The token bucket (bucket.h): wire bytes, that is, with the headers of TLS, TCP and IP. */
#define NC_BUCKET_BURST_US 16000                /* given after a late wake-up: 1.6 % of a second */
#define NC_BUCKET_MIN_BURST_BYTES (18ull << 10) /* a TLS record of 16 KiB and its headers */
#define NC_BUCKET_DEBT_US 1000000               /* of the rate, what urgent bytes may cost bulk */
#define NC_BUCKET_MAX_RATE (1ull << 40)         /* bytes per second: 9 Tbit/s, and the arithmetic's bound */

/* Giving way (yield.h). */
#define NC_YIELD_TARGET_US 25000         /* queueing that is not yet in anybody's way */
#define NC_YIELD_FLOOR_BPS (256.0 * 1024) /* bytes per second: less would never end, and tells nothing about the queue */
