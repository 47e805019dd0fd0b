/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our end of the source QEMU's migration socket, when no mover reads it.
 *
 * QEMU holds a duplicate of this end itself (design section 5), so it never sees
 * its socket close. The price: in its last phase QEMU writes the device state
 * with its big lock held, and if nobody reads, the socket fills up and QEMU
 * answers QMP no more. Whoever takes over from a dead mover therefore
 * drains the socket first, then talks to QEMU.
 */
#pragma once

#include "base/error.h"
#include <stdint.h>
#include <sys/types.h>

typedef struct NcKeeper NcKeeper;

/* Keeps a duplicate of ${fd}; the caller keeps its own. */
NcKeeper *nc_keeper_new(int fd, GError **error);
/* Takes the end out of QEMU's process, by the socket's inode (pidfd_getfd(2)). */
NcKeeper *nc_keeper_take(pid_t qemu, uint64_t inode, GError **error);
/* The socket's inode, by which nc_keeper_take() finds it again. */
uint64_t nc_keeper_inode(const NcKeeper *keeper);
/* Borrowed. */
int nc_keeper_fd(const NcKeeper *keeper);

/* Reads and discards from now on, in a thread. Only when no mover reads any more. May be repeated. */
void nc_keeper_drain(NcKeeper *keeper);
/* What was discarded so far. */
uint64_t nc_keeper_drained_bytes(NcKeeper *keeper);
/* Tells QEMU that the destination has all it needs, once: a QEMU in post-copy that has sent everything is then done. */
void nc_keeper_say_arrived(NcKeeper *keeper);
/* Breaks the connection for all who hold an end of it: QEMU's writes and reads fail from now on. In post-copy only. */
void nc_keeper_break(NcKeeper *keeper);
/* Ends the thread and closes our descriptor; QEMU's own is closed by QMP closefd. NULL is fine. */
void nc_keeper_free(NcKeeper *keeper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcKeeper, nc_keeper_free)
