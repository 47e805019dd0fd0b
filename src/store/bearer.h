/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's bearer tokens, as rows of its journal. (Those of the fleet are in its database: fleetdb/access.h. Decision 093.)
 *
 * A token is an id and a secret of 256 random bits, of which only the SHA-256 is kept. It is good until it runs out or is
 * ended. One that can't be used any more stays in lists for NC_BEARER_KEEP_US, so that people see what became of it.
 */
#pragma once

#include "store/journal.h"

#define NC_BEARER_MOST 1000 /* that are good, of a node */
#define NC_BEARER_KEEP_US (INT64_C(30) * 86400 * 1000000)

typedef struct {
  const char *id;            /* nc_name_is_valid() */
  const char *secret_sha256; /* hex */
  const char *subject;       /* the person or program it is for */
  const char *role;          /* base/role.h */
  const char *actor;         /* who made it */
  int64_t created_us, expires_us; /* wall clock; expires_us 0: never */
} NcBearer;

/* Durably. NC_ERROR_EXISTS: the id is taken. NC_ERROR_RESOURCE: there are NC_BEARER_MOST already. */
bool nc_journal_add_bearer(NcJournal *journal, const NcBearer *bearer, GError **error);
/*
 * Is ${id} a token with this secret's hash (compared in constant time), good at ${now_us}? {id, subject, role, actor, created_us,
 * expires_us, ended_us}, new reference; NULL with one answer for every kind of failure: NC_ERROR_UNAUTHENTICATED.
 */
json_t *nc_journal_check_bearer(NcJournal *journal, const char *id, const char *secret_sha256, int64_t now_us, GError **error);
/* From ${now_us} on it is not good any more, durably. The same object as above. NC_ERROR_NOT_FOUND: there is none that was good. */
json_t *nc_journal_end_bearer(NcJournal *journal, const char *id, int64_t now_us, GError **error);
/* By id, that is by age: such objects. New reference. */
json_t *nc_journal_list_bearers(NcJournal *journal, GError **error);
