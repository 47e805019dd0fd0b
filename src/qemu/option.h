/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One option of a QEMU command line, taken apart and put together again.
 *
 * QEMU has two spellings: "first,key=value,flag" (a comma inside a value is
 * doubled; the first word may be the value of an implied key; a flag is "on", one
 * with "no" before it "off") and, for some options, a JSON object. Both look the same
 * here. What is not changed comes out as it went in, byte for byte.
 */
#pragma once

#include "base/error.h"

typedef struct NcOption NcOption;

/* ${implied_key}: of the first word if it has no '='; NULL: that word is a flag. NULL with NC_ERROR_INVALID if it is no JSON. */
NcOption *nc_option_parse(const char *text, const char *implied_key, GError **error);
void nc_option_free(NcOption *option);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcOption, nc_option_free)

/* The last value of ${key}, as text; NULL if there is none. Caller frees. */
char *nc_option_get(const NcOption *option, const char *key);
bool nc_option_has(const NcOption *option, const char *key);
/* Is the value of ${key} "on" (or what QEMU takes for it)? ${fallback} if there is none. */
bool nc_option_is_on(const NcOption *option, const char *key, bool fallback);
/* Replaces ${key} where it stands, or adds it at the end. */
void nc_option_set(NcOption *option, const char *key, const char *value);
/* The same for a boolean: JSON knows the difference. */
void nc_option_set_bool(NcOption *option, const char *key, bool value);
/* Removes every ${key}. */
void nc_option_remove(NcOption *option, const char *key);
/* Caller frees. */
char *nc_option_print(const NcOption *option);
