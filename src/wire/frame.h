/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire: what two movers say to each other on each TLS connection.
 *
 * Theory. A migration has N TLS connections between two movers, and on them
 * channels: ordered byte streams, numbered in each frame.
 *
 *   0  control        HELLO, PING, PONG, ERROR, BYE
 *   1  main           QEMU's migration stream, source to destination
 *   2  return path    QEMU's answers, destination to source
 *   3  preempt        pages the guest waits for in post-copy, source to destination; in version 2, and only
 *                     where both agents have given their movers such a socket of QEMU's
 *   4 to 35  disks    the first to the 32nd disk that is copied: what QEMU's NBD client and NBD server say to each
 *                     other. Two streams of one number, since it is clear who sends what: to the destination in batches
 *                     like those of channel 1, back in urgent ones like those of channel 2. In version 3
 *
 * A channel is cut into batches (batch.h), numbered from 0 without gaps: the
 * sequence. Batches of channel 1 (and to the destination, of each disk) leave in sequence order on whatever connection
 * is free and so arrive in any order; the receiver decodes and verifies each on its own,
 * puts them in order by number and delivers. Nothing else orders
 * them: not the connection, not the time. Each batch says also where in the
 * stream its bytes belong; a receiver compares that with where it is.
 *
 * ACK(channel, seq, offset) states: all batches up to and including seq were
 * delivered, and the stream stands at offset. Acknowledgements are cumulative:
 * a later one makes earlier ones superfluous, they may be merged, and each
 * connection may carry them. What is not acknowledged is kept by the sender and
 * counts as in flight (flight.h).
 *
 * What concludes a channel names an offset and the SHA-256 of all bytes before
 * it: GRANT (the run right, behind the last byte), END (the channel is over),
 * and DIGEST (the receiver's statement about what it delivered). They may
 * overtake batches on other connections; the receiver holds them until it has
 * got to that offset. GRANT is the end of channel 1 but for END, except in post-copy: there
 * channel 1 goes on behind it.
 *
 * Lost connections. Any of them may go and come again, or be replaced, as long
 * as the migration lasts. Batches are kept until acknowledged and sent again on
 * another connection; the sequence number makes a duplicate recognisable and so
 * harmless. What is no batch of channel 1 or to a disk and must not be lost (GRANT, DIGEST, END, RESEND,
 * batches of channels 2 and 3 and from disks) travels inside URGENT frames, which have a number of
 * their own in each direction, from 0 without gaps, and go over one connection
 * at a time: the carrier, a choice of each sender. RECEIVED confirms them by
 * count; when a carrier is lost the next one begins with what was not confirmed, and
 * what came already is dropped. ACK and RECEIVED are said again on each new carrier.
 *
 * A connection begins with HELLO from both sides, sent without waiting for the
 * other's. Each says its version and the lowest it can speak; the highest
 * version both know is spoken, and if there is none, the connection ends. Who has
 * nothing more to say sends BYE; an end without BYE is a lost connection.
 *
 * A frame is a header of 16 bytes, big-endian, and a payload:
 *
 *   u32 payload length | u8 type | u8 channel | u16 flags, 0 | u64 argument
 *
 *   type     channel  argument        payload
 *   HELLO    0        0               magic "NCW1", u16 version, u16 lowest version, u16 connection index,
 *                                     u16 connections, u8 role, u8 0, u16 0, u32 most raw bytes in a batch,
 *                                     u32 batches ahead, u64 raw bytes ahead (each: as far as the sender of this
 *                                     HELLO accepts them); a later version may append
 *   BATCH    >= 1     sequence        batch.h
 *   ACK      >= 1     sequence        u64 offset
 *   PING     0        microseconds    none: any clock of the sender's
 *   PONG     0        the PING's      none
 *   GRANT    1        epoch, >= 1     u64 offset, SHA-256 of the channel up to there
 *   DIGEST   >= 1     offset          SHA-256 of the channel up to there
 *   END      >= 1     offset          SHA-256 of the whole channel, which ends there
 *   ERROR    0        0               u8 n, n bytes: name of the code (base/error.h), rest: text, UTF-8
 *   BYE      0        0               none
 *   RESEND   1, >= 4  sequence        none: the batch came, and its bytes are not those that were sent
 *   URGENT   0        its number      a whole frame: GRANT, DIGEST, END, RESEND, or BATCH of channel 2, 3 or from a disk
 *   RECEIVED 0        how many        none: URGENT frames that came, all together
 *
 * Unknown types, flags, channels and lengths are refused: versions are settled
 * by HELLO, not by guessing. Offsets and sequence numbers are below 2^63.
 *
 * A frame is checked in two steps: nc_frame_decode_header() (shape: what any
 * frame of that type can be; before its payload is there, so that nobody makes
 * us wait for half a megabyte of PING), then nc_frame_check_<type>() (meaning).
 * No function here keeps state: any thread may call any of them.
 */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/digest.h"
#include "wire/limits.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NC_WIRE_VERSION 3 /* 1 has no channel 3, 2 no disks */
#define NC_WIRE_LOWEST_VERSION 1

/* Numbers on the wire: never reused, never changed. */
typedef enum {
  NC_FRAME_HELLO = 1,
  NC_FRAME_BATCH = 2,
  NC_FRAME_ACK = 3,
  NC_FRAME_PING = 4,
  NC_FRAME_PONG = 5,
  NC_FRAME_GRANT = 6,
  NC_FRAME_DIGEST = 7,
  NC_FRAME_END = 8,
  NC_FRAME_ERROR = 9,
  NC_FRAME_BYE = 10,
  NC_FRAME_RESEND = 11,
  NC_FRAME_URGENT = 12,
  NC_FRAME_RECEIVED = 13,
} NcFrameType;

#define NC_CHANNEL_CONTROL 0
#define NC_CHANNEL_MAIN 1
#define NC_CHANNEL_RETURN 2
#define NC_CHANNEL_PREEMPT 3
#define NC_CHANNEL_DISKS 4 /* the first of them */
#define NC_CHANNEL_DISK(index) ((uint8_t)(NC_CHANNEL_DISKS + (index)))
#define NC_CHANNEL_COUNT (NC_CHANNEL_DISKS + NC_WIRE_DISKS_MAX) /* of this version; higher numbers are refused */

/* One frame as it came. `payload` is borrowed from whoever received it. */
typedef struct {
  NcFrameType type;
  uint8_t channel;
  uint64_t argument;
  uint32_t payload_bytes;
  const uint8_t *payload;
} NcFrame;

typedef enum {
  NC_WIRE_ROLE_SOURCE = 1,
  NC_WIRE_ROLE_DESTINATION = 2,
} NcWireRole;

typedef struct {
  uint16_t version;        /* the sender's */
  uint16_t lowest_version; /* the lowest it can speak */
  uint16_t index;          /* of this connection, below streams */
  uint16_t streams;        /* connections of this migration, at least 1 */
  NcWireRole role;         /* the sender's */
  uint32_t batch_raw_max;  /* what its sender accepts: raw bytes in one batch, ... */
  uint32_t ahead_batches;  /* ... batches beyond the last acknowledged, ... */
  uint64_t ahead_bytes;    /* ... and raw bytes beyond it */
} NcFrameHello;

typedef struct {
  uint64_t seq;    /* the highest delivered in order */
  uint64_t offset; /* where the stream stands behind it, bytes */
} NcFrameAck;

typedef struct {
  uint64_t epoch;
  uint64_t offset;
  uint8_t sha256[NC_SHA256_BYTES]; /* the channel's chain (wire/chain.h) at offset */
} NcFrameGrant;

typedef struct {
  uint64_t offset;
  uint8_t sha256[NC_SHA256_BYTES];
} NcFrameDigest;

typedef struct {
  uint64_t offset; /* all bytes the channel has had */
  uint8_t sha256[NC_SHA256_BYTES];
} NcFrameEnd;

typedef struct {
  int code;                               /* NcErrorCode; a name we don't know is NC_ERROR_INTERNAL */
  char text[NC_FRAME_ERROR_TEXT_MAX + 1]; /* UTF-8 without control characters */
} NcFrameError;

/* Whole frames, or for a batch, its header: the payload of ${payload_bytes} follows it. New arrays. */
GByteArray *nc_frame_encode_hello(const NcFrameHello *hello);
GByteArray *nc_frame_encode_batch_header(uint8_t channel, uint64_t seq, uint32_t payload_bytes);
GByteArray *nc_frame_encode_ack(uint8_t channel, uint64_t seq, uint64_t offset);
GByteArray *nc_frame_encode_ping(uint64_t time_us);
GByteArray *nc_frame_encode_pong(uint64_t time_us);
GByteArray *nc_frame_encode_grant(const NcFrameGrant *grant);
GByteArray *nc_frame_encode_digest(uint8_t channel, const NcFrameDigest *digest);
GByteArray *nc_frame_encode_end(uint8_t channel, const NcFrameEnd *end);
/* ${text} of any length and content; it is cut and cleaned to what the frame allows. */
GByteArray *nc_frame_encode_error(int code, const char *text);
GByteArray *nc_frame_encode_bye(void);
/* Batch ${seq} came, and its bytes are not those that were sent: again, please. */
GByteArray *nc_frame_encode_resend(uint8_t channel, uint64_t seq);
/* ${inner}, a whole frame, borrowed, as URGENT frame ${number}. */
GByteArray *nc_frame_encode_urgent(uint64_t number, const GByteArray *inner);
GByteArray *nc_frame_encode_received(uint64_t count);

/*
 * Checks the NC_FRAME_HEADER_BYTES at ${header}. Sets everything in *ret but
 * `payload` (NULL). NC_ERROR_PROTOCOL: the connection is of no more use.
 */
bool nc_frame_decode_header(const uint8_t *header, NcFrame *ret, GError **error);

typedef enum {
  NC_FRAME_READY, /* *ret is a frame, its payload borrowed from the reader's bytes */
  NC_FRAME_MORE,  /* not enough bytes yet; the reader has not moved */
  NC_FRAME_BAD,   /* *error says why */
} NcFrameOutcome;

/* The next frame among the bytes received so far, for those who buffer. */
NcFrameOutcome nc_frame_next(NcReader *r, NcFrame *ret, GError **error);

/*
 * One per type: is ${frame}, whose header was decoded and whose payload is
 * there, what its type says? False: NC_ERROR_PROTOCOL, *ret is not touched.
 * A frame of another type is refused too.
 */
bool nc_frame_check_hello(const NcFrame *frame, NcFrameHello *ret, GError **error);
/* The payload's meaning is nc_batch_decode()'s business. */
bool nc_frame_check_batch(const NcFrame *frame, uint64_t *ret_seq, GError **error);
bool nc_frame_check_ack(const NcFrame *frame, NcFrameAck *ret, GError **error);
bool nc_frame_check_ping(const NcFrame *frame, uint64_t *ret_time_us, GError **error);
bool nc_frame_check_pong(const NcFrame *frame, uint64_t *ret_time_us, GError **error);
bool nc_frame_check_grant(const NcFrame *frame, NcFrameGrant *ret, GError **error);
bool nc_frame_check_digest(const NcFrame *frame, NcFrameDigest *ret, GError **error);
bool nc_frame_check_end(const NcFrame *frame, NcFrameEnd *ret, GError **error);
bool nc_frame_check_error(const NcFrame *frame, NcFrameError *ret, GError **error);
bool nc_frame_check_bye(const NcFrame *frame, GError **error);
/* The frame inside, its header decoded, its payload borrowed from ${frame}'s. Only what may be there. */
bool nc_frame_check_urgent(const NcFrame *frame, NcFrame *ret_inner, GError **error);
bool nc_frame_check_received(const NcFrame *frame, uint64_t *ret_count, GError **error);

/* The version to speak with whoever sent ${hello} (already checked); 0 with NC_ERROR_PROTOCOL if there is none. */
uint16_t nc_frame_hello_version(const NcFrameHello *hello, GError **error);
