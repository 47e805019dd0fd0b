/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's side of the transaction log (store/audit.h): its seal is kept up to date, other nodes hear of its head, and
 * people may look at it and have it proved.
 *
 * Cutting the end off a chain of hashes leaves a shorter chain. So the head is kept in two more places: in the seal
 * (store/audit_seal.h) beside the journal, signed with the node's key and never more than some seconds old, and in the logs of other
 * nodes, who hear it at the end of each migration. Who cuts the log has to forge the one, and to reach all of the others
 * (docs/decisions/037).
 *
 * Thread-safe. A thread of its own writes the seal.
 */
#pragma once

#include "agent/config.h"
#include "agent/nodes.h"
#include "store/journal.h"

typedef struct NcAudit NcAudit;

/*
 * Compares the log with its seal, as an earlier novacrond left them: what does not fit becomes an entry "audit.broken", which
 * every proof from then on names. Then seals the log and starts the thread. All borrowed, all outlive it.
 */
NcAudit *nc_audit_new(const NcConfig *config, NcJournal *journal, NcNodes *nodes, GError **error);
/* Seals a last time. NULL is fine. */
void nc_audit_free(NcAudit *audit);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcAudit, nc_audit_free)

/* What the other node is told of our log, {seq, hash}, on the disk by then. NULL if that can't be had. New reference. */
json_t *nc_audit_tell(NcAudit *audit);
/* What node ${node} told of its log: into ours, unless it is none. ${migration}: at whose end. */
void nc_audit_hear(NcAudit *audit, const char *node, const char *migration, json_t *head);

/* An entry of ${kind} about the node itself; a failure is logged. ${detail}: taken. */
void nc_audit_note(NcAudit *audit, const char *kind, json_t *detail);

/* The control socket's audit.* operations (docs/protocols.md section 5). New references. */
json_t *nc_audit_list(NcAudit *audit, json_t *args, GError **error);
json_t *nc_audit_verify(NcAudit *audit, json_t *args, GError **error);
