/* SPDX-License-Identifier: Apache-2.0 */
/* Both text formats to the letter; promtool reads the whole of a node's in tests/integration/test_metrics.py. */
#include "base/exposition.h"

#include <math.h>

static void
check(NcExpositionFormat format, const char *expected)
{
  static const double bounds[] = { 0.25, 1 };
  NcHistogram h = { .bounds = bounds, .n_bounds = 2 };
  g_autoptr(NcExposition) e = nc_exposition_new(format);
  g_autofree char *labels = nc_exposition_labels("vm", "a\"b\\c\nd", "none", NULL, "role", "source", NULL);

  nc_exposition_family(e, "x_bytes", NC_FAMILY_COUNTER, "bytes", "A \\ and\nmore.");
  nc_exposition_sample(e, labels, 9007199254740991.0);
  nc_exposition_sample(e, NULL, NAN);
  nc_exposition_family(e, "y", NC_FAMILY_GAUGE, NULL, "Why.");
  nc_exposition_sample(e, NULL, 0.5);
  nc_exposition_sample(e, "", -INFINITY);
  nc_exposition_family(e, "z", NC_FAMILY_INFO, NULL, "Who.");
  nc_exposition_sample(e, labels, 1);
  nc_exposition_family(e, "h_seconds", NC_FAMILY_HISTOGRAM, "seconds", "How long.");
  nc_histogram_observe(&h, 0.25); /* a bound belongs to what is below it */
  nc_histogram_observe(&h, 0.26);
  nc_histogram_observe(&h, 7);
  nc_histogram_observe(&h, NAN);
  nc_histogram_observe(&h, -1);
  nc_exposition_histogram(e, "a=\"b\"", &h);
  g_assert_cmpstr(nc_exposition_end(e), ==, expected);
  g_assert_cmpstr(nc_exposition_end(e), ==, expected);
}

#define LABELS "{vm=\"a\\\"b\\\\c\\nd\",role=\"source\"}"
#define BUCKETS                                                                                                                        \
  "h_seconds_bucket{a=\"b\",le=\"0.25\"} 1\nh_seconds_bucket{a=\"b\",le=\"1.0\"} 2\nh_seconds_bucket{a=\"b\",le=\"+Inf\"} 3\n"         \
  "h_seconds_sum{a=\"b\"} 7.51\nh_seconds_count{a=\"b\"} 3\n"

static void
test_text(void)
{
  check(NC_EXPOSITION_TEXT, "# TYPE x_bytes_total counter\n# HELP x_bytes_total A \\\\ and\\nmore.\nx_bytes_total" LABELS " 9007199254740991\n"
                            "# TYPE y gauge\n# HELP y Why.\ny 0.5\ny -Inf\n"
                            "# TYPE z_info gauge\n# HELP z_info Who.\nz_info" LABELS " 1\n"
                            "# TYPE h_seconds histogram\n# HELP h_seconds How long.\n" BUCKETS);
}

static void
test_openmetrics(void)
{
  check(NC_EXPOSITION_OPENMETRICS,
        "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes A \\\\ and\\nmore.\nx_bytes_total" LABELS " 9007199254740991\n"
        "# TYPE y gauge\n# HELP y Why.\ny 0.5\ny -Inf\n"
        "# TYPE z info\n# HELP z Who.\nz_info" LABELS " 1\n"
        "# TYPE h_seconds histogram\n# UNIT h_seconds seconds\n# HELP h_seconds How long.\n" BUCKETS "# EOF\n");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/base/exposition/text", test_text);
  g_test_add_func("/base/exposition/openmetrics", test_openmetrics);
  return g_test_run();
}
