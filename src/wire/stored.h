/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that the destination's page store holds: a list that both sides have.
 *
 * Before the movers connect, the destination lists the pages of a checkpoint of the machine that is in its store, each
 * by the first NC_STORED_PREFIX_BYTES of its SHA-256. A page with that hash then goes as its number in the list,
 * whatever batch it is in, since the list never changes. That the destination found the very same page is proven by the
 * SHA-256 of the batch: where it did not, or can't read it any more, the batch comes whole.
 *
 * Of which machine, and whether at all, is for those to decide who make the list (agent/stored_pages.h).
 */
#pragma once

#include "crypto/digest.h"
#include "wire/limits.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NC_STORED_PREFIX_BYTES 16u
#define NC_NOT_STORED UINT32_MAX
#define NC_STORED_READ_MAX (NC_BATCH_RAW_MAX / 4096u) /* pages of one batch */

/* --- the source --- */

typedef struct NcStoredIndex NcStoredIndex;

/*
 * ${prefixes}: NC_STORED_PREFIX_BYTES for each of ${count} (at most NC_STORED_PAGES_MAX) pages, taken (g_free). They
 * come from a peer: whatever they are, this takes linear time; some of those that were chosen to collide may be left
 * out.
 */
NcStoredIndex *nc_stored_index_new(uint8_t *prefixes, uint32_t count);
void nc_stored_index_free(NcStoredIndex *index); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcStoredIndex, nc_stored_index_free)
/* The number of a page with that SHA-256, or NC_NOT_STORED. Any thread. */
uint32_t nc_stored_index_find(const NcStoredIndex *index, const uint8_t sha256[NC_SHA256_BYTES]);

/* --- the destination --- */

/* Where its decoders get them. */
typedef struct {
  uint32_t count; /* of the list */
  void *data;     /* the first argument of: */
  /* The pages of ${n} (1 to NC_STORED_READ_MAX) numbers to ${to}, ${step} bytes apart. False: not all can be had. Any
   * thread. */
  bool (*read)(void *data, const uint32_t *numbers, uint32_t n, uint8_t *to, size_t step);
} NcStoredPages;
