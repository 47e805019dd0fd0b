/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's part in disks that move with their machine: QEMU's mirrors into the destination's exports (decisions 033, 034).
 *
 * First the disks are copied while the guest writes on; when all are as good as equal, memory follows, and both stay near each other until
 * QEMU stops the guest. Then, before the release, each mirror is ended: it is equal, or the switchover is undone. From then on the
 * copy is the destination's, and ours stays as it is, for the way back.
 *
 * A guest that writes faster than the mirror copies is made to wait for it: newer QEMUs write to both sides at once from then on, older ones
 * get a limit for what the guest may write.
 */
#pragma once

#include "agent/disk_offer.h"
#include "agent/migration.h"

typedef struct NcSourceDisks NcSourceDisks;

/* What the machine has to offer; NULL: no disks to be copied or compared. ${m} outlives it. Cleans up after earlier attempts. */
NcSourceDisks *nc_source_disks_new(NcMigration *m, NcQmp *qmp);
void nc_source_disks_free(NcSourceDisks *d); /* NULL is fine */
/* For mig_prepare: "disks". New reference. */
json_t *nc_source_disks_offer(NcSourceDisks *d);
/* What the destination reads before it answers that, to compare backing chains. */
uint64_t nc_source_disks_compared_bytes(const NcSourceDisks *d);
/* mig_accepted: which of them are copied. False: none, and ${d} is of no more use. */
bool nc_source_disks_take_verdict(NcSourceDisks *d, json_t *answer);

/* Attaches QEMU to the destination and begins; both movers are there. */
bool nc_source_disks_begin(NcSourceDisks *d, NcQmp *qmp, int max_downtime_ms, GError **error);
/* Several times a second from then on: the record's "disks", and what is to be done if a mirror does not catch up. False: it has failed. */
bool nc_source_disks_tick(NcSourceDisks *d, NcQmp *qmp, GError **error);
bool nc_source_disks_have_begun(const NcSourceDisks *d);
/* All are as good as equal: it is time for the memory. */
bool nc_source_disks_are_near(const NcSourceDisks *d);
/* What they would add to a pause that began now. */
int64_t nc_source_disks_pause_ms(const NcSourceDisks *d);
/* Bytes to copy, all together, and of these not copied. */
void nc_source_disks_bytes(const NcSourceDisks *d, uint64_t *ret_total, uint64_t *ret_left);
/* The mover's progress: what the disks cost on the wire. */
void nc_source_disks_on_progress(NcSourceDisks *d, json_t *progress);
/* And what all of them have cost there so far, bytes. */
uint64_t nc_source_disks_wire_bytes(const NcSourceDisks *d);

/* The guest stands still: ends all mirrors, equal. False: one is not, and everything has to be undone. ${must_stop}: asked meanwhile. */
bool nc_source_disks_end(NcSourceDisks *d, NcQmp *qmp, bool (*must_stop)(gpointer data), gpointer data, GError **error);
/* The machine stays: no mirror and no limit of ours is left in QEMU. By the record; also after a restart. The mover must be gone. */
void nc_source_disks_undo(NcMigration *m, NcQmp *qmp);
/* The machine has moved, its QEMU here is gone: the files are set aside under another name. By the record; again does nothing. */
void nc_source_disks_set_aside(NcMigration *m);
