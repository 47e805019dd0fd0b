/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of a node that are made whole, page by page: an answer of the control socket has an end. Pure. */
#pragma once

#include "base/error.h"
#include <jansson.h>

#define NC_LIST_PAGE 1000u /* items, if nobody says how many */

/*
 * Of ${list} (taken; NULL stays NULL), by the text ${key} of its items, what args {limit, cursor} ask for: {"items", "next": the cursor
 * for what follows, or null}. Without both, and if one page has all of it, the list itself, in that order. New reference; NC_ERROR_INVALID.
 */
json_t *nc_list_page(json_t *list, const char *key, json_t *args, GError **error);
