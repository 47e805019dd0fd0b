/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining a cluster with a one-time token (docs/protocols.md, section 3).
 *
 * The token carries two things in opposite directions: the secret lets the
 * cluster believe the new node, the CA's fingerprint lets the new node believe
 * the cluster. Neither trusts anybody on first use.
 */
#pragma once

#include "base/error.h"
#include "crypto/trust.h"
#include <jansson.h>
#include <stdint.h>

#define NC_JOIN_TIMEOUT_MS 30000 /* for each step: connecting, the answer */

typedef struct {
  char *id;                   /* public, names the token in the journal */
  char *secret;               /* 32 random bytes, hexadecimal */
  uint8_t ca_fingerprint[32]; /* SHA-256 of the CA's certificate */
} NcJoinToken;

/* A new token for the cluster of ${trust}. */
NcJoinToken *nc_join_token_new(NcTrust *trust);
/* "nc1.<id>.<secret>.<SHA-256 of the CA certificate>": as people copy it. NC_ERROR_TRUST if it is none. */
NcJoinToken *nc_join_token_parse(const char *text, GError **error);
char *nc_join_token_format(const NcJoinToken *token); /* caller frees */
/* What the journal keeps instead of the secret: its SHA-256, hexadecimal. Caller frees. */
char *nc_join_secret_hash(const char *secret);
void nc_join_token_free(NcJoinToken *token); /* clears the secret; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcJoinToken, nc_join_token_free)

/*
 * The new node's half: makes a key, asks the node at ${cluster_address} for a
 * certificate for ${name}, reachable at ${own_address}, checks what it gets
 * (name, key, CA, roster) and stores everything below ${data_dir}/pki at once.
 * NC_ERROR_EXISTS if this node already belongs to a cluster. A refusal of the
 * other side comes with its code and text. Blocks.
 */
bool nc_join_request(const char *cluster_address, const char *token, const char *name, const char *own_address,
                     const char *data_dir, GError **error);

/* A `join` message taken apart and checked for shape; strings borrowed from the message. */
typedef struct {
  const char *token_id;
  const char *secret;
  const char *csr;
  const char *name;
  const char *address;
} NcJoinRequest;
bool nc_join_check_request(json_t *message, NcJoinRequest *ret_request, GError **error);

/*
 * The CA's half, after the caller has used up the token in the journal: issues
 * the certificate, adds the node to the roster (saved) and returns the
 * `joined` message to send, a new reference. NC_ERROR_EXISTS if the name is
 * joined: remove it first. ${validity_days} 0: the default.
 */
json_t *nc_join_issue(NcTrust *trust, const char *name, const char *address, const char *csr_pem, int validity_days,
                      GError **error);
