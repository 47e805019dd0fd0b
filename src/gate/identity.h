/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is asking: peer credentials on the UNIX socket, a client certificate on
 * TLS. What cannot be named is refused; there are no anonymous requests.
 */
#pragma once

#include "base/error.h"
#include "gate/routes.h"
#include <gnutls/gnutls.h>
#include <sys/types.h>

typedef enum { NC_IDENTITY_UID, NC_IDENTITY_CERTIFICATE } NcIdentityKind;

typedef struct {
  NcIdentityKind kind;
  char name[64]; /* the uid in decimal, or the certificate's CN */
  NcRole role;
} NcIdentity;

/* Who may do what; fixed after start. */
typedef struct {
  uid_t own_uid; /* the gate's own, after dropping privileges */
  bool has_group;
  gid_t group;   /* members are admins on the UNIX socket */
  char **admins; /* NULL-terminated names of certificates with the role admin; may be NULL */
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

/* {"kind","name","role"} for novacrond. New reference. */
json_t *nc_identity_to_json(const NcIdentity *identity);
