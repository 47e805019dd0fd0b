/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that change something, in the transaction log: before they are begun (kind "request"), and with what came of
 * them ("request.result"). What can't be recorded is not done.
 */
#pragma once

#include "base/msg.h"
#include "store/journal.h"

/* All borrowed. */
typedef struct {
  NcJournal *journal;
  const char *op;    /* "machine.start" */
  const char *actor; /* "certificate:alice" */
  const char *role;
  const char *from;  /* an address, a socket, a node: for people */
  json_t *args;      /* an object */
  const char *token; /* the id of the bearer token that they came with; NULL: none */
} NcLoggedRequest;

/* *ret_seq: the entry's number, for nc_request_log_end(). */
bool nc_request_log_begin(const NcLoggedRequest *request, uint64_t *ret_seq, GError **error);
/* ${result}: NULL with ${problem}. That it could not be recorded is told in the log only: it has happened. */
void nc_request_log_end(const NcLoggedRequest *request, uint64_t seq, json_t *result, const GError *problem);

/* Of what is asked for, without its idempotency key, in hexadecimal: a key is for one request, and does not mean two things. Caller frees. */
char *nc_request_sha256(const char *op, json_t *args);
