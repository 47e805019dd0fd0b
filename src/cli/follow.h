/* SPDX-License-Identifier: Apache-2.0 */
/* Following something to its end, with progress on standard error. */
#pragma once

#include "cli/cli.h"

/* What is followed. ${title} ("migration m-1"), ${path}: borrowed. */
typedef struct {
  const char *title, *path;
  bool (*has_ended)(json_t *state); /* or needs attention: there is nothing to wait for */
  char *(*progress)(json_t *state); /* one line; caller frees */
} NcFollowed;

/*
 * Asks for ${followed} every 250 ms until it has ended; draws one line in place
 * if standard error is a terminal, else writes a line every 2 s. NovaCron not
 * answering for a while (a restart) is waited out: it goes on meanwhile. New
 * reference to its last state. NULL with NC_ERROR_CANCELLED after Ctrl-C: it
 * goes on and *ret_interrupted is set.
 */
json_t *nc_follow_path(const NcCli *cli, const NcFollowed *followed, bool *ret_interrupted, GError **error);

/* The same of migration ${id} of this node, until it has ended or needs attention. */
json_t *nc_follow(const NcCli *cli, const char *id, bool *ret_interrupted, GError **error);
