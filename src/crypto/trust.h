/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NcTrust: whom this node believes, and how it proves itself.
 *
 * The cluster's CA certificate, this node's certificate and key, and the
 * current roster, loaded from the data directory (layout: crypto/pki.h). A peer
 * is believed if its certificate was issued by this CA for that end of a
 * connection, is valid now, and the roster lists its node as joined with this
 * very serial number (or as its next one: crypto/roster.h). A removed node is
 * therefore refused at once, by every node that has the new roster.
 *
 * All functions may be used from any thread.
 */
#pragma once

#include "base/error.h"
#include "crypto/roster.h"
#include <stdint.h>

typedef struct NcTrust NcTrust;

/* Loads and checks everything below ${data_dir}. NC_ERROR_NOT_FOUND: this node has not joined a cluster. */
NcTrust *nc_trust_load(const char *data_dir, GError **error);
NcTrust *nc_trust_ref(NcTrust *trust);
void nc_trust_free(NcTrust *trust); /* drops a reference; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTrust, nc_trust_free)

/* Reads the directory again (a renewed certificate, a roster from the CLI). On error the old trust stays. */
bool nc_trust_reload(NcTrust *trust, GError **error);

const char *nc_trust_node(NcTrust *trust);    /* this node's name; borrowed, never changes */
const char *nc_trust_cluster(NcTrust *trust); /* the cluster's name; borrowed, never changes */
bool nc_trust_has_ca_key(NcTrust *trust);     /* this node can let nodes in and put them out */
void nc_trust_ca_fingerprint(NcTrust *trust, uint8_t ret_fingerprint[32]);
/* When this node's own certificate ends, wall clock. */
int64_t nc_trust_expires_us(NcTrust *trust);

/* The current roster: immutable, a new reference. */
NcRoster *nc_trust_roster(NcTrust *trust);
uint64_t nc_trust_roster_version(NcTrust *trust);

/*
 * Takes ${document} with ${signature_hex} as the new roster if the CA signed
 * it for this cluster and it is newer than ours; saved durably first. Older or
 * the same: true with *ret_replaced false. The same version with another text
 * is NC_ERROR_TRUST, as is a wrong signature. ${ret_replaced} may be NULL.
 */
bool nc_trust_replace_roster(NcTrust *trust, const char *document, const char *signature_hex, bool *ret_replaced,
                             GError **error);

/* With the CA's key: marks ${name} as removed, in a new roster, saved. NC_ERROR_CONFLICT for this node itself. */
bool nc_trust_remove_node(NcTrust *trust, const char *name, GError **error);

/*
 * Whether ${name} with certificate ${serial} is a joined node now: for
 * connections that were opened before a roster changed, so that a certificate
 * which was renewed since still does. NC_ERROR_TRUST if not.
 */
bool nc_trust_check_node(NcTrust *trust, const char *name, const char *serial, GError **error);

/*
 * May handshakes let in a certificate of our CA that only a newer roster than ours can list
 * (nc_cert_since()), if ours has its node as joined? For those who exchange rosters before they believe anybody, and then ask
 * nc_peer_check_trusted(): else a node that was away while another one renewed its certificate
 * would refuse it, and with it the roster that tells. From the start: no.
 */
void nc_trust_allow_newer(NcTrust *trust, bool allow);

/*
 * May nc_peer_accept() take a connection without a certificate (for `join`)?
 * From the start: exactly if this node holds the CA's key.
 */
void nc_trust_allow_anonymous(NcTrust *trust, bool allow);
