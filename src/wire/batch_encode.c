/* SPDX-License-Identifier: Apache-2.0 */
/* Batches on their way out: into operations and pages, then compressed. */
#include "base/bytes.h"
#include "wire/batch_format.h"

/* One batch being taken apart. */
typedef struct {
  NcBatchEncoder *encoder;
  const uint8_t *raw;
  uint32_t raw_len;
  uint32_t literal; /* raw bytes from here on are in no operation yet */
  NcBatchStats stats;
} NcBatchPlan;

struct NcBatchEncoder {
  NcBatchPolicy policy;
  const NcCodec *codec;
  NcCodecContext *context;
  GByteArray *meta, *bulk;
  uint8_t *coded_meta, *coded_bulk; /* NC_BATCH_RAW_MAX bytes each; NULL until compression needs them */
};

NcBatchEncoder *
nc_batch_encoder_new(const NcBatchPolicy *policy)
{
  NcBatchEncoder *e = g_new0(NcBatchEncoder, 1);

  e->meta = g_byte_array_new();
  e->bulk = g_byte_array_new();
  nc_batch_encoder_set_policy(e, policy);
  return e;
}

void
nc_batch_encoder_free(NcBatchEncoder *e)
{
  if (!e)
    return;
  e->codec->context_free(e->context);
  g_byte_array_unref(e->meta);
  g_byte_array_unref(e->bulk);
  g_free(e->coded_meta);
  g_free(e->coded_bulk);
  g_free(e);
}

void
nc_batch_encoder_set_policy(NcBatchEncoder *e, const NcBatchPolicy *policy)
{
  const NcCodec *codec = nc_codec_by_id(policy->codec);

  g_assert(codec && policy->level >= codec->level_min && policy->level <= codec->level_max);
  if (codec != e->codec) {
    if (e->codec)
      e->codec->context_free(e->context);
    e->codec = codec;
    e->context = codec->context_new();
  }
  e->policy = *policy;
  if (codec != &nc_codec_none && !e->coded_meta) {
    e->coded_meta = g_malloc(NC_BATCH_RAW_MAX + NC_BATCH_SLACK_BYTES);
    e->coded_bulk = g_malloc(NC_BATCH_RAW_MAX + NC_BATCH_SLACK_BYTES);
  }
}

/* Puts the bytes between the last operation and ${end} into one. */
static void
nc_batch_plan_literal(NcBatchPlan *p, uint32_t end)
{
  GByteArray *meta = p->encoder->meta;
  uint32_t n = end - p->literal;

  if (n == 0)
    return;
  nc_put_u8(meta, NC_BATCH_OP_LITERAL);
  nc_put_varint(meta, n);
  g_byte_array_append(meta, p->raw + p->literal, n);
  p->literal = end;
}

/*
 * Is the page the same 8 bytes all over? Comparing it with itself, shifted by
 * 8, is as fast as memcmp() is, and ends at the first difference.
 */
static bool
nc_batch_is_fill(const uint8_t *page)
{
  return memcmp(page, page + 8, 8) == 0 && memcmp(page + 8, page + 16, NC_BATCH_PAGE_BYTES - 16) == 0;
}

/* Counts a page; its content goes to bulk, unless the segment's pattern says it all. */
static void
nc_batch_plan_content(NcBatchPlan *p, const uint8_t *page, bool is_fill)
{
  p->stats.pages++;
  if (is_fill)
    p->stats.fill_pages++;
  else
    g_byte_array_append(p->encoder->bulk, page, NC_BATCH_PAGE_BYTES);
}

/* One segment: the pages at ${page}, one record apart, of one class (and pattern). Returns how many of ${most}. */
static uint32_t
nc_batch_plan_segment(NcBatchPlan *p, const uint8_t *page, uint32_t most)
{
  GByteArray *meta = p->encoder->meta;
  bool is_fill = nc_batch_is_fill(page);
  uint32_t n = 0;

  do {
    nc_batch_plan_content(p, page + (size_t)n * NC_BATCH_PAGE_RECORD_BYTES, is_fill);
    n++;
  } while (n < most && nc_batch_is_fill(page + (size_t)n * NC_BATCH_PAGE_RECORD_BYTES) == is_fill &&
           (!is_fill || memcmp(page, page + (size_t)n * NC_BATCH_PAGE_RECORD_BYTES, 8) == 0));
  nc_put_u8(meta, is_fill ? NC_BATCH_CLASS_FILL : NC_BATCH_CLASS_BULK);
  nc_put_varint(meta, n);
  if (is_fill)
    g_byte_array_append(meta, page, 8);
  return n;
}

/* PAGES: ${n} records from raw offset ${start} on. */
static void
nc_batch_plan_pages(NcBatchPlan *p, uint32_t start, uint32_t n)
{
  const uint8_t *at = p->raw + start;

  nc_put_u8(p->encoder->meta, NC_BATCH_OP_PAGES);
  g_byte_array_append(p->encoder->meta, at, NC_BATCH_WORD_BYTES);
  nc_put_varint(p->encoder->meta, n);
  while (n > 0) {
    uint32_t done = nc_batch_plan_segment(p, at + NC_BATCH_WORD_BYTES, n);
    at += (size_t)done * NC_BATCH_PAGE_RECORD_BYTES;
    n -= done;
  }
}

static void
nc_batch_plan_zeros(NcBatchPlan *p, uint32_t start, uint32_t n)
{
  nc_put_u8(p->encoder->meta, NC_BATCH_OP_ZEROS);
  g_byte_array_append(p->encoder->meta, p->raw + start, NC_BATCH_WORD_BYTES);
  nc_put_varint(p->encoder->meta, n);
}

/* PAGE: the content of the record whose header, which names its block, has become a literal. */
static void
nc_batch_plan_page(NcBatchPlan *p, const uint8_t *page)
{
  bool is_fill = nc_batch_is_fill(page);

  nc_put_u8(p->encoder->meta, NC_BATCH_OP_PAGE);
  nc_put_u8(p->encoder->meta, is_fill ? NC_BATCH_CLASS_FILL : NC_BATCH_CLASS_BULK);
  if (is_fill)
    g_byte_array_append(p->encoder->meta, page, 8);
  nc_batch_plan_content(p, page, is_fill);
}

/*
 * Does the hint ${rec} describe bytes that are there and free, in a shape we have
 * an operation for? If not, the record's bytes stay literal, and the batch is right all the same.
 */
static bool
nc_batch_plan_is_usable(const NcBatchPlan *p, const NcStreamRecord *rec)
{
  uint32_t body = rec->kind == NC_RECORD_PAGE ? NC_BATCH_PAGE_BYTES : 1;

  if (rec->start < p->literal || rec->start > p->raw_len || p->raw_len - rec->start < rec->length ||
      rec->header_bytes < NC_BATCH_WORD_BYTES || rec->length != rec->header_bytes + body)
    return false;
  if (rec->kind == NC_RECORD_PAGE)
    return true;
  return rec->kind == NC_RECORD_ZERO && rec->header_bytes == NC_BATCH_WORD_BYTES &&
         p->raw[rec->start + NC_BATCH_WORD_BYTES] == 0;
}

/* Does ${rec} go on where ${n} records like ${first} end? */
static bool
nc_batch_plan_continues(const NcBatchPlan *p, const NcStreamRecord *first, uint32_t n, const NcStreamRecord *rec)
{
  return rec->kind == first->kind && rec->header_bytes == NC_BATCH_WORD_BYTES &&
         rec->start == first->start + n * first->length && nc_batch_plan_is_usable(p, rec) &&
         nc_be64(p->raw + rec->start) == nc_be64(p->raw + first->start) + (uint64_t)n * NC_BATCH_PAGE_BYTES;
}

/* Writes the operation for the run that begins at ${records}; returns how many records it took. */
static size_t
nc_batch_plan_run(NcBatchPlan *p, const NcStreamRecord *records, size_t n_records)
{
  const NcStreamRecord *first = &records[0];
  uint32_t n = 1;

  nc_batch_plan_literal(p, first->start + (first->header_bytes > NC_BATCH_WORD_BYTES ? first->header_bytes : 0));
  if (first->header_bytes > NC_BATCH_WORD_BYTES) {
    nc_batch_plan_page(p, p->raw + first->start + first->header_bytes);
  } else {
    while (n < n_records && nc_batch_plan_continues(p, first, n, &records[n]))
      n++;
    if (first->kind == NC_RECORD_PAGE)
      nc_batch_plan_pages(p, first->start, n);
    else
      nc_batch_plan_zeros(p, first->start, n);
  }
  p->literal = first->start + n * first->length;
  return n;
}

/* Fills meta and bulk. */
static void
nc_batch_plan(NcBatchPlan *p, const NcStreamRecord *records, size_t n_records)
{
  GByteArray *meta = p->encoder->meta, *bulk = p->encoder->bulk;

  g_byte_array_set_size(meta, 0);
  g_byte_array_set_size(bulk, 0);
  for (size_t i = 0; i < n_records;) {
    p->stats.zero_pages += records[i].kind == NC_RECORD_ZERO;
    if (nc_batch_plan_is_usable(p, &records[i])) {
      size_t n = nc_batch_plan_run(p, &records[i], n_records - i);
      p->stats.zero_pages += records[i].kind == NC_RECORD_ZERO ? (uint32_t)n - 1 : 0;
      i += n;
    } else {
      i++;
    }
  }
  nc_batch_plan_literal(p, p->raw_len);
  if (meta->len + bulk->len <= p->raw_len + NC_BATCH_SLACK_BYTES)
    return;
  /* Operations that cost more than they save; only a stream made to do so has them. */
  g_byte_array_set_size(meta, 0);
  g_byte_array_set_size(bulk, 0);
  p->literal = 0;
  p->stats.pages = p->stats.fill_pages = 0;
  nc_batch_plan_literal(p, p->raw_len);
}

/* A section in the form that is smaller. */
typedef struct {
  const uint8_t *data;
  uint32_t length;
  bool is_coded;
} NcBatchSection;

static NcBatchSection
nc_batch_section(NcBatchEncoder *e, const GByteArray *plain, uint8_t *coded)
{
  size_t n = plain->len >= NC_BATCH_CODED_MIN_BYTES && coded
                 ? e->codec->encode(e->context, e->policy.level, plain->data, plain->len, coded, plain->len - 1)
                 : 0;
  if (n > 0)
    return (NcBatchSection){ coded, (uint32_t)n, true };
  return (NcBatchSection){ plain->data, plain->len, false };
}

static void
nc_batch_put_header(uint8_t *at, const NcBatchHeader *h)
{
  nc_store_be64(at, h->stream_offset);
  nc_store_be32(at + 8, h->raw_len);
  memcpy(at + NC_BATCH_SHA256_AT, h->sha256, NC_SHA256_BYTES);
  at[44] = h->codec;
  at[45] = (uint8_t)h->level;
  nc_store_be16(at + 46, h->flags);
  nc_store_be32(at + 48, h->meta_len);
  nc_store_be32(at + 52, h->meta_raw_len);
  nc_store_be32(at + 56, h->bulk_raw_len);
}

/* Exactly as much memory as needed: payloads wait for their acknowledgement, many at a time. */
static GByteArray *
nc_batch_assemble(const NcBatchHeader *h, const NcBatchSection *meta, const NcBatchSection *bulk)
{
  size_t total = NC_BATCH_HEADER_BYTES + (size_t)meta->length + bulk->length;
  uint8_t *data = g_malloc(total);

  nc_batch_put_header(data, h);
  if (meta->length > 0)
    memcpy(data + NC_BATCH_HEADER_BYTES, meta->data, meta->length);
  if (bulk->length > 0)
    memcpy(data + NC_BATCH_HEADER_BYTES + meta->length, bulk->data, bulk->length);
  return g_byte_array_new_take(data, total);
}

GByteArray *
nc_batch_encode(NcBatchEncoder *e, uint64_t stream_offset, const uint8_t *raw, uint32_t raw_len,
                const NcStreamRecord *records, size_t n_records, NcBatchStats *stats)
{
  NcBatchPlan plan = { .encoder = e, .raw = raw, .raw_len = raw_len };
  NcBatchHeader h = { .stream_offset = stream_offset, .raw_len = raw_len };

  g_assert(raw_len > 0 && raw_len <= NC_BATCH_RAW_MAX);
  nc_batch_plan(&plan, records, n_records);
  NcBatchSection meta = nc_batch_section(e, e->meta, e->coded_meta);
  NcBatchSection bulk = nc_batch_section(e, e->bulk, e->coded_bulk);

  nc_sha256(raw, raw_len, h.sha256);
  h.flags = (meta.is_coded ? NC_BATCH_FLAG_META_CODED : 0) | (bulk.is_coded ? NC_BATCH_FLAG_BULK_CODED : 0);
  h.codec = h.flags ? e->codec->id : NC_CODEC_NONE;
  h.level = (int8_t)(h.flags ? e->policy.level : 0);
  h.meta_len = meta.length;
  h.meta_raw_len = e->meta->len;
  h.bulk_raw_len = e->bulk->len;
  if (stats) {
    plan.stats.page_bytes_in = (uint64_t)plan.stats.pages * NC_BATCH_PAGE_BYTES;
    plan.stats.page_bytes_out = (uint64_t)plan.stats.fill_pages * 8 + bulk.length;
    *stats = plan.stats;
  }
  return nc_batch_assemble(&h, &meta, &bulk);
}

const uint8_t *
nc_batch_sha256(const uint8_t *payload)
{
  return payload + NC_BATCH_SHA256_AT;
}
