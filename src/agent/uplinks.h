/* SPDX-License-Identifier: Apache-2.0 */
/* The setting "uplinks": the links behind a node's network card, which it shares with other nodes. Pure. */
#pragma once

#include <jansson.h>

/*
 * ${text}: "rack-3:1250000000, site-a:125000000", the nearest link first, with what migrations may have of it in each direction, bytes per second.
 * [{"name", "rate_bps"}], at most NC_FLEET_MOST_UPLINKS, each name once; of "" an empty one. New reference; NULL: it is none of that.
 */
json_t *nc_uplinks_parse(const char *text);
