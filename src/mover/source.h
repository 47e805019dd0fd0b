/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's reader: QEMU's stream into batches.
 *
 * One thread receives straight into the current batch, lets the parser find
 * the records, and cuts the batch when it is full or when the socket has
 * nothing more: then, if it is small, after one more millisecond. Whatever is
 * complete never waits longer; QEMU may be waiting for its effect. In post-copy a
 * guest is, and nothing waits at all. An incomplete record at the end moves on to the next batch.
 *
 * There is nothing to tune on QEMU's socket: what a UNIX socket holds is the
 * sender's SO_SNDBUF, QEMU's own.
 */
#pragma once

#include "mover/outbox.h"

/* Starts the encoders. Lives as long as the process. */
NcSource *nc_source_new(NcMover *m);
/*
 * Before QEMU is there: pages of its memory come from ${pages_fd}, a pipe, which is taken, and go ahead of its stream until it sends itself.
 * At most once, and only with a shadow in which nothing is kept yet, and without blocks of disks.
 */
bool nc_source_start_ahead(NcSource *s, int pages_fd, GError **error);
/* Reads from ${qemu}, borrowed. Once. */
void nc_source_start(NcSource *s, int qemu);
/*
 * RELEASED(${epoch}) is durable: when the stream has come to its end (it is
 * silent, and ends with EOF and the machine's description; or it has reached
 * device state and is silent for NC_MOVER_GRANT_IDLE_MS), GRANT goes behind its
 * last byte. In post-copy it goes as soon as the package is complete, behind that and what
 * has come since; the stream goes on. Any thread.
 */
void nc_source_grant(NcSource *s, uint64_t epoch);
/* Was that done: does the guest stand still, or wait for pages? Any thread. */
bool nc_source_is_granting(NcSource *s);
/* Where the links get their bulk from. */
NcOutbox *nc_source_outbox(NcSource *s);
