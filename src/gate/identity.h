/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is asking: peer credentials on the UNIX socket, a client certificate on
 * TLS, or whose the token is that the request brings. What cannot be named is
 * refused; there are no anonymous requests.
 */
#pragma once

#include "base/error.h"
#include "gate/routes.h"
#include <gnutls/gnutls.h>
#include <sys/types.h>

typedef enum { NC_IDENTITY_UID, NC_IDENTITY_CERTIFICATE, NC_IDENTITY_TOKEN } NcIdentityKind;

typedef struct {
  NcIdentityKind kind;
  char name[64];  /* the uid in decimal, the certificate's CN, or the token's subject */
  char token[64]; /* its id; "" of the others */
  NcRole role;
} NcIdentity;

/* Who may do what; fixed after start. */
typedef struct {
  uid_t own_uid; /* the gate's own, after dropping privileges */
  bool has_group;
  gid_t group;   /* members are admins on the UNIX socket */
  /* NULL-terminated names of certificates with that role; may be NULL. A name that is in both is an admin. */
  char **admins, **operators;
  bool tokens_alone; /* over TLS, who brings a token needs no certificate */
} NcAccess;

/*
 * The other end of the UNIX socket ${fd}, by the kernel's word: root, the
 * gate's own user and members of the group are admins, all others get
 * NC_ERROR_FORBIDDEN with the remedy.
 */
bool nc_identity_from_unix(int fd, const NcAccess *access, NcIdentity *ret, GError **error);

/*
 * The client certificate of a TLS session, verified (chain to the configured
 * CA, validity, purpose). NC_ERROR_UNAUTHENTICATED without one or with a bad one.
 */
bool nc_identity_from_tls(gnutls_session_t session, const NcAccess *access, NcIdentity *ret, GError **error);

/* Does the other end of the session (NULL: none) show a certificate, good or not? */
bool nc_identity_has_certificate(gnutls_session_t session);

/* What novacrond says of a token that is good. NC_ERROR_PROTOCOL: it does not make sense. */
bool nc_identity_from_token(json_t *token, NcIdentity *ret, GError **error);

const char *nc_identity_kind_name(NcIdentityKind kind); /* "uid", "certificate", "token" */

/* {"kind","name","role"} for novacrond, of a token also its id as "token". New reference. */
json_t *nc_identity_to_json(const NcIdentity *identity);
