/* SPDX-License-Identifier: Apache-2.0 */
/* The estimate beside what zstd really makes of the same bytes. */
#include "wire/codec.h"
#include "wire/estimate.h"

#include <stdio.h>
#include <string.h>

#define BYTES (256u << 10)

static uint64_t
next_random(void)
{
  static uint64_t state = 88172645463325252ull;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static uint8_t *
random_bytes(size_t n)
{
  uint8_t *out = g_malloc(n);
  for (size_t i = 0; i < n; i++)
    out[i] = (uint8_t)(next_random() >> 24);
  return out;
}

static uint8_t *
text_bytes(size_t n)
{
  static const char *const words[] = { "migrate", "machine", "kernel",     "the", "page",
                                       "of",      "socket",  "0123456789", "\n",  "," };
  GString *text = g_string_new(NULL);

  while (text->len < n)
    g_string_append_printf(text, "%s %u ", words[next_random() % G_N_ELEMENTS(words)], (unsigned)(next_random() % 977));
  return (uint8_t *)g_string_free(text, FALSE);
}

/* Of zstd:1; 1 if it does not get smaller. */
static double
real_share(const uint8_t *data, size_t n)
{
  NcCodecContext *context = nc_codec_zstd.context_new();
  g_autofree uint8_t *to = g_malloc(n);
  size_t coded = nc_codec_zstd.encode(context, 1, data, n, to, n - 1);

  nc_codec_zstd.context_free(context);
  return coded == 0 ? 1 : (double)coded / (double)n;
}

/* Within ${tolerance} of what zstd does. */
static void
assert_near(const uint8_t *data, size_t n, double tolerance)
{
  double guess = nc_estimate(data, n), real = real_share(data, n);
  g_test_message("estimate %.3f, zstd:1 %.3f", guess, real);
  g_assert_cmpfloat_with_epsilon(guess, real, tolerance);
}

static void
test_text(void)
{
  g_autofree uint8_t *data = text_bytes(BYTES);
  assert_near(data, BYTES, 0.25);
  g_assert_cmpfloat(nc_estimate(data, BYTES), <, 0.7);
}

static void
test_zeros(void)
{
  g_autofree uint8_t *data = g_malloc0(BYTES);
  assert_near(data, BYTES, 0.05);
}

static void
test_random(void)
{
  for (int i = 0; i < 50; i++) {
    g_autofree uint8_t *data = random_bytes(BYTES);
    g_assert_cmpfloat(nc_estimate(data, BYTES), >=, NC_ESTIMATE_INCOMPRESSIBLE);
    g_assert_cmpfloat(nc_estimate(data, 16384), >=, NC_ESTIMATE_INCOMPRESSIBLE);
  }
}

static void
test_already_compressed(void)
{
  g_autofree uint8_t *data = text_bytes(8 * BYTES);
  g_autofree uint8_t *coded = g_malloc(8 * BYTES);
  NcCodecContext *context = nc_codec_zstd.context_new();
  size_t n = nc_codec_zstd.encode(context, 5, data, 8 * BYTES, coded, 8 * BYTES);

  nc_codec_zstd.context_free(context);
  g_assert_cmpuint(n, >, BYTES);
  g_assert_cmpfloat(nc_estimate(coded, BYTES), >=, NC_ESTIMATE_INCOMPRESSIBLE);
}

/* ${every}th page is text, the others random. */
static void
test_mixed(void)
{
  for (unsigned every = 1; every <= 6; every++) {
    g_autofree uint8_t *data = random_bytes(BYTES);
    g_autofree uint8_t *text = text_bytes(BYTES);
    for (size_t at = 0; at < BYTES; at += (size_t)every * 4096)
      memcpy(data + at, text + at, 4096);
    assert_near(data, BYTES, 0.25);
    g_assert_cmpfloat(nc_estimate(data, BYTES), <, NC_ESTIMATE_INCOMPRESSIBLE);
  }
}

/* Counters in 64 bits, close to each other: few values, and none comes twice. */
static void
test_integers(void)
{
  g_autofree uint8_t *data = g_malloc(BYTES);
  uint64_t word = 0x1234567;

  for (size_t at = 0; at < BYTES; at += 8) {
    word += next_random() % 64;
    memcpy(data + at, &word, 8);
  }
  assert_near(data, BYTES, 0.25);
}

/* This program itself. */
static void
test_executable_code(void)
{
  g_autofree char *data = NULL;
  gsize n = 0;

  g_assert_true(g_file_get_contents("/proc/self/exe", &data, &n, NULL));
  n = MIN(n, BYTES);
  g_assert_cmpuint(n, >, 16384);
  assert_near((const uint8_t *)data, n, 0.25);
  g_assert_cmpfloat(nc_estimate((const uint8_t *)data, n), <, 0.9);
}

/* Whatever the length, nothing beyond it is looked at (the sanitizer's business) and the result is a share. */
static void
test_any_length(void)
{
  for (size_t n = 0; n < 9000; n += n < 200 ? 1 : 97) {
    g_autofree uint8_t *data = random_bytes(n);
    double guess = nc_estimate(data, n);
    g_assert_cmpfloat(guess, >, 0);
    g_assert_cmpfloat(guess, <=, 1);
    g_assert_cmpfloat(guess, ==, nc_estimate(data, n));
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/estimate/text", test_text);
  g_test_add_func("/estimate/zeros", test_zeros);
  g_test_add_func("/estimate/random", test_random);
  g_test_add_func("/estimate/already_compressed", test_already_compressed);
  g_test_add_func("/estimate/mixed", test_mixed);
  g_test_add_func("/estimate/integers", test_integers);
  g_test_add_func("/estimate/executable_code", test_executable_code);
  g_test_add_func("/estimate/any_length", test_any_length);
  return g_test_run();
}
