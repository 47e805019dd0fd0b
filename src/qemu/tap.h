/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent tap devices for machines' NICs, in this network namespace. */
#pragma once

#include "base/error.h"

/*
 * Makes the tap ${ifname} (at most 15 characters), adds it to ${bridge} (NULL: to none) and brings
 * it up. One that is there already is used. NC_ERROR_RESOURCE, or NC_ERROR_UNSUITABLE if
 * there is no such bridge.
 */
bool nc_tap_create(const char *ifname, const char *bridge, GError **error);
/* Removes it; one that is not there is fine. */
bool nc_tap_delete(const char *ifname, GError **error);
/* Is there a bridge of this name? */
bool nc_bridge_exists(const char *bridge);
/* The name of the bridge (or other master) that ${ifname} is in; NULL: in none. Caller frees. */
char *nc_tap_master(const char *ifname);
