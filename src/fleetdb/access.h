/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may ask, and what was asked already: tokens and idempotency keys.
 *
 * A token is an id and a secret; here is the secret's SHA-256 (it has 256 random bits, so that nothing slower is needed). A
 * bearer token ("bearer") is good until it runs out or is ended; one for joining ("join") is good once.
 *
 * An idempotency key is a client's name for one request. The answer is kept with it in the transaction of what was done, so that a client
 * which did not hear the answer may ask again, of whichever controller.
 */
#pragma once

#include "fleetdb/page.h"

/* --- tokens --- */

typedef struct {
  const char *id;            /* nc_name_is_valid() */
  const char *kind;          /* "bearer" or "join" */
  const char *subject;       /* the person, program, or node it is for */
  const char *role;          /* "viewer", "operator", "admin"; "" of one for joining */
  const char *secret_sha256; /* hex */
  const char *actor;         /* who made it */
  int64_t expires_us;        /* wall clock; 0: never */
} NcFleetToken;

/* In a write. NC_ERROR_EXISTS. */
bool nc_fleetdb_add_token(NcFleetDb *db, const NcFleetToken *token, GError **error);
/*
 * Is ${id} a bearer token with this secret's hash (compared in constant time), good at ${now_us}? {id, subject, role, ...}, new
 * reference; NULL with one answer for every kind of failure: NC_ERROR_UNAUTHENTICATED.
 */
json_t *nc_fleetdb_check_token(NcFleetDb *db, const char *id, const char *secret_sha256, int64_t now_us, GError **error);
/* In a write: uses up a token for joining, with the same checks. */
json_t *nc_fleetdb_use_token(NcFleetDb *db, const char *id, const char *secret_sha256, int64_t now_us, GError **error);
/* In a write: from now on it is not good any more. NC_ERROR_NOT_FOUND: there is none that is. */
bool nc_fleetdb_end_token(NcFleetDb *db, const char *id, GError **error);
/* By id: [{id, kind, subject, role, actor, created_us, expires_us, ended_us}], without hashes. New reference. */
json_t *nc_fleetdb_list_tokens(NcFleetDb *db, const NcPage *page, char **ret_next, GError **error);

/* --- idempotency keys --- */

#define NC_IDEMPOTENCY_KEY_MOST 255u /* bytes; printable ASCII */

typedef struct {
  const char *actor; /* whose key: two clients may choose the same */
  const char *key;
  const char *request_sha256; /* hex, of method, path and body */
} NcIdempotencyKey;

/*
 * In the write that is to do what is asked for, first. *ret_answer: {"status", "answer"} of the same request before, new reference;
 * NULL: it is a new one, do it and call nc_fleetdb_keep_answer(). NC_ERROR_CONFLICT: the key was used for another request. NC_ERROR_INVALID:
 * it is no key.
 */
bool nc_fleetdb_find_answer(NcFleetDb *db, const NcIdempotencyKey *key, json_t **ret_answer, GError **error);
/* In the same write. ${status}: of HTTP. */
bool nc_fleetdb_keep_answer(NcFleetDb *db, const NcIdempotencyKey *key, int status, json_t *answer, GError **error);
