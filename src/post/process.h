/* SPDX-License-Identifier: Apache-2.0 */
/*
 * novacron-post: one HTTP POST at a time, for novacrond, which itself speaks to nobody over HTTP. The program is unprivileged and
 * sandboxed; closing our end of its socket ends it. What it is told and what it answers: docs/protocols.md section 8.
 */
#pragma once

#include "base/msg.h"
#include <sys/types.h>

typedef struct NcPoster NcPoster;

/* Who it becomes if we are root. NC_ERROR_INTERNAL, NC_ERROR_RESOURCE. */
NcPoster *nc_poster_start(uid_t uid, gid_t gid, GError **error);
/* Kills and reaps it. NULL is fine. */
void nc_poster_free(NcPoster *poster);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPoster, nc_poster_free)

/* ${url}, ${headers} (array of "Name: value") and ${body}; ${ca}: PEM, NULL: the system's. Borrowed. */
typedef struct {
  const char *url, *ca, *body;
  json_t *headers;
} NcPost;

/*
 * Blocks, until nc_poster_break() or for half a minute at most. *ret_status: of the answer. False with NC_ERROR_UNREACHABLE: there was none, and
 * why; anything else: the program is of no use any more.
 */
bool nc_poster_post(NcPoster *poster, const NcPost *post, int *ret_status, GError **error);
/* From another thread: what is under way fails. */
void nc_poster_break(NcPoster *poster);
