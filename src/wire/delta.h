/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The difference between two versions of a page.
 *
 * A list of pairs (varint: bytes that are the same, varint: n, n bytes), where
 * the n bytes are the old XOR the new ones: small changes of numbers then look
 * alike, which the compressor behind this likes. What follows the last pair is the same.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NC_DELTA_PAGE_BYTES 4096u

/*
 * Writes the delta from ${base} to ${page} to ${to}. Returns its length, 0 if the
 * pages are equal, or SIZE_MAX if it would be longer than ${room}.
 */
size_t nc_delta_encode(const uint8_t *base, const uint8_t *page, uint8_t *to, size_t room);

/* Changes ${page}, which holds the base. False (and ${page} is of no use): not a delta. */
bool nc_delta_apply(const uint8_t *delta, size_t length, uint8_t *page);
