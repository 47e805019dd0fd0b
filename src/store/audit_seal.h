/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seal: the head of the transaction log, signed by the node, in a small file beside the journal.
 *
 * A chain of hashes does not show that its end was cut off; that the log is shorter than its seal does. The file is
 * one JSON object {version, node, seq, hash, at, signature}; the signature (ECDSA-SHA256, DER, hexadecimal) is the node
 * key's, over "novacron-audit-seal 1 NODE SEQ HASH AT". It is replaced durably, after the entry that it names is on the disk:
 * so it may stand for an earlier entry than the last one, and never for one that a power cut has taken.
 */
#pragma once

#include "crypto/pki.h"
#include "store/audit.h"

#define NC_AUDIT_SEAL_FILE "audit.seal"

typedef struct {
  NcAuditHead head;
  char node[64];
  char at[40]; /* RFC 3339 */
} NcAuditSeal;

/* ${head}: settled (nc_journal_audit_settle). Blocks for the disk. */
bool nc_audit_seal_write(const char *path, const char *node, const NcAuditHead *head, NcKey *key, GError **error);

/*
 * NC_ERROR_NOT_FOUND: there is none; NC_ERROR_CORRUPT: it is not readable; NC_ERROR_TRUST: it reads well, *ret is filled,
 * and it was not signed by the key of ${cert}.
 */
bool nc_audit_seal_read(const char *path, const NcCert *cert, NcAuditSeal *ret, GError **error);

/* "SEQ:HASH", as people write a head down. False if it is none. */
bool nc_audit_head_parse(const char *text, NcAuditHead *ret);
