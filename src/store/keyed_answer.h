/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests with an idempotency key, and how they were answered, as rows of a node's journal. (Those about the fleet are in its
 * database: fleetdb/access.h.)
 *
 * The key is on record before what was asked for is begun, and gets the answer afterwards. So a client that heard none may ask again:
 * it gets that answer, or hears that novacrond was ended in between, and does what was asked for a second time never.
 */
#pragma once

#include "store/journal.h"

#define NC_KEYED_ANSWER_KEEP_US (INT64_C(24) * 3600 * 1000000)
/* Of one without an answer nobody knows whether it was done: a clock that was wrong for some days must not make it new. */
#define NC_KEYED_PENDING_KEEP_US (30 * NC_KEYED_ANSWER_KEEP_US)

typedef struct {
  const char *actor;          /* whose key it is */
  const char *key;            /* printable ASCII */
  const char *request_sha256; /* hex, of what is asked for: one key is for one request */
} NcKeyedRequest;

/*
 * True with *ret_answer NULL: it is a new one, and on record, durably; do it, and then call nc_journal_end_keyed(). True with an answer
 * (new reference): it was done. NC_ERROR_CONFLICT: the key was another request's, or it was begun and has no answer (yet).
 */
bool nc_journal_begin_keyed(NcJournal *journal, const NcKeyedRequest *request, int64_t now_us, json_t **ret_answer, GError **error);
/* ${answer} (borrowed): kept for NC_KEYED_ANSWER_KEEP_US. NULL: nothing was done, and it may be asked for again. */
bool nc_journal_end_keyed(NcJournal *journal, const NcKeyedRequest *request, json_t *answer, GError **error);
