/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages ahead of the stream. Before QEMU sends its first page it sets up its dirty tracking, which takes seconds on a machine
 * of gigabytes, while the link and a processor have nothing to do. Meanwhile novacrond reads the guest's memory and gives its
 * pages to us by a pipe; what is worth it goes to the other side's shadow, and is a reference when QEMU sends it (decision 070).
 *
 * A page may have changed by then, or be torn: that costs a delta and never a wrong byte, since what QEMU sends
 * is compared with what both sides have kept, whatever that is.
 *
 * One thread: the source's reader.
 */
#pragma once

#include "mover/outbox.h"

typedef struct NcHeadStart NcHeadStart;

/* ${history}, which has planned nothing yet, and ${outbox}: borrowed. Takes ${pages_fd}. */
NcHeadStart *nc_head_start_new(NcOutbox *outbox, NcHistory *history, int pages_fd);
/* Hands over what is not yet with the outbox; closes the pipe, which tells whoever fills it. NULL is fine. */
void nc_head_start_free(NcHeadStart *h);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcHeadStart, nc_head_start_free)

/* Readable when there is something to read. */
int nc_head_start_fd(const NcHeadStart *h);
/* Takes what the pipe has, at most one batch; may block in the outbox. False: there is no more, or no room for it. */
bool nc_head_start_read(NcHeadStart *h);
