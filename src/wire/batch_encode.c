/* SPDX-License-Identifier: Apache-2.0 */
/* Batches on their way out: into operations and pages, then compressed. */
#include "base/bytes.h"
#include "base/ident.h"
#include "crypto/piece_digest.h"
#include "wire/batch_format.h"
#include "wire/estimate.h"

/* Sections that look incompressible are left alone, but every so many-th, */
#define NC_BATCH_DOUBT_EVERY 16u
/* and when one of those did get smaller than this, so many are not. */
#define NC_BATCH_DOUBT_SHARE 0.94
#define NC_BATCH_DOUBT_SECTIONS 32u
/* Shorter sections are not worth an estimate. */
#define NC_BATCH_ESTIMATE_MIN_BYTES 2048u
#define NC_BATCH_ESTIMATE_SHORT 0.5
/* Of so many pages looked for in the page store, */
#define NC_BATCH_STORED_TRIES 2048u
/* if less than one in so many is there, hashing costs more than it saves, */
#define NC_BATCH_STORED_LEAST 64u
/* and in so many batches none is looked for. */
#define NC_BATCH_STORED_REST 64u
/* Hashed together. */
#define NC_BATCH_STORED_GROUP 16u

/* One batch being taken apart. */
typedef struct {
  NcBatchEncoder *encoder;
  const uint8_t *raw;
  uint32_t raw_len;
  uint32_t literal; /* raw bytes from here on are in no operation yet */
  const NcPlan *plan; /* NULL: nothing is kept */
  bool plain;         /* pages are kept, and go whole */
  bool is_disk;       /* the run is one of blocks, not of page records */
  bool uses_history;
  NcBatchStats stats;
} NcBatchPlan;

struct NcBatchEncoder {
  NcBatchPolicy policy;
  const NcCodec *codec;
  NcCodecContext *contexts[NC_CODEC_COUNT]; /* made at first use, kept: the policy may come back soon */
  GByteArray *meta, *bulk;
  uint8_t *coded_meta, *coded_bulk; /* NC_BATCH_RAW_MAX bytes each; NULL until compression needs them */
  unsigned left_alone, doubts;      /* with policy.is_auto */
  const NcStoredIndex *stored_index; /* borrowed; NULL: nothing is looked for */
  GArray *stored;                    /* of uint32_t, by record: its number, or NC_NOT_STORED; empty: none was looked for */
  unsigned stored_tries, stored_hits, stored_rest;
};

NcBatchEncoder *
nc_batch_encoder_new(const NcBatchPolicy *policy)
{
  NcBatchEncoder *e = g_new0(NcBatchEncoder, 1);

  e->meta = g_byte_array_new();
  e->bulk = g_byte_array_new();
  e->stored = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  nc_batch_encoder_set_policy(e, policy);
  return e;
}

void
nc_batch_encoder_free(NcBatchEncoder *e)
{
  if (!e)
    return;
  for (unsigned i = 0; i < NC_CODEC_COUNT; i++)
    nc_codec_by_id(i)->context_free(e->contexts[i]);
  g_byte_array_unref(e->meta);
  g_byte_array_unref(e->bulk);
  g_array_unref(e->stored);
  g_free(e->coded_meta);
  g_free(e->coded_bulk);
  g_free(e);
}

void
nc_batch_encoder_set_policy(NcBatchEncoder *e, const NcBatchPolicy *policy)
{
  const NcCodec *codec = nc_codec_by_id(policy->codec);

  g_assert(codec && policy->level >= codec->level_min && policy->level <= codec->level_max);
  e->codec = codec;
  if (!e->contexts[codec->id])
    e->contexts[codec->id] = codec->context_new();
  e->policy = *policy;
  if (codec != &nc_codec_none && !e->coded_meta) {
    e->coded_meta = g_malloc(NC_BATCH_RAW_MAX + NC_BATCH_SLACK_BYTES);
    e->coded_bulk = g_malloc(NC_BATCH_RAW_MAX + NC_BATCH_SLACK_BYTES);
  }
}

void
nc_batch_encoder_use_stored(NcBatchEncoder *e, const NcStoredIndex *index)
{
  e->stored_index = index;
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

/* What is planned for record ${index}. */
static NcPagePlan
nc_batch_page_plan(const NcBatchPlan *p, size_t index)
{
  static const NcPagePlan none = { .kind = NC_PLAN_WHOLE, .frame = NC_NO_FRAME };
  return p->plan ? g_array_index(p->plan->pages, NcPagePlan, index) : none;
}

/* The number of record ${index}'s page among those that the destination's page store holds. */
static uint32_t
nc_batch_page_stored(const NcBatchPlan *p, size_t index)
{
  const GArray *stored = p->encoder->stored;
  return index < stored->len ? g_array_index(stored, uint32_t, index) : NC_NOT_STORED;
}

static NcBatchClass
nc_batch_classify(const NcBatchPlan *p, const uint8_t *page, size_t index, const NcPagePlan *plan)
{
  if (nc_batch_page_stored(p, index) != NC_NOT_STORED)
    return NC_BATCH_CLASS_STORED;
  if (plan->kind == NC_PLAN_WHOLE || p->plain)
    return nc_batch_is_fill(page) ? NC_BATCH_CLASS_FILL : NC_BATCH_CLASS_BULK;
  switch (plan->kind) {
  case NC_PLAN_BLOCK:
    return NC_BATCH_CLASS_BLOCK;
  case NC_PLAN_HELD:
    return NC_BATCH_CLASS_HELD;
  default:
    return plan->kind == NC_PLAN_DELTA ? NC_BATCH_CLASS_DELTA : NC_BATCH_CLASS_REFERENCE;
  }
}

/* What a page of ${class} brings beyond its segment's head. */
static void
nc_batch_plan_content(NcBatchPlan *p, const uint8_t *page, size_t index, const NcPagePlan *plan, NcBatchClass class)
{
  GByteArray *meta = p->encoder->meta;

  p->stats.pages += !p->is_disk;
  switch (class) {
  case NC_BATCH_CLASS_FILL:
    p->stats.fill_pages += !p->is_disk;
    break;
  case NC_BATCH_CLASS_BULK:
    g_byte_array_append(p->encoder->bulk, page, NC_BATCH_PAGE_BYTES);
    break;
  case NC_BATCH_CLASS_REFERENCE:
    p->stats.reference_pages++;
    nc_put_varint(meta, plan->reference);
    break;
  case NC_BATCH_CLASS_BLOCK:
  case NC_BATCH_CLASS_HELD:
    nc_put_varint(meta, plan->reference);
    break;
  case NC_BATCH_CLASS_DELTA:
    p->stats.delta_pages++;
    p->stats.delta_bytes += plan->delta_length;
    nc_put_varint(meta, plan->delta_length);
    g_byte_array_append(meta, p->plan->deltas->data + plan->delta_at, plan->delta_length);
    break;
  case NC_BATCH_CLASS_STORED:
    p->stats.stored_pages++;
    nc_put_varint(meta, nc_batch_page_stored(p, index));
    break;
  }
  p->uses_history = p->uses_history || class == NC_BATCH_CLASS_REFERENCE || class == NC_BATCH_CLASS_DELTA;
}

/* From the content of one record of the run to that of the next. */
static uint32_t
nc_batch_plan_step(const NcBatchPlan *p)
{
  return p->is_disk ? NC_BATCH_PAGE_BYTES : NC_BATCH_PAGE_RECORD_BYTES;
}

/* How many of the ${most} pages from ${page} on, one record apart, are of ${class} (and the first one's pattern). */
static uint32_t
nc_batch_segment_length(const NcBatchPlan *p, const uint8_t *page, size_t index, uint32_t most, NcBatchClass class)
{
  const uint8_t *next = page;

  for (uint32_t n = 1; n < most; n++) {
    NcPagePlan plan = nc_batch_page_plan(p, index + n);
    next += nc_batch_plan_step(p);
    if (nc_batch_classify(p, next, index + n, &plan) != class || (class == NC_BATCH_CLASS_FILL && memcmp(page, next, 8) != 0))
      return n;
  }
  return most;
}

/* One segment: pages of one class, from record ${index} on, whose content is at ${page}. Returns how many of ${most}. */
static uint32_t
nc_batch_plan_segment(NcBatchPlan *p, const uint8_t *page, size_t index, uint32_t most)
{
  GByteArray *meta = p->encoder->meta;
  NcPagePlan plan = nc_batch_page_plan(p, index);
  NcBatchClass class = nc_batch_classify(p, page, index, &plan);
  uint32_t n = nc_batch_segment_length(p, page, index, most, class);

  nc_put_u8(meta, class);
  nc_put_varint(meta, n);
  if (class == NC_BATCH_CLASS_FILL)
    g_byte_array_append(meta, page, 8);
  for (uint32_t i = 0; i < n; i++) {
    plan = nc_batch_page_plan(p, index + i);
    nc_batch_plan_content(p, page + (size_t)i * nc_batch_plan_step(p), index + i, &plan, class);
  }
  return n;
}

/* PAGES, BLOCKS or their KEPT forms: ${n} records from record ${index} on, which is at raw offset ${start}. */
static void
nc_batch_plan_pages(NcBatchPlan *p, uint32_t start, size_t index, uint32_t n)
{
  GByteArray *meta = p->encoder->meta;
  const uint8_t *at = p->raw + start;
  NcPagePlan first = nc_batch_page_plan(p, index);
  bool kept = first.frame != NC_NO_FRAME;

  if (p->is_disk) {
    nc_put_u8(meta, kept ? NC_BATCH_OP_KEPT_BLOCKS : NC_BATCH_OP_BLOCKS);
  } else {
    nc_put_u8(meta, kept ? NC_BATCH_OP_KEPT_PAGES : NC_BATCH_OP_PAGES);
    g_byte_array_append(meta, at, NC_BATCH_WORD_BYTES);
    at += NC_BATCH_WORD_BYTES;
  }
  nc_put_varint(meta, n);
  if (kept)
    nc_put_varint(meta, first.frame);
  while (n > 0) {
    uint32_t done = nc_batch_plan_segment(p, at, index, n);
    at += (size_t)done * nc_batch_plan_step(p);
    index += done;
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

/* PAGE or KEPT_PAGE: the content of the record whose header, which names its block, has become a literal. */
static void
nc_batch_plan_page(NcBatchPlan *p, const uint8_t *page, size_t index)
{
  GByteArray *meta = p->encoder->meta;
  NcPagePlan plan = nc_batch_page_plan(p, index);
  NcBatchClass class = nc_batch_classify(p, page, index, &plan);
  bool kept = plan.frame != NC_NO_FRAME;

  nc_put_u8(meta, kept ? NC_BATCH_OP_KEPT_PAGE : NC_BATCH_OP_PAGE);
  if (kept)
    nc_put_varint(meta, plan.frame);
  nc_put_u8(meta, class);
  if (class == NC_BATCH_CLASS_FILL)
    g_byte_array_append(meta, page, 8);
  nc_batch_plan_content(p, page, index, &plan, class);
}

/*
 * Does the hint ${rec} describe bytes that are there and free, in a shape we have
 * an operation for? If not, the record's bytes stay literal, and the batch is right all the same.
 */
static bool
nc_batch_plan_is_usable(const NcBatchPlan *p, const NcStreamRecord *rec)
{
  uint32_t body = rec->kind == NC_RECORD_ZERO ? 1 : NC_BATCH_PAGE_BYTES;

  if (rec->start < p->literal || rec->start > p->raw_len || p->raw_len - rec->start < rec->length ||
      rec->length != rec->header_bytes + body)
    return false;
  if (rec->kind == NC_RECORD_BLOCK)
    return rec->header_bytes == 0;
  if (rec->header_bytes < NC_BATCH_WORD_BYTES)
    return false;
  if (rec->kind == NC_RECORD_PAGE)
    return true;
  return rec->kind == NC_RECORD_ZERO && rec->header_bytes == NC_BATCH_WORD_BYTES &&
         p->raw[rec->start + NC_BATCH_WORD_BYTES] == 0;
}

/* Is record ${index} a page that would go whole, and worth a look into the page store? */
static bool
nc_batch_may_be_stored(const NcBatchPlan *p, const NcStreamRecord *rec, size_t index)
{
  return rec->kind == NC_RECORD_PAGE && nc_batch_plan_is_usable(p, rec) && nc_batch_page_plan(p, index).kind == NC_PLAN_WHOLE &&
         !nc_batch_is_fill(p->raw + rec->start + rec->header_bytes);
}

/* Looks for the ${n} pages, those of the records at ${at}. */
static void
nc_batch_find_stored(NcBatchEncoder *e, const uint8_t *const *pages, const size_t *at, size_t n)
{
  uint8_t digests[NC_BATCH_STORED_GROUP][NC_SHA256_BYTES];

  nc_piece_leaves(pages, n, digests);
  for (size_t i = 0; i < n; i++) {
    uint32_t number = nc_stored_index_find(e->stored_index, digests[i]);
    g_array_index(e->stored, uint32_t, at[i]) = number;
    e->stored_hits += number != NC_NOT_STORED;
  }
  e->stored_tries += (unsigned)n;
}

/* Is hashing worth it? */
static void
nc_batch_judge_stored(NcBatchEncoder *e)
{
  if (e->stored_tries < NC_BATCH_STORED_TRIES)
    return;
  if (e->stored_hits < e->stored_tries / NC_BATCH_STORED_LEAST)
    e->stored_rest = NC_BATCH_STORED_REST;
  e->stored_tries = e->stored_hits = 0;
}

/* Which of the batch's pages the destination's page store holds. */
static void
nc_batch_look_up_stored(NcBatchPlan *p, const NcStreamRecord *records, size_t n_records)
{
  NcBatchEncoder *e = p->encoder;
  const uint8_t *pages[NC_BATCH_STORED_GROUP];
  size_t at[NC_BATCH_STORED_GROUP], n = 0;

  g_array_set_size(e->stored, 0);
  if (!e->stored_index || p->plain || n_records == 0)
    return;
  if (e->stored_rest > 0) {
    e->stored_rest--;
    return;
  }
  g_array_set_size(e->stored, (guint)n_records);
  memset(e->stored->data, 0xff, n_records * sizeof(uint32_t)); /* NC_NOT_STORED */
  for (size_t i = 0; i < n_records; i++) {
    if (!nc_batch_may_be_stored(p, &records[i], i))
      continue;
    at[n] = i;
    pages[n++] = p->raw + records[i].start + records[i].header_bytes;
    if (n == NC_BATCH_STORED_GROUP) {
      nc_batch_find_stored(e, pages, at, n);
      n = 0;
    }
  }
  nc_batch_find_stored(e, pages, at, n);
  nc_batch_judge_stored(e);
}

/* Does record ${index} + ${n} follow in the frames, too? */
static bool
nc_batch_frames_continue(const NcBatchPlan *p, size_t index, uint32_t n)
{
  uint32_t first = nc_batch_page_plan(p, index).frame, next = nc_batch_page_plan(p, index + n).frame;
  return first == NC_NO_FRAME ? next == NC_NO_FRAME : next == first + n;
}

/* Does ${rec} go on where ${n} records like ${first} end? */
static bool
nc_batch_plan_continues(const NcBatchPlan *p, const NcStreamRecord *first, uint32_t n, const NcStreamRecord *rec)
{
  if (rec->kind != first->kind || rec->start != first->start + n * first->length || !nc_batch_plan_is_usable(p, rec))
    return false;
  return rec->kind == NC_RECORD_BLOCK ||
         (rec->header_bytes == NC_BATCH_WORD_BYTES &&
          nc_be64(p->raw + rec->start) == nc_be64(p->raw + first->start) + (uint64_t)n * NC_BATCH_PAGE_BYTES);
}

/* Writes the operation for the run that begins with record ${index}; returns how many records it took. */
static size_t
nc_batch_plan_run(NcBatchPlan *p, const NcStreamRecord *records, size_t n_records, size_t index)
{
  const NcStreamRecord *first = &records[index];
  bool pages = first->kind != NC_RECORD_ZERO;
  uint32_t n = 1;

  p->is_disk = first->kind == NC_RECORD_BLOCK;
  nc_batch_plan_literal(p, first->start + (first->header_bytes > NC_BATCH_WORD_BYTES ? first->header_bytes : 0));
  if (first->header_bytes > NC_BATCH_WORD_BYTES) {
    nc_batch_plan_page(p, p->raw + first->start + first->header_bytes, index);
  } else {
    while (index + n < n_records && nc_batch_plan_continues(p, first, n, &records[index + n]) &&
           (!pages || nc_batch_frames_continue(p, index, n)))
      n++;
    if (pages)
      nc_batch_plan_pages(p, first->start, index, n);
    else
      nc_batch_plan_zeros(p, first->start, n);
  }
  p->literal = first->start + n * first->length;
  return n;
}

/* Fills meta and bulk; without zero records if ${pages_only}. */
static void
nc_batch_plan_all(NcBatchPlan *p, const NcStreamRecord *records, size_t n_records, bool pages_only)
{
  g_byte_array_set_size(p->encoder->meta, 0);
  g_byte_array_set_size(p->encoder->bulk, 0);
  p->literal = 0;
  p->uses_history = false;
  p->stats = (NcBatchStats){ 0 };
  for (size_t i = 0; i < n_records;) {
    p->stats.zero_pages += records[i].kind == NC_RECORD_ZERO;
    if (nc_batch_plan_is_usable(p, &records[i]) && !(pages_only && records[i].kind == NC_RECORD_ZERO)) {
      size_t n = nc_batch_plan_run(p, records, n_records, i);
      p->stats.zero_pages += records[i].kind == NC_RECORD_ZERO ? (uint32_t)n - 1 : 0;
      i += n;
    } else {
      i++;
    }
  }
  nc_batch_plan_literal(p, p->raw_len);
}

static void
nc_batch_plan(NcBatchPlan *p, const NcStreamRecord *records, size_t n_records)
{
  GByteArray *meta = p->encoder->meta, *bulk = p->encoder->bulk;

  nc_batch_plan_all(p, records, n_records, false);
  if (meta->len + bulk->len <= p->raw_len + NC_BATCH_SLACK_BYTES)
    return;
  /*
   * Operations that cost more than they save; only zero pages far from each other have
   * them. Those of pages cost at most 30 bytes for 4 KiB, and must stay if they are to be kept.
   */
  nc_batch_plan_all(p, records, n_records, true);
  g_assert(meta->len + bulk->len <= p->raw_len + NC_BATCH_SLACK_BYTES);
}

/* A section in the form that is smaller. */
typedef struct {
  const uint8_t *data;
  uint32_t length;
  bool is_coded;
} NcBatchSection;

static NcBatchSection
nc_batch_code_section(NcBatchEncoder *e, const GByteArray *plain, uint8_t *coded)
{
  size_t n =
      plain->len >= NC_BATCH_CODED_MIN_BYTES && coded
          ? e->codec->encode(e->contexts[e->codec->id], e->policy.level, plain->data, plain->len, coded, plain->len - 1)
          : 0;
  if (n > 0)
    return (NcBatchSection){ coded, (uint32_t)n, true };
  return (NcBatchSection){ plain->data, plain->len, false };
}

/* Is it no use to compress what looks like ${estimate}? It does not see everything, so it is doubted now and then. */
static bool
nc_batch_leave_alone(NcBatchEncoder *e, double estimate)
{
  if (estimate < NC_ESTIMATE_INCOMPRESSIBLE)
    return false;
  if (e->doubts > 0) {
    e->doubts--;
    return false;
  }
  return ++e->left_alone % NC_BATCH_DOUBT_EVERY != 0;
}

/* The same, only if it looks worth it; tells ${stats} what the tuner must know. */
static NcBatchSection
nc_batch_judge_section(NcBatchEncoder *e, const GByteArray *plain, uint8_t *coded, NcBatchStats *stats)
{
  bool is_short = plain->len < NC_BATCH_ESTIMATE_MIN_BYTES;
  double estimate = is_short ? NC_BATCH_ESTIMATE_SHORT : nc_estimate(plain->data, plain->len);

  if (plain->len < NC_BATCH_CODED_MIN_BYTES || nc_batch_leave_alone(e, estimate))
    return (NcBatchSection){ plain->data, plain->len, false };
  int64_t start_us = nc_mono_us();
  NcBatchSection section = nc_batch_code_section(e, plain, coded);
  stats->coding_us += (uint32_t)(nc_mono_us() - start_us);
  if (estimate >= NC_ESTIMATE_INCOMPRESSIBLE && section.length < NC_BATCH_DOUBT_SHARE * plain->len)
    e->doubts = NC_BATCH_DOUBT_SECTIONS;
  stats->estimate =
      (stats->estimate * stats->codable_bytes + estimate * plain->len) / (stats->codable_bytes + plain->len);
  stats->codable_bytes += plain->len;
  stats->coded_bytes += section.length;
  return section;
}

static NcBatchSection
nc_batch_section(NcBatchEncoder *e, const GByteArray *plain, uint8_t *coded, NcBatchStats *stats)
{
  return e->policy.is_auto ? nc_batch_judge_section(e, plain, coded, stats) : nc_batch_code_section(e, plain, coded);
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

/* What each section has become, under the codec that it has in the end: one that got no smaller goes as it is. */
static void
nc_batch_count_sections(const NcBatchEncoder *e, const NcBatchSection *meta, const NcBatchSection *bulk, NcBatchStats *stats)
{
  stats->sections.bytes[NC_BATCH_SECTION_OPERATIONS][meta->is_coded ? e->codec->id : NC_CODEC_NONE] = meta->length;
  stats->sections.bytes[NC_BATCH_SECTION_WHOLE][bulk->is_coded ? e->codec->id : NC_CODEC_NONE] = bulk->length;
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
  return nc_batch_encode_planned(e, stream_offset, raw, raw_len, records, n_records, NULL, false, stats);
}

GByteArray *
nc_batch_encode_planned(NcBatchEncoder *e, uint64_t stream_offset, const uint8_t *raw, uint32_t raw_len,
                        const NcStreamRecord *records, size_t n_records, const NcPlan *kept, bool plain, NcBatchStats *stats)
{
  NcBatchPlan plan = { .encoder = e, .raw = raw, .raw_len = raw_len, .plan = kept, .plain = plain };
  NcBatchHeader h = { .stream_offset = stream_offset, .raw_len = raw_len };

  g_assert(raw_len > 0 && raw_len <= NC_BATCH_RAW_MAX);
  nc_batch_look_up_stored(&plan, records, n_records);
  nc_batch_plan(&plan, records, n_records);
  NcBatchSection meta = nc_batch_section(e, e->meta, e->coded_meta, &plan.stats);
  NcBatchSection bulk = nc_batch_section(e, e->bulk, e->coded_bulk, &plan.stats);

  nc_piece_digest(raw, raw_len, h.sha256);
  h.flags = (meta.is_coded ? NC_BATCH_FLAG_META_CODED : 0) | (bulk.is_coded ? NC_BATCH_FLAG_BULK_CODED : 0);
  h.codec = h.flags ? e->codec->id : NC_CODEC_NONE;
  h.level = (int8_t)(h.flags ? e->policy.level : 0);
  h.flags |= (plan.uses_history ? NC_BATCH_FLAG_HISTORY : 0) | (kept && kept->is_ahead ? NC_BATCH_FLAG_AHEAD : 0);
  h.meta_len = meta.length;
  h.meta_raw_len = e->meta->len;
  h.bulk_raw_len = e->bulk->len;
  if (stats) {
    bool meta_has_pages = plan.uses_history || plan.stats.stored_pages > 0;
    plan.stats.page_bytes_in = (uint64_t)plan.stats.pages * NC_BATCH_PAGE_BYTES;
    if (plan.stats.pages > 0)
      plan.stats.page_bytes_out = (uint64_t)plan.stats.fill_pages * 8 + bulk.length + (meta_has_pages ? meta.length : 0);
    nc_batch_count_sections(e, &meta, &bulk, &plan.stats);
    *stats = plan.stats;
  }
  return nc_batch_assemble(&h, &meta, &bulk);
}

const uint8_t *
nc_batch_sha256(const uint8_t *payload)
{
  return payload + NC_BATCH_SHA256_AT;
}
