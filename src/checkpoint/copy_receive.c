/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver of a copy. What comes is foreign: nothing of it is used before it was checked. */
#include "base/bytes.h"
#include "base/ident.h"
#include "checkpoint/copy.h"
#include "checkpoint/image.h"

#include <zstd.h>

/* After a refusal the sender may still be sending what was asked for: read on, so that it comes to hear why. */
#define NC_COPY_DRAIN_MS 10000

typedef struct {
  const NcCopy *copy;
  const NcCopyOffer *offer;
  NcPageStoreWriter *writer; /* holds what was there before, too */
  NcManifestWriter *manifest;
  NcCopyTotals totals;
  uint64_t entries;
  NcManifestEntry names[NC_COPY_NAMES_MAX]; /* of one turn */
  unsigned count;
  uint8_t lacks[NC_COPY_NAMES_MAX / 8];
  unsigned lacking; /* names that are */
  unsigned next;    /* the name of the next block, or of one before it */
  NcPageBlock blocks[NC_COPY_NAMES_MAX];
  uint8_t coded[NC_COPY_CONTENT_MAX], content[NC_COPY_CONTENT_MAX];
} NcCopyReceiver;

bool
nc_copy_offer_parse(json_t *message, NcCopyOffer *ret, GError **error)
{
  int64_t entries, blocks, bytes;

  ret->id = nc_json_string(message, "id", error);
  ret->machine = ret->id ? nc_json_string(message, "machine", error) : NULL;
  if (!ret->machine || !nc_json_int(message, "entries", 0, INT64_MAX, &entries, error) ||
      !nc_json_int(message, "blocks", 0, entries, &blocks, error) ||
      !nc_json_int(message, "block_bytes", 0, INT64_MAX, &bytes, error))
    return false;
  ret->entries = (uint64_t)entries;
  ret->blocks = (uint64_t)blocks;
  ret->block_bytes = (uint64_t)bytes;
  return (nc_name_is_valid(ret->id) && nc_name_is_valid(ret->machine)) ||
         nc_fail(error, NC_ERROR_PROTOCOL, "an offered checkpoint has no proper name");
}

static bool
nc_receiver_send(NcCopyReceiver *r, json_t *message, const void *bytes, size_t length, GError **error)
{
  nc_autojson json_t *owned = message;
  return r->copy->link->send(r->copy->link->data, owned, bytes, length, error);
}

static bool
nc_receiver_get(NcCopyReceiver *r, void *data, size_t length, GError **error)
{
  r->totals.wire_bytes += length;
  return r->copy->link->recv_bytes(r->copy->link->data, data, length, error);
}

/* --- names --- */

static bool
nc_receiver_take_name(NcCopyReceiver *r, NcReader *reader, NcManifestEntry *name, GError **error)
{
  const uint8_t *hash = nc_reader_take(reader, NC_SHA256_BYTES);

  if (!hash || !nc_reader_u32(reader, &name->length))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the names of blocks end in the middle");
  memcpy(name->hash, hash, NC_SHA256_BYTES);
  if (nc_manifest_entry_is_hole(name))
    return true;
  r->totals.blocks++;
  r->totals.block_bytes += name->length;
  return (name->length >= 1 && name->length <= NC_PAGE_STORE_BLOCK_MAX && r->totals.blocks <= r->offer->blocks &&
          r->totals.block_bytes <= r->offer->block_bytes) ||
         nc_fail(error, NC_ERROR_PROTOCOL, "more or larger blocks are named than were offered");
}

static bool
nc_receiver_hear_names(NcCopyReceiver *r, json_t *message, GError **error)
{
  g_autofree uint8_t *bytes = g_malloc(NC_COPY_NAMES_MAX * NC_COPY_NAME_BYTES);
  int64_t count, length;

  if (!nc_json_int(message, "count", 1, NC_COPY_NAMES_MAX, &count, error) ||
      !nc_json_int(message, "bytes", count * NC_COPY_NAME_BYTES, count * NC_COPY_NAME_BYTES, &length, error))
    return false;
  if (r->entries + (uint64_t)count > r->offer->entries)
    return nc_fail(error, NC_ERROR_PROTOCOL, "more entries come than were offered");
  if (!nc_receiver_get(r, bytes, (size_t)length, error))
    return false;
  NcReader reader = nc_reader(bytes, (size_t)length);
  for (unsigned i = 0; i < count; i++)
    if (!nc_receiver_take_name(r, &reader, &r->names[i], error))
      return false;
  r->count = (unsigned)count;
  r->entries += (uint64_t)count;
  return true;
}

static guint
nc_name_hash(gconstpointer key)
{
  guint h;
  memcpy(&h, ((const NcManifestEntry *)key)->hash, sizeof h); /* of a hash: any part will do */
  return h;
}

static gboolean
nc_name_equal(gconstpointer a, gconstpointer b)
{
  return memcmp(((const NcManifestEntry *)a)->hash, ((const NcManifestEntry *)b)->hash, NC_SHA256_BYTES) == 0;
}

/* What is here is held from now on; what is named twice is asked for once. */
static bool
nc_receiver_tell_lacks(NcCopyReceiver *r, GError **error)
{
  g_autoptr(GHashTable) asked = g_hash_table_new(nc_name_hash, nc_name_equal);
  unsigned bytes = (r->count + 7) / 8;

  memset(r->lacks, 0, sizeof r->lacks);
  r->lacking = 0;
  r->next = 0;
  for (unsigned i = 0; i < r->count; i++) {
    NcManifestEntry *name = &r->names[i];
    if (nc_manifest_entry_is_hole(name) || nc_page_store_hold(r->writer, name->hash, NULL) ||
        !g_hash_table_add(asked, name))
      continue;
    r->lacks[i / 8] |= (uint8_t)(0x80u >> i % 8);
    r->lacking++;
  }
  r->totals.wire_bytes += bytes;
  return nc_receiver_send(r,
                          json_pack("{s:s, s:i, s:i, s:i}", "type", "cp_lack", "count", (int)r->count, "bytes",
                                    (int)bytes, "lacking", (int)r->lacking),
                          r->lacks, bytes, error);
}

/* --- content --- */

static bool
nc_receiver_read_content(NcCopyReceiver *r, size_t raw, size_t length, GError **error)
{
  if (length == raw)
    return nc_receiver_get(r, r->content, raw, error);
  if (!nc_receiver_get(r, r->coded, length, error))
    return false;
  size_t n = ZSTD_decompress(r->content, raw, r->coded, length);
  return (!ZSTD_isError(n) && n == raw) || nc_fail(error, NC_ERROR_CORRUPT, "blocks came that can't be decompressed");
}

static bool
nc_receiver_take_blocks(NcCopyReceiver *r, json_t *message, GError **error)
{
  int64_t count, raw, length;
  size_t at = 0;

  if (!nc_json_int(message, "count", 1, r->lacking, &count, error) ||
      !nc_json_int(message, "raw", count, NC_COPY_CONTENT_MAX, &raw, error) ||
      !nc_json_int(message, "bytes", 1, raw, &length, error) ||
      !nc_receiver_read_content(r, (size_t)raw, (size_t)length, error))
    return false;
  for (unsigned i = 0; i < count; i++, r->next++) {
    while (!(r->lacks[r->next / 8] & 0x80u >> r->next % 8)) /* as many are set as are lacking */
      r->next++;
    const NcManifestEntry *name = &r->names[r->next];
    if (name->length > (size_t)raw - at)
      return nc_fail(error, NC_ERROR_PROTOCOL, "fewer bytes came than the blocks have");
    r->blocks[i] = (NcPageBlock){ .data = r->content + at, .length = name->length };
    memcpy(r->blocks[i].hash, name->hash, NC_SHA256_BYTES);
    at += name->length;
  }
  if (at != (size_t)raw)
    return nc_fail(error, NC_ERROR_PROTOCOL, "more bytes came than the blocks have");
  if (!nc_page_store_put(r->writer, r->blocks, (unsigned)count, NC_PUT_VERIFY, error))
    return false;
  r->lacking -= (unsigned)count;
  r->totals.sent_blocks += (uint64_t)count;
  r->totals.sent_bytes += (uint64_t)raw;
  return true;
}

/* --- a turn --- */

static bool
nc_receiver_append(NcCopyReceiver *r, GError **error)
{
  uint64_t bytes = 0;

  for (unsigned i = 0; i < r->count; i++) {
    const NcManifestEntry *name = &r->names[i];
    bool hole = nc_manifest_entry_is_hole(name);
    if (!(hole ? nc_manifest_add_hole(r->manifest, name->length, error)
               : nc_manifest_add(r->manifest, name->hash, name->length, error)))
      return false;
    bytes += hole ? 0 : name->length;
  }
  __atomic_fetch_add(r->copy->progress, bytes, __ATOMIC_RELAXED);
  return true;
}

static bool
nc_receiver_turn(NcCopyReceiver *r, json_t *message, GError **error)
{
  if (!nc_receiver_hear_names(r, message, error) || !nc_receiver_tell_lacks(r, error))
    return false;
  while (r->lacking > 0) {
    nc_autojson json_t *blocks = nc_copy_expect(r->copy->link, "cp_blocks", NULL, NC_COPY_SILENCE_MS, error);
    if (!blocks || !nc_receiver_take_blocks(r, blocks, error))
      return false;
    if (g_atomic_int_get(r->copy->cancelled))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled at the receiver");
  }
  return nc_receiver_append(r, error);
}

/* --- the end --- */

static bool
nc_receiver_commit(NcCopyReceiver *r, json_t *message, json_t *note, json_t **ret_meta, GError **error)
{
  uint32_t layout_bytes;
  int64_t length;

  if (!nc_json_int(message, "bytes", 1, NC_MANIFEST_HEADER_MAX, &length, error))
    return false;
  if (r->entries != r->offer->entries || r->totals.blocks != r->offer->blocks ||
      r->totals.block_bytes != r->offer->block_bytes)
    return nc_fail(error, NC_ERROR_PROTOCOL, "fewer entries came than were offered");
  g_autofree uint8_t *header = g_malloc((size_t)length);
  if (!nc_receiver_get(r, header, (size_t)length, error))
    return false;
  nc_autojson json_t *meta = nc_image_header_decode(r->offer->id, header, (size_t)length, &layout_bytes, error);
  if (!meta)
    return false;
  if (!g_str_equal(nc_json_string_or(meta, "machine", ""), r->offer->machine))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the checkpoint is of another machine than was offered");
  json_object_set(meta, "copied", note);
  g_autoptr(GByteArray) ours = nc_image_header_encode(meta, layout_bytes, error);
  if (!ours || !nc_manifest_commit(r->manifest, ours->data, ours->len, error))
    return false;
  *ret_meta = g_steal_pointer(&meta);
  return true;
}

static bool
nc_receiver_run(NcCopyReceiver *r, json_t *note, json_t **ret_meta, GError **error)
{
  const NcCopyLink *link = r->copy->link;

  if (!(r->writer = nc_page_store_writer_new(r->copy->store, error)) ||
      !(r->manifest = nc_manifest_begin(r->writer, r->offer->id, error)))
    return false;
  if (r->copy->base)
    nc_manifest_set_base(r->manifest, r->copy->base, NULL); /* a hint: it goes on without */
  if (!nc_receiver_send(r, json_pack("{s:s, s:s}", "type", "cp_take", "id", r->offer->id), NULL, 0, error))
    return false;
  for (;;) {
    nc_autojson json_t *message = nc_copy_expect(link, "cp_names", "cp_end", NC_COPY_SILENCE_MS, error);
    if (!message)
      return false;
    if (g_atomic_int_get(r->copy->cancelled))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled at the receiver");
    if (g_str_equal(nc_json_string_or(message, "type", ""), "cp_end"))
      return nc_receiver_commit(r, message, note, ret_meta, error);
    if (!nc_receiver_turn(r, message, error))
      return false;
  }
}

bool
nc_copy_receive(const NcCopy *copy, const NcCopyOffer *offer, json_t *note, NcCopyTotals *ret, json_t **ret_meta, GError **error)
{
  NcCopyReceiver *r = g_new0(NcCopyReceiver, 1);
  g_autoptr(GError) problem = NULL;

  r->copy = copy;
  r->offer = offer;
  *ret_meta = NULL;
  bool ok = nc_receiver_run(r, note, ret_meta, &problem);
  *ret = r->totals;
  nc_manifest_writer_free(r->manifest);
  if (r->writer && !ok)
    nc_page_store_flush(copy->store, NULL); /* for the next try */
  nc_page_store_writer_free(r->writer);
  if (!ok)
    g_propagate_error(error, g_steal_pointer(&problem));
  g_free(r);
  return ok;
}

void
nc_copy_confirm(const NcCopyLink *link, const char *id)
{
  nc_autojson json_t *done = json_pack("{s:s, s:s}", "type", "cp_done", "id", id);

  link->send(link->data, done, NULL, 0, NULL); /* it is here, whether they hear of it or not */
}

void
nc_copy_reject(const NcCopyLink *link, const GError *problem)
{
  g_autofree uint8_t *content = g_malloc(NC_COPY_CONTENT_MAX);
  /* Each two messages of a turn have more than NC_COPY_CONTENT_MAX together: more can't be under way. */
  const unsigned most = 2 * (NC_COPY_NAMES_MAX / (NC_COPY_CONTENT_MAX / NC_PAGE_STORE_BLOCK_MAX)) + 2;
  int64_t until_us = nc_mono_us() + NC_COPY_SILENCE_MS * INT64_C(1000);

  nc_copy_refuse(link, problem);
  for (unsigned i = 0; i < most && nc_mono_us() < until_us; i++) {
    nc_autojson json_t *message = link->recv(link->data, NC_COPY_DRAIN_MS, NULL);
    int64_t length = nc_json_int_or(message, "bytes", 0);
    if (!message || length < 0 || length > (int64_t)NC_COPY_CONTENT_MAX ||
        (length > 0 && !link->recv_bytes(link->data, content, (size_t)length, NULL)))
      return;
  }
}
