/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The roster: who belongs to the cluster, signed by its CA.
 *
 * One JSON document, kept and passed on as the exact text that was signed
 * (ECDSA with SHA-256, detached):
 *
 *   {"cluster":NAME, "version":N, "issued":TIME, "signer":NAME, "nodes":[
 *     {"name":NAME, "address":"host:port", "serial":HEX, "fingerprint":HEX64,
 *      "state":"joined"|"removed", "expires":TIME,
 *      "next":{"serial":HEX, "fingerprint":HEX64, "expires":TIME},
 *      "previous":HEX}, ...]}
 *
 * Times are RFC 3339. A node is joined by the serial number of its certificate:
 * one that was removed can join again under its name with a new certificate,
 * and the old one stays refused. Each change makes the version greater by one;
 * nobody ever goes back to a smaller one.
 *
 * A certificate is renewed in two steps, so that no lost message and no crash
 * leaves a node with one that is refused (decision 102). The new one is listed
 * as "next", and both are good; when its node has been seen with it, it takes the
 * other's place, whose serial number stays as "previous": for connections that
 * were made with it, and for no new ones. "signer" is the node with the CA's key;
 * rosters of older versions do not say it.
 *
 * An NcRoster is immutable and counted: share it between threads.
 */
#pragma once

#include "base/error.h"
#include "crypto/pki.h"
#include <stddef.h>
#include <stdint.h>

#define NC_ROSTER_MAX_NODES 10000
#define NC_ROSTER_MAX_BYTES ((4u << 20) - (64u << 10)) /* quoted into one message it stays below NC_MSG_MAX_BYTES */
#define NC_ROSTER_MAX_SIGNATURE_BYTES 256              /* ECDSA P-256 in DER: 72 */

typedef struct NcRoster NcRoster;

typedef enum { NC_NODE_JOINED, NC_NODE_REMOVED, NC_NODE_STATE_COUNT } NcNodeState;
const char *nc_node_state_name(NcNodeState state);

typedef struct {
  char *serial;       /* lower-case hexadecimal; NULL: there is no such certificate */
  char *fingerprint;  /* SHA-256 of the certificate, 64 digits */
  int64_t expires_us; /* when it ends, wall clock */
} NcRosterCert;

typedef struct {
  char *name;
  char *address;     /* "host:port" */
  char *serial;      /* these three: of the node's certificate, as in NcRosterCert */
  char *fingerprint;
  int64_t expires_us;
  NcNodeState state;
  NcRosterCert next; /* renewed, and not seen in use yet */
  char *previous;    /* serial number of the one before the last renewal; NULL: none */
} NcRosterNode;

/* Checks the signature by ${ca_cert}, then the document. NC_ERROR_TRUST for the first, NC_ERROR_PROTOCOL for the second. */
NcRoster *nc_roster_parse(const char *document, const char *signature_hex, NcCert *ca_cert, GError **error);

/* A new, signed roster without nodes, version 0. */
NcRoster *nc_roster_new(const char *cluster, NcCa *ca, GError **error);
/*
 * A copy with one more joined node, or with the node of this name replaced;
 * signed; version + 1. NC_ERROR_EXISTS if the name is joined and ${replace} is false.
 */
NcRoster *nc_roster_with_node(const NcRoster *roster, NcCert *node_cert, const char *address, bool replace, NcCa *ca,
                              GError **error);
/* A copy in which ${node_cert} is the next certificate of its node, in place of another next one; signed; version + 1. */
NcRoster *nc_roster_with_next(const NcRoster *roster, NcCert *node_cert, NcCa *ca, GError **error);
/* A copy in which the next certificate of ${name}, which has one, is the node's; signed; version + 1. */
NcRoster *nc_roster_with_next_used(const NcRoster *roster, const char *name, NcCa *ca, GError **error);
/* A copy with ${name} marked as removed; signed; version + 1. */
NcRoster *nc_roster_without_node(const NcRoster *roster, const char *name, NcCa *ca, GError **error);

NcRoster *nc_roster_ref(NcRoster *roster);
void nc_roster_free(NcRoster *roster); /* drops a reference; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRoster, nc_roster_free)

/*
 * Loads roster.json and roster.sig of ${pki_dir}, and saves them. roster.sig is
 * written first, with the new signature and that of ${replaced} (what is there
 * now; NULL: nothing), a line each: whatever instant a crash chooses, one of
 * the lines fits the document.
 */
NcRoster *nc_roster_load(const char *pki_dir, NcCert *ca_cert, GError **error);
bool nc_roster_save(const NcRoster *roster, const NcRoster *replaced, const char *pki_dir, GError **error);

/* All borrowed from the roster. */
const char *nc_roster_cluster(const NcRoster *roster);
uint64_t nc_roster_version(const NcRoster *roster);
const char *nc_roster_signer(const NcRoster *roster);    /* the node with the CA's key; NULL: not said */
const char *nc_roster_document(const NcRoster *roster);  /* the exact text */
const char *nc_roster_signature(const NcRoster *roster); /* hexadecimal */
size_t nc_roster_count(const NcRoster *roster);
const NcRosterNode *nc_roster_at(const NcRoster *roster, size_t index); /* index < count; sorted by name */
const NcRosterNode *nc_roster_find(const NcRoster *roster, const char *name); /* NULL: not there */
