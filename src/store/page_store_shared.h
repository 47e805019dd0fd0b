/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What manifests have in common lies in the store once. Private to src/store/page_store_*.c.
 *
 * The entries of a section (up to NC_SECTION_ENTRIES, encoded as in an ENTRIES section) are a block of the store like any other,
 * a part; the manifest's file has a SHARED section with its hash. A section that differs little from parts of an earlier manifest
 * names those, and adds its difference: up to NC_SHARED_PARTS_MAX hashes, and the entries coded by zstd with the parts, one
 * behind the other, as prefix. Parts are never differences themselves, so there are no chains; each manifest names all parts that it
 * needs, so any can be deleted; and a part stays as long as a manifest names it, as pages do (gc marks both).
 *
 * Payload of a SHARED section: u8 number of parts (1 to 4), the parts' hashes, and the coded entries; nothing of those if the
 * entries are the only part. Foreign bytes: all lengths are checked.
 */
#pragma once

#include "store/page_store_internal.h"
#include "store/page_store_sections.h"

#define NC_SHARED_PARTS_MAX 4u
#define NC_SHARED_LEAST 64u /* entries; fewer are not worth a block */

/* --- reading --- */

typedef struct {
  unsigned count;                                      /* of parts */
  uint8_t hashes[NC_SHARED_PARTS_MAX][NC_SHA256_BYTES];
  const uint8_t *coded;                                /* borrowed from the payload */
  size_t coded_bytes;                                  /* 0: the entries are the only part */
} NcShared;

/* NC_ERROR_CORRUPT if it has not the shape. */
bool nc_shared_decode(const GByteArray *payload, NcShared *ret, GError **error);
/* The entries, with the parts in ${prefix}; at most NC_SECTION_ENTRIES of them, if they were coded. NULL: NC_ERROR_CORRUPT. */
GByteArray *nc_shared_unfold(const NcShared *shared, const GByteArray *prefix, GError **error);

/* Called with the hash of each part, before it is read. */
typedef void (*NcSharedPartFunc)(const uint8_t hash[NC_SHA256_BYTES], gpointer data);

/* The entries that a SHARED section's ${payload} stands for. ${func} may be NULL. NC_ERROR_CORRUPT if a part can't be had. */
GByteArray *nc_shared_load(NcPageStore *store, const GByteArray *payload, NcSharedPartFunc func, gpointer data, GError **error);

/* --- writing --- */

/* The parts of an earlier manifest, and a sample of what is in which: 1 byte of memory for each of its entries. */
typedef struct NcSharedBase NcSharedBase;

/* Of manifest ${name}; NULL if it can't be read. Keeps nothing of it from being collected. */
NcSharedBase *nc_shared_base_new(NcPageStore *store, const char *name, GError **error);
void nc_shared_base_free(NcSharedBase *base); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcSharedBase, nc_shared_base_free)

/*
 * The payload of a SHARED section for ${entries}, after storing what is not in the store yet; ${writer} holds the parts from now
 * on. ${base} may be NULL. New array; NULL on error.
 */
GByteArray *nc_shared_store(NcPageStoreWriter *writer, NcSharedBase *base, const GByteArray *entries, GError **error);
