/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches on their way in. Everything here came from a peer: counts are
 * compared with what is left (of the input, and of the raw length that the
 * header, itself checked against our limit, promised) before they are used.
 */
#include "base/bytes.h"
#include "crypto/piece_digest.h"
#include "wire/batch_format.h"
#include "wire/blocks.h"
#include "wire/delta.h"

struct NcBatchDecoder {
  NcCodecContext *contexts[NC_CODEC_COUNT]; /* made at first use */
  bool has_context[NC_CODEC_COUNT];
  uint8_t *sections; /* meta, then bulk, decompressed: NC_BATCH_RAW_MAX + NC_BATCH_SLACK_BYTES */
  NcShadow *shadow;  /* borrowed; NULL: nothing may be kept */
  bool in_order;     /* it may be used and changed now */
  GArray *stores;    /* of NcBatchStore; when not in order */
  NcBlocks *blocks;  /* borrowed; NULL: none are referred to or filled */
  GArray *fills;     /* of NcBatchStore: what is for the blocks */
  const NcStoredPages *stored; /* borrowed; NULL: there is no list of stored pages */
  bool refers;       /* the last batch, to pages or blocks */
};

/* Sections being read, and the raw bytes they become. */
typedef struct {
  NcBatchDecoder *decoder;
  NcReader meta, bulk;
  uint8_t *start, *at, *end;
} NcBatchRebuild;

/* Contents of pages that follow each other, at ${to}, ${step} apart, and where they are kept. */
typedef struct {
  uint8_t *to;
  size_t step;
  uint32_t frame; /* of the first; NC_NO_FRAME: nowhere */
  bool is_disk;   /* it is one of blocks, which are kept among these */
} NcBatchRun;

NcBatchDecoder *
nc_batch_decoder_new(void)
{
  NcBatchDecoder *d = g_new0(NcBatchDecoder, 1);
  d->sections = g_malloc(NC_BATCH_RAW_MAX + NC_BATCH_SLACK_BYTES);
  return d;
}

void
nc_batch_decoder_free(NcBatchDecoder *d)
{
  if (!d)
    return;
  for (unsigned i = 0; i < NC_CODEC_COUNT; i++)
    nc_codec_by_id(i)->context_free(d->contexts[i]);
  g_free(d->sections);
  g_clear_pointer(&d->stores, g_array_unref);
  g_clear_pointer(&d->fills, g_array_unref);
  g_free(d);
}

void
nc_batch_decoder_use_shadow(NcBatchDecoder *d, NcShadow *shadow, bool in_order)
{
  d->shadow = shadow;
  d->in_order = in_order;
}

bool
nc_batch_decoder_refers(const NcBatchDecoder *d)
{
  return d->refers;
}

GArray *
nc_batch_decoder_steal_stores(NcBatchDecoder *d)
{
  return g_steal_pointer(&d->stores);
}

void
nc_batch_decoder_use_blocks(NcBatchDecoder *d, NcBlocks *blocks)
{
  d->blocks = blocks;
}

void
nc_batch_decoder_use_stored(NcBatchDecoder *d, const NcStoredPages *pages)
{
  d->stored = pages;
}

GArray *
nc_batch_decoder_steal_fills(NcBatchDecoder *d)
{
  return g_steal_pointer(&d->fills);
}

void
nc_batch_fill_blocks(NcBlocks *blocks, const GArray *fills, const uint8_t *raw)
{
  for (guint i = 0; fills && i < fills->len; i++) {
    const NcBatchStore *s = &g_array_index(fills, NcBatchStore, i);
    for (uint32_t k = 0; k < s->n; k++)
      nc_blocks_fill(blocks, s->frame + k, raw + s->at + (size_t)k * s->step);
  }
}

void
nc_batch_store(NcShadow *shadow, const GArray *stores, const uint8_t *raw)
{
  for (guint i = 0; stores && i < stores->len; i++) {
    const NcBatchStore *s = &g_array_index(stores, NcBatchStore, i);
    for (uint32_t k = 0; k < s->n; k++)
      memcpy(nc_shadow_frame(shadow, s->frame + k), raw + s->at + (size_t)k * s->step, NC_BATCH_PAGE_BYTES);
  }
}

static NcCodecContext *
nc_batch_decoder_context(NcBatchDecoder *d, const NcCodec *codec)
{
  if (!d->has_context[codec->id]) {
    d->contexts[codec->id] = codec->context_new();
    d->has_context[codec->id] = true;
  }
  return d->contexts[codec->id];
}

/* A reader of the plain section; the input's own bytes if it is not coded, else ${room}, which has ${plain} bytes. */
static bool
nc_batch_open_section(NcBatchDecoder *d, const NcBatchHeader *h, const uint8_t *coded, size_t here, size_t plain,
                      uint8_t *room, NcReader *ret, GError **error)
{
  const NcCodec *codec = nc_codec_by_id(h->codec);

  if (here == plain) {
    *ret = nc_reader(coded, plain);
    return true;
  }
  if (!codec->decode(nc_batch_decoder_context(d, codec), coded, here, room, plain))
    return nc_fail(error, NC_ERROR_PROTOCOL, "a section that is not %u bytes of %s", (unsigned)plain, codec->name);
  *ret = nc_reader(room, plain);
  return true;
}

static bool
nc_batch_malformed(GError **error, const char *what)
{
  return nc_fail(error, NC_ERROR_PROTOCOL, "a batch with %s", what);
}

/* Where ${n} pieces of ${each} bytes can be written, or NULL: there is less left to rebuild, or there are none. */
static uint8_t *
nc_batch_claim(NcBatchRebuild *b, uint64_t n, size_t each)
{
  size_t left = (size_t)(b->end - b->at);
  uint8_t *to = b->at;

  if (n == 0 || n > left / each)
    return NULL;
  b->at += (size_t)n * each;
  return to;
}

static bool
nc_batch_do_literal(NcBatchRebuild *b, GError **error)
{
  uint64_t n;

  if (!nc_reader_varint(&b->meta, &n))
    return nc_batch_malformed(error, "an unreadable literal");
  uint8_t *to = n <= nc_reader_left(&b->meta) ? nc_batch_claim(b, n, 1) : NULL;
  return (to && nc_reader_copy(&b->meta, to, (size_t)n)) || nc_batch_malformed(error, "a literal of wrong length");
}

static void
nc_batch_fill_pattern(uint8_t *page, const uint8_t *pattern)
{
  for (size_t i = 0; i < NC_BATCH_PAGE_BYTES; i += 8)
    memcpy(page + i, pattern, 8);
}

static void
nc_batch_list_store(const NcBatchRebuild *b, const NcBatchRun *run, GArray *list)
{
  NcBatchStore store = { .at = (uint32_t)(run->to - b->start), .step = (uint32_t)run->step, .n = 1, .frame = run->frame };
  NcBatchStore *last = list->len > 0 ? &g_array_index(list, NcBatchStore, list->len - 1) : NULL;

  if (last && last->step == store.step && last->frame + last->n == store.frame && last->at + last->n * last->step == store.at)
    last->n++;
  else
    g_array_append_val(list, store);
}

/* Puts a page into its frame, now or later; a block later. */
static void
nc_batch_keep(NcBatchRebuild *b, const NcBatchRun *run)
{
  NcBatchDecoder *d = b->decoder;

  if (run->frame == NC_NO_FRAME)
    return;
  if (run->is_disk)
    nc_batch_list_store(b, run, d->fills);
  else if (d->in_order)
    memcpy(nc_shadow_frame(d->shadow, run->frame), run->to, NC_BATCH_PAGE_BYTES);
  else
    nc_batch_list_store(b, run, d->stores);
}

static bool
nc_batch_do_bulk(NcBatchRebuild *b, const NcBatchRun *run, GError **error)
{
  return nc_reader_copy(&b->bulk, run->to, NC_BATCH_PAGE_BYTES) || nc_batch_malformed(error, "more pages than it brings");
}

static bool
nc_batch_do_reference(NcBatchRebuild *b, const NcBatchRun *run, GError **error)
{
  uint64_t frame;

  if (!b->decoder->in_order || !nc_reader_varint(&b->meta, &frame) || frame >= nc_shadow_frames(b->decoder->shadow))
    return nc_batch_malformed(error, "a reference to what is not kept");
  memcpy(run->to, nc_shadow_frame(b->decoder->shadow, (uint32_t)frame), NC_BATCH_PAGE_BYTES);
  return true;
}

static bool
nc_batch_do_block(NcBatchRebuild *b, const NcBatchRun *run, GError **error)
{
  NcBlocks *blocks = b->decoder->blocks;
  uint64_t frame;

  return (blocks && nc_reader_varint(&b->meta, &frame) && frame < NC_NO_FRAME && nc_blocks_read(blocks, (uint32_t)frame, run->to)) ||
         nc_batch_malformed(error, "a reference to a block that is not kept");
}

/* The page keeps its content until this batch is acknowledged: it may be read before its turn. */
static bool
nc_batch_do_held(NcBatchRebuild *b, const NcBatchRun *run, GError **error)
{
  NcBatchDecoder *d = b->decoder;
  uint64_t frame;

  if (!run->is_disk || !d->blocks || !d->shadow || !nc_reader_varint(&b->meta, &frame) || frame >= nc_shadow_frames(d->shadow))
    return nc_batch_malformed(error, "a reference to a page that is not held");
  nc_blocks_read_page(d->blocks, nc_shadow_frame(d->shadow, (uint32_t)frame), run->to);
  return true;
}

static bool
nc_batch_do_delta(NcBatchRebuild *b, const NcBatchRun *run, GError **error)
{
  uint64_t length;
  const uint8_t *delta = NULL;

  if (b->decoder->in_order && !run->is_disk && run->frame != NC_NO_FRAME && nc_reader_varint(&b->meta, &length) &&
      length <= nc_reader_left(&b->meta))
    delta = nc_reader_take(&b->meta, (size_t)length);
  if (!delta)
    return nc_batch_malformed(error, "a difference to what is not kept");
  memcpy(run->to, nc_shadow_frame(b->decoder->shadow, run->frame), NC_BATCH_PAGE_BYTES);
  return nc_delta_apply(delta, (size_t)length, run->to) || nc_batch_malformed(error, "an unreadable difference");
}

/* The first of ${n} pages that are filled with a pattern; the others are copied from it. */
static bool
nc_batch_do_fill(NcBatchRebuild *b, NcBatchRun *run, uint64_t n, GError **error)
{
  const uint8_t *pattern = nc_reader_take(&b->meta, 8);

  if (!pattern)
    return nc_batch_malformed(error, "an unreadable pattern");
  for (; n > 0; n--) {
    nc_batch_fill_pattern(run->to, pattern);
    nc_batch_keep(b, run);
    run->to += run->step;
    run->frame += run->frame != NC_NO_FRAME;
  }
  return true;
}

/* All of the segment at once, since asking for them takes longer than reading. There was room for ${n} in the batch. */
static bool
nc_batch_do_stored(NcBatchRebuild *b, NcBatchRun *run, uint64_t n, GError **error)
{
  const NcStoredPages *stored = b->decoder->stored;
  uint32_t numbers[NC_STORED_READ_MAX] = { 0 };

  if (!stored || run->is_disk || n > NC_STORED_READ_MAX)
    return nc_batch_malformed(error, "a reference to stored pages, which nobody agreed on");
  for (uint64_t i = 0; i < n; i++) {
    uint64_t number;
    if (!nc_reader_varint(&b->meta, &number) || number >= stored->count)
      return nc_batch_malformed(error, "a reference to a stored page that is not in the list");
    numbers[i] = (uint32_t)number;
  }
  if (!stored->read(stored->data, numbers, (uint32_t)n, run->to, run->step))
    return nc_fail(error, NC_ERROR_CORRUPT, "it refers to a page that this node's page store does not give any more");
  for (; n > 0; n--) {
    nc_batch_keep(b, run);
    run->to += run->step;
    run->frame += run->frame != NC_NO_FRAME;
  }
  return true;
}

/* The contents of the next ${n} pages of the run, of class ${class}. */
static bool
nc_batch_do_content(NcBatchRebuild *b, unsigned class, uint64_t n, NcBatchRun *run, GError **error)
{
  static bool (*const one_page[])(NcBatchRebuild *, const NcBatchRun *, GError **) = {
    [NC_BATCH_CLASS_BULK] = nc_batch_do_bulk,
    [NC_BATCH_CLASS_REFERENCE] = nc_batch_do_reference,
    [NC_BATCH_CLASS_DELTA] = nc_batch_do_delta,
    [NC_BATCH_CLASS_BLOCK] = nc_batch_do_block,
    [NC_BATCH_CLASS_HELD] = nc_batch_do_held,
  };

  if (class == NC_BATCH_CLASS_FILL)
    return nc_batch_do_fill(b, run, n, error);
  if (class != NC_BATCH_CLASS_STORED && (class >= G_N_ELEMENTS(one_page) || !one_page[class]))
    return nc_batch_malformed(error, "a page of unknown class");
  b->decoder->refers = b->decoder->refers || class != NC_BATCH_CLASS_BULK;
  if (class == NC_BATCH_CLASS_STORED)
    return nc_batch_do_stored(b, run, n, error);
  for (; n > 0; n--) {
    if (!one_page[class](b, run, error))
      return false;
    nc_batch_keep(b, run);
    run->to += run->step;
    run->frame += run->frame != NC_NO_FRAME;
  }
  return true;
}

static uint64_t
nc_batch_frames(const NcBatchDecoder *d, bool is_disk)
{
  if (is_disk)
    return d->blocks ? nc_blocks_frames(d->blocks) : 0;
  return d->shadow ? nc_shadow_frames(d->shadow) : 0;
}

/* The frame of the first of ${n} kept pages, or blocks. */
static bool
nc_batch_read_frame(NcBatchRebuild *b, uint64_t n, bool is_disk, uint32_t *ret, GError **error)
{
  uint64_t frame;
  uint64_t frames = nc_batch_frames(b->decoder, is_disk);

  if (!nc_reader_varint(&b->meta, &frame) || frame >= frames || n > frames - frame)
    return nc_batch_malformed(error, "pages to be kept where nothing can be");
  *ret = (uint32_t)frame;
  return true;
}

/* Header words of a run. */
static void
nc_batch_fill_words(uint8_t *to, uint64_t word, uint64_t n, size_t step)
{
  for (; n > 0; n--, to += step, word += NC_BATCH_PAGE_BYTES)
    nc_store_be64(to, word);
}

/* The contents of all ${n} pages of the run. */
static bool
nc_batch_do_segments(NcBatchRebuild *b, uint64_t n, NcBatchRun *run, GError **error)
{
  while (n > 0) {
    uint8_t class;
    uint64_t part;
    if (!nc_reader_u8(&b->meta, &class) || !nc_reader_varint(&b->meta, &part) || part == 0 || part > n)
      return nc_batch_malformed(error, "an unreadable segment");
    if (!nc_batch_do_content(b, class, part, run, error))
      return false;
    n -= part;
  }
  return true;
}

static bool
nc_batch_do_run(NcBatchRebuild *b, bool kept, GError **error)
{
  NcBatchRun run = { .step = NC_BATCH_PAGE_RECORD_BYTES, .frame = NC_NO_FRAME };
  uint64_t word, n;

  if (!nc_reader_u64(&b->meta, &word) || !nc_reader_varint(&b->meta, &n))
    return nc_batch_malformed(error, "an unreadable run of pages");
  if (kept && !nc_batch_read_frame(b, n, false, &run.frame, error))
    return false;
  uint8_t *to = nc_batch_claim(b, n, NC_BATCH_PAGE_RECORD_BYTES);
  if (!to)
    return nc_batch_malformed(error, "a run of pages of wrong length");
  nc_batch_fill_words(to, word, n, NC_BATCH_PAGE_RECORD_BYTES);
  run.to = to + NC_BATCH_WORD_BYTES;
  return nc_batch_do_segments(b, n, &run, error);
}

/* No words, and what is kept is kept among the blocks. */
static bool
nc_batch_do_disk_run(NcBatchRebuild *b, bool kept, GError **error)
{
  NcBatchRun run = { .step = NC_BATCH_PAGE_BYTES, .frame = NC_NO_FRAME, .is_disk = true };
  uint64_t n;

  if (!nc_reader_varint(&b->meta, &n))
    return nc_batch_malformed(error, "an unreadable run of blocks");
  if (kept && !nc_batch_read_frame(b, n, true, &run.frame, error))
    return false;
  run.to = nc_batch_claim(b, n, NC_BATCH_PAGE_BYTES);
  if (!run.to)
    return nc_batch_malformed(error, "a run of blocks of wrong length");
  return nc_batch_do_segments(b, n, &run, error);
}

static bool
nc_batch_do_blocks(NcBatchRebuild *b, GError **error)
{
  return nc_batch_do_disk_run(b, false, error);
}

static bool
nc_batch_do_kept_blocks(NcBatchRebuild *b, GError **error)
{
  return nc_batch_do_disk_run(b, true, error);
}

static bool
nc_batch_do_pages(NcBatchRebuild *b, GError **error)
{
  return nc_batch_do_run(b, false, error);
}

static bool
nc_batch_do_kept_pages(NcBatchRebuild *b, GError **error)
{
  return nc_batch_do_run(b, true, error);
}

static bool
nc_batch_do_zeros(NcBatchRebuild *b, GError **error)
{
  uint64_t word, n;

  if (!nc_reader_u64(&b->meta, &word) || !nc_reader_varint(&b->meta, &n))
    return nc_batch_malformed(error, "an unreadable run of zero pages");
  uint8_t *to = nc_batch_claim(b, n, NC_BATCH_ZERO_RECORD_BYTES);
  if (!to)
    return nc_batch_malformed(error, "a run of zero pages of wrong length");
  memset(to, 0, (size_t)n * NC_BATCH_ZERO_RECORD_BYTES);
  nc_batch_fill_words(to, word, n, NC_BATCH_ZERO_RECORD_BYTES);
  return true;
}

static bool
nc_batch_do_single(NcBatchRebuild *b, bool kept, GError **error)
{
  NcBatchRun run = { .step = NC_BATCH_PAGE_BYTES, .frame = NC_NO_FRAME };
  uint8_t class;

  if (kept && !nc_batch_read_frame(b, 1, false, &run.frame, error))
    return false;
  run.to = nc_reader_u8(&b->meta, &class) ? nc_batch_claim(b, 1, NC_BATCH_PAGE_BYTES) : NULL;
  if (!run.to)
    return nc_batch_malformed(error, "a page that does not fit");
  return nc_batch_do_content(b, class, 1, &run, error);
}

static bool
nc_batch_do_page(NcBatchRebuild *b, GError **error)
{
  return nc_batch_do_single(b, false, error);
}

static bool
nc_batch_do_kept_page(NcBatchRebuild *b, GError **error)
{
  return nc_batch_do_single(b, true, error);
}

/* Each operation reads at least a byte of meta and writes at least one, so there is an end. */
static bool
nc_batch_rebuild(NcBatchRebuild *b, GError **error)
{
  static bool (*const operations[])(NcBatchRebuild *, GError **) = {
    [NC_BATCH_OP_LITERAL] = nc_batch_do_literal,
    [NC_BATCH_OP_PAGES] = nc_batch_do_pages,
    [NC_BATCH_OP_ZEROS] = nc_batch_do_zeros,
    [NC_BATCH_OP_PAGE] = nc_batch_do_page,
    [NC_BATCH_OP_KEPT_PAGES] = nc_batch_do_kept_pages,
    [NC_BATCH_OP_KEPT_PAGE] = nc_batch_do_kept_page,
    [NC_BATCH_OP_BLOCKS] = nc_batch_do_blocks,
    [NC_BATCH_OP_KEPT_BLOCKS] = nc_batch_do_kept_blocks,
  };
  uint8_t op;

  while (nc_reader_u8(&b->meta, &op)) {
    if (op >= G_N_ELEMENTS(operations) || !operations[op])
      return nc_batch_malformed(error, "an unknown operation");
    if (!operations[op](b, error))
      return false;
  }
  if (nc_reader_left(&b->bulk) > 0 || b->at != b->end)
    return nc_batch_malformed(error, "operations that do not add up");
  return true;
}

/* Everything but cleaning up ${raw} after a failure. */
static bool
nc_batch_decode_into(NcBatchDecoder *d, NcReader *r, GByteArray *raw, NcBatchHeader *h, GError **error)
{
  NcBatchRebuild b = { .decoder = d };
  uint8_t digest[NC_SHA256_BYTES];

  if (!nc_batch_read_header(r, h, error) || !nc_batch_check_header(h, nc_reader_left(r), error))
    return false;
  if ((h->flags & NC_BATCH_FLAG_AHEAD) && !d->shadow)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch ahead of the stream, where nothing is kept");
  if ((h->flags & NC_BATCH_FLAG_HISTORY) && !d->in_order)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch with history, which nobody agreed on");
  const uint8_t *meta = nc_reader_take(r, h->meta_len);
  size_t bulk_len = nc_reader_left(r);
  const uint8_t *bulk = nc_reader_take(r, bulk_len);
  if (!nc_batch_open_section(d, h, meta, h->meta_len, h->meta_raw_len, d->sections, &b.meta, error) ||
      !nc_batch_open_section(d, h, bulk, bulk_len, h->bulk_raw_len, d->sections + h->meta_raw_len, &b.bulk, error))
    return false;
  g_byte_array_set_size(raw, h->raw_len);
  b.start = b.at = raw->data;
  b.end = raw->data + raw->len;
  if (!nc_batch_rebuild(&b, error))
    return false;
  nc_piece_digest(raw->data, raw->len, digest);
  if (memcmp(digest, h->sha256, sizeof digest) != 0)
    return nc_fail(error, NC_ERROR_CORRUPT,
                   "%u bytes at %" G_GUINT64_FORMAT " do not have the SHA-256 they were sent with", h->raw_len,
                   h->stream_offset);
  return true;
}

/* Of what the batch before wanted, nobody knows any more. */
static void
nc_batch_begin_list(GArray **list)
{
  g_clear_pointer(list, g_array_unref);
  *list = g_array_new(FALSE, FALSE, sizeof(NcBatchStore));
}

bool
nc_batch_decode(NcBatchDecoder *d, const uint8_t *payload, size_t len, GByteArray *ret_raw, uint64_t *ret_stream_offset,
                GError **error)
{
  NcReader r = nc_reader(payload, len);
  NcBatchHeader h;

  d->refers = false;
  if (d->shadow && !d->in_order)
    nc_batch_begin_list(&d->stores);
  if (d->blocks)
    nc_batch_begin_list(&d->fills);
  if (!nc_batch_decode_into(d, &r, ret_raw, &h, error)) {
    g_byte_array_set_size(ret_raw, 0);
    return false;
  }
  *ret_stream_offset = h.stream_offset;
  return true;
}
