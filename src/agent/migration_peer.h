/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two agents say to each other about one migration (docs/protocols.md
 * section 2, messages "mig_..."; those before a migration are in preflight.h). The source opens the session; if it breaks,
 * it opens another and begins with mig_query.
 *
 *   source -> destination
 *   mig_probe    {vm}                        which epoch do you know? Also of the destination, before it starts anew a machine whose
 *                                            arrival was not confirmed (start_check.h); `refused`: an operator wants it back
 *   mig_prepare  {migration, vm, running, epoch, spec, psk, streams,
 *                 compression, pause_budget_ms, max_downtime_ms, path_timeout_ms, shadow_frames, block_frames, postcopy, disks, ahead,
 *                 kept_shadow, checkpoint, checkpoint_keep_s, stored}
 *                                            postcopy: it may become one, so both QEMUs get ready for it;
 *                                            disks: that may have to be copied (disk_offer.h);
 *                                            kept_shadow: {migration, sha256} of the way here, if it was kept (warm_return.h);
 *                                            ahead: pages may come ahead of QEMU's stream (page_feed.h);
 *                                            stored: what your page store holds of it may be referred to (stored_pages.h);
 *                                            checkpoint: the one taken before, in the source's store, and how long it is kept
 *   mig_abort    {migration, error}          before release: throw it away
 *   mig_query    {migration, vm, epoch, wire}
 *                                            what became of it? As first message of a session: from then on it is that
 *                                            migration's. wire, false: the source's mover is gone for good
 *   mig_let_go   {migration, vm, epoch}      an operator says that it does not run with you any more, and is to run here: let go
 *                                            of it. mig_refused, or mig_holds
 *   mig_recover  {migration, psk, streams, compression, pause_budget_ms, shadow_frames, preempt}
 *                                            post-copy: new movers, since one of them, or an agent, was gone
 *   mig_source_lost {migration}              post-copy: our QEMU is dead, no page will come any more
 *   mig_finished {migration}                 our QEMU is gone, we are done
 *
 *   destination -> source
 *   mig_probed   {epoch, right, paths, postcopy}
 *                                            postcopy: QEMUs there can wait for pages; paths: where movers may connect to, "" for where the agent is
 *   mig_accepted {migration, shadow_frames, block_frames, disks, kept_shadow, ahead, stored_pages}
 *                                            INCOMING(epoch) is durable, the mover takes connections, QEMU is
 *                                            being started; disks: {name, copied} of each that was offered;
 *                                            kept_shadow: the one offered is here, too, and in use;
 *                                            stored_pages: so many pages of it are in our page store; the first 16 bytes of
 *                                            the SHA-256 of each follow the message as they are
 *   mig_prepared {migration}                 QEMU waits for its mover
 *   mig_refused  {migration, error}          REFUSED(epoch) is durable
 *   mig_started  {migration, epoch, resume_us, sha256, stream_bytes, postcopy, broken}
 *                                            HELD(epoch) is durable, it runs. postcopy: pages are still missing;
 *                                            broken: and no mover is there to bring them. Without postcopy: everything
 *                                            is here
 *   mig_recovering {migration}               answer to mig_recover, after mig_accepted: QEMU waits for its mover
 *   mig_unrecovered {migration, error}       answer to mig_recover: not now
 *   mig_alive    {migration, alive, detail}  the check after the start
 *   mig_done     {migration}                 answer to mig_finished: the machine is
 *                                            free for the next operation
 *   mig_pending  {migration}                 answer to mig_query: not decided yet
 *   mig_holds    {migration, detail}         answer to mig_let_go: no, nothing has changed here
 *   mig_unknown  {migration, detail, lost}   answer to mig_query: we can't tell. lost: the QEMU here is gone
 *
 *   both ways
 *   mig_head     {migration, audit: {seq, hash}}
 *                                            after the end: how far our transaction log is (agent/audit.h)
 *
 * Every answer of the destination is a statement about what is on its disk,
 * and may be repeated.
 */
#pragma once

#include "agent/migration.h"

#define NC_MIG_PSK_BYTES 32
#define NC_MIG_MAX_STREAMS 16 /* as many as a mover takes (mover/mover.h) */

/* Starts the thread of an outgoing migration; ${m} has its lease and record. */
void nc_source_migration_start(NcMigration *m);
/* The same after a restart: undoes it, or goes on asking the destination, as the run right says. */
void nc_source_migration_recover(NcMigration *m, const NcRight *right);

/*
 * Before it, and without any lock, since it may read backing files for minutes: which disks of ${request} are copied, which is
 * noted in it. False: they can't arrive here.
 */
bool nc_destination_judge(const NcMigrationsDeps *deps, json_t *request, GError **error);
/*
 * Admits an incoming migration from ${peer_node}: checks the message, the run
 * right and this node's suitability, makes the machine's record and INCOMING
 * durable, and starts the thread. On error nothing is left behind, and the
 * caller answers mig_refused. ${peer} is lent to the migration, whose borrower the
 * caller then is (nc_migration_return).
 */
NcMigration *nc_destination_migration_start(const NcMigrationsDeps *deps, const char *peer_node, json_t *message, NcPeer *peer,
                                            GError **error);
/* After a restart: what is INCOMING is refused, what is HELD is resumed. Ends with the migration finished. */
void nc_destination_migration_recover(NcMigration *m, const NcRight *right);
/* Answers mig_query from the run right alone, when no thread of that migration lives. New reference. */
json_t *nc_destination_answer_query(const NcMigrationsDeps *deps, const char *peer_node, json_t *message);
/*
 * Answers mig_let_go likewise. The right is given back (REFUSED, durably) and the machine goes out of the list, unless it has a QEMU,
 * is in somebody's hands, or ${peer_node} is not who it came from. New reference.
 */
json_t *nc_destination_let_go(const NcMigrationsDeps *deps, const char *peer_node, json_t *message);
json_t *nc_destination_say_holds(const char *id, const char *detail); /* mig_holds, a new reference */
/*
 * ${peer_node} has said mig_finished of ${id}, whose thread has ended: durably, so that it need not be asked before the machine is
 * started anew. False without an error: no such migration came from there.
 */
bool nc_destination_confirm(const NcMigrationsDeps *deps, const char *peer_node, const char *id, GError **error);
/* Hands a mover's connection to the mover. ${fd} is borrowed. */
bool nc_destination_migration_conn(NcMigration *m, unsigned index, int fd, GError **error);
