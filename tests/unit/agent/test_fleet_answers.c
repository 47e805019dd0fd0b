/* SPDX-License-Identifier: Apache-2.0 */
/* What other nodes answer about attempts is read with bounds; names of controllers in the configuration. */
#include "agent/config.h"
#include "agent/fleet_agents.h"

#include <string.h>

#define NAME "mig-0123456789abcdef.3"

static bool
reads(const char *text, NcAttemptReport *ret, json_t **ret_said, json_t **ret_result, GError **error)
{
  *ret_said = json_loads(text, 0, NULL);
  g_assert_nonnull(*ret_said);
  return nc_fleet_agents_read("host-b", *ret_said, ret, ret_result, error);
}

static void
an_answer_becomes_a_report(void)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *said = NULL, *result = NULL;
  NcAttemptReport report;

  g_assert_true(
      reads("{\"name\": \"" NAME "\", \"state\": \"completed\", \"percent\": 100, \"phase\": \"completed\","
            " \"run_epoch\": 7, \"result\": {\"wire_bytes\": 5, \"ratio\": 1.5, \"sha256\": [1], \"other\": 1}}",
            &report, &said, &result, &error));
  g_assert_no_error(error);
  g_assert_cmpstr(report.node, ==, "host-b");
  g_assert_cmpstr(report.name, ==, NAME);
  g_assert_cmpint(report.state, ==, NC_REPORT_COMPLETED);
  g_assert_cmpfloat(report.percent, ==, 100);
  g_assert_cmpuint(report.run_epoch, ==, 7);
  g_assert_true(report.result == result);
  g_assert_cmpint(nc_json_int_or(result, "wire_bytes", 0), ==, 5);
  g_assert_true(json_is_null(json_object_get(result, "sha256"))); /* no plain value */
  g_assert_null(json_object_get(result, "other"));
  g_assert_null(report.progress);
}

static void
what_runs_tells_of_its_progress(void)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *said = NULL, *result = NULL;
  NcAttemptReport report;

  g_assert_true(reads("{\"name\": \"" NAME "\", \"state\": \"running\", \"percent\": 12.5, \"phase\": \"memory_copy\","
                      " \"progress\": {\"transfer_rate\": 7}, \"wants_endgame\": true}",
                      &report, &said, &result, &error));
  g_assert_no_error(error);
  g_assert_cmpint(report.state, ==, NC_REPORT_RUNNING);
  g_assert_true(report.wants_endgame);
  g_assert_cmpint(nc_json_int_or(report.progress, "transfer_rate", 0), ==, 7);
  g_assert_null(result);
}

static void
what_is_of_another_kind_is_left_out(void)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *said = NULL, *result = NULL;
  g_autofree char *much = g_strnfill(300, 'x');
  g_autofree char *text = g_strdup_printf("{\"name\": \"" NAME
                                          "\", \"state\": \"failed\", \"percent\": \"x\", \"phase\": 5, \"reason\": {},"
                                          " \"may_pass\": 1, \"run_epoch\": -7, \"result\": {\"sha256\": \"%s\"}}",
                                          much);
  NcAttemptReport report;

  g_assert_true(reads(text, &report, &said, &result, &error));
  g_assert_cmpint(report.state, ==, NC_REPORT_FAILED);
  g_assert_cmpfloat(report.percent, ==, 0);
  g_assert_null(report.phase);
  g_assert_null(report.reason);
  g_assert_false(report.may_pass);
  g_assert_cmpuint(report.run_epoch, ==, 0);
  g_assert_true(json_is_null(json_object_get(result, "sha256")));
}

static void
what_makes_no_sense_is_refused(void)
{
  static const char *const bad[] = {
    "{}",
    "[]",
    "5",
    "{\"name\": \"" NAME "\"}",
    "{\"name\": \"" NAME "\", \"state\": \"well\"}",
    "{\"name\": \"" NAME "\", \"state\": 1}",
    "{\"name\": \"mig-1.1\", \"state\": \"running\"}",
    "{\"name\": 5, \"state\": \"running\"}",
    "{\"state\": \"running\"}",
  };

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *said = json_loads(bad[i], JSON_DECODE_ANY, NULL), *result = NULL;
    NcAttemptReport report;
    g_assert_false(nc_fleet_agents_read("host-b", said, &report, &result, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "host-b"));
  }
}

static void
names_have_commas_between_them(void)
{
  static const char *const bad[] = { ",", "a,", "a b", "a,,b", "-a", "a;b" };
  g_auto(GStrv) none = nc_config_names_parse(""), two = nc_config_names_parse("host-a , host-b");

  g_assert_cmpuint(g_strv_length(none), ==, 0);
  g_assert_cmpuint(g_strv_length(two), ==, 2);
  g_assert_cmpstr(two[0], ==, "host-a");
  g_assert_cmpstr(two[1], ==, "host-b");
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_null(nc_config_names_parse(bad[i]));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fleet/an_answer_becomes_a_report", an_answer_becomes_a_report);
  g_test_add_func("/fleet/what_runs_tells_of_its_progress", what_runs_tells_of_its_progress);
  g_test_add_func("/fleet/what_is_of_another_kind_is_left_out", what_is_of_another_kind_is_left_out);
  g_test_add_func("/fleet/what_makes_no_sense_is_refused", what_makes_no_sense_is_refused);
  g_test_add_func("/fleet/names_have_commas_between_them", names_have_commas_between_them);
  return g_test_run();
}
