/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One error domain for what users see.
 *
 * The code says what kind of failure it is, so that callers can branch, the
 * gate can choose an HTTP status and the CLI an exit code. The message is for
 * people: it names the cause, the side (source, destination, this node) and
 * what to do. Modules that need codes of their own for internal branching may
 * have them; what leaves novacrond is always in this domain.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#define NC_ERROR (nc_error_quark())
GQuark nc_error_quark(void);

typedef enum {
  NC_ERROR_INTERNAL,        /* a bug of ours, or a system call that should not fail */
  NC_ERROR_INVALID,         /* the request is malformed or out of bounds */
  NC_ERROR_UNAUTHENTICATED, /* who are you */
  NC_ERROR_FORBIDDEN,       /* known, but not allowed */
  NC_ERROR_NOT_FOUND,       /* no such machine, node, migration */
  NC_ERROR_EXISTS,          /* the name is taken */
  NC_ERROR_CONFLICT,        /* not in this state: already migrating, not running, ... */
  NC_ERROR_UNSUITABLE,      /* the destination can't run this machine */
  NC_ERROR_RESOURCE,        /* memory, disk, ports: not enough now */
  NC_ERROR_UNREACHABLE,     /* the other side does not answer */
  NC_ERROR_TIMEOUT,         /* it took longer than allowed */
  NC_ERROR_CANCELLED,       /* somebody asked for it to end */
  NC_ERROR_TRUST,           /* certificate, roster, token: refused */
  NC_ERROR_PROTOCOL,        /* bytes that make no sense from peer, mover or QEMU */
  NC_ERROR_CORRUPT,         /* a checksum does not match */
  NC_ERROR_QEMU,            /* QEMU said no, or died */
  NC_ERROR_IO,              /* reading or writing failed */
  NC_ERROR_ATTENTION,       /* a human has to decide */
  NC_ERROR_CONVERGENCE,     /* a guest dirties its memory faster than it can be sent */
  NC_ERROR_UNAVAILABLE,     /* nobody can do it at the moment, nothing was done, and asking again in some seconds helps */
  NC_ERROR_COUNT
} NcErrorCode;

/* Stable name for APIs and logs, e.g. "not_found". */
const char *nc_error_code_name(int code);
/* The code for a name; NC_ERROR_INTERNAL for an unknown one. */
int nc_error_code_from_name(const char *name);
/* HTTP status for a code (RFC 9110). */
int nc_error_http_status(int code);
/* Exit status of the CLI for a code; documented in docs/man/novacron.1.scd. */
int nc_error_exit_status(int code);

/* {"code": name, "message": text}. Errors of other domains become "internal". New reference. */
json_t *nc_error_to_json(const GError *error);
/* The reverse; a malformed object becomes NC_ERROR_PROTOCOL. Sets *error always. */
void nc_error_set_json(GError **error, json_t *object);

/* Shorthand for g_set_error with errno's text appended. Returns false for `return nc_fail_errno(...)`. */
bool nc_fail_errno(GError **error, int code, int errnum, const char *format, ...) G_GNUC_PRINTF(4, 5);
/* g_set_error that returns false. */
bool nc_fail(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
