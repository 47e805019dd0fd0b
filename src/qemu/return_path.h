/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reverse direction of a migration: what the destination's QEMU tells the
 * source's, cut into whole messages.
 *
 * The mover has to know the messages apart for one of them: SHUT, the final
 * acknowledgement, is held until the handoff is decided. All others pass
 * unchanged. One parser belongs to one thread at a time.
 */
#pragma once

#include "base/error.h"
#include <glib.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
  NC_RETURN_BYTES = 0, /* not a message: bytes passed on blindly */
  NC_RETURN_SHUT = 1,
  NC_RETURN_PONG = 2,
  NC_RETURN_REQ_PAGES_ID = 3,
  NC_RETURN_REQ_PAGES = 4,
  NC_RETURN_RECV_BITMAP = 5,
  NC_RETURN_RESUME_ACK = 6,
  NC_RETURN_SWITCHOVER_ACK = 7,
  NC_RETURN_TYPE_COUNT
} NcReturnType;

typedef enum {
  NC_RETURN_MESSAGE, /* one message was taken */
  NC_RETURN_MORE,    /* what was fed ends within a message, or exactly between two */
  NC_RETURN_BAD,     /* the next bytes are no message; nothing was taken */
} NcReturnOutcome;

/* One bit per page of a RAM block: 2 TiB. A longer bitmap is NC_RETURN_BAD. */
#define NC_RETURN_BITMAP_MAX (64u << 20)

typedef struct {
  NcReturnType type;
  const uint8_t *data;  /* the whole message with its header (and, for RECV_BITMAP, all that follows it) */
  size_t length;        /* bytes */
  uint32_t value;       /* SHUT: the status, 0 is success. PONG, RESUME_ACK: the number. Else 0 */
  uint64_t page_offset; /* REQ_PAGES, REQ_PAGES_ID: bytes in the block. Else 0 */
  uint32_t page_bytes;  /* REQ_PAGES, REQ_PAGES_ID: how many bytes are wanted. Else 0 */
} NcReturnMessage;

typedef struct NcReturnPath NcReturnPath;

NcReturnPath *nc_return_path_new(void);
void nc_return_path_free(NcReturnPath *p); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcReturnPath, nc_return_path_free)

/*
 * Hands over the next ${length} bytes; they are copied. Take messages until
 * NC_RETURN_MORE before feeding again: then no more than one unfinished message
 * is ever kept.
 */
void nc_return_path_feed(NcReturnPath *p, const void *data, size_t length);

/*
 * Takes the next message; *ret_message is set with NC_RETURN_MESSAGE only, and
 * its data is valid until the next feed. NC_RETURN_BAD sets ${error}
 * (NC_ERROR_PROTOCOL) and comes again each time, unless the caller goes blind.
 */
NcReturnOutcome nc_return_path_next(NcReturnPath *p, NcReturnMessage *ret_message, GError **error);

/*
 * From now on bytes are passed on as they come, first the ones not yet taken:
 * each nc_return_path_next() gives all there are as one NC_RETURN_BYTES.
 */
void nc_return_path_go_blind(NcReturnPath *p);

/* SHUT with status 0: the destination has all it needs. */
extern const uint8_t nc_return_shut_ok[8];

/* "shut", "pong", ... for logs. */
const char *nc_return_type_name(NcReturnType type);
