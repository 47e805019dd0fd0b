/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This node's certificate and key on the disk, replaced as a pair.
 *
 * Two files can't be renamed at once. The certificate is what counts; its key is
 * node.key or, between the last two of these steps, node.key.next:
 *
 *   node.key.next    the new key, before anybody is asked for a certificate
 *   node.crt.before  a copy of the certificate that is to be replaced: what was signed with its
 *                    key, the seal of the transaction log, is proved by it until it is signed anew
 *   node.crt         the new certificate: from here on, the new pair is the node's
 *   node.key         node.key.next, renamed
 *
 * Each is durable before the next begins. Who loads looks for the key in both places, so that
 * any crash leaves the old pair or the new one. Private to src/crypto.
 */
#pragma once

#include "crypto/pki.h"

/* node.crt and the key that fits it; new ones. NC_ERROR_TRUST if none does. */
bool nc_pki_pair_load(const char *pki_dir, NcCert **ret_cert, NcKey **ret_key, GError **error);
/* Finishes what a crash has left: node.key.next becomes node.key, or goes if it is of no use. */
bool nc_pki_pair_settle(const char *pki_dir, GError **error);
/* Saves ${key} as node.key.next. */
bool nc_pki_pair_propose(const char *pki_dir, NcKey *key, GError **error);
/* The rest of the way, with the certificate of that key. NC_ERROR_TRUST, and nothing has happened, if it does not fit. */
bool nc_pki_pair_replace(const char *pki_dir, NcCert *cert, GError **error);
