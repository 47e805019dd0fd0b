/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the NBD protocol over a UNIX socket: reading the frozen disks that a QEMU exports, and writing images
 * through qemu-nbd.
 *
 * Fixed newstyle handshake, structured replies and "base:allocation" where the server has them (both are QEMU's own
 * servers, and distrusted all the same: each length is checked against what was asked for). One request at a time;
 * one thread at a time, except for nc_nbd_break(). Errors: NC_ERROR_UNREACHABLE, NC_ERROR_PROTOCOL, NC_ERROR_IO with the
 * server's words.
 */
#pragma once

#include "base/error.h"
#include <stdint.h>

#define NC_NBD_REQUEST_MAX (32u << 20) /* what every server takes */

typedef struct NcNbd NcNbd;

/* ${timeout_ms} is for the handshake, and later for each answer. NULL on error. */
NcNbd *nc_nbd_connect(const char *socket_path, const char *export_name, int timeout_ms, GError **error);
/*
 * For nc_nbd_is_dirty() only: with QEMU's dirty bitmap ${bitmap}, which the export must have (NC_ERROR_UNSUITABLE). NULL on error.
 */
NcNbd *nc_nbd_connect_bitmap(const char *socket_path, const char *export_name, const char *bitmap, int timeout_ms, GError **error);
/* Says goodbye; what was written is durable only after nc_nbd_flush(). NULL is fine. */
void nc_nbd_free(NcNbd *nbd);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcNbd, nc_nbd_free)

uint64_t nc_nbd_size(const NcNbd *nbd); /* bytes */

/* ${length} at most NC_NBD_REQUEST_MAX, inside the export. */
bool nc_nbd_read(NcNbd *nbd, uint64_t offset, void *data, uint32_t length, GError **error);
bool nc_nbd_write(NcNbd *nbd, uint64_t offset, const void *data, uint32_t length, GError **error);
bool nc_nbd_flush(NcNbd *nbd, GError **error);
/*
 * How many of the bytes from ${offset} on, at most ${limit}, are of one kind: *ret_zero, they read as zeros; else they may be
 * anything. Where the server does not tell, all of them may be. *ret_length is at least 1 and at most ${limit}.
 */
bool nc_nbd_extent(NcNbd *nbd, uint64_t offset, uint32_t limit, uint32_t *ret_length, bool *ret_zero, GError **error);

/*
 * As nc_nbd_extent(): *ret_dirty, the bitmap has them all; else it has none of them. Where the server does not tell of any, it is an error.
 */
bool nc_nbd_is_dirty(NcNbd *nbd, uint64_t offset, uint32_t limit, uint32_t *ret_length, bool *ret_dirty, GError **error);

/* Any thread: what waits, and all that follows, fails. */
void nc_nbd_break(NcNbd *nbd);
