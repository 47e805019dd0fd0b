/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and layouts: what is written is read again, and what a hostile writer says is refused. */
#include "checkpoint/frames.h"
#include "checkpoint/layout.h"

#define CONTINUE NC_FRAME_FLAG_CONTINUE
#define PAGE NC_FRAME_FLAG_PAGE
#define ZERO NC_FRAME_FLAG_ZERO

static void
test_frames_come_back(void)
{
  const NcFrame frames[] = {
    { NC_FRAME_BLOCK, 0, 4095, 1 << 30, 255 },
    { NC_FRAME_LITERAL, 0, 0, 0, NC_FRAME_LITERAL_MAX },
    { NC_FRAME_PAGES, PAGE, 3, 8192, NC_FRAME_PAGES_MAX },
    { NC_FRAME_PAGES, PAGE | CONTINUE, 0, 0, 1 },
    { NC_FRAME_ZEROS, ZERO | CONTINUE, 0, INT64_C(1) << 40, NC_FRAME_ZEROS_MAX },
    { NC_FRAME_END, 1, 0, 12345, 0 },
    { NC_FRAME_FAILED, 0, 0, 0, 4096 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(frames); i++) {
    uint8_t header[NC_FRAME_HEADER_BYTES];
    g_autoptr(GError) error = NULL;
    NcFrame frame;
    nc_frame_encode(&frames[i], header);
    g_assert_true(nc_frame_decode(header, &frame, &error));
    g_assert_no_error(error);
    g_assert_cmpint(frame.kind, ==, frames[i].kind);
    g_assert_cmpint(frame.flags, ==, frames[i].flags);
    g_assert_cmpuint(frame.block, ==, frames[i].block);
    g_assert_cmpuint(frame.offset, ==, frames[i].offset);
    g_assert_cmpuint(frame.length, ==, frames[i].length);
    g_assert_cmpuint(nc_frame_body_bytes(&frame), <=, NC_FRAME_BODY_MAX);
  }
}

static void
test_frames_out_of_bounds(void)
{
  const NcFrame frames[] = {
    { 0, 0, 0, 0, 0 },
    { NC_FRAME_FAILED + 1, 0, 0, 0, 0 },
    { NC_FRAME_BLOCK, 0, NC_FRAME_BLOCKS_MAX, 4096, 4 },
    { NC_FRAME_BLOCK, 0, 0, 4096, 0 },
    { NC_FRAME_BLOCK, 0, 0, 4096, 256 },
    { NC_FRAME_BLOCK, 0, 0, UINT64_MAX, 4 },
    { NC_FRAME_LITERAL, 0, 0, 0, 0 },
    { NC_FRAME_LITERAL, 0, 0, 0, NC_FRAME_LITERAL_MAX + 1 },
    { NC_FRAME_LITERAL, 0, 0, 0, UINT32_MAX },
    { NC_FRAME_PAGES, PAGE, 0, 0, 0 },
    { NC_FRAME_PAGES, PAGE, 0, 0, NC_FRAME_PAGES_MAX + 1 },
    { NC_FRAME_PAGES, PAGE, 0, 0, 0x100000 }, /* times 4096 is 0 in 32 bits */
    { NC_FRAME_PAGES, ZERO, 0, 0, 1 },
    { NC_FRAME_PAGES, PAGE | 0x40, 0, 0, 1 },
    { NC_FRAME_PAGES, PAGE, 0, 4095, 1 },
    { NC_FRAME_PAGES, PAGE, 0, UINT64_MAX - 4095, 1 },
    { NC_FRAME_PAGES, PAGE, NC_FRAME_BLOCKS_MAX, 0, 1 },
    { NC_FRAME_ZEROS, ZERO, 0, 0, NC_FRAME_ZEROS_MAX + 1 },
    { NC_FRAME_ZEROS, PAGE, 0, 0, 1 },
    { NC_FRAME_END, 0, 0, 0, 1 },
    { NC_FRAME_FAILED, 0, 0, 0, 4097 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(frames); i++) {
    uint8_t header[NC_FRAME_HEADER_BYTES];
    g_autoptr(GError) error = NULL;
    NcFrame frame;
    g_test_message("%zu", i);
    nc_frame_encode(&frames[i], header);
    g_assert_false(nc_frame_decode(header, &frame, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
}

static void
test_layout_comes_back_and_merges(void)
{
  static const uint8_t bytes[NC_LAYOUT_INLINE_MAX] = { 1, 2, 3 };
  const NcStep steps[] = {
    { .kind = NC_STEP_BLOCKS, .count = 1 },
    { .kind = NC_STEP_BLOCKS, .count = 2 },
    { .kind = NC_STEP_INLINE, .count = NC_LAYOUT_INLINE_MAX, .bytes = bytes },
    { .kind = NC_STEP_INLINE, .count = 3, .bytes = bytes },
    { .kind = NC_STEP_PAGES, .flags = PAGE, .block = 1, .index = 10, .count = 4 },
    { .kind = NC_STEP_PAGES, .flags = PAGE | CONTINUE, .block = 1, .index = 14, .count = 6 },
    { .kind = NC_STEP_PAGES, .flags = PAGE, .block = 1, .index = 20, .count = 1 }, /* names its block again: a step of its own */
    { .kind = NC_STEP_ZEROS, .flags = ZERO | CONTINUE, .block = 1, .index = 21, .count = 5 },
    { .kind = NC_STEP_DISK, .block = 0, .index = 0, .count = 1 },
    { .kind = NC_STEP_DISK, .block = 0, .index = 1, .count = 1 },
    { .kind = NC_STEP_DISK, .block = 0, .index = 3, .count = 1 },
    { .kind = NC_STEP_DISK, .block = 1, .index = 4, .count = 1 },
  };
  const uint64_t counts[] = { 3, NC_LAYOUT_INLINE_MAX, 3, 10, 1, 5, 2, 1, 1 };
  g_autoptr(NcLayoutBuilder) b = nc_layout_builder_new();
  g_autoptr(GError) error = NULL;
  size_t n = 0;
  NcStep step;

  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++)
    nc_layout_builder_add(b, &steps[i]);
  const GByteArray *encoded = nc_layout_builder_bytes(b);
  NcReader r = nc_reader(encoded->data, encoded->len);
  while (nc_layout_next(&r, &step, &error) == NC_LAYOUT_STEP) {
    g_assert_cmpuint(n, <, G_N_ELEMENTS(counts));
    g_assert_cmpuint(step.count, ==, counts[n++]);
  }
  g_assert_no_error(error);
  g_assert_cmpuint(n, ==, G_N_ELEMENTS(counts));

  /* Cut anywhere, it ends or is refused; nothing is read behind its end. */
  for (guint cut = 0; cut < encoded->len; cut++) {
    g_autoptr(GError) problem = NULL;
    g_autofree uint8_t *copy = g_memdup2(encoded->data, cut); /* so that the sanitizer sees the end */
    NcLayoutOutcome outcome;
    r = nc_reader(copy, cut);
    do
      outcome = nc_layout_next(&r, &step, &problem);
    while (outcome == NC_LAYOUT_STEP);
    g_assert_true((outcome == NC_LAYOUT_BAD) == (problem != NULL));
  }
}

static void
test_layout_nonsense(void)
{
  static const uint8_t cases[][24] = {
    { 0 }, /* no such step */
    { 9, 1 },
    { NC_STEP_BLOCKS, 0 },                                                                  /* nothing */
    { NC_STEP_BLOCKS, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 },            /* 2^64 - 1 of them */
    { NC_STEP_INLINE, 0x81, 4 },                                                            /* 513 bytes */
    { NC_STEP_PAGES, 1, ZERO, 0, 0 },                                                       /* pages that are zeros */
    { NC_STEP_DISK, 1, PAGE, 0, 0 },                                                        /* a disk with QEMU's flags */
    { NC_STEP_PAGES, 1, PAGE, 0x80, 0x20, 0 },                                              /* block 4096 */
    { NC_STEP_PAGES, 1, PAGE, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 }, /* page 2^64 - 1 */
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    NcReader r = nc_reader(cases[i], sizeof cases[i]);
    NcStep step;
    g_test_message("%zu", i);
    g_assert_cmpint(nc_layout_next(&r, &step, &error), ==, NC_LAYOUT_BAD);
    g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/checkpoint/frames/come_back", test_frames_come_back);
  g_test_add_func("/checkpoint/frames/out_of_bounds", test_frames_out_of_bounds);
  g_test_add_func("/checkpoint/layout/comes_back_and_merges", test_layout_comes_back_and_merges);
  g_test_add_func("/checkpoint/layout/nonsense", test_layout_nonsense);
  return g_test_run();
}
