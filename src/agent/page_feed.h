/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running guest's memory, read from its QEMU's process and fed to a pipe page by page, from beginning to end eight times, each time other
 * pieces of 256 KiB (QEMU sends in the order of addresses: between what went ahead it has new content for the link): for the head start of a migration (mover/head_start.h, decision 070). Pages that were never touched, or are all zeros, are left out. The
 * guest runs on meanwhile, so what is read is a hint of what its memory holds, and is used as no more.
 *
 * novacrond reads and the mover gets bytes: it is the mover that speaks with the network, and it can't look into processes.
 */
#pragma once

#include "base/error.h"

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct NcPageFeed NcPageFeed;

/*
 * Begins to feed, at no more than 48 MiB/s for each processor of the node but one, from QEMU ${pid}, whose guest has mappings of ${least_bytes} at least (qemu/footprint.h), in a thread of its own. *ret_fd: where
 * it comes out; the caller closes it, which ends the feed. NULL: the process can't be read, or has no such memory.
 */
NcPageFeed *nc_page_feed_new(pid_t pid, uint64_t least_bytes, int *ret_fd, GError **error);
/* Ends it, within a tenth of a second. NULL is fine. */
void nc_page_feed_free(NcPageFeed *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPageFeed, nc_page_feed_free)
