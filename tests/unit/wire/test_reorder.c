/* SPDX-License-Identifier: Apache-2.0 */
/* Order restored, and the bounds on what may wait. */
#include "wire/reorder.h"

static gpointer
item(uint64_t seq)
{
  return g_strdup_printf("%" G_GUINT64_FORMAT, seq);
}

static NcReorderVerdict
put(NcReorder *r, uint64_t seq, uint64_t bytes)
{
  gpointer i = item(seq);
  NcReorderVerdict verdict = nc_reorder_put(r, seq, i, bytes);
  if (verdict != NC_REORDER_TAKEN) /* still ours */
    g_free(i);
  return verdict;
}

static void
take(NcReorder *r, uint64_t seq)
{
  g_autofree char *expected = item(seq);
  g_autofree char *got = nc_reorder_take(r);
  g_assert_cmpstr(got, ==, expected);
}

static void
test_out_of_order(void)
{
  g_autoptr(NcReorder) r = nc_reorder_new(4, 1000, g_free);

  g_assert_null(nc_reorder_take(r));
  g_assert_cmpint(put(r, 2, 10), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 1, 10), ==, NC_REORDER_TAKEN);
  g_assert_null(nc_reorder_take(r));
  g_assert_cmpint(put(r, 0, 10), ==, NC_REORDER_TAKEN);
  g_assert_cmpuint(nc_reorder_count(r), ==, 3);
  g_assert_cmpuint(nc_reorder_bytes(r), ==, 30);
  take(r, 0);
  take(r, 1);
  take(r, 2);
  g_assert_null(nc_reorder_take(r));
  g_assert_cmpuint(nc_reorder_next_seq(r), ==, 3);
  g_assert_cmpuint(nc_reorder_bytes(r), ==, 0);
}

static void
test_duplicates(void)
{
  g_autoptr(NcReorder) r = nc_reorder_new(4, 1000, g_free);

  g_assert_cmpint(put(r, 1, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 1, 1), ==, NC_REORDER_DUPLICATE); /* waiting */
  g_assert_cmpint(put(r, 0, 1), ==, NC_REORDER_TAKEN);
  take(r, 0);
  g_assert_cmpint(put(r, 0, 1), ==, NC_REORDER_DUPLICATE); /* delivered */
  g_assert_cmpuint(nc_reorder_count(r), ==, 1);
}

static void
test_number_ahead(void)
{
  g_autoptr(NcReorder) r = nc_reorder_new(4, 1000, g_free);

  g_assert_cmpint(put(r, 3, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 4, 1), ==, NC_REORDER_TOO_FAR);
  g_assert_cmpint(put(r, 5, 1), ==, NC_REORDER_TOO_FAR);
  g_assert_cmpint(put(r, G_MAXUINT64, 1), ==, NC_REORDER_TOO_FAR);
  g_assert_cmpint(put(r, 0, 1), ==, NC_REORDER_TAKEN);
  take(r, 0);
  g_assert_cmpint(put(r, 4, 1), ==, NC_REORDER_TAKEN);
}

static void
test_bytes_ahead(void)
{
  g_autoptr(NcReorder) r = nc_reorder_new(8, 100, g_free);

  g_assert_cmpint(put(r, 1, 60), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 2, 41), ==, NC_REORDER_TOO_FAR);
  g_assert_cmpint(put(r, 2, G_MAXUINT64), ==, NC_REORDER_TOO_FAR);
  g_assert_cmpint(put(r, 2, 40), ==, NC_REORDER_TAKEN);
  /* The next one always fits, or nothing would ever move again. */
  g_assert_cmpint(nc_reorder_claim(r, 0, 500), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 0, 500), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 3, 0), ==, NC_REORDER_TOO_FAR);
  take(r, 0);
  take(r, 1);
  g_assert_cmpuint(nc_reorder_bytes(r), ==, 40);
}

/* A lost connection's batch comes again by another one while the first copy is being decoded: one of them is. */
static void
test_claimed(void)
{
  g_autoptr(NcReorder) r = nc_reorder_new(4, 1000, g_free);

  g_assert_cmpint(nc_reorder_claim(r, 0, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(nc_reorder_claim(r, 0, 1), ==, NC_REORDER_DUPLICATE);
  g_assert_cmpint(nc_reorder_claim(r, 1, 1), ==, NC_REORDER_TAKEN);
  g_assert_null(nc_reorder_take(r)); /* it is not here yet */
  g_assert_cmpint(put(r, 0, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(nc_reorder_claim(r, 0, 1), ==, NC_REORDER_DUPLICATE);
  take(r, 0);
  g_assert_cmpint(nc_reorder_claim(r, 0, 1), ==, NC_REORDER_DUPLICATE);

  /* It came out wrong: another copy may be tried. */
  nc_reorder_release(r, 1);
  g_assert_cmpint(nc_reorder_claim(r, 1, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 1, 1), ==, NC_REORDER_TAKEN);
  take(r, 1);

  /* One that was asked for again is judged only: its answer is no duplicate of a copy that somebody decodes. */
  g_assert_cmpint(nc_reorder_claim(r, 2, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(nc_reorder_judge(r, 2, 1), ==, NC_REORDER_TAKEN);
  nc_reorder_release(r, 2);
  g_assert_cmpint(nc_reorder_judge(r, 1, 1), ==, NC_REORDER_DUPLICATE); /* delivered */

  /* Nothing of it is left for who comes into the same place of the ring. */
  g_assert_cmpint(nc_reorder_claim(r, 2, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(put(r, 2, 1), ==, NC_REORDER_TAKEN);
  take(r, 2);
  nc_reorder_release(r, 2);
  g_assert_cmpint(nc_reorder_claim(r, 6, 1), ==, NC_REORDER_TAKEN);
  nc_reorder_release(r, 2);
  g_assert_cmpint(nc_reorder_claim(r, 6, 1), ==, NC_REORDER_DUPLICATE);
  g_assert_cmpint(nc_reorder_claim(r, 7, 1), ==, NC_REORDER_TOO_FAR);
  nc_reorder_release(r, 7);
}

/* Random arrival with repetitions: everything comes out once and in order. */
static void
test_any_order(void)
{
  g_autoptr(NcReorder) r = nc_reorder_new(16, 1 << 20, g_free);
  uint64_t out = 0;

  for (unsigned i = 0; i < 100000; i++) {
    uint64_t seq = nc_reorder_next_seq(r) + (uint64_t)g_test_rand_int_range(-3, 20);
    if (seq > G_MAXINT64) /* before the first */
      continue;
    NcReorderVerdict verdict = put(r, seq, 100);
    g_assert_true(seq >= out || verdict == NC_REORDER_DUPLICATE);
    g_assert_true(seq < out + 16 || verdict == NC_REORDER_TOO_FAR);
    for (g_autofree char *got = nc_reorder_take(r); got; got = nc_reorder_take(r)) {
      g_assert_cmpuint(g_ascii_strtoull(got, NULL, 10), ==, out);
      out++;
      g_free(got);
    }
    g_assert_cmpuint(nc_reorder_bytes(r), ==, 100 * nc_reorder_count(r));
  }
  g_assert_cmpuint(out, >, 1000);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/reorder/out_of_order", test_out_of_order);
  g_test_add_func("/reorder/duplicates", test_duplicates);
  g_test_add_func("/reorder/number_ahead", test_number_ahead);
  g_test_add_func("/reorder/bytes_ahead", test_bytes_ahead);
  g_test_add_func("/reorder/claimed", test_claimed);
  g_test_add_func("/reorder/any_order", test_any_order);
  return g_test_run();
}
