/* SPDX-License-Identifier: Apache-2.0 */
/* How the fleet's controller is to move a machine, or many. */
#pragma once

#include "cli/move_options.h"

typedef struct {
  NcMoveOptions move; /* ${to} is not for evacuations and batches */
  NcMoveTuning tuning;
  char *priority;
  int wait;
} NcFleetOptions;

#define NC_FLEET_OPTIONS_NONE                                                                                          \
  {                                                                                                                    \
    .tuning = NC_MOVE_TUNING_NONE                                                                                      \
  }

/* Rows of a GOptionEntry table. ${o}: an NcFleetOptions. */
#define NC_FLEET_OPTION_ENTRIES(o)                                                                                     \
  { "wait", 0, 0, G_OPTION_ARG_NONE, &(o).wait, "stay until it has ended, showing progress", NULL },                   \
      { "priority",                                                                                                    \
        0,                                                                                                             \
        0,                                                                                                             \
        G_OPTION_ARG_STRING,                                                                                           \
        &(o).priority,                                                                                                 \
        "critical, high, normal or low (default: normal; of an evacuation: each machine's)",                           \
        "CLASS" },                                                                                                     \
      NC_MOVE_OPTION_ENTRIES((o).move), NC_MOVE_TUNING_ENTRIES((o).tuning)

void nc_fleet_options_clear(NcFleetOptions *o);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcFleetOptions, nc_fleet_options_clear)

/* All but ${to} and ${wait}, into ${body}; what was not given is left out. NC_ERROR_INVALID. */
bool nc_fleet_options_put(json_t *body, const NcFleetOptions *o, GError **error);
