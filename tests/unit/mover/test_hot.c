/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot pages: what is asked, in which order and when; and what QEMU gets to read when the
 * destination's requests and ours share its return path. One message that makes no sense costs
 * the machine, so most of this is about what is never said.
 */
#include "base/bytes.h"
#include "mover/hot.h"
#include "mover/requests.h"

#include <string.h>

#define PAGE NC_STREAM_PAGE_BYTES
#define T0 1000000

/* What a stream's setup list may have. */
static const NcStreamBlock blocks[] = {
  { .name = "pc.ram", .used_length = 300 * PAGE, .page_size = PAGE },
  { .name = "vga", .used_length = 40 * PAGE, .page_size = PAGE },
  { .name = "huge", .used_length = 1024 * PAGE, .page_size = 512 * PAGE },
  { .name = "unknown", .used_length = 0, .page_size = PAGE },
};
enum { RAM, VGA, HUGE, UNKNOWN };

static NcHot *
make_hot(void)
{
  NcHot *h = nc_hot_new();

  for (size_t i = 0; i < G_N_ELEMENTS(blocks); i++)
    nc_hot_add_block(h, &blocks[i]);
  return h;
}

static NcStreamRecord
record(uint32_t block, uint64_t page)
{
  return (NcStreamRecord){ .kind = NC_RECORD_PAGE, .block = block, .page_offset = page * PAGE };
}

static void
count(NcHot *h, uint32_t block, uint64_t page, unsigned times)
{
  NcStreamRecord r = record(block, page);

  while (times-- > 0)
    nc_hot_count(h, &r, 1);
}

static bool
sent(NcHot *h, uint32_t block, uint64_t page)
{
  NcStreamRecord r = record(block, page);
  return nc_hot_sent(h, &r, 1);
}

/* Everything is discarded, whatever block it is in and however that ends. */
static void
enter(NcHot *h)
{
  g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(NcStreamRange));

  for (uint32_t i = 0; i < G_N_ELEMENTS(blocks); i++) {
    NcStreamRange range = { .block = i, .length = MAX(blocks[i].used_length, PAGE) };
    g_array_append_val(all, range);
  }
  nc_hot_enter(h, all);
}

static void
expect(NcHot *h, int64_t now_us, const char *block, uint64_t page, uint32_t pages)
{
  NcHotRequest r;
  int64_t again;

  g_assert_true(nc_hot_next(h, now_us, &r, &again));
  g_assert_cmpstr(r.block, ==, block);
  g_assert_cmpuint(r.offset, ==, page * PAGE);
  g_assert_cmpuint(r.bytes, ==, pages * PAGE);
}

static void
expect_nothing(NcHot *h, int64_t now_us, int64_t again_us)
{
  NcHotRequest r;
  int64_t again = -1;

  g_assert_false(nc_hot_next(h, now_us, &r, &again));
  g_assert_cmpint(again, ==, again_us);
}

/* The most often sent first, neighbours whose turn it is in one request, the never sent not at all. */
static void
test_order(void)
{
  g_autoptr(NcHot) h = make_hot();

  count(h, RAM, 7, 1);
  count(h, RAM, 10, 3);
  count(h, RAM, 11, 3);
  count(h, RAM, 12, 2);
  count(h, VGA, 39, 1000); /* more than a byte holds */
  count(h, RAM, 299, 254);
  enter(h);
  nc_hot_permit(h);
  g_assert_true(nc_hot_is_asking(h));
  expect(h, T0, "vga", 39, 1);
  expect(h, T0, "pc.ram", 299, 1);
  expect(h, T0, "pc.ram", 10, 3); /* the third is a little colder, and next anyway */
  expect(h, T0, "pc.ram", 7, 1);
  expect_nothing(h, T0, 0);
  g_assert_false(nc_hot_is_asking(h));
}

/* Nothing of a block whose pages are larger, or whose length nobody has said, or that is not there. */
static void
test_only_plain_blocks(void)
{
  g_autoptr(NcHot) h = make_hot();

  count(h, HUGE, 3, 5);
  count(h, UNKNOWN, 0, 5);
  count(h, RAM, 300, 5);
  count(h, 17, 0, 5);
  enter(h);
  nc_hot_permit(h);
  expect_nothing(h, T0, 0);
}

/* Only what is discarded, and once, however often it is named. */
static void
test_only_what_is_discarded(void)
{
  g_autoptr(NcHot) h = make_hot();
  g_autoptr(GArray) some = g_array_new(FALSE, FALSE, sizeof(NcStreamRange));
  static const NcStreamRange ranges[] = { { 4 * PAGE, 2 * PAGE, RAM }, { 5 * PAGE, PAGE, RAM }, { 0, 8 * PAGE, 9 } };

  g_array_append_vals(some, ranges, G_N_ELEMENTS(ranges));
  for (unsigned i = 0; i < 10; i++)
    count(h, RAM, i, 1);
  nc_hot_enter(h, some);
  nc_hot_enter(h, some); /* a second time is none */
  nc_hot_permit(h);
  expect(h, T0, "pc.ram", 4, 2);
  expect_nothing(h, T0, 0);
}

static void
test_not_before_it_may(void)
{
  g_autoptr(NcHot) h = make_hot();
  g_autoptr(NcHot) early = make_hot();

  count(h, RAM, 1, 1);
  enter(h);
  g_assert_false(nc_hot_is_asking(h));
  expect_nothing(h, T0, 0);
  nc_hot_permit(h);
  expect(h, T0, "pc.ram", 1, 1);
  count(early, RAM, 1, 1);
  nc_hot_permit(early); /* pre-copy's run right */
  g_assert_false(nc_hot_is_asking(early));
  expect_nothing(early, T0, 0);
}

static void
test_not_after_the_end(void)
{
  g_autoptr(NcHot) h = make_hot();

  count(h, RAM, 1, 2);
  count(h, RAM, 3, 1);
  enter(h);
  nc_hot_permit(h);
  expect(h, T0, "pc.ram", 1, 1);
  nc_hot_stop(h);
  nc_hot_permit(h);
  g_assert_false(nc_hot_is_asking(h));
  expect_nothing(h, T0 + NC_HOT_EXPIRE_US, 0);
}

/* Sixteen pages, then as many as have come or were waited for long enough. */
static void
test_few_outstanding(void)
{
  g_autoptr(NcHot) h = make_hot();
  uint64_t asked, seen;

  for (unsigned i = 0; i < 100; i++)
    count(h, RAM, i, 1);
  enter(h);
  nc_hot_permit(h);
  expect(h, T0, "pc.ram", 0, 16);
  expect_nothing(h, T0 + 1, T0 + NC_HOT_EXPIRE_US);
  g_assert_true(sent(h, RAM, 3));
  g_assert_true(sent(h, RAM, 4));
  g_assert_false(sent(h, RAM, 4));   /* a second time is news of nothing */
  g_assert_false(sent(h, RAM, 200)); /* nor is what nobody asked for */
  expect(h, T0 + 2, "pc.ram", 16, 2);
  expect_nothing(h, T0 + 3, T0 + NC_HOT_EXPIRE_US);
  expect(h, T0 + NC_HOT_EXPIRE_US, "pc.ram", 18, 14);
  expect_nothing(h, T0 + NC_HOT_EXPIRE_US, T0 + 2 + NC_HOT_EXPIRE_US);
  g_assert_false(sent(h, RAM, 5)); /* too late to count */
  nc_hot_totals(h, &asked, &seen);
  g_assert_cmpuint(asked, ==, 32);
  g_assert_cmpuint(seen, ==, 2);
}

/* What has left by itself is not asked for: before the list is made and after. */
static void
test_what_was_sent_is_not_asked(void)
{
  g_autoptr(NcHot) h = make_hot();
  g_autoptr(NcStreamParser) other = nc_stream_parser_new_preempt();
  g_autoptr(GArray) records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  g_autoptr(GByteArray) stream = g_byte_array_new();

  for (unsigned i = 0; i < 20; i++)
    count(h, VGA, i, 1);
  for (unsigned i = 0; i < 3; i++) { /* pages 0, 1, 2 of "vga", which is block 0 there, and 1 here */
    nc_put_u64(stream, i * PAGE | 0x02 | (i ? 0x20 : 0));
    g_byte_array_append(stream, (const uint8_t *)"\003vga", i ? 0 : 4);
    nc_put_u8(stream, 0);
  }
  nc_stream_parser_scan(other, stream->data, stream->len, records);
  g_assert_cmpuint(records->len, ==, 3);
  const NcStreamRecord *elsewhere = (const NcStreamRecord *)(void *)records->data;
  g_assert_false(nc_hot_sent_elsewhere(h, other, elsewhere, 1)); /* before post-copy: of no meaning */
  enter(h);
  g_assert_false(sent(h, VGA, 5));
  g_assert_false(nc_hot_sent_elsewhere(h, other, elsewhere + 1, 1));
  nc_hot_permit(h);
  expect(h, T0, "vga", 0, 1);
  expect(h, T0, "vga", 2, 3);
  expect(h, T0, "vga", 6, 12);
  g_assert_true(nc_hot_sent_elsewhere(h, other, elsewhere + 2, 1));
  g_assert_false(sent(h, VGA, 19));
  expect(h, T0, "vga", 18, 1);
  expect_nothing(h, T0, 0);
}

/* More than the limit: the hottest of them, and none of a class that does not fit as a whole. */
static void
test_many_pages(void)
{
  g_autoptr(NcHot) h = nc_hot_new();
  g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(NcStreamRange));
  NcStreamBlock big = { .name = "big", .used_length = (NC_HOT_PAGES_MAX + 32ull) * PAGE, .page_size = PAGE };
  NcStreamRange range = { .length = big.used_length };

  nc_hot_add_block(h, &big);
  for (unsigned i = 0; i < NC_HOT_PAGES_MAX + 32; i++)
    count(h, 0, i, i < 10 ? 2 : 1);
  g_array_append_val(all, range);
  nc_hot_enter(h, all);
  nc_hot_permit(h);
  expect(h, T0, "big", 0, 10);
  expect_nothing(h, T0, 0);
}

/* --- the return path ------------------------------------------------------------------------------------------- */

/* QEMU 7.2's reading of it: what it does not understand, or what lies outside a block, is its end. */
typedef struct {
  NcReturnPath *path;
  int block; /* named last; -1: none */
} FakeQemu;

typedef struct {
  int block;
  uint64_t offset;
  uint32_t bytes;
} Heard;

static int
find_block(const uint8_t *name, size_t length)
{
  for (int i = 0; i < (int)G_N_ELEMENTS(blocks); i++)
    if (strlen(blocks[i].name) == length && memcmp(blocks[i].name, name, length) == 0)
      return i;
  return -1;
}

/* Exactly one whole message that QEMU survives. */
static Heard
hear(FakeQemu *q, const uint8_t *data, size_t length)
{
  NcReturnMessage m, more;

  nc_return_path_feed(q->path, data, length);
  g_assert_cmpint(nc_return_path_next(q->path, &m, NULL), ==, NC_RETURN_MESSAGE);
  g_assert_cmpuint(m.length, ==, length);
  g_assert_cmpuint(m.length - 4, <=, 512);
  Heard heard = { .offset = m.page_offset, .bytes = m.page_bytes };
  if (m.type == NC_RETURN_REQ_PAGES_ID)
    q->block = find_block(m.data + 17, m.data[16]);
  else
    g_assert_cmpint(m.type, ==, NC_RETURN_REQ_PAGES);
  heard.block = q->block;
  g_assert_cmpint(nc_return_path_next(q->path, &more, NULL), ==, NC_RETURN_MORE);
  g_assert_cmpint(heard.block, >=, 0);
  const NcStreamBlock *b = &blocks[heard.block];
  g_assert_true(heard.bytes > 0 && heard.offset % b->page_size == 0 && heard.bytes % b->page_size == 0);
  g_assert_true(heard.offset < b->used_length && heard.bytes <= b->used_length - heard.offset);
  return heard;
}

/* As the destination's QEMU says it: with a name when the block changes, or when it likes. */
static GByteArray *
destination_says(const Heard *wanted, bool named)
{
  GByteArray *out = g_byte_array_new();
  const char *name = blocks[wanted->block].name;

  nc_put_u16(out, named ? NC_RETURN_REQ_PAGES_ID : NC_RETURN_REQ_PAGES);
  nc_put_u16(out, (uint16_t)(named ? 13 + strlen(name) : 12));
  nc_put_u64(out, wanted->offset);
  nc_put_u32(out, wanted->bytes);
  if (named) {
    nc_put_u8(out, (uint8_t)strlen(name));
    g_byte_array_append(out, (const uint8_t *)name, (guint)strlen(name));
  }
  return out;
}

/* Through the rewriting to QEMU; what it hears, or a block of -2 if nothing is written. */
static Heard
pass(NcRequests *r, FakeQemu *q, const GByteArray *said)
{
  g_autoptr(NcReturnPath) parser = nc_return_path_new();
  g_autoptr(GByteArray) instead = g_byte_array_new();
  NcReturnMessage m;

  nc_return_path_feed(parser, said->data, said->len);
  g_assert_cmpint(nc_return_path_next(parser, &m, NULL), ==, NC_RETURN_MESSAGE);
  if (!nc_requests_replace(r, &m, instead))
    return hear(q, m.data, m.length);
  return instead->len > 0 ? hear(q, instead->data, instead->len) : (Heard){ .block = -2 };
}

static Heard
ask(NcRequests *r, FakeQemu *q, const NcHotRequest *request)
{
  g_autoptr(GByteArray) message = nc_requests_ask(r, request->block, request->offset, request->bytes);
  return hear(q, message->data, message->len);
}

static void
test_requests_without_a_name_get_one(void)
{
  NcRequests r = { 0 };
  FakeQemu q = { .path = nc_return_path_new(), .block = -1 };
  Heard ram = { RAM, 3 * PAGE, PAGE }, vga = { VGA, 39 * PAGE, PAGE };
  g_autoptr(GByteArray) named = destination_says(&ram, true), bare = destination_says(&ram, false);
  NcHotRequest ours = { "vga", 0, 2 * PAGE };

  g_assert_cmpint(pass(&r, &q, named).block, ==, RAM);
  g_assert_cmpint(pass(&r, &q, bare).block, ==, RAM);
  g_assert_cmpint(ask(&r, &q, &ours).block, ==, VGA);
  g_assert_cmpint(pass(&r, &q, bare).block, ==, RAM); /* and QEMU's last one was another */
  g_autoptr(GByteArray) other = destination_says(&vga, true);
  g_assert_cmpint(pass(&r, &q, other).block, ==, VGA);
  ours.block = "pc.ram";
  g_assert_cmpint(ask(&r, &q, &ours).block, ==, RAM);
  g_autoptr(GByteArray) bare_vga = destination_says(&vga, false);
  g_assert_cmpint(pass(&r, &q, bare_vga).block, ==, VGA);
  nc_return_path_free(q.path);
}

/* No QEMU begins without a name. If one does, it must not get a block of ours. */
static void
test_requests_of_no_block(void)
{
  NcRequests r = { 0 };
  FakeQemu q = { .path = nc_return_path_new(), .block = RAM }; /* what an earlier connection has named */
  Heard ram = { RAM, 3 * PAGE, PAGE };
  g_autoptr(GByteArray) bare = destination_says(&ram, false);
  NcHotRequest ours = { "vga", 0, PAGE };

  g_assert_cmpint(pass(&r, &q, bare).block, ==, RAM);
  ask(&r, &q, &ours);
  g_assert_cmpint(pass(&r, &q, bare).block, ==, -2);
  nc_return_path_free(q.path);
}

static void
test_other_messages_pass(void)
{
  static const uint8_t shut[] = { 0, 1, 0, 4, 0, 0, 0, 0 };
  g_autoptr(NcReturnPath) parser = nc_return_path_new();
  g_autoptr(GByteArray) instead = g_byte_array_new();
  NcRequests r = { .has_asked = true };
  NcReturnMessage m;

  nc_return_path_feed(parser, shut, sizeof shut);
  g_assert_cmpint(nc_return_path_next(parser, &m, NULL), ==, NC_RETURN_MESSAGE);
  g_assert_false(nc_requests_replace(&r, &m, instead));
}

/* --- whatever happens -------------------------------------------------------------------------------------------- */

typedef struct {
  NcHot *hot;
  NcRequests requests;
  FakeQemu qemu;
  GRand *random;
  int64_t now_us;
  bool counts[G_N_ELEMENTS(blocks)][1024]; /* sent before post-copy */
  bool gone[G_N_ELEMENTS(blocks)][1024];   /* asked, or sent in post-copy: not to be asked any more */
  int64_t asked_us[G_N_ELEMENTS(blocks)][1024]; /* 0: not asked, or seen */
  bool entered, permitted, stopped;
  int said; /* the destination's last block; -1: none */
} World;

static unsigned
pick(World *w, unsigned below)
{
  return (unsigned)g_rand_int_range(w->random, 0, (gint32)below);
}

static unsigned
outstanding(const World *w)
{
  unsigned n = 0;

  for (unsigned b = 0; b < G_N_ELEMENTS(blocks); b++)
    for (unsigned i = 0; i < 1024; i++)
      n += w->asked_us[b][i] > 0 && w->asked_us[b][i] + NC_HOT_EXPIRE_US > w->now_us;
  return n;
}

static void
world_asks(World *w)
{
  NcHotRequest request;
  int64_t again;

  if (!nc_hot_next(w->hot, w->now_us, &request, &again))
    return;
  g_assert_true(w->entered && w->permitted && !w->stopped);
  Heard heard = ask(&w->requests, &w->qemu, &request);
  g_assert_true(heard.block == RAM || heard.block == VGA);
  g_assert_cmpuint(heard.bytes, <=, 16 * PAGE);
  for (uint64_t i = heard.offset / PAGE; i < (heard.offset + heard.bytes) / PAGE; i++) {
    g_assert_true(w->counts[heard.block][i] && !w->gone[heard.block][i]);
    w->gone[heard.block][i] = true;
    w->asked_us[heard.block][i] = w->now_us;
  }
  g_assert_cmpuint(outstanding(w), <=, NC_HOT_OUTSTANDING);
}

static void
world_destination_asks(World *w)
{
  int block = w->said >= 0 && pick(w, 3) ? w->said : (int)pick(w, 3); /* not the one without length */
  uint64_t size = blocks[block].page_size;
  Heard wanted = { block, pick(w, (unsigned)(blocks[block].used_length / size)) * size, (uint32_t)size };
  g_autoptr(GByteArray) said = destination_says(&wanted, block != w->said || !pick(w, 4));

  w->said = block;
  Heard heard = pass(&w->requests, &w->qemu, said);
  g_assert_cmpint(heard.block, ==, wanted.block);
  g_assert_cmpuint(heard.offset, ==, wanted.offset);
  g_assert_cmpuint(heard.bytes, ==, wanted.bytes);
}

static void
world_sends(World *w)
{
  unsigned block = pick(w, G_N_ELEMENTS(blocks)), page = pick(w, 400);

  if (!w->entered) {
    count(w->hot, block, page, 1 + pick(w, 5));
    w->counts[block][page] = page < blocks[block].used_length / PAGE;
    return;
  }
  bool was_asked = w->asked_us[block][page] > 0 && w->asked_us[block][page] + NC_HOT_EXPIRE_US > w->now_us;
  bool said = sent(w->hot, block, page);
  g_assert_true(said || !was_asked);
  w->gone[block][page] = true;
  w->asked_us[block][page] = 0;
}

static void
world_step(World *w)
{
  switch (pick(w, 40)) {
  case 0:
    if (w->entered || pick(w, 10))
      break;
    enter(w->hot);
    w->entered = true;
    break;
  case 1:
    nc_hot_permit(w->hot);
    w->permitted = true;
    break;
  case 2:
    if (!pick(w, 20)) {
      nc_hot_stop(w->hot);
      w->stopped = true;
    }
    break;
  case 3:
    w->now_us += pick(w, NC_HOT_EXPIRE_US);
    break;
  default:
    (pick(w, 3) == 0 ? world_destination_asks : pick(w, 2) ? world_asks : world_sends)(w);
  }
  w->now_us += pick(w, 1000);
}

static void
test_whatever_happens(void)
{
  g_autofree World *w = g_new(World, 1);
  uint64_t asked = 0;

  for (unsigned seed = 0; seed < 60; seed++) {
    uint64_t n;
    *w = (World){ .hot = make_hot(), .random = g_rand_new_with_seed(seed), .now_us = T0, .said = -1 };
    w->qemu = (FakeQemu){ .path = nc_return_path_new(), .block = -1 };
    for (unsigned i = 0; i < 2000; i++)
      world_step(w);
    nc_hot_totals(w->hot, &n, NULL);
    asked += n;
    nc_hot_free(w->hot);
    nc_return_path_free(w->qemu.path);
    g_rand_free(w->random);
  }
  g_assert_cmpuint(asked, >, 500); /* else this has tested nothing */
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/hot/order", test_order);
  g_test_add_func("/hot/only-plain-blocks", test_only_plain_blocks);
  g_test_add_func("/hot/only-what-is-discarded", test_only_what_is_discarded);
  g_test_add_func("/hot/not-before-it-may", test_not_before_it_may);
  g_test_add_func("/hot/not-after-the-end", test_not_after_the_end);
  g_test_add_func("/hot/few-outstanding", test_few_outstanding);
  g_test_add_func("/hot/what-was-sent-is-not-asked", test_what_was_sent_is_not_asked);
  g_test_add_func("/hot/many-pages", test_many_pages);
  g_test_add_func("/requests/without-a-name-get-one", test_requests_without_a_name_get_one);
  g_test_add_func("/requests/of-no-block", test_requests_of_no_block);
  g_test_add_func("/requests/other-messages-pass", test_other_messages_pass);
  g_test_add_func("/hot/whatever-happens", test_whatever_happens);
  return g_test_run();
}
