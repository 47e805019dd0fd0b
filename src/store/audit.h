/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transaction log: who did what to which machine, in an order that can't be changed afterwards unnoticed.
 *
 * A table of the journal to which rows are only ever added. The SHA-256 of an entry covers
 * its predecessor's, so that altering, removing or moving one breaks the chain there:
 *
 *   hash(n) = SHA-256("novacron-audit-1\0", hash(n-1) (32 bytes; zeros for the first), u64 seq, u64 at_us,
 *                     kind, subject, vm, actor, detail: each u32 length and its bytes)
 *
 * Integers big-endian. What no chain shows is that its end was cut off: for that its head (last sequence
 * number and hash) is kept elsewhere, too (agent/audit.h, docs/decisions/037).
 *
 * Entries are made by the journal's own functions, in the transaction of the change that they tell.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"
#include "crypto/digest.h"

#define NC_AUDIT_PEER_HEAD "audit.peer-head" /* kind: what another node (the subject) told of its own log */
#define NC_AUDIT_BROKEN "audit.broken"       /* kind: what novacrond found wrong with the log at its start; detail.problem */
#define NC_AUDIT_DETAIL_MAX_BYTES 16384 /* longer details are replaced by their SHA-256 and length */

typedef struct {
  const char *kind;    /* "migration.state", "right", "request", ...: docs/protocols.md, section 7 */
  const char *subject; /* migration, rollback, ...; NULL: none */
  const char *vm;      /* NULL: none */
  const char *actor;   /* who: "uid:0", "certificate:NAME", "node:NAME"; NULL: novacrond by itself */
  json_t *detail;      /* an object, borrowed; NULL: {} */
} NcAuditEntry;

typedef struct {
  uint64_t seq; /* 0: the empty log's */
  uint8_t hash[NC_SHA256_BYTES];
} NcAuditHead;

/* All the fields of one row, as they are hashed; borrowed. Lengths in bytes: a text may hold anything. */
typedef struct {
  uint64_t seq;
  int64_t at_us;
  struct {
    const char *data;
    size_t length;
  } kind, subject, vm, actor, detail;
} NcAuditRow;

/* The hash of ${row} behind ${previous}. */
void nc_audit_hash(const uint8_t previous[NC_SHA256_BYTES], const NcAuditRow *row, uint8_t ret_hash[NC_SHA256_BYTES]);

/* --- proving --- */

typedef struct {
  uint64_t entries;   /* that were read and fit */
  NcAuditHead head;   /* of the last one that fits */
  int64_t head_at_us; /* its time */
  uint64_t bad_seq;   /* the first entry that does not fit, or is missing; 0: all do */
  uint64_t broken_seq; /* the first entry in which novacrond itself says that the log had been tampered with; 0: none */
  char *problem;      /* what is wrong with it, for people; NULL: nothing */
} NcAuditReport;

void nc_audit_report_clear(NcAuditReport *report);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcAuditReport, nc_audit_report_clear)

/*
 * Reads the whole log of the journal at ${path}, which may be in use, and checks every entry, then that each of
 * ${n_heads} heads, which were seen elsewhere, is in it, and that novacrond never found it tampered with. False only if it
 * can't be read at all; what is wrong with the log is in ${ret}. Changes nothing. Not with the caller's journal lock held; blocks.
 */
bool nc_audit_verify_file(const char *path, const NcAuditHead *heads, size_t n_heads, NcAuditReport *ret, GError **error);
