/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the blocks are in what an NBD client says.
 *
 * A parser is fed the bytes that QEMU's mirror writes to an NBD server, and names the whole 4 KiB blocks of its writes
 * that lie on 4 KiB of the disk: what a guest's page cache may hold, too. As qemu/stream.h: it changes nothing,
 * everything is forwarded as it is, and what it does not understand makes it opaque for good. What it says is a hint,
 * whatever the client is.
 *
 * One parser belongs to one thread at a time.
 */
#pragma once

#include "qemu/stream.h"

typedef struct NcNbdBlocks NcNbdBlocks;

/* From the client's first byte, in the handshake. */
NcNbdBlocks *nc_nbd_blocks_new(void);
void nc_nbd_blocks_free(NcNbdBlocks *p); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcNbdBlocks, nc_nbd_blocks_free)

/*
 * Looks at bytes ${from} to ${to} of ${data}, which follow what it has seen. Blocks that end among them are appended to
 * ${records}, of NcStreamRecord: kind NC_RECORD_BLOCK, `start` in ${data}, no header; those that began before
 * nc_nbd_blocks_cut() are not in ${data} as a whole, and left out.
 */
void nc_nbd_blocks_scan(NcNbdBlocks *p, const uint8_t *data, uint32_t from, uint32_t to, GArray *records);
/* The next bytes are the first of another ${data}. (One that begins with what has begun of a block is no other.) */
void nc_nbd_blocks_cut(NcNbdBlocks *p);
/* Of the block that is under way, how many bytes are missing, and how many are at the end of ${data}; 0: none is. */
uint32_t nc_nbd_blocks_missing(const NcNbdBlocks *p);
uint32_t nc_nbd_blocks_begun(const NcNbdBlocks *p);
bool nc_nbd_blocks_is_opaque(const NcNbdBlocks *p);
