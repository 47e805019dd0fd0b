/* SPDX-License-Identifier: Apache-2.0 */
/* Has the client that content already? Entity tags of HTTP (RFC 9110), as far as GET needs them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define NC_ETAG_BYTES 67 /* 64 digits in quotes */

/* The tag of ${data}: its SHA-256 in quotes. */
void nc_etag_of(const void *data, size_t length_bytes, char ret[NC_ETAG_BYTES]);

/* Does ${if_none_match}, that header (NULL: there is none), name ${etag}? Weak tags count: what is not sent need not be the same byte for byte. */
bool nc_etag_is_known(const char *etag, const char *if_none_match);
