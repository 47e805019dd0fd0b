/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page requests on the source QEMU's return path: the destination's, and ours among them.
 *
 * A request without a name means the block that was named last on this path. As soon as we name blocks,
 * too, that is no longer what the destination means: so each of its requests
 * is written with its name. Messages are made and changed here; who writes them, whole
 * and from one thread, is back_receiver.c.
 */
#pragma once

#include "qemu/return_path.h"

#include <stdbool.h>

typedef struct {
  uint8_t name[255]; /* of the block that the destination has named last */
  uint8_t name_bytes; /* 0: none yet */
  bool has_asked;     /* we have named a block */
} NcRequests;

/*
 * Whether something else is to be written in place of the destination's ${message}; then that is in ${ret}: empty, if
 * nobody can tell which block is meant any more (no QEMU begins so). Notes the name that ${message} brings.
 */
bool nc_requests_replace(NcRequests *r, const NcReturnMessage *message, GByteArray *ret);
/* The block that the destination's ${message} asks of, if it is a request and that is known. Caller frees. */
char *nc_requests_block(const NcRequests *r, const NcReturnMessage *message);
/* Our own request for ${bytes} of ${block} from ${offset} on. New array. */
GByteArray *nc_requests_ask(NcRequests *r, const char *block, uint64_t offset, uint32_t bytes);
