/* SPDX-License-Identifier: Apache-2.0 */
/* The sender of a copy, and what both ends of one have in common. */
#include "checkpoint/copy.h"
#include "base/bytes.h"
#include "base/fault.h"
#include "checkpoint/image.h"

#include <zstd.h>

#define NC_COPY_LEVEL 1 /* zstd's: as fast as most links */

/* --- both --- */

void
nc_copy_refuse(const NcCopyLink *link, const GError *problem)
{
  nc_autojson json_t *message = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(problem));
  link->send(link->data, message, NULL, 0, NULL);
}

json_t *
nc_copy_expect(const NcCopyLink *link, const char *type, const char *other, int timeout_ms, GError **error)
{
  nc_autojson json_t *message = link->recv(link->data, timeout_ms, error);
  const char *got = nc_json_string_or(message, "type", "");

  if (!message)
    return NULL;
  if (g_str_equal(got, type) || (other && g_str_equal(got, other)))
    return g_steal_pointer(&message);
  if (g_str_equal(got, "refused"))
    nc_error_set_json(error, json_object_get(message, "error"));
  else
    nc_fail(error, NC_ERROR_PROTOCOL, "\"%.32s\" came where \"%s\" was due", got, type);
  return NULL;
}

/* --- the sender --- */

typedef struct {
  const NcCopy *copy;
  const char *id;
  NcManifestReader *manifest;
  NcCopyTotals totals;
  NcManifestEntry names[NC_COPY_NAMES_MAX]; /* of one turn */
  unsigned count;
  uint8_t lacks[NC_COPY_NAMES_MAX / 8];
  uint8_t content[NC_COPY_CONTENT_MAX], coded[NC_COPY_CONTENT_MAX];
} NcCopySender;

static bool
nc_sender_send(NcCopySender *s, json_t *message, const void *bytes, size_t length, GError **error)
{
  nc_autojson json_t *owned = message;
  s->totals.wire_bytes += length;
  return s->copy->link->send(s->copy->link->data, owned, bytes, length, error);
}

/* Fills s->names; fewer than there is room for at the end only. */
static bool
nc_sender_read_names(NcCopySender *s, GError **error)
{
  for (s->count = 0; s->count < NC_COPY_NAMES_MAX; s->count++) {
    NcManifestOutcome outcome = nc_manifest_next(s->manifest, &s->names[s->count], error);
    if (outcome == NC_MANIFEST_BAD)
      return false;
    if (outcome == NC_MANIFEST_END)
      break;
  }
  return true;
}

static bool
nc_sender_tell_names(NcCopySender *s, GError **error)
{
  g_autoptr(GByteArray) names = g_byte_array_sized_new(s->count * NC_COPY_NAME_BYTES);

  for (unsigned i = 0; i < s->count; i++) {
    g_byte_array_append(names, s->names[i].hash, NC_SHA256_BYTES);
    nc_put_u32(names, s->names[i].length);
  }
  return nc_sender_send(
      s, json_pack("{s:s, s:i, s:i}", "type", "cp_names", "count", (int)s->count, "bytes", (int)names->len),
      names->data, names->len, error);
}

static bool
nc_sender_hear_lacks(NcCopySender *s, GError **error)
{
  const NcCopyLink *link = s->copy->link;
  nc_autojson json_t *answer = nc_copy_expect(link, "cp_lack", NULL, NC_COPY_SILENCE_MS, error);
  unsigned bytes = (s->count + 7) / 8;
  int64_t count, length;

  if (!answer || !nc_json_int(answer, "count", s->count, s->count, &count, error) ||
      !nc_json_int(answer, "bytes", bytes, bytes, &length, error))
    return false;
  s->totals.wire_bytes += bytes;
  return link->recv_bytes(link->data, s->lacks, bytes, error);
}

static bool
nc_sender_is_lacking(const NcCopySender *s, unsigned i)
{
  return s->lacks[i / 8] & 0x80u >> i % 8;
}

static bool
nc_sender_send_content(NcCopySender *s, unsigned count, size_t raw, GError **error)
{
  /* Only what becomes smaller: so the receiver knows by the length. */
  size_t n = ZSTD_compress(s->coded, raw - 1, s->content, raw, NC_COPY_LEVEL);
  bool smaller = !ZSTD_isError(n) && n > 0;
  size_t length = smaller ? n : raw;

  s->totals.sent_blocks += count;
  s->totals.sent_bytes += raw;
  return nc_sender_send(s,
                        json_pack("{s:s, s:i, s:i, s:i}", "type", "cp_blocks", "count", (int)count, "raw", (int)raw,
                                  "bytes", (int)length),
                        smaller ? s->coded : s->content, length, error);
}

/* What is lacking of the names, in as many messages as it takes. */
static bool
nc_sender_send_lacking(NcCopySender *s, GError **error)
{
  unsigned count = 0;
  size_t raw = 0;

  for (unsigned i = 0; i < s->count; i++) {
    const NcManifestEntry *name = &s->names[i];
    uint32_t length;
    if (!nc_sender_is_lacking(s, i))
      continue;
    if (nc_manifest_entry_is_hole(name))
      return nc_fail(error, NC_ERROR_PROTOCOL, "it lacks a hole");
    if (g_atomic_int_get(s->copy->cancelled))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
    if (raw + name->length > sizeof s->content && !nc_sender_send_content(s, count, raw, error))
      return false;
    if (raw + name->length > sizeof s->content)
      count = 0, raw = 0;
    if (!nc_page_store_get(s->copy->store, name->hash, s->content + raw, sizeof s->content - raw, &length, error))
      return false;
    if (length != name->length)
      return nc_fail(error, NC_ERROR_CORRUPT, "the manifest says that a block has %u bytes, and it has %u",
                     name->length, length);
    count++;
    raw += length;
  }
  return !count || nc_sender_send_content(s, count, raw, error);
}

static void
nc_sender_count_names(NcCopySender *s)
{
  uint64_t bytes = 0;
  for (unsigned i = 0; i < s->count; i++) {
    if (nc_manifest_entry_is_hole(&s->names[i]))
      continue;
    s->totals.blocks++;
    bytes += s->names[i].length;
  }
  s->totals.block_bytes += bytes;
  __atomic_fetch_add(s->copy->progress, bytes, __ATOMIC_RELAXED);
}

static bool
nc_sender_send_blocks(NcCopySender *s, GError **error)
{
  for (;;) {
    if (g_atomic_int_get(s->copy->cancelled))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
    if (!nc_sender_read_names(s, error))
      return false;
    if (!s->count)
      return true;
    if (!nc_sender_tell_names(s, error) || !nc_sender_hear_lacks(s, error) || !nc_sender_send_lacking(s, error))
      return false;
    nc_sender_count_names(s);
    nc_fault_point("checkpoint-copy-turn");
  }
}

static bool
nc_sender_end(NcCopySender *s, GError **error)
{
  size_t length;
  const void *header = nc_manifest_header(s->manifest, &length);

  if (!nc_sender_send(s, json_pack("{s:s, s:I}", "type", "cp_end", "bytes", (json_int_t)length), header, length, error))
    return false;
  nc_autojson json_t *done = nc_copy_expect(s->copy->link, "cp_done", NULL, NC_COPY_COMMIT_MS, error);
  return done != NULL;
}

static bool
nc_sender_run(NcCopySender *s, GError **error)
{
  size_t length;
  uint32_t layout_bytes;

  if (!(s->manifest = nc_manifest_open(s->copy->store, s->id, error)))
    return false;
  const NcManifestInfo *info = nc_manifest_info(s->manifest);
  const void *header = nc_manifest_header(s->manifest, &length);
  nc_autojson json_t *meta = nc_image_header_decode(s->id, header, length, &layout_bytes, error);
  if (!meta)
    return false;
  if (!nc_sender_send(s,
                      json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "type", "cp_offer", "id", s->id, "machine",
                                nc_json_string_or(meta, "machine", ""), "entries", (json_int_t)info->entries, "blocks",
                                (json_int_t)info->blocks, "block_bytes", (json_int_t)info->block_bytes),
                      NULL, 0, error))
    return false;
  nc_autojson json_t *answer = nc_copy_expect(s->copy->link, "cp_take", "cp_have", NC_COPY_SILENCE_MS, error);
  s->totals.had_it = g_str_equal(nc_json_string_or(answer, "type", ""), "cp_have");
  return answer && (s->totals.had_it || (nc_sender_send_blocks(s, error) && nc_sender_end(s, error)));
}

/* Why it goes wrong here is told, unless it was the other side that said so, or can't hear it. */
static bool
nc_sender_is_ours(const GError *problem)
{
  return problem->code == NC_ERROR_CORRUPT || problem->code == NC_ERROR_CANCELLED ||
         problem->code == NC_ERROR_NOT_FOUND;
}

bool
nc_copy_send(const NcCopy *copy, const char *id, NcCopyTotals *ret, GError **error)
{
  NcCopySender *s = g_new0(NcCopySender, 1);
  g_autoptr(GError) problem = NULL;

  s->copy = copy;
  s->id = id;
  bool ok = nc_sender_run(s, &problem);
  if (!ok && nc_sender_is_ours(problem))
    nc_copy_refuse(copy->link, problem);
  if (!ok)
    g_propagate_error(error, g_steal_pointer(&problem));
  *ret = s->totals;
  nc_manifest_reader_free(s->manifest);
  g_free(s);
  return ok;
}
