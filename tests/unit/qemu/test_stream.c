/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream parser against byte tables: what it must find, what it must
 * refuse to understand, and that no way of cutting a stream changes either.
 */
#include "stream_text.h"

/* A parser and what it said, offsets counted from the start of the stream. */
typedef struct {
  NcStreamParser *p;
  GArray *records;
  size_t consumed;
} Run;

static void
run_init(Run *run, NcStreamParser *p)
{
  *run = (Run){ .p = p, .records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord)) };
}

static void
run_clear(Run *run)
{
  nc_stream_parser_free(run->p);
  g_array_unref(run->records);
}

/* Presents what was left over together with everything up to ${end}. */
static void
run_until(Run *run, const GByteArray *stream, size_t end)
{
  guint known = run->records->len;
  size_t length = end - run->consumed;
  size_t n = nc_stream_parser_scan(run->p, stream->data + run->consumed, length, run->records);

  g_assert_cmpuint(n, <=, length);
  g_assert_cmpuint(length - n, <, NC_STREAM_RECORD_MAX);
  for (guint i = known; i < run->records->len; i++)
    g_array_index(run->records, NcStreamRecord, i).start += (uint32_t)run->consumed;
  run->consumed += n;
}

static void
run_whole(Run *run, NcStreamParser *p, const char *text)
{
  g_autoptr(GByteArray) stream = bytes(text);

  run_init(run, p);
  run_until(run, stream, stream->len);
}

static void
assert_opaque(const Run *run, uint64_t offset, const char *reason)
{
  uint64_t at = 0;
  const char *why = NULL;

  g_assert_true(nc_stream_parser_is_opaque(run->p, &at, &why));
  g_assert_cmpuint(at, ==, offset);
  if (!strstr(why, reason))
    g_error("opaque because of \"%s\", expected \"%s\"", why, reason);
}

static size_t
length_of(const char *text)
{
  g_autoptr(GByteArray) stream = bytes(text);

  return stream->len;
}

static void
assert_record(const Run *run, guint i, const char *block, NcStreamRecord expected)
{
  NcStreamRecord r = g_array_index(run->records, NcStreamRecord, i);

  g_assert_cmpstr(nc_stream_parser_block(run->p, r.block)->name, ==, block);
  g_assert_cmpuint(r.start, ==, expected.start);
  g_assert_cmpuint(r.header_bytes, ==, expected.header_bytes);
  g_assert_cmpuint(r.kind, ==, expected.kind);
  g_assert_cmpuint(r.flags, ==, expected.flags);
  g_assert_cmpuint(r.length, ==, expected.length);
  g_assert_cmpuint(r.page_offset, ==, expected.page_offset);
}

static void
test_precopy(void)
{
  Run run;
  NcStreamTotals totals;
  uint32_t at = (uint32_t)length_of(SETUP PART);
  size_t device_state = length_of(SETUP PART NAMED_PAGE NEXT_PAGE NEXT_ZERO BIOS_PAGE EOS FOOTER END EOS FOOTER);

  run_whole(&run, nc_stream_parser_new(),
            SETUP PART NAMED_PAGE NEXT_PAGE NEXT_ZERO BIOS_PAGE EOS FOOTER END EOS FOOTER FULL);
  g_assert_cmpstr(nc_stream_parser_machine_type(run.p), ==, "pc-i440fx-7.2");
  g_assert_false(nc_stream_parser_ignores_shared(run.p));
  g_assert_cmpuint(nc_stream_parser_block_count(run.p), ==, 2);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 0)->used_length, ==, 0x3000);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 1)->used_length, ==, 0x2000);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 1)->page_size, ==, 4096);
  g_assert_cmpuint(run.records->len, ==, 4);
  g_assert_false(nc_stream_parser_in_postcopy(run.p));
  assert_record(&run, 0, "m0", (NcStreamRecord){ at, 11, NC_RECORD_PAGE, 0x08, 4107, 0, 0 });
  assert_record(&run, 1, "m0", (NcStreamRecord){ at + 4107, 8, NC_RECORD_PAGE, 0x28, 4104, 0, 0x1000 });
  assert_record(&run, 2, "m0", (NcStreamRecord){ at + 8211, 8, NC_RECORD_ZERO, 0x22, 9, 0, 0x2000 });
  assert_record(&run, 3, "pc.bios", (NcStreamRecord){ at + 8220, 16, NC_RECORD_PAGE, 0x08, 4112, 1, 0x1000 });
  assert_opaque(&run, device_state, "device state");
  nc_stream_parser_totals(run.p, &totals);
  g_assert_cmpuint(totals.pages, ==, 3);
  g_assert_cmpuint(totals.zero_pages, ==, 1);
  g_assert_cmpuint(totals.bytes, ==, run.consumed);
  g_assert_cmpuint(totals.other_bytes, ==, run.consumed - 4107 - 4104 - 9 - 4112);
  run_clear(&run);
}

/* Streams that are understood to the last byte, or up to device state. */
static const struct {
  const char *name;
  const char *text;
  guint records;
  bool opaque;
  bool preempt;
} understood[] = {
  { "empty part", SETUP PART EOS FOOTER, 0, false },
  { "no configuration", FILE_START RETURN_PATH RAM_START RAM_LIST EOS FOOTER PART NAMED_PAGE, 1, false },
  { "no footers", MACHINE RAM_START RAM_LIST EOS PART NAMED_PAGE EOS PART NEXT_PAGE EOS END EOS FULL, 2, true },
  { "uuid checked", MACHINE "05 12 'configuration/uuid' 00000001 '0123456789abcdef' " RAM_START, 0, false },
  { "page bits said", MACHINE "05 1e 'configuration/target-page-bits' 00000001 0000000c " RAM_START, 0, false },
  { "block continued in the next section", SETUP PART NAMED_PAGE EOS FOOTER PART NEXT_ZERO EOS FOOTER, 2, false },
  { "post-copy",
    MACHINE RETURN_PATH ADVISE RAM_START RAM_LIST EOS FOOTER PART NAMED_PAGE EOS FOOTER DISCARD
    "08 0002 0004 00000002 " PACKAGE "08 0002 0004 00000004 " PART "0000000000001008 02 'm0' @ " EOS FOOTER END EOS
    FOOTER "00 ", 2, false },
  { "bitmaps only do post-copy", MACHINE RETURN_PATH "08 0003 0000 " RAM_START RAM_LIST EOS FOOTER, 0, false },
  { "switchover announced", SETUP PART EOS FOOTER "08 000b 0000 " END EOS FOOTER FULL, 0, true },
  { "multifd barrier", SETUP PART "0000000000000200 " EOS FOOTER PART NAMED_PAGE, 1, false },
  { "xbzrle", SETUP PART NAMED_PAGE "0000000000001060 01 0003 000101 " NEXT_ZERO EOS FOOTER, 2, false },
  { "compressed pages", SETUP PART "0000000000000100 02 'm0' 00000005 789c010203 " NEXT_ZERO EOS FOOTER, 1, false },
  { "dirty bitmaps", SETUP "01 00000003 0c 'dirty-bitmap' 00000000 00000001  1c 02 'd0' 02 'b0' 00010000 01  01 "
    "7e 00000003 " PART NAMED_PAGE EOS FOOTER "03 00000003 4c 02 'd0' 02 'b0' 0000000000000000 00000080 "
    "0000000000000008 ffffffffffffffff 42 0000000000000080 00000080 20 01 7e 00000003 " PART NEXT_ZERO, 2, false },
  { "virtio-mem saves early", MACHINE RAM_START RAM_LIST EOS FOOTER
    "04 00000009 24 '0000:00:03.0/virtio-mem-device-early' 00000000 00000001 0000000140000000 0000000010000000 "
    "0000000000200000 00000000 0000000000400000 8000000000000000 0000000000000001 7e 00000009 " PART NAMED_PAGE,
    1, false },
  { "background snapshot", MACHINE RAM_START RAM_LIST EOS FOOTER PART NAMED_PAGE EOS FOOTER FULL DESCRIPTION, 1, true },
  { "recovery without a past", "08 000a 0003 02 'm0' 08 0009 0000 " PART "0000000000001008 02 'm0' @ " EOS FOOTER, 1, false },
  { "preempt", "0000000000001008 02 'm0' @ 0000000000002028 @ " EOS, 2, false, true },
};

static NcStreamParser *
parser_for(bool preempt)
{
  return preempt ? nc_stream_parser_new_preempt() : nc_stream_parser_new();
}

static void
test_understood(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(understood); i++) {
    Run run;
    const char *reason = NULL;

    g_test_message("%s", understood[i].name);
    run_whole(&run, parser_for(understood[i].preempt), understood[i].text);
    bool opaque = nc_stream_parser_is_opaque(run.p, NULL, &reason);
    if (opaque != understood[i].opaque)
      g_error("%s: opaque %d: %s", understood[i].name, opaque, reason);
    g_assert_cmpuint(run.records->len, ==, understood[i].records);
    run_clear(&run);
  }
}

/* What must not be understood: good bytes, then the first ones that are not, and a word of the reason. */
static const struct {
  const char *good;
  const char *bad;
  const char *reason;
} refused[] = {
  { "", "11223344 00000001 ", "header" }, /* a multifd channel */
  { "", "51 45 4d 00 ", "header" },
  { "", "51 45 56 4d 00000002 ", "header" },
  { FILE_START, "07 00000000 ", "machine type" },
  { FILE_START, "07 00000100 ", "machine type" },
  { FILE_START, "06 00000000 ", "unknown element" },
  { FILE_START, "7e 00000000 ", "unknown element" },
  { MACHINE, "05 04 'what' 00000001 ", "unknown configuration \"what\"" },
  { MACHINE, "05 12 'configuration/uuid' 00000002 '0123456789abcdef' ", "version 2" },
  { MACHINE, "05 1e 'configuration/target-page-bits' 00000001 0000000e ", "target pages" },
  { MACHINE, "05 1a 'configuration/capabilities' 00000001 00000041 ", "capabilities" },
  { MACHINE "05 1a 'configuration/capabilities' 00000001 00000002 0f 'x-ignore-shared' ", "0a 'mapped-ram' ",
    "mapped-ram" },
  { MACHINE, "08 000c 0000 ", "unknown command 12" },
  { MACHINE, "08 0000 0000 ", "unknown command 0" },
  { MACHINE, "08 0001 0001 00 ", "unknown command 1" },
  { MACHINE, "08 0002 0003 000000 ", "unknown command 2" },
  { MACHINE, "08 0003 0008 0000000000001000 ", "ADVISE" },
  { MACHINE, "08 0003 0010 0000000000001000 0000000000002000 ", "target pages" },
  { MACHINE, "08 0007 0000 ", "unknown command 7" },
  { MACHINE, "09 ", "unknown element" },
  { MACHINE, "01 00000001 05 'block' 00000000 00000001 ", "\"block\"" },
  { MACHINE, "01 00000002 03 'ram' 00000000 00000005 ", "\"ram\"" },
  { MACHINE, "01 00000002 03 'ram' 00000001 00000004 ", "\"ram\"" },
  { MACHINE, "01 00000002 04 'r" "\xff" "m!' 00000000 00000004 ", "r\\377m!" },
  { MACHINE, "04 00000002 05 'timer' 00000000 00000002 ", "device state \"timer\"" },
  { SETUP, RAM_START, "second" },
  { SETUP, "01 00000005 03 'ram' 00000000 00000004 ", "second" },
  { SETUP, "02 00000003 ", "never started" },
  { SETUP PART EOS FOOTER, "04 ", "device state" },
  { MACHINE RAM_START, "0000000000001008 ", "list of blocks" },
  { MACHINE RAM_START "0000000000005004 ", "00 0000000000003000 ", "proper name" },
  { MACHINE RAM_START "0000000000005004 ", "02 'm' 00 0000000000003000 ", "proper name" },
  { MACHINE RAM_START "0000000000005004 ", "02 'm0' 0000000000000000 ", "0 bytes" },
  { MACHINE RAM_START "0000000000005004 ", "02 'm0' 0000000000000800 ", "2048 bytes" },
  { MACHINE RAM_START "0000000000005004 ", "02 'm0' 0000000000006000 ", "24576 bytes" },
  { MACHINE RAM_START "0000000000005004 02 'm0' 0000000000003000 ", "02 'm0' 0000000000002000 ", "twice" },
  { SETUP PART, "0000000000000028 ", "without a block" },
  { SETUP PART, "0000000000000008 02 'm1' ", "\"m1\"" },
  { SETUP PART, "0000000000003008 02 'm0' ", "outside" },
  { SETUP PART, "fffffffffffff008 02 'm0' ", "outside" },
  { SETUP PART NAMED_PAGE, "0000000000003022 ", "outside" },
  { SETUP PART, "0000000000000000 ", "flags 0x000" },
  { SETUP PART, "000000000000000a 02 'm0' ", "flags 0x00a" },
  { SETUP PART, "0000000000000080 ", "flags 0x080" },
  { SETUP PART, "0000000000000400 ", "flags 0x400" },
  { SETUP PART, "0000000000001010 ", "flags 0x010" },
  { SETUP PART, "0000000000000030 ", "flags 0x030" },
  { SETUP PART, "0000000000005004 ", "flags 0x004" },
  { SETUP PART, "0000000000000002 02 'm0' ff ", "filled" },
  { SETUP PART, "0000000000000040 02 'm0' 02 0003 ", "XBZRLE" },
  { SETUP PART, "0000000000000040 02 'm0' 01 1001 ", "XBZRLE" },
  { SETUP PART, "0000000000000100 02 'm0' 00002001 ", "compressed" },
  { SETUP PART EOS, "7e 00000003 ", "footer of section id 3" },
  { SETUP PART EOS, "02 00000002 ", "missing" },
  { MACHINE RAM_START RAM_LIST EOS PART EOS, FOOTER, "where there are none" },
  { MACHINE "01 00000003 0c 'dirty-bitmap' 00000000 00000001 ", "81 00 ", "0x81" },
  { MACHINE "01 00000003 0c 'dirty-bitmap' 00000000 00000001 ", "50 ", "0x50" },
  { MACHINE "01 00000003 0c 'dirty-bitmap' 00000000 00000001 ",
    "40 0000000000000000 00000080 0000000000100001 ", "dirty bitmap" },
  { MACHINE "04 00000009 17 'virtio-mem-device-early' 00000000 00000001 ",
    "0000000000000000 0000000010000000 0000000000000000 00000000 0000000000000000 ", "virtio-mem" },
  { MACHINE "04 00000009 17 'virtio-mem-device-early' 00000000 00000001 ",
    "0000000000000000 ffffffffffffffff 0000000000000001 00000000 0000000000000000 ", "virtio-mem" },
  { SETUP "00 ", "08 ", "after the end" },
  { SETUP DESCRIPTION, "00 ", "after the end" },
};

/* Opaque exactly before the bad bytes; and everything after them is let through at once. */
static void
test_refused(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_autofree char *text = g_strconcat(refused[i].good, refused[i].bad, NULL);
    g_autoptr(GByteArray) more = bytes(NAMED_PAGE "01 ");
    Run run;

    g_test_message("%s", refused[i].reason);
    run_whole(&run, nc_stream_parser_new(), text);
    g_assert_cmpuint(run.consumed, ==, length_of(text));
    assert_opaque(&run, length_of(refused[i].good), refused[i].reason);
    guint known = run.records->len;
    for (guint n = 1; n < more->len; n += 100)
      g_assert_cmpuint(nc_stream_parser_scan(run.p, more->data, n, run.records), ==, n);
    g_assert_cmpuint(run.records->len, ==, known);
    run_clear(&run);
  }
}

static void
assert_same(const Run *a, const Run *b)
{
  uint64_t offset_a = 0, offset_b = 0;
  NcStreamTotals totals_a, totals_b;

  g_assert_cmpuint(a->consumed, ==, b->consumed);
  g_assert_cmpuint(a->records->len, ==, b->records->len);
  for (guint i = 0; i < a->records->len; i++) {
    NcStreamRecord r = g_array_index(b->records, NcStreamRecord, i);
    assert_record(a, i, nc_stream_parser_block(b->p, r.block)->name, r);
  }
  g_assert_cmpint(nc_stream_parser_is_opaque(a->p, &offset_a, NULL), ==,
                  nc_stream_parser_is_opaque(b->p, &offset_b, NULL));
  g_assert_cmpuint(offset_a, ==, offset_b);
  g_assert_cmpint(nc_stream_parser_at_tail(a->p), ==, nc_stream_parser_at_tail(b->p));
  const GArray *discards_a = nc_stream_parser_discards(a->p), *discards_b = nc_stream_parser_discards(b->p);
  g_assert_cmpuint(nc_stream_parser_package_end(a->p), ==, nc_stream_parser_package_end(b->p));
  g_assert_cmpuint(discards_a->len, ==, discards_b->len);
  for (guint i = 0; i < discards_a->len; i++) {
    NcStreamRange x = g_array_index(discards_a, NcStreamRange, i), y = g_array_index(discards_b, NcStreamRange, i);
    g_assert_true(x.block == y.block && x.start == y.start && x.length == y.length);
  }
  nc_stream_parser_totals(a->p, &totals_a);
  nc_stream_parser_totals(b->p, &totals_b);
  g_assert_cmpmem(&totals_a, sizeof totals_a, &totals_b, sizeof totals_b);
}

/* Byte by byte, in two pieces at each position, and whole: one result. */
static void
check_splits(const char *text, bool preempt)
{
  g_autoptr(GByteArray) stream = bytes(text);
  Run whole, single;

  run_init(&whole, parser_for(preempt));
  run_until(&whole, stream, stream->len);
  run_init(&single, parser_for(preempt));
  for (size_t i = 1; i <= stream->len; i++)
    run_until(&single, stream, i);
  assert_same(&whole, &single);
  for (size_t split = 1; split < stream->len; split++) {
    Run two;
    run_init(&two, parser_for(preempt));
    run_until(&two, stream, split);
    run_until(&two, stream, stream->len);
    assert_same(&whole, &two);
    run_clear(&two);
  }
  run_clear(&whole);
  run_clear(&single);
}

static void
test_splits(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(understood); i++)
    check_splits(understood[i].text, understood[i].preempt);
  for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_autofree char *text = g_strconcat(refused[i].good, refused[i].bad, "00 7e 'more' ", NULL);
    check_splits(text, false);
  }
}

/* Fed byte by byte, a record, a footer and each opaque byte leave with the byte that completes them. */
static void
test_nothing_is_held_back(void)
{
  static const char *const complete[] = {
    MACHINE, RETURN_PATH, ADVISE, RAM_START, RAM_LIST, EOS, FOOTER, PART, NAMED_PAGE, NEXT_PAGE, NEXT_ZERO, EOS,
    FOOTER, PART, EOS, FOOTER, END, EOS, FOOTER, "04 ", "00 ", "00 ",
  };
  g_autoptr(GString) text = g_string_new(NULL);
  Run run;

  run_init(&run, nc_stream_parser_new());
  for (size_t i = 0; i < G_N_ELEMENTS(complete); i++) {
    g_string_append(text, complete[i]);
    g_autoptr(GByteArray) stream = bytes(text->str);
    run_until(&run, stream, stream->len);
    g_assert_cmpuint(run.consumed, ==, stream->len);
  }
  g_assert_cmpuint(run.records->len, ==, 3);
  run_clear(&run);
}

/* The body of a package, a delta or a bitmap is of known length: none of it waits for the rest. */
static void
test_bodies_pass_in_pieces(void)
{
  Run run;
  static const char *const partial[] = {
    SETUP "08 0007 0004 00010000 1122 ",
    SETUP PART "0000000000000040 02 'm0' 01 0100 1122 ",
    SETUP PART "0000000000000100 02 'm0' 00000100 1122 ",
    SETUP "08 0006 0100 00 02 'm0' 00 ",
    MACHINE "01 00000003 0c 'dirty-bitmap' 00000000 00000001 40 0000000000000000 00000080 0000000000000400 11 ",
  };

  for (size_t i = 0; i < G_N_ELEMENTS(partial); i++) {
    run_whole(&run, nc_stream_parser_new(), partial[i]);
    g_assert_cmpuint(run.consumed, ==, length_of(partial[i]));
    g_assert_false(nc_stream_parser_is_opaque(run.p, NULL, NULL));
    run_clear(&run);
  }
}

static void
test_ignore_shared(void)
{
  Run run;

  run_whole(&run, nc_stream_parser_new(),
            MACHINE "05 1a 'configuration/capabilities' 00000001 00000001 0f 'x-ignore-shared' " RAM_START
            "0000000000005004 02 'm0' 0000000000003000 0000000100000000 02 'm1' 0000000000002000 ffffffffffffffff " EOS
            FOOTER PART NAMED_PAGE);
  g_assert_true(nc_stream_parser_ignores_shared(run.p));
  g_assert_cmpuint(nc_stream_parser_block(run.p, 0)->address, ==, G_GUINT64_CONSTANT(0x100000000));
  g_assert_cmpuint(nc_stream_parser_block(run.p, 1)->address, ==, G_MAXUINT64);
  g_assert_cmpuint(run.records->len, ==, 1);
  run_clear(&run);
}

#define HUGE_ADVISE "08 0003 0010 0000000000201000 0000000000001000 "

/* With huge pages somewhere, only the blocks that have them say so. */
static void
test_huge_pages(void)
{
  Run run;

  run_whole(&run, nc_stream_parser_new(),
            MACHINE HUGE_ADVISE RAM_START
            "0000000000603004 02 'm0' 0000000000003000 04 'dimm' 0000000000400000 0000000000200000 "
            "02 'm2' 0000000000200000 " EOS FOOTER PART NAMED_PAGE);
  g_assert_cmpuint(nc_stream_parser_block_count(run.p), ==, 3);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 0)->page_size, ==, 4096);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 1)->page_size, ==, 2 << 20);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 2)->page_size, ==, 4096);
  g_assert_cmpuint(run.records->len, ==, 1);
  run_clear(&run);
  run_whole(&run, nc_stream_parser_new(), MACHINE HUGE_ADVISE RAM_START
            "0000000000003004 02 'm0' 0000000000003000 0000000000003000 " EOS);
  assert_opaque(&run, length_of(MACHINE HUGE_ADVISE RAM_START "0000000000003004 "),
                "pages of 12288");
  run_clear(&run);
}

/* A recovery repeats neither header nor setup: what the first connection said still holds. */
static void
test_reconnect(void)
{
  g_autoptr(GByteArray) first = bytes(MACHINE RETURN_PATH ADVISE RAM_START RAM_LIST EOS FOOTER PART NAMED_PAGE
                                      EOS FOOTER PACKAGE PART "0000000000002008 02 'm0' ");
  g_autoptr(GByteArray) second =
    bytes("08 000a 0003 02 'm0' 08 0009 0000 " PART "0000000000001008 02 'm0' @ " EOS FOOTER END EOS FOOTER "00 ");
  g_autoptr(GByteArray) lost = bytes("08 0009 0000 " PART "0000000000001028 @ ");
  Run run;

  run_init(&run, nc_stream_parser_new());
  run_until(&run, first, first->len - 3);
  nc_stream_parser_reconnect(run.p);
  run.consumed = 0;
  run_until(&run, second, second->len);
  g_assert_cmpuint(run.consumed, ==, second->len);
  g_assert_false(nc_stream_parser_is_opaque(run.p, NULL, NULL));
  g_assert_true(nc_stream_parser_at_tail(run.p));
  nc_stream_parser_reconnect(run.p);
  run.consumed = 0;
  run_until(&run, lost, lost->len);
  assert_opaque(&run, length_of("08 0009 0000 " PART), "without a block"); /* the name is to be said again */
  nc_stream_parser_reconnect(run.p);
  assert_opaque(&run, length_of("08 0009 0000 " PART), "without a block");
  run_clear(&run);
}

/* A package that was cut is not waited for on the next connection. */
static void
test_reconnect_after_a_cut_package(void)
{
  g_autoptr(GByteArray) second = bytes("08 000a 0003 02 'm0' 08 0009 0000 " PART "0000000000001008 02 'm0' @ ");
  Run run;

  run_whole(&run, nc_stream_parser_new(), SETUP "08 0007 0004 00010000 08 0004 0000 ");
  nc_stream_parser_reconnect(run.p);
  run.consumed = 0;
  run_until(&run, second, second->len);
  g_assert_cmpuint(run.records->len, ==, 1);
  g_assert_false(nc_stream_parser_in_postcopy(run.p));
  run_clear(&run);
}

#define ORPHAN "08 000a 0003 02 'm0' 08 0009 0000 "

static void
test_recovery_without_a_past(void)
{
  Run run;

  run_whole(&run, nc_stream_parser_new(), ORPHAN PART "0000000000001008 02 'm0' @ 0000000000002022 00 " EOS FOOTER PART
            "0000000000001008 02 'm1' @ " EOS FOOTER END EOS FOOTER "00 ");
  g_assert_true(nc_stream_parser_is_orphan(run.p));
  g_assert_true(nc_stream_parser_at_tail(run.p));
  g_assert_false(nc_stream_parser_in_postcopy(run.p));
  g_assert_cmpuint(run.records->len, ==, 3);
  g_assert_cmpuint(nc_stream_parser_block_count(run.p), ==, 2);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 1)->used_length, ==, 0);
  run_clear(&run);
  run_whole(&run, nc_stream_parser_new(), SETUP);
  g_assert_false(nc_stream_parser_is_orphan(run.p));
  run_clear(&run);
}

/* What it takes for RAM and is none, and discards of blocks whose length nobody has said. */
static void
test_orphan_is_refused(void)
{
  Run run;

  run_whole(&run, nc_stream_parser_new(), ORPHAN PART EOS FOOTER "02 00000003 ");
  assert_opaque(&run, length_of(ORPHAN PART EOS FOOTER), "never started");
  run_clear(&run);
  run_whole(&run, nc_stream_parser_new(), ORPHAN PART "4c 02 'd0' 02 'b0' 0000000000000000 ");
  assert_opaque(&run, length_of(ORPHAN PART), "RAM record");
  run_clear(&run);
  run_whole(&run, nc_stream_parser_new(), ORPHAN PART "0000000000001008 02 'm0' @ " EOS FOOTER DISCARD);
  g_assert_cmpuint(nc_stream_parser_discards(run.p)->len, ==, 0);
  run_clear(&run);
}

#define POSTCOPY_SETUP MACHINE RETURN_PATH ADVISE RAM_START RAM_LIST EOS FOOTER PART NAMED_PAGE EOS FOOTER

/* With the package's last byte and not before; whatever comes then, it stays so. */
static void
test_postcopy_begins(void)
{
  g_autoptr(GByteArray) stream = bytes(POSTCOPY_SETUP DISCARD PACKAGE PART NEXT_PAGE "09 ");
  size_t end = length_of(POSTCOPY_SETUP DISCARD PACKAGE);
  Run run;

  run_init(&run, nc_stream_parser_new());
  run_until(&run, stream, end - 1);
  g_assert_false(nc_stream_parser_in_postcopy(run.p));
  g_assert_cmpuint(nc_stream_parser_package_end(run.p), ==, 0);
  run_until(&run, stream, end);
  g_assert_true(nc_stream_parser_in_postcopy(run.p));
  g_assert_cmpuint(nc_stream_parser_package_end(run.p), ==, end);
  run_until(&run, stream, stream->len);
  g_assert_true(nc_stream_parser_in_postcopy(run.p));
  nc_stream_parser_give_up(run.p, "enough");
  nc_stream_parser_reconnect(run.p);
  g_assert_true(nc_stream_parser_in_postcopy(run.p));
  run_clear(&run);
  run_whole(&run, nc_stream_parser_new(), POSTCOPY_SETUP DISCARD PACKAGE PART NEXT_PAGE);
  g_assert_cmpuint(nc_stream_parser_package_end(run.p), ==, end);
  run_clear(&run);
}

#define M0_RANGE "0000000000000000 0000000000002000 "

/* What POSTCOPY_RAM_DISCARD may say, and how many ranges are to be known after it. */
static const struct {
  const char *command;
  guint ranges;
} discards[] = {
  { DISCARD, 1 },
  { DISCARD DISCARD, 2 },
  { "08 0006 0025 00 02 'm0' 00 " M0_RANGE "0000000000002000 0000000000001000 ", 2 },
  { "08 0006 001a 00 07 'pc.bios' 00 0000000000001000 0000000000001000 ", 1 },
  { "08 0006 0005 00 02 'm0' 00 ", 0 },
  { "08 0006 0015 01 02 'm0' 00 " M0_RANGE, 0 },                                           /* another version */
  { "08 0006 0015 00 02 'm0' 01 " M0_RANGE, 0 },                                           /* no NUL */
  { "08 0006 0015 00 02 'm1' 00 " M0_RANGE, 0 },                                           /* no such block */
  { "08 0006 0004 00 ff 'm0' ", 0 },                                                       /* the name is cut */
  { "08 0006 0016 00 02 'm0' 00 " M0_RANGE "00 ", 0 },                                     /* a piece of a range */
  { "08 0006 0025 00 02 'm0' 00 " M0_RANGE "0000000000002000 0000000000002000 ", 0 },      /* beyond the block */
  { "08 0006 0015 00 02 'm0' 00 0000000000003000 0000000000001000 ", 0 },                  /* behind it */
  { "08 0006 0015 00 02 'm0' 00 0000000000001000 fffffffffffff000 ", 0 },                  /* wraps */
  { "08 0006 0015 00 02 'm0' 00 fffffffffffff000 0000000000001000 ", 0 },
  { "08 0006 0015 00 02 'm0' 00 0000000000000800 0000000000001000 ", 0 },                  /* no page */
  { "08 0006 0015 00 02 'm0' 00 0000000000000000 0000000000000001 ", 0 },
  { "08 0006 0015 00 02 'm0' 00 0000000000000000 0000000000000000 ", 0 },
};

/* Whatever a command says, the stream goes on behind it. */
static void
test_discards(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(discards); i++) {
    g_autofree char *text = g_strconcat(POSTCOPY_SETUP, discards[i].command, PACKAGE PART NEXT_PAGE, NULL);
    Run run;

    g_test_message("%s", discards[i].command);
    run_whole(&run, nc_stream_parser_new(), text);
    g_assert_cmpuint(nc_stream_parser_discards(run.p)->len, ==, discards[i].ranges);
    g_assert_false(nc_stream_parser_is_opaque(run.p, NULL, NULL));
    g_assert_true(nc_stream_parser_in_postcopy(run.p));
    run_clear(&run);
    if (i < 4)
      check_splits(text, false);
  }
}

static void
test_discarded_ranges(void)
{
  Run run;

  run_whole(&run, nc_stream_parser_new(), POSTCOPY_SETUP "08 0006 0025 00 02 'm0' 00 " M0_RANGE
            "0000000000002000 0000000000001000  08 0006 001a 00 07 'pc.bios' 00 0000000000001000 0000000000001000 ");
  static const NcStreamRange expected[] = { { 0, 0x2000, 0 }, { 0x2000, 0x1000, 0 }, { 0x1000, 0x1000, 1 } };
  const GArray *ranges = nc_stream_parser_discards(run.p);
  g_assert_cmpuint(ranges->len, ==, G_N_ELEMENTS(expected));
  for (guint i = 0; i < ranges->len; i++) {
    NcStreamRange r = g_array_index(ranges, NcStreamRange, i);
    g_assert_true(r.start == expected[i].start && r.length == expected[i].length && r.block == expected[i].block);
  }
  run_clear(&run);
}

static void
test_discards_are_bounded(void)
{
  g_autoptr(GByteArray) stream = bytes(POSTCOPY_SETUP), command = bytes("08 0006 f005 00 02 'm0' 00 ");
  Run run;

  for (guint i = 0; i < 0xf00; i++) {
    nc_put_u64(command, 0);
    nc_put_u64(command, 0x1000);
  }
  for (guint n = 0; n <= NC_STREAM_DISCARDS_MAX; n += 0xf00)
    g_byte_array_append(stream, command->data, command->len);
  run_init(&run, nc_stream_parser_new());
  run_until(&run, stream, stream->len);
  g_assert_cmpuint(nc_stream_parser_discards(run.p)->len, ==, NC_STREAM_DISCARDS_MAX);
  g_assert_false(nc_stream_parser_is_opaque(run.p, NULL, NULL));
  run_clear(&run);
}

static void
test_preempt(void)
{
  Run run;

  run_whole(&run, nc_stream_parser_new_preempt(), "0000000000001008 02 'm0' @ 0000000000000008 02 'm1' @ " EOS);
  g_assert_cmpuint(nc_stream_parser_block_count(run.p), ==, 2);
  g_assert_cmpuint(nc_stream_parser_block(run.p, 1)->used_length, ==, 0);
  assert_record(&run, 1, "m1", (NcStreamRecord){ 4107, 11, NC_RECORD_PAGE, 0x08, 4107, 1, 0 });
  g_assert_true(nc_stream_parser_at_tail(run.p));
  nc_stream_parser_reconnect(run.p);
  g_assert_false(nc_stream_parser_at_tail(run.p));
  run_clear(&run);
  run_whole(&run, nc_stream_parser_new_preempt(), "0000000000001028 ");
  assert_opaque(&run, 0, "without a block");
  run_clear(&run);
}

/* The number of blocks is a peer's: the one beyond the limit is refused. */
static void
test_too_many_blocks(void)
{
  g_autoptr(GByteArray) stream = bytes(MACHINE RAM_START);
  size_t last = 0;
  Run run;

  nc_put_u64(stream, (uint64_t)(NC_STREAM_BLOCKS_MAX + 1) * NC_STREAM_PAGE_BYTES | 0x04);
  for (guint i = 0; i <= NC_STREAM_BLOCKS_MAX; i++) {
    g_autofree char *name = g_strdup_printf("b%05u", i);
    last = stream->len;
    nc_put_u8(stream, (uint8_t)strlen(name));
    g_byte_array_append(stream, (const uint8_t *)name, (guint)strlen(name));
    nc_put_u64(stream, NC_STREAM_PAGE_BYTES);
  }
  run_init(&run, nc_stream_parser_new());
  run_until(&run, stream, stream->len);
  g_assert_cmpuint(nc_stream_parser_block_count(run.p), ==, NC_STREAM_BLOCKS_MAX);
  assert_opaque(&run, last, "more than 4096");
  run_clear(&run);
}

static void
test_give_up(void)
{
  Run run;
  g_autoptr(GByteArray) stream = bytes(SETUP PART NAMED_PAGE);

  run_init(&run, nc_stream_parser_new());
  run_until(&run, stream, stream->len - 1);
  nc_stream_parser_give_up(run.p, "no\nrecords wanted");
  assert_opaque(&run, run.consumed, "no\\nrecords");
  run_until(&run, stream, stream->len);
  g_assert_cmpuint(run.consumed, ==, stream->len);
  g_assert_cmpuint(run.records->len, ==, 0);
  run_clear(&run);
}

static void
feed(Run *run, const void *data, size_t length)
{
  g_assert_cmpuint(nc_stream_parser_scan(run->p, data, length, run->records), ==, length);
}

/* The end of a pre-copy stream is seen among device state, also far behind its beginning, and nowhere else. */
static void
test_tail(void)
{
  g_autoptr(GByteArray) description = bytes(DESCRIPTION);
  g_autofree uint8_t *noise = g_malloc(3 * NC_STREAM_TAIL_MAX);
  Run run;

  for (size_t i = 0; i < 3 * NC_STREAM_TAIL_MAX; i++)
    noise[i] = (uint8_t)(i % 251);
  run_whole(&run, nc_stream_parser_new(), SETUP END EOS FOOTER FULL);
  g_assert_false(nc_stream_parser_at_tail(run.p));
  for (size_t piece = 1; piece < 3 * NC_STREAM_TAIL_MAX; piece = piece * 3 + 1) {
    feed(&run, noise, piece);
    g_assert_false(nc_stream_parser_at_tail(run.p));
    for (guint i = 0; i < description->len; i++) {
      g_assert_false(nc_stream_parser_at_tail(run.p));
      feed(&run, description->data + i, 1);
    }
    g_assert_true(nc_stream_parser_at_tail(run.p));
    feed(&run, noise, 3 * NC_STREAM_TAIL_MAX - piece);
    feed(&run, description->data, description->len);
    g_assert_true(nc_stream_parser_at_tail(run.p));
    feed(&run, "}", 1);
    g_assert_false(nc_stream_parser_at_tail(run.p));
  }
  run_clear(&run);
}

static void
test_nothing_given(void)
{
  Run run;
  g_autoptr(GByteArray) stream = bytes("00 ");

  run_init(&run, nc_stream_parser_new());
  g_assert_cmpuint(nc_stream_parser_scan(run.p, NULL, 0, run.records), ==, 0);
  g_assert_false(nc_stream_parser_at_tail(run.p));
  g_assert_null(nc_stream_parser_machine_type(run.p));
  run_until(&run, stream, 1);
  g_assert_cmpuint(nc_stream_parser_scan(run.p, NULL, 0, run.records), ==, 0);
  run_clear(&run);
  nc_stream_parser_free(NULL);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/qemu/stream/precopy", test_precopy);
  g_test_add_func("/qemu/stream/understood", test_understood);
  g_test_add_func("/qemu/stream/refused", test_refused);
  g_test_add_func("/qemu/stream/splits", test_splits);
  g_test_add_func("/qemu/stream/nothing_is_held_back", test_nothing_is_held_back);
  g_test_add_func("/qemu/stream/bodies_pass_in_pieces", test_bodies_pass_in_pieces);
  g_test_add_func("/qemu/stream/ignore_shared", test_ignore_shared);
  g_test_add_func("/qemu/stream/huge_pages", test_huge_pages);
  g_test_add_func("/qemu/stream/reconnect", test_reconnect);
  g_test_add_func("/qemu/stream/reconnect_after_a_cut_package", test_reconnect_after_a_cut_package);
  g_test_add_func("/qemu/stream/recovery_without_a_past", test_recovery_without_a_past);
  g_test_add_func("/qemu/stream/orphan_is_refused", test_orphan_is_refused);
  g_test_add_func("/qemu/stream/postcopy_begins", test_postcopy_begins);
  g_test_add_func("/qemu/stream/discards", test_discards);
  g_test_add_func("/qemu/stream/discarded_ranges", test_discarded_ranges);
  g_test_add_func("/qemu/stream/discards_are_bounded", test_discards_are_bounded);
  g_test_add_func("/qemu/stream/preempt", test_preempt);
  g_test_add_func("/qemu/stream/too_many_blocks", test_too_many_blocks);
  g_test_add_func("/qemu/stream/give_up", test_give_up);
  g_test_add_func("/qemu/stream/tail", test_tail);
  g_test_add_func("/qemu/stream/nothing_given", test_nothing_given);
  return g_test_run();
}
