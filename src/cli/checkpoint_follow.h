/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for what happens to a checkpoint: that it is made, restored or verified. */
#pragma once

#include "cli/cli.h"

/* Asks again and again, drawing a line of progress, until nothing is under way. New reference: the checkpoint; NULL on error. */
json_t *nc_checkpoint_follow(const NcCli *cli, const char *id, GError **error);
