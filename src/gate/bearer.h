/* SPDX-License-Identifier: Apache-2.0 */
/* The header Authorization, as far as it carries a token. Pure. */
#pragma once

#include <stdbool.h>

#define NC_BEARER_MOST_BYTES 192 /* ours have under 100 */

/*
 * Is ${value} (NULL: there is no such header) of the scheme Bearer? *ret_token, within ${value}: its token; "" if what stands
 * there can't be one of ours (nothing, too long, other characters). Other schemes are not ours to judge: false.
 */
bool nc_bearer_read(const char *value, const char **ret_token);
