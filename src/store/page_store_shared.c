/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of manifests as blocks of the store, and as differences from such blocks. */
#include "store/page_store_shared.h"
#include "store/page_store_manifest.h"

#include <string.h>
#include <zstd.h>

#define NC_SHARED_BYTES_MAX (NC_SECTION_ENTRIES * NC_SECTION_ENTRY_MAX) /* of a section's entries */
#define NC_SHARED_LEVEL 6
#define NC_SHARED_WINDOW_LOG 18 /* all parts and the section */
G_STATIC_ASSERT((NC_SHARED_PARTS_MAX + 1) * NC_SHARED_BYTES_MAX <= 1u << NC_SHARED_WINDOW_LOG);
G_STATIC_ASSERT(NC_SHARED_BYTES_MAX <= NC_PAGE_STORE_BLOCK_MAX);
/* One entry in so many shows where the others may be. */
#define NC_SHARED_SAMPLE 16u

/* --- reading --- */

bool
nc_shared_decode(const GByteArray *payload, NcShared *ret, GError **error)
{
  NcReader r = nc_reader(payload->data, payload->len);
  uint8_t count;

  *ret = (NcShared){ 0 };
  if (!nc_reader_u8(&r, &count) || count == 0 || count > NC_SHARED_PARTS_MAX)
    return nc_fail(error, NC_ERROR_CORRUPT, "a shared section makes no sense");
  ret->count = count;
  for (unsigned i = 0; i < count; i++)
    if (!nc_reader_copy(&r, ret->hashes[i], NC_SHA256_BYTES))
      return nc_fail(error, NC_ERROR_CORRUPT, "a shared section is too short");
  ret->coded = r.at;
  ret->coded_bytes = nc_reader_left(&r);
  if (ret->coded_bytes == 0 && count != 1)
    return nc_fail(error, NC_ERROR_CORRUPT, "a shared section of %u parts does not say what of them it is", count);
  return true;
}

GByteArray *
nc_shared_unfold(const NcShared *shared, const GByteArray *prefix, GError **error)
{
  g_autoptr(GByteArray) entries = g_byte_array_new();

  if (shared->coded_bytes == 0) {
    g_byte_array_append(entries, prefix->data, prefix->len);
    return g_steal_pointer(&entries);
  }
  ZSTD_DCtx *decoder = ZSTD_createDCtx();
  if (!decoder) {
    nc_fail(error, NC_ERROR_RESOURCE, "no memory to decompress");
    return NULL;
  }
  g_byte_array_set_size(entries, NC_SHARED_BYTES_MAX);
  size_t n = ZSTD_DCtx_refPrefix(decoder, prefix->data, prefix->len);
  if (!ZSTD_isError(n))
    n = ZSTD_decompressDCtx(decoder, entries->data, entries->len, shared->coded, shared->coded_bytes);
  ZSTD_freeDCtx(decoder);
  if (ZSTD_isError(n)) {
    nc_fail(error, NC_ERROR_CORRUPT, "a shared section does not decompress");
    return NULL;
  }
  g_byte_array_set_size(entries, (guint)n);
  return g_steal_pointer(&entries);
}

/* Appends the block of ${hash} to ${out}. */
static bool
nc_shared_get(NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES], GByteArray *out, GError **error)
{
  guint before = out->len;
  uint32_t length = 0;
  g_autoptr(GError) why = NULL;

  g_byte_array_set_size(out, before + NC_SHARED_BYTES_MAX);
  bool ok = nc_page_store_get(store, hash, out->data + before, NC_SHARED_BYTES_MAX, &length, &why);
  g_byte_array_set_size(out, before + length);
  if (ok)
    return true;
  bool gone = why->code == NC_ERROR_NOT_FOUND || why->code == NC_ERROR_INVALID; /* INVALID: longer than a part can be */
  return nc_fail(error, gone ? NC_ERROR_CORRUPT : why->code, "a part of it can't be read: %s", why->message);
}

GByteArray *
nc_shared_load(NcPageStore *store, const GByteArray *payload, NcSharedPartFunc func, gpointer data, GError **error)
{
  g_autoptr(GByteArray) prefix = g_byte_array_new();
  NcShared shared;

  if (!nc_shared_decode(payload, &shared, error))
    return NULL;
  for (unsigned i = 0; i < shared.count && func; i++)
    func(shared.hashes[i], data);
  for (unsigned i = 0; i < shared.count; i++)
    if (!nc_shared_get(store, shared.hashes[i], prefix, error))
      return NULL;
  return nc_shared_unfold(&shared, prefix, error);
}

/* --- an earlier manifest --- */

typedef struct {
  uint64_t key;  /* the first bytes of an entry's hash */
  uint32_t part; /* that it is in */
} NcAnchor;

struct NcSharedBase {
  GByteArray *hashes; /* of the parts, NC_SHA256_BYTES each */
  GArray *anchors;    /* NcAnchor, by key */
  ZSTD_CCtx *encoder;
};

/* The next entry of ${r} that is in the sample. */
static bool
nc_shared_next_sample(NcReader *r, uint64_t *ret_key)
{
  NcManifestEntry entry;

  while (nc_section_next_entry(r, &entry)) {
    if (nc_manifest_entry_is_hole(&entry) || entry.hash[NC_SHA256_BYTES - 1] % NC_SHARED_SAMPLE != 0)
      continue;
    *ret_key = nc_be64(entry.hash);
    return true;
  }
  return false;
}

typedef struct {
  NcSharedBase *base;
  GHashTable *seen; /* GBytes of hashes */
} NcSharedList;

static void
nc_shared_list_part(const uint8_t hash[NC_SHA256_BYTES], gpointer data)
{
  NcSharedList *list = data;

  if (g_hash_table_add(list->seen, g_bytes_new(hash, NC_SHA256_BYTES)))
    g_byte_array_append(list->base->hashes, hash, NC_SHA256_BYTES);
}

/* Lists the parts that ${reader}'s manifest names. */
static bool
nc_shared_base_list(NcSharedBase *base, NcManifestReader *reader, GError **error)
{
  g_autoptr(GHashTable) seen = g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
  NcSharedList list = { .base = base, .seen = seen };
  NcManifestEntry entry;
  NcManifestOutcome outcome;

  nc_manifest_reader_on_part(reader, nc_shared_list_part, &list);
  while ((outcome = nc_manifest_next(reader, &entry, error)) == NC_MANIFEST_ENTRY)
    ;
  nc_manifest_reader_on_part(reader, NULL, NULL);
  return outcome == NC_MANIFEST_END;
}

static gint
nc_anchor_compare(gconstpointer a, gconstpointer b)
{
  uint64_t x = ((const NcAnchor *)a)->key, y = ((const NcAnchor *)b)->key;
  return (x > y) - (x < y);
}

static bool
nc_shared_base_sample(NcSharedBase *base, NcPageStore *store, GError **error)
{
  for (guint at = 0; at < base->hashes->len; at += NC_SHA256_BYTES) {
    g_autoptr(GByteArray) part = g_byte_array_new();
    NcAnchor anchor = { .part = at / NC_SHA256_BYTES };
    if (!nc_shared_get(store, base->hashes->data + at, part, error))
      return false;
    NcReader r = nc_reader(part->data, part->len);
    while (nc_shared_next_sample(&r, &anchor.key))
      g_array_append_val(base->anchors, anchor);
  }
  g_array_sort(base->anchors, nc_anchor_compare);
  return true;
}

NcSharedBase *
nc_shared_base_new(NcPageStore *store, const char *name, GError **error)
{
  g_autoptr(NcManifestReader) reader = nc_manifest_open(store, name, error);
  g_autoptr(NcSharedBase) base = g_new0(NcSharedBase, 1);

  base->hashes = g_byte_array_new();
  base->anchors = g_array_new(FALSE, FALSE, sizeof(NcAnchor));
  base->encoder = ZSTD_createCCtx();
  if (!base->encoder) {
    nc_fail(error, NC_ERROR_RESOURCE, "no memory to compress");
    return NULL;
  }
  ZSTD_CCtx_setParameter(base->encoder, ZSTD_c_compressionLevel, NC_SHARED_LEVEL);
  ZSTD_CCtx_setParameter(base->encoder, ZSTD_c_windowLog, NC_SHARED_WINDOW_LOG);
  bool ok = reader && nc_shared_base_list(base, reader, error) && nc_shared_base_sample(base, store, error);
  return ok ? g_steal_pointer(&base) : NULL;
}

void
nc_shared_base_free(NcSharedBase *base)
{
  if (!base)
    return;
  g_byte_array_unref(base->hashes);
  g_array_unref(base->anchors);
  ZSTD_freeCCtx(base->encoder);
  g_free(base);
}

/* --- writing --- */

/* The part that ${key} is in; -1: none. */
static gint64
nc_shared_base_find(const NcSharedBase *base, uint64_t key)
{
  guint low = 0, high = base->anchors->len;

  while (low < high) {
    guint middle = low + (high - low) / 2;
    const NcAnchor *anchor = &g_array_index(base->anchors, NcAnchor, middle);
    if (anchor->key == key)
      return anchor->part;
    if (anchor->key < key)
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

typedef struct {
  uint32_t part, votes;
} NcSharedVote;

static gint
nc_shared_vote_compare(gconstpointer a, gconstpointer b)
{
  uint32_t x = ((const NcSharedVote *)a)->votes, y = ((const NcSharedVote *)b)->votes;
  return (x < y) - (x > y);
}

/* The parts that have something of ${entries}, by how much. Array of NcSharedVote. */
static GArray *
nc_shared_vote(const NcSharedBase *base, const GByteArray *entries)
{
  GArray *votes = g_array_new(FALSE, FALSE, sizeof(NcSharedVote));
  NcReader r = nc_reader(entries->data, entries->len);
  uint64_t key;

  while (nc_shared_next_sample(&r, &key)) {
    gint64 part = nc_shared_base_find(base, key);
    guint i = 0;
    while (part >= 0 && i < votes->len && g_array_index(votes, NcSharedVote, i).part != part)
      i++;
    const NcSharedVote vote = { .part = (uint32_t)part };
    if (part >= 0 && i == votes->len)
      g_array_append_val(votes, vote);
    if (part >= 0)
      g_array_index(votes, NcSharedVote, i).votes++;
  }
  g_array_sort(votes, nc_shared_vote_compare);
  return votes;
}

static GByteArray *
nc_shared_payload(const uint8_t *hashes, unsigned count)
{
  GByteArray *payload = g_byte_array_new();
  nc_put_u8(payload, (uint8_t)count);
  g_byte_array_append(payload, hashes, count * NC_SHA256_BYTES);
  return payload;
}

/* Appends ${entries}, coded with ${prefix}, to ${payload}, if it has not more than ${most} bytes then. */
static bool
nc_shared_fold(NcSharedBase *base, const GByteArray *prefix, const GByteArray *entries, GByteArray *payload, guint most)
{
  guint before = payload->len;

  ZSTD_CCtx_reset(base->encoder, ZSTD_reset_session_only); /* the last one may not have come to its end */
  if (before >= most || ZSTD_isError(ZSTD_CCtx_refPrefix(base->encoder, prefix->data, prefix->len)))
    return false;
  g_byte_array_set_size(payload, most);
  size_t n = ZSTD_compress2(base->encoder, payload->data + before, most - before, entries->data, entries->len);
  if (ZSTD_isError(n))
    return false;
  g_byte_array_set_size(payload, before + (guint)n);
  return true;
}

/*
 * As a difference from parts of ${base}; NULL if that does not save three quarters: each manifest pays its differences again, so
 * a part that fits badly is soon dearer than a new one.
 */
static GByteArray *
nc_shared_store_difference(NcPageStoreWriter *writer, NcSharedBase *base, const GByteArray *entries)
{
  g_autoptr(GArray) votes = nc_shared_vote(base, entries);
  g_autoptr(GByteArray) prefix = g_byte_array_new(), hashes = g_byte_array_new();

  for (guint i = 0; i < MIN(votes->len, NC_SHARED_PARTS_MAX); i++) {
    const uint8_t *hash = base->hashes->data + (gsize)g_array_index(votes, NcSharedVote, i).part * NC_SHA256_BYTES;
    /* Held first: then it can't go any more. One that has gone, or is damaged, is done without. */
    if (nc_page_store_hold(writer, hash, NULL) && nc_shared_get(writer->store, hash, prefix, NULL))
      g_byte_array_append(hashes, hash, NC_SHA256_BYTES);
  }
  if (hashes->len == 0)
    return NULL;
  g_autoptr(GByteArray) payload = nc_shared_payload(hashes->data, hashes->len / NC_SHA256_BYTES);
  return nc_shared_fold(base, prefix, entries, payload, entries->len / 4) ? g_steal_pointer(&payload) : NULL;
}

GByteArray *
nc_shared_store(NcPageStoreWriter *writer, NcSharedBase *base, const GByteArray *entries, GError **error)
{
  NcPageBlock block = { .data = entries->data, .length = entries->len };
  GByteArray *payload = NULL;

  nc_sha256(entries->data, entries->len, block.hash);
  bool there = nc_page_store_hold(writer, block.hash, NULL);
  if (!there && base && (payload = nc_shared_store_difference(writer, base, entries)))
    return payload;
  if (!there && !nc_page_store_put(writer, &block, 1, NC_PUT_COMPUTE, error))
    return NULL;
  return nc_shared_payload(block.hash, 1);
}
