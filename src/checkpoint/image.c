/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/image.h"
#include "checkpoint/frames.h"

#include <string.h>

#define NC_IMAGE_HEADER_BYTES 12u
#define NC_IMAGE_VERSION 1
static const char nc_image_magic[4] = { 'N', 'C', 'C', 'P' };

struct NcImage {
  NcPageStore *store;
  NcManifestReader *manifest;
  json_t *meta;
  GByteArray *layout;
  NcReader steps; /* of the walk */
};

/* --- the header --- */

GByteArray *
nc_image_header_encode(json_t *meta, uint32_t layout_bytes, GError **error)
{
  g_autofree char *text = json_dumps(meta, JSON_COMPACT | JSON_SORT_KEYS);
  if (!text || strlen(text) > NC_MANIFEST_HEADER_MAX - NC_IMAGE_HEADER_BYTES) {
    nc_fail(error, NC_ERROR_INTERNAL, "the checkpoint's description can't be written");
    return NULL;
  }
  GByteArray *out = g_byte_array_new();
  g_byte_array_append(out, (const guint8 *)nc_image_magic, sizeof nc_image_magic);
  nc_put_u16(out, NC_IMAGE_VERSION);
  nc_put_u16(out, 0);
  nc_put_u32(out, layout_bytes);
  g_byte_array_append(out, (const guint8 *)text, (guint)strlen(text));
  return out;
}

json_t *
nc_image_header_decode(const char *name, const void *header, size_t length, uint32_t *ret_layout_bytes, GError **error)
{
  NcReader r = nc_reader(header, length);
  const uint8_t *magic = nc_reader_take(&r, sizeof nc_image_magic);
  uint16_t version, zero;
  uint32_t layout_bytes;

  if (!magic || memcmp(magic, nc_image_magic, sizeof nc_image_magic) != 0 || !nc_reader_u16(&r, &version) ||
      !nc_reader_u16(&r, &zero) || !nc_reader_u32(&r, &layout_bytes)) {
    nc_fail(error, NC_ERROR_CORRUPT, "%s is no checkpoint", name);
    return NULL;
  }
  if (version != NC_IMAGE_VERSION || zero || layout_bytes > NC_LAYOUT_BYTES_MAX) {
    nc_fail(error, NC_ERROR_INVALID, "checkpoint %s was made by another version of NovaCron", name);
    return NULL;
  }
  json_t *meta = json_loadb((const char *)r.at, nc_reader_left(&r), JSON_REJECT_DUPLICATES, NULL);
  if (!json_is_object(meta)) {
    json_decref(meta);
    nc_fail(error, NC_ERROR_CORRUPT, "the description of checkpoint %s makes no sense", name);
    return NULL;
  }
  *ret_layout_bytes = layout_bytes;
  return meta;
}

json_t *
nc_image_read_meta(NcPageStore *store, const char *name, NcManifestInfo *ret_info, GError **error)
{
  g_autoptr(NcManifestReader) reader = nc_manifest_open(store, name, error);
  uint32_t layout_bytes;
  size_t length;

  if (!reader)
    return NULL;
  if (ret_info)
    *ret_info = *nc_manifest_info(reader);
  const void *header = nc_manifest_header(reader, &length);
  return nc_image_header_decode(name, header, length, &layout_bytes, error);
}

/* --- opening --- */

static uint64_t
nc_layout_blocks(uint64_t layout_bytes)
{
  return (layout_bytes + NC_PAGE_STORE_BLOCK_MAX - 1) / NC_PAGE_STORE_BLOCK_MAX;
}

/* The entries that are the layout; the manifest's reader is behind them then. */
static bool
nc_image_load_layout(NcImage *image, uint32_t layout_bytes, GError **error)
{
  const NcManifestInfo *info = nc_manifest_info(image->manifest);
  uint64_t blocks = nc_layout_blocks(layout_bytes);
  g_autofree uint8_t *block = g_malloc(NC_PAGE_STORE_BLOCK_MAX);
  uint32_t length;

  if (blocks > info->entries)
    return nc_fail(error, NC_ERROR_CORRUPT, "checkpoint %s has no layout", info->name);
  if (!nc_image_skip_blocks(image, info->entries - blocks, error))
    return false;
  image->layout = g_byte_array_sized_new(layout_bytes);
  while (image->layout->len < layout_bytes) {
    if (!nc_image_next_block(image, block, &length, error))
      return false;
    if (length != MIN(layout_bytes - image->layout->len, NC_PAGE_STORE_BLOCK_MAX))
      return nc_fail(error, NC_ERROR_CORRUPT, "the layout of checkpoint %s makes no sense", info->name);
    g_byte_array_append(image->layout, block, length);
  }
  return true;
}

NcImage *
nc_image_open(NcPageStore *store, const char *name, GError **error)
{
  NcManifestReader *manifest = nc_manifest_open(store, name, error);
  uint32_t layout_bytes;
  size_t length;

  if (!manifest)
    return NULL;
  g_autoptr(NcImage) image = g_new0(NcImage, 1);
  image->store = store;
  image->manifest = manifest;
  const void *header = nc_manifest_header(manifest, &length);
  if (!(image->meta = nc_image_header_decode(name, header, length, &layout_bytes, error)) ||
      !nc_image_load_layout(image, layout_bytes, error))
    return NULL;
  nc_image_rewind(image);
  return g_steal_pointer(&image);
}

void
nc_image_free(NcImage *image)
{
  if (!image)
    return;
  nc_manifest_reader_free(image->manifest);
  if (image->layout)
    g_byte_array_unref(image->layout);
  json_decref(image->meta);
  g_free(image);
}

json_t *
nc_image_meta(const NcImage *image)
{
  return image->meta;
}

const char *
nc_image_name(const NcImage *image)
{
  return nc_manifest_info(image->manifest)->name;
}

NcPageStore *
nc_image_store(const NcImage *image)
{
  return image->store;
}

/* --- walking --- */

void
nc_image_rewind(NcImage *image)
{
  nc_manifest_rewind(image->manifest);
  image->steps = nc_reader(image->layout->data, image->layout->len);
}

NcLayoutOutcome
nc_image_next_step(NcImage *image, NcStep *ret, GError **error)
{
  return nc_layout_next(&image->steps, ret, error);
}

bool
nc_image_next_entry(NcImage *image, NcManifestEntry *ret, GError **error)
{
  switch (nc_manifest_next(image->manifest, ret, error)) {
  case NC_MANIFEST_ENTRY:
    return true;
  case NC_MANIFEST_BAD:
    return false;
  default:
    return nc_fail(error, NC_ERROR_CORRUPT, "checkpoint %s has fewer blocks than its layout says",
                   nc_manifest_info(image->manifest)->name);
  }
}

bool
nc_image_next_block(NcImage *image, void *data, uint32_t *ret_length, GError **error)
{
  NcManifestEntry entry;

  if (!nc_image_next_entry(image, &entry, error))
    return false;
  if (nc_manifest_entry_is_hole(&entry))
    return nc_fail(error, NC_ERROR_CORRUPT, "checkpoint %s lacks a block that its layout speaks of",
                   nc_manifest_info(image->manifest)->name);
  return nc_page_store_get(image->store, entry.hash, data, NC_PAGE_STORE_BLOCK_MAX, ret_length, error);
}

bool
nc_image_skip_blocks(NcImage *image, uint64_t count, GError **error)
{
  NcManifestEntry entry;
  for (; count > 0; count--)
    if (!nc_image_next_entry(image, &entry, error))
      return false;
  return true;
}

/* --- checking --- */

typedef struct {
  GArray *ordinals; /* uint64_t, of lost entries, ascending */
  bool manifest;    /* the manifest itself is damaged */
  char *text;       /* what is wrong with it */
} NcLosses;

static void
nc_losses_take(const NcPageStoreFinding *finding, gpointer data)
{
  NcLosses *losses = data;
  if (finding->kind == NC_FINDING_LOST) {
    g_array_append_val(losses->ordinals, finding->ordinal);
  } else if (finding->kind == NC_FINDING_MANIFEST && !losses->manifest) {
    losses->manifest = true;
    losses->text = g_strdup(finding->text);
  }
}

static const char *
nc_meta_name(json_t *meta, const char *list, uint32_t index)
{
  return nc_json_string_or(json_array_get(json_object_get(meta, list), index), "name", "?");
}

/* Entry number ${within} of ${step}, in words. New reference. */
static json_t *
nc_loss_of_step(json_t *meta, const NcStep *step, uint64_t within)
{
  if (step->kind == NC_STEP_BLOCKS)
    return json_pack("{s:s}", "part", "devices");
  if (step->kind == NC_STEP_PAGES)
    return json_pack("{s:s, s:s, s:I, s:I}", "part", "memory", "block", nc_meta_name(meta, "ram_blocks", step->block), "offset",
                     (json_int_t)((step->index + within) * NC_FRAME_PAGE_BYTES), "length", (json_int_t)NC_FRAME_PAGE_BYTES);
  json_t *disk = json_array_get(json_object_get(meta, "disks"), step->block);
  int64_t bytes = nc_json_int_or(disk, "block_bytes", 0);
  return json_pack("{s:s, s:s, s:I, s:I}", "part", "disk", "disk", nc_json_string_or(disk, "name", "?"), "offset",
                   (json_int_t)((int64_t)(step->index + within) * bytes), "length", (json_int_t)bytes);
}

/* Adds ${loss} (taken) to ${list}, to its last element if it is the continuation of that. */
static void
nc_losses_add(json_t *list, json_t *loss)
{
  json_t *last = json_array_get(list, json_array_size(list) - 1);
  nc_autojson json_t *a = json_deep_copy(last), *b = json_deep_copy(loss);
  int64_t end = nc_json_int_or(last, "offset", 0) + nc_json_int_or(last, "length", 0);

  for (int i = 0; i < 2; i++) {
    json_object_del(i ? a : b, "offset");
    json_object_del(i ? a : b, "length");
  }
  if (!last || !json_equal(a, b) || end != nc_json_int_or(loss, "offset", 0)) {
    json_array_append_new(list, loss);
    return;
  }
  if (json_object_get(last, "length"))
    json_object_set_new(last, "length", json_integer(nc_json_int_or(last, "length", 0) + nc_json_int_or(loss, "length", 0)));
  json_decref(loss);
}

/* Which parts the lost entries were. The layout itself is whole. */
static bool
nc_image_name_losses(NcImage *image, const GArray *ordinals, json_t *list, GError **error)
{
  uint64_t first = 0; /* of the step */
  guint i = 0;
  NcStep step;

  for (NcLayoutOutcome outcome; i < ordinals->len && (outcome = nc_image_next_step(image, &step, error)) != NC_LAYOUT_END;) {
    if (outcome == NC_LAYOUT_BAD)
      return false;
    uint64_t count = nc_layout_entries(&step);
    for (; i < ordinals->len && g_array_index(ordinals, uint64_t, i) - first < count; i++)
      nc_losses_add(list, nc_loss_of_step(image->meta, &step, g_array_index(ordinals, uint64_t, i) - first));
    first += count;
  }
  return true;
}

static gint
nc_compare_ordinals(gconstpointer a, gconstpointer b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

bool
nc_image_verify(NcPageStore *store, const char *name, const gint *cancelled, json_t **ret_lost, uint64_t *ret_bytes,
                GError **error)
{
  NcLosses losses = { .ordinals = g_array_new(FALSE, FALSE, sizeof(uint64_t)) };
  NcPageStoreVerifyReport report = { 0 };
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *list = json_array();

  bool ok = nc_manifest_verify(store, name, nc_losses_take, &losses, cancelled, &report, error);
  g_array_sort(losses.ordinals, nc_compare_ordinals);
  if (ok && (losses.manifest || losses.ordinals->len)) {
    g_autoptr(NcImage) image = losses.manifest ? NULL : nc_image_open(store, name, &problem);
    if (!image || !nc_image_name_losses(image, losses.ordinals, list, &problem) || json_array_size(list) == 0)
      json_array_append_new(list, json_pack("{s:s, s:s}", "part", "layout", "text",
                                            losses.text ? losses.text
                                            : problem   ? problem->message
                                                        : "the layout is lost"));
  }
  g_array_unref(losses.ordinals);
  g_free(losses.text);
  if (!ok)
    return false;
  *ret_lost = g_steal_pointer(&list);
  *ret_bytes = report.bytes;
  return true;
}

char *
nc_image_lost_text(json_t *lost)
{
  GString *text = g_string_new(NULL);
  size_t i;
  json_t *loss;

  json_array_foreach(lost, i, loss)
  {
    const char *part = nc_json_string_or(loss, "part", "?");
    if (i == 5) {
      g_string_append_printf(text, "; and %zu more", json_array_size(lost) - i);
      break;
    }
    g_string_append(text, i ? "; " : "");
    if (g_str_equal(part, "memory") || g_str_equal(part, "disk"))
      g_string_append_printf(text, "%s %s at 0x%" G_GINT64_MODIFIER "x (%" G_GINT64_FORMAT " bytes)",
                             g_str_equal(part, "disk") ? "disk" : "memory",
                             nc_json_string_or(loss, g_str_equal(part, "disk") ? "disk" : "block", "?"),
                             nc_json_int_or(loss, "offset", 0), nc_json_int_or(loss, "length", 0));
    else if (g_str_equal(part, "devices"))
      g_string_append(text, "the state of the devices");
    else
      g_string_append_printf(text, "the description of what is where: all of it (%s)",
                             nc_json_string_or(loss, "text", "damaged"));
  }
  return g_string_free(text, FALSE);
}
