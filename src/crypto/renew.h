/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewing a node's certificate: a new key, made on the node, and a new certificate for the same
 * name, given by the node that has the CA's key to whoever comes with the present one (decision 102).
 *
 *   the node                        the node with the CA's key
 *   nc_renew_ask()     -- renew -->
 *                                   nc_renew_issue(): the next one in the roster, both are good
 *                      <- renewed --
 *   nc_renew_take(): saved, in use
 *   connects again     -- hello -->
 *                                   nc_renew_seen(): the old one is good no more
 *
 * The node with the CA's key does both halves by itself. A crash or a lost message anywhere
 * leaves the node with a certificate that is good; it may ask again as often as it likes.
 * Functions may be used from any thread; of ask and take, one pair at a time.
 */
#pragma once

#include "base/error.h"
#include "crypto/trust.h"
#include <jansson.h>

/*
 * Makes this node's next key, durable beside the present one, and returns the `renew` message.
 * ${validity_days} 0: the default. NC_ERROR_TRUST if the present certificate has expired and
 * this node can't issue itself another: nobody would believe who asks.
 */
json_t *nc_renew_ask(NcTrust *trust, int validity_days, GError **error);
/*
 * Says in ${ask} which next certificate the roster in use lists of this node. Of nc_renew_ask() it is right already, but
 * hello may have brought a newer roster since: another one is given only to who knows of the last.
 */
void nc_renew_name_next(NcTrust *trust, json_t *ask);

/*
 * The CA's half: a certificate for ${node}, who has proved to be that, whatever name is in the
 * request, by the certificate ${serial}, which must still be its present one; NULL: this node itself.
 * The `renewed` message, a new reference. NC_ERROR_CONFLICT if that is not its present one, or the
 * request is older than what was given last, NC_ERROR_TRUST if it is no joined node, NC_ERROR_FORBIDDEN
 * without the CA's key. Others than this node get NC_PKI_NODE_DAYS at most.
 */
json_t *nc_renew_issue(NcTrust *trust, const char *node, const char *serial, json_t *renew, GError **error);

/*
 * Checks a `renewed` message (name, key, CA, roster, time), saves its roster and the certificate
 * with the key of nc_renew_ask(), and uses them: connections made from now on have the new one.
 */
bool nc_renew_take(NcTrust *trust, json_t *renewed, GError **error);

/*
 * Is the certificate that a renewal has replaced still below ${data_dir}/pki, for what was signed with its key (the seal of the transaction
 * log)? No while the two are the same: then a renewal is between its steps (crypto/pki_pair.h).
 */
bool nc_renew_keeps_old(const char *data_dir);

/* ${node} has come with certificate ${serial}: with the CA's key, if that is its next one, it becomes its only one. *ret_used: it did. */
bool nc_renew_seen(NcTrust *trust, const char *node, const char *serial, bool *ret_used, GError **error);

/* Before a trust is loaded, by novacrond: finishes what a crash has left below ${data_dir}/pki. No such directory: nothing. */
bool nc_renew_settle_files(const char *data_dir, GError **error);
/* After it: this node's own next certificate, if it was put on the disk but not made its only one yet. With the CA's key only. */
bool nc_renew_settle(NcTrust *trust, bool *ret_used, GError **error);
/* An attempt has failed: the key that was made for it goes; if the new pair is on the disk all the same, it comes into use. */
void nc_renew_withdraw(NcTrust *trust);
