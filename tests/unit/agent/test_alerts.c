/* SPDX-License-Identifier: Apache-2.0 */
/* Which alerts are raised and cleared, when, and who hears of it; that their rules are those that Prometheus has. */
#include "agent/alert_engine.h"
#include "agent/alert_facts.h"
#include "agent/alert_news.h"
#include "agent/alert_webhook.h"
#include "agent/link_rate.h"
#include "base/msg.h"

#include <math.h>
#include <string.h>

#define S INT64_C(1000000)

typedef struct {
  NcAlertEngine *engine;
  NcAlertSetting settings[NC_ALERT_RULE_COUNT];
  GPtrArray *facts;
  json_t *about;
} World;

static void
world_begin(World *w)
{
  w->engine = nc_alert_engine_new("a-1");
  w->facts = g_ptr_array_new_with_free_func(nc_alert_fact_free);
  w->about = json_pack("{s:s, s:s, s:s}", "vm", "web1", "migration", "m-1", "destination", "b");
  for (NcAlertRule rule = 0; rule < NC_ALERT_RULE_COUNT; rule++)
    g_assert_true(nc_alert_setting_parse(rule, nc_alert_fallback(rule), &w->settings[rule]));
}

static void
world_end(World *w)
{
  nc_alert_engine_free(w->engine);
  g_ptr_array_unref(w->facts);
  json_decref(w->about);
}

static void
fact_of(World *w, const char *subject, NcAlertRule rule, double value)
{
  g_ptr_array_add(w->facts, nc_alert_fact_new(rule, subject, value, false, w->about));
}

static void
fact(World *w, NcAlertRule rule, double value)
{
  fact_of(w, "m-1/source", rule, value);
}

/* What is told at second ${s}: "Name state reason,...". */
static char *
words_of(json_t *news)
{
  GString *text = g_string_new(NULL);
  json_t *alert;
  size_t i;

  json_array_foreach(news, i, alert) g_string_append_printf(text, "%s%s %s%s%s", i ? ", " : "", nc_json_string_or(alert, "alert", "?") + strlen("Novacron"),
                                                            nc_json_string_or(alert, "state", "?"), json_is_string(json_object_get(alert, "reason")) ? " " : "",
                                                            nc_json_string_or(alert, "reason", ""));
  return g_string_free(text, FALSE);
}

static void
expect(World *w, int64_t s, const char *expected)
{
  nc_autojson json_t *news = json_array();

  nc_alert_engine_step(w->engine, w->settings, w->facts, (NcAlertTime){ s * S, 1767323105 * S + s * S }, news);
  g_autofree char *words = words_of(news);
  g_assert_cmpstr(words, ==, expected);
  g_ptr_array_set_size(w->facts, 0);
}

static void
at(World *w, int64_t s, NcAlertRule rule, double value, const char *expected)
{
  fact(w, rule, value);
  expect(w, s, expected);
}

static void
test_raised_and_cleared_with_hysteresis(void)
{
  World w;
  world_begin(&w);
  at(&w, 1000, NC_ALERT_HIGH_LATENCY, 100, "");
  at(&w, 1010, NC_ALERT_HIGH_LATENCY, 101, ""); /* pending */
  at(&w, 1069, NC_ALERT_HIGH_LATENCY, 300, "");
  nc_autojson json_t *before = nc_alert_engine_list(w.engine, (NcAlertTime){ 1069 * S, 0 });
  g_assert_cmpint(json_array_size(before), ==, 0);
  at(&w, 1070, NC_ALERT_HIGH_LATENCY, 300, "HighLatency firing");
  at(&w, 1071, NC_ALERT_HIGH_LATENCY, 400, "");
  at(&w, 1080, NC_ALERT_HIGH_LATENCY, 95, ""); /* between the two thresholds nothing changes */
  at(&w, 1200, NC_ALERT_HIGH_LATENCY, 95, "");
  at(&w, 1300, NC_ALERT_HIGH_LATENCY, 90, "");
  at(&w, 1320, NC_ALERT_HIGH_LATENCY, 91, ""); /* not for long enough */
  at(&w, 1325, NC_ALERT_HIGH_LATENCY, NAN, ""); /* what is not known clears nothing */
  at(&w, 1330, NC_ALERT_HIGH_LATENCY, 20, "");
  at(&w, 1359, NC_ALERT_HIGH_LATENCY, 20, "");
  at(&w, 1360, NC_ALERT_HIGH_LATENCY, 20, "HighLatency resolved condition");
  at(&w, 1361, NC_ALERT_HIGH_LATENCY, 20, "");
  nc_autojson json_t *list = nc_alert_engine_list(w.engine, (NcAlertTime){ 1361 * S, 0 });
  json_t *alert = json_array_get(list, 0);
  g_assert_cmpint(json_array_size(list), ==, 1);
  g_assert_cmpstr(nc_json_string_or(alert, "id", ""), ==, "a-1.1");
  g_assert_cmpfloat(nc_json_number_or(alert, "value", 0), ==, 400);
  g_assert_cmpfloat(nc_json_number_or(alert, "threshold", 0), ==, 100);
  g_assert_cmpstr(nc_json_string_or(alert, "summary", ""), ==, "web1: round trip of 400 ms to b");
  g_assert_cmpstr(nc_json_string_or(alert, "migration", ""), ==, "m-1");
  g_assert_true(strcmp(nc_json_string_or(alert, "since", "?"), nc_json_string_or(alert, "fired", "")) < 0);
  nc_autojson json_t *later = nc_alert_engine_list(w.engine, (NcAlertTime){ 9000 * S, 0 });
  g_assert_cmpint(json_array_size(later), ==, 0);
  world_end(&w);
}

static void
test_a_moment_of_it_raises_nothing(void)
{
  World w;
  world_begin(&w);
  for (int64_t s = 0; s < 600; s += 30) {
    at(&w, 1000 + s, NC_ALERT_HIGH_LATENCY, 500, "");
    at(&w, 1015 + s, NC_ALERT_HIGH_LATENCY, s % 60 ? 99 : NAN, "");
  }
  world_end(&w);
}

/* What comes and goes with each look is raised when it was promised, and dropped only by as much good as would clear it. */
static void
test_fickle(void)
{
  World w;
  world_begin(&w);
  for (int64_t s = 0; s < 300; s++)
    at(&w, 1000 + s, NC_ALERT_NOT_CONVERGING, s % 60 == 59 ? 0 : s % 60 == 58 ? NAN : 1, "");
  at(&w, 1300, NC_ALERT_NOT_CONVERGING, 1, "NotConverging firing");
  at(&w, 1301, NC_ALERT_NOT_CONVERGING, 0, "");
  at(&w, 1331, NC_ALERT_NOT_CONVERGING, 0, "NotConverging resolved condition");
  at(&w, 1400, NC_ALERT_NOT_CONVERGING, 1, "");
  at(&w, 1401, NC_ALERT_NOT_CONVERGING, 0, "");
  at(&w, 1431, NC_ALERT_NOT_CONVERGING, 0, ""); /* dropped */
  at(&w, 1432, NC_ALERT_NOT_CONVERGING, 1, "");
  at(&w, 1700, NC_ALERT_NOT_CONVERGING, 1, "");
  at(&w, 1731, NC_ALERT_NOT_CONVERGING, 0, ""); /* not while it is well */
  at(&w, 1732, NC_ALERT_NOT_CONVERGING, 1, "NotConverging firing");
  world_end(&w);
}

/* Where memory is not copied any more, the question does not arise. */
static void
test_fickle_and_fine(void)
{
  World w;
  world_begin(&w);
  at(&w, 1000, NC_ALERT_NOT_CONVERGING, 1, "");
  g_ptr_array_add(w.facts, nc_alert_fact_new(NC_ALERT_NOT_CONVERGING, "m-1/source", 1, true, w.about));
  expect(&w, 1299, "");
  at(&w, 1300, NC_ALERT_NOT_CONVERGING, 1, "");
  world_end(&w);
}

/* A transfer is slow below a threshold, and well where its link is full. */
static void
test_below_and_excused(void)
{
  World w;
  world_begin(&w);
  at(&w, 1000, NC_ALERT_SLOW_TRANSFER, 5, "");
  at(&w, 1060, NC_ALERT_SLOW_TRANSFER, 5, "SlowTransfer firing");
  at(&w, 1061, NC_ALERT_SLOW_TRANSFER, 105, "");
  at(&w, 1100, NC_ALERT_SLOW_TRANSFER, 105, "");
  g_ptr_array_add(w.facts, nc_alert_fact_new(NC_ALERT_SLOW_TRANSFER, "m-1/source", 5, true, w.about));
  expect(&w, 1101, "");
  g_ptr_array_add(w.facts, nc_alert_fact_new(NC_ALERT_SLOW_TRANSFER, "m-1/source", 5, true, w.about));
  expect(&w, 1131, "SlowTransfer resolved condition");
  world_end(&w);
}

static void
test_what_it_is_about_is_over(void)
{
  World w;
  world_begin(&w);
  w.settings[NC_ALERT_HIGH_LATENCY].for_us = 0;
  fact_of(&w, "m-2/source", NC_ALERT_HIGH_LATENCY, 101);
  at(&w, 1000, NC_ALERT_HIGH_LATENCY, 101, "HighLatency firing, HighLatency firing");
  at(&w, 1001, NC_ALERT_HIGH_LATENCY, 101, "HighLatency resolved over");
  nc_autojson json_t *news = json_array();
  nc_alert_engine_end(w.engine, w.settings, "m-1/source", NULL, (NcAlertTime){ 1002 * S, 1002 * S }, news);
  g_autofree char *words = words_of(news);
  g_assert_cmpstr(words, ==, "HighLatency resolved over");
  at(&w, 1003, NC_ALERT_HIGH_LATENCY, 101, "HighLatency firing");
  w.settings[NC_ALERT_HIGH_LATENCY].on = false;
  at(&w, 1004, NC_ALERT_HIGH_LATENCY, 101, "HighLatency resolved off");
  at(&w, 1005, NC_ALERT_HIGH_LATENCY, 101, "");
  world_end(&w);
}

/* Nobody has to hear that it is slow, too, of what waits for a human; but of another migration. */
static void
test_inhibited(void)
{
  World w;
  world_begin(&w);
  w.settings[NC_ALERT_HIGH_LATENCY].for_us = w.settings[NC_ALERT_PACKET_LOSS].for_us = 0;
  fact(&w, NC_ALERT_PACKET_LOSS, 5);
  expect(&w, 999, "PacketLoss firing");
  fact(&w, NC_ALERT_PACKET_LOSS, 5);
  fact(&w, NC_ALERT_HIGH_LATENCY, 500);
  fact_of(&w, "m-2/source", NC_ALERT_HIGH_LATENCY, 500);
  at(&w, 1000, NC_ALERT_NEEDS_ATTENTION, 1, "HighLatency firing, NeedsAttention firing");
  nc_autojson json_t *list = nc_alert_engine_list(w.engine, (NcAlertTime){ 1000 * S, 0 });
  g_assert_cmpint(json_array_size(list), ==, 4);
  size_t inhibited = 0;
  for (size_t i = 0; i < 4; i++)
    inhibited += g_str_equal(nc_json_string_or(json_array_get(list, i), "inhibited_by", ""), "NovacronNeedsAttention");
  g_assert_cmpint(inhibited, ==, 2);
  /* One of the inhibited ones ends meanwhile: who was told of it hears that, and only they. */
  fact(&w, NC_ALERT_HIGH_LATENCY, 500);
  fact_of(&w, "m-2/source", NC_ALERT_HIGH_LATENCY, 500);
  at(&w, 1001, NC_ALERT_NEEDS_ATTENTION, 1, "PacketLoss resolved over");
  /* The other one is still so when what inhibited it is resolved. */
  fact(&w, NC_ALERT_HIGH_LATENCY, 500);
  fact_of(&w, "m-2/source", NC_ALERT_HIGH_LATENCY, 500);
  at(&w, 1002, NC_ALERT_NEEDS_ATTENTION, 0, "NeedsAttention resolved condition, HighLatency firing");
  /* And one that nobody was told of ends in silence. */
  fact(&w, NC_ALERT_HIGH_LATENCY, 500);
  fact(&w, NC_ALERT_PACKET_LOSS, 5);
  at(&w, 1003, NC_ALERT_NEEDS_ATTENTION, 1, "HighLatency resolved over, NeedsAttention firing");
  fact(&w, NC_ALERT_HIGH_LATENCY, 500);
  at(&w, 1004, NC_ALERT_NEEDS_ATTENTION, 1, "");
  world_end(&w);
}

/* It happens once, at an end, and is cleared by time. */
static void
test_an_event(void)
{
  World w;
  world_begin(&w);
  nc_autojson json_t *news = json_array();
  NcAlertFact *pause = nc_alert_fact_new(NC_ALERT_PAUSE_OVER_BUDGET, "m-1/source", 133, false, w.about);
  nc_alert_engine_end(w.engine, w.settings, "m-1/source", pause, (NcAlertTime){ 1000 * S, 1000 * S }, news);
  nc_alert_fact_free(pause);
  g_autofree char *words = words_of(news);
  g_assert_cmpstr(words, ==, "PauseOverBudget firing");
  expect(&w, 1001, "");
  expect(&w, 1299, "");
  expect(&w, 1300, "PauseOverBudget resolved time");
  NcAlertFact *within = nc_alert_fact_new(NC_ALERT_PAUSE_OVER_BUDGET, "m-2/source", 100, false, w.about);
  nc_alert_engine_end(w.engine, w.settings, "m-2/source", within, (NcAlertTime){ 1400 * S, 1400 * S }, news);
  nc_alert_fact_free(within);
  g_assert_cmpint(json_array_size(news), ==, 1);
  world_end(&w);
}

static void
test_resolved_ones_are_few(void)
{
  World w;
  world_begin(&w);
  w.settings[NC_ALERT_HIGH_LATENCY].for_us = 0;
  for (int64_t s = 0; s < 1000; s += 2) {
    at(&w, 1000 + s, NC_ALERT_HIGH_LATENCY, 500, "HighLatency firing");
    expect(&w, 1001 + s, "HighLatency resolved over");
  }
  nc_autojson json_t *list = nc_alert_engine_list(w.engine, (NcAlertTime){ 2000 * S, 0 });
  g_assert_cmpint(json_array_size(list), ==, 100);
  g_assert_cmpstr(nc_json_string_or(json_array_get(list, 0), "id", ""), ==, "a-1.500");
  world_end(&w);
}

/* --- settings --- */

static void
check_setting(NcAlertRule rule, const char *text, double threshold, int for_s, double clear, int after_s)
{
  NcAlertSetting setting;

  g_test_message("%s", text);
  g_assert_true(nc_alert_setting_parse(rule, text, &setting));
  g_assert_true(setting.on);
  g_assert_cmpfloat_with_epsilon(setting.threshold, threshold, 1e-9);
  g_assert_cmpfloat_with_epsilon(setting.clear, clear, 1e-9);
  g_assert_cmpint(setting.for_us, ==, for_s * S);
  g_assert_cmpint(setting.after_us, ==, after_s * S);
}

static void
test_settings(void)
{
  static const char *const bad[] = { "", "on", "100 60", "100 for", "100 for 60 for 60", "-1", "1e400", "nan", "inf", "100 for -1", "off for 1",
                                     "100 clear 101", "100 for 6000000000", "100 since 60", "100 clear", "0x64 for 1", "100ms" };
  NcAlertSetting setting;

  check_setting(NC_ALERT_HIGH_LATENCY, "100 for 60 clear 90 after 30", 100, 60, 90, 30);
  check_setting(NC_ALERT_HIGH_LATENCY, "50", 50, 60, 45, 30);
  check_setting(NC_ALERT_HIGH_LATENCY, " 50\tafter 0  for 1", 50, 1, 45, 0);
  check_setting(NC_ALERT_SLOW_TRANSFER, "10", 10, 60, 11, 30);
  check_setting(NC_ALERT_NOT_CONVERGING, "on for 2", 0.5, 2, 0.5, 30);
  check_setting(NC_ALERT_PAUSE_OVER_BUDGET, "110 after 5", 110, 0, 110, 5);
  g_assert_true(nc_alert_setting_parse(NC_ALERT_HIGH_LATENCY, "off", &setting));
  g_assert_false(setting.on);
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_test_message("\"%s\"", bad[i]);
    g_assert_false(nc_alert_setting_parse(NC_ALERT_HIGH_LATENCY, bad[i], &setting));
  }
  g_assert_false(nc_alert_setting_parse(NC_ALERT_SLOW_TRANSFER, "10 clear 9", &setting));
  g_assert_false(nc_alert_setting_parse(NC_ALERT_NOT_CONVERGING, "1", &setting));
  g_assert_false(nc_alert_setting_parse(NC_ALERT_NOT_CONVERGING, "on clear 1", &setting));
  g_assert_false(nc_alert_setting_parse(NC_ALERT_PAUSE_OVER_BUDGET, "100 for 1", &setting));
}

/* It names what there is, and nothing is left of what stands for that. */
static void
test_remedies(void)
{
  nc_autojson json_t *migration = json_pack("{s:s, s:s, s:s, s:s}", "migration", "m-1", "vm", "web1", "destination", "host-b", "node", "host-a");
  nc_autojson json_t *node = json_pack("{s:s}", "node", "host-a");

  for (NcAlertRule rule = 0; rule < NC_ALERT_RULE_COUNT; rule++) {
    bool of_node = rule >= NC_ALERT_FAILURES;
    g_autofree char *remedy = nc_alert_remedy(rule, of_node ? node : migration);
    g_test_message("%s: %s", nc_alert_rule(rule)->name, remedy);
    g_assert_null(strpbrk(remedy, "{}"));
    g_assert_nonnull(strstr(remedy, of_node ? "host-a" : "m-1"));
    g_assert_nonnull(strchr(remedy, '`'));
  }
  g_autofree char *again = nc_alert_remedy(NC_ALERT_PACKET_LOSS, migration);
  g_assert_nonnull(strstr(again, "`novacron migrate web1 --to host-b --streams 8`"));
}

/* The text of rule ${name} in Prometheus' file; NULL: it has none. Caller frees. */
static char *
prometheus_rule(const char *file, const char *name)
{
  g_autofree char *head = g_strdup_printf("- alert: %s\n", name);
  const char *begin = strstr(file, head), *end = begin ? strstr(begin + 1, "- alert: ") : NULL;
  return begin ? g_strndup(begin, end ? (size_t)(end - begin) : strlen(begin)) : NULL;
}

static int
prometheus_for_s(const char *rule)
{
  const char *at_for = strstr(rule, "\n    for: ");
  int minutes = 0;
  g_assert_true(!at_for || sscanf(at_for, "\n    for: %dm\n", &minutes) == 1);
  return 60 * minutes;
}

/* Who has both gets the same names for the same things. NovacronNodeDown is only for who looks from outside. */
static void
test_the_same_rules_as_prometheus(void)
{
  /* What stands there with the threshold: printf() of it times a factor. */
  static const struct {
    const char *format;
    double factor;
  } wanted[NC_ALERT_RULE_COUNT] = {
    [NC_ALERT_SLOW_TRANSFER] = { "transfer_rate_bytes{role=\"source\"} < %ge8\n", 0.01 },
    [NC_ALERT_HIGH_LATENCY] = { "> %g\n", 1 },
    [NC_ALERT_PACKET_LOSS] = { "> %g\n", 0.01 },
    [NC_ALERT_NOT_CONVERGING] = { "converges{role=\"source\"} == 0\n", 0 },
    [NC_ALERT_MOVER_BUSY] = { "> %g\n", 1 },
    [NC_ALERT_PAUSE_OVER_BUDGET] = { "> %g * novacron_migration_max_pause_seconds\n", 10 },
    [NC_ALERT_STUCK] = { "[%gm]) == 0\n", 1.0 / 60 },
    [NC_ALERT_NEEDS_ATTENTION] = { "attention == 1\n", 0 },
    [NC_ALERT_FAILURES] = { "[30m])) > %g\n", 1 },
    [NC_ALERT_STORE_NEARLY_FULL] = { "> %g * (novacron_store_used_bytes + novacron_store_free_bytes)\n", 0.01 },
    [NC_ALERT_STORE_DOWN] = { "store_up == 0\n", 0 },
    [NC_ALERT_CERTIFICATE_EXPIRES] = { "< %g * 86400\n", 1 },
  };
  g_autofree char *path = g_test_build_filename(G_TEST_DIST, "packaging", "prometheus", "novacron.rules.yml", NULL);
  g_autofree char *file = NULL;
  int there = 0;

  g_assert_true(g_file_get_contents(path, &file, NULL, NULL));
  for (NcAlertRule rule = 0; rule < NC_ALERT_RULE_COUNT; rule++) {
    const NcAlertRuleInfo *info = nc_alert_rule(rule);
    g_autofree char *text = prometheus_rule(file, info->name);
    NcAlertSetting setting;
    g_test_message("%s: %s", info->name, text);
    g_assert_nonnull(text);
    g_assert_true(nc_alert_setting_parse(rule, nc_alert_fallback(rule), &setting));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    g_autofree char *threshold = g_strdup_printf(wanted[rule].format, setting.threshold * wanted[rule].factor);
#pragma GCC diagnostic pop
    g_assert_nonnull(strstr(text, threshold));
    g_assert_cmpint(prometheus_for_s(text), ==, setting.for_us / S);
    g_assert_true((strstr(text, "severity: critical") != NULL) == info->is_critical);
    g_assert_true(nc_alert_rule_named(info->name) == info);
  }
  for (const char *line = strstr(file, "- alert: "); line; line = strstr(line + 1, "- alert: "))
    there += !g_str_has_prefix(line, "- alert: NovacronNodeDown\n");
  g_assert_cmpint(there, ==, NC_ALERT_RULE_COUNT);
}

/* Of what Alertmanager is to keep quiet about: does ${source} stand in ${rule} as what inhibits, ${target} as what is inhibited? */
static bool
is_inhibit_rule(const char *rule, const char *source, const char *target)
{
  g_autofree char *by = g_strdup_printf("[alertname = %s]", source), *of = g_strdup_printf("\\b%s\\b", target);
  const char *targets = strstr(rule, "target_matchers");

  g_assert_nonnull(targets);
  return strstr(rule, by) && strstr(rule, by) < targets && g_regex_match_simple(of, targets, 0, 0);
}

/* How many of ${rules} (its file, split where each begins) have ${source} inhibit ${target}. What is compared is the subject. */
static int
inhibit_rules(char **rules, const NcAlertRuleInfo *source, const NcAlertRuleInfo *target, const char *equal)
{
  int found = 0;

  for (char **rule = rules + 1; *rule; rule++) {
    if (!is_inhibit_rule(*rule, source->name, target->name))
      continue;
    g_assert_nonnull(strstr(*rule, equal));
    found++;
  }
  return found;
}

/* The example for Alertmanager inhibits what nodes inhibit, and nothing else. */
static void
test_alertmanager_inhibits_the_same(void)
{
  g_autofree char *path = g_test_build_filename(G_TEST_DIST, "packaging", "prometheus", "alertmanager.example.yml", NULL);
  g_autofree char *file = NULL;

  g_assert_true(g_file_get_contents(path, &file, NULL, NULL));
  g_auto(GStrv) rules = g_strsplit(file, "- source_matchers: ", -1);
  for (NcAlertRule source = 0; source < NC_ALERT_RULE_COUNT; source++) {
    for (NcAlertRule target = 0; target < NC_ALERT_RULE_COUNT; target++) {
      bool inhibits = nc_alert_rule(target)->inhibitors & (1u << source);
      const char *equal = source == NC_ALERT_STORE_DOWN ? "equal: [instance]" : "equal: [migration, role]";
      g_test_message("%s, %s", nc_alert_rule(source)->name, nc_alert_rule(target)->name);
      g_assert_cmpint(inhibit_rules(rules, nc_alert_rule(source), nc_alert_rule(target), equal), ==, inhibits);
    }
  }
}

/* --- facts --- */

static json_t *
record_of(const char *change)
{
  json_t *record = json_loads("{\"id\":\"m-1\",\"vm\":\"web1\",\"source\":\"a\",\"destination\":\"b\",\"role\":\"source\",\"phase\":\"memory_copy\","
                              "\"outcome\":null,\"attention\":null,\"rate_bps\":5000000,\"wire_rate_bps\":4000000,\"rate_limit_bps\":0,\"rtt_us\":20300,"
                              "\"wire_bytes\":1000,\"mover_cpu_ms\":100,\"converges\":true,\"max_downtime_ms\":300,"
                              "\"connections\":[{\"segments\":1000,\"retransmitted_segments\":10},{\"segments\":500,\"retransmitted_segments\":0}]}",
                              0, NULL);
  nc_autojson json_t *changes = json_loads(change, 0, NULL);

  g_assert_nonnull(record);
  g_assert_nonnull(changes);
  json_object_update(record, changes);
  return record;
}

/* The fact about ${rule} after a look at ${change} at second ${s}; *ret_fine: something else says that it is well. */
static double
look(NcAlertFacts *facts, int64_t s, const char *change, NcAlertRule rule, bool *ret_fine)
{
  g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(nc_alert_fact_free);
  nc_autojson json_t *running = json_array();
  double value = -1;

  json_array_append_new(running, record_of(change));
  nc_alert_facts_of_migrations(facts, running, s * S, found);
  for (guint i = 0; i < found->len; i++) {
    const NcAlertFact *f = found->pdata[i];
    if (f->rule != rule)
      continue;
    value = f->value;
    *ret_fine = f->is_fine;
    g_assert_cmpstr(f->subject, ==, "m-1/source");
    g_assert_cmpstr(nc_json_string_or(f->about, "destination", ""), ==, "b");
  }
  return value;
}

static void
test_facts_of_the_last_seconds(void)
{
  g_autoptr(NcAlertFacts) facts = nc_alert_facts_new("a");
  bool fine;

  g_assert_true(isnan(look(facts, 100, "{}", NC_ALERT_MOVER_BUSY, &fine)));
  g_assert_true(isnan(look(facts, 104, "{\"mover_cpu_ms\":4000}", NC_ALERT_MOVER_BUSY, &fine)));
  g_assert_cmpfloat_with_epsilon(look(facts, 105, "{\"mover_cpu_ms\":4600}", NC_ALERT_MOVER_BUSY, &fine), 90, 1e-9);
  /* In the next window no processor time, but losses. */
  const char *lossy = "{\"mover_cpu_ms\":4600,\"connections\":[{\"segments\":1100,\"retransmitted_segments\":16}, {\"segments\":600,\"retransmitted_segments\":0}]}";
  g_assert_cmpfloat_with_epsilon(look(facts, 110, lossy, NC_ALERT_PACKET_LOSS, &fine), 3, 1e-9);
  /* Too few to tell; and what another mover counts begins at 0 again. */
  g_assert_true(isnan(look(facts, 115, lossy, NC_ALERT_PACKET_LOSS, &fine)));
  g_assert_true(isnan(look(facts, 116, "{}", NC_ALERT_PACKET_LOSS, &fine)));
  g_assert_true(isnan(look(facts, 117, "{}", NC_ALERT_MOVER_BUSY, &fine)));
}

static void
test_facts_of_a_link(void)
{
  g_autoptr(NcAlertFacts) facts = nc_alert_facts_new("a");
  bool fine;

  g_assert_cmpfloat(look(facts, 100, "{}", NC_ALERT_SLOW_TRANSFER, &fine), ==, 5);
  g_assert_false(fine);
  look(facts, 101, "{\"link_rate_bps\":5000000}", NC_ALERT_SLOW_TRANSFER, &fine); /* 80 % of what its link was seen to carry */
  g_assert_true(fine);
  look(facts, 102, "{\"link_rate_bps\":5000001}", NC_ALERT_SLOW_TRANSFER, &fine);
  g_assert_false(fine);
  look(facts, 103, "{\"rate_limit_bps\":5000000}", NC_ALERT_SLOW_TRANSFER, &fine);
  g_assert_true(fine);
  look(facts, 104, "{\"rate_limit_bps\":6000000,\"link_rate_bps\":1000}", NC_ALERT_SLOW_TRANSFER, &fine); /* who sets a limit says what it should carry */
  g_assert_false(fine);
  look(facts, 104, "{\"target_rate_bps\":5000000}", NC_ALERT_SLOW_TRANSFER, &fine); /* it reaches what was asked for */
  g_assert_true(fine);
  look(facts, 104, "{\"target_rate_bps\":5000001,\"link_rate_bps\":5000000}", NC_ALERT_SLOW_TRANSFER, &fine); /* it does not, full link or not */
  g_assert_false(fine);
  look(facts, 104, "{\"rate_limit_bps\":6000000,\"shaped_rate_bps\":1000}", NC_ALERT_SLOW_TRANSFER, &fine); /* it gives way to others */
  g_assert_true(fine);
  look(facts, 105, "{\"phase\":\"verify\"}", NC_ALERT_SLOW_TRANSFER, &fine);
  g_assert_true(fine);
  g_assert_cmpfloat_with_epsilon(look(facts, 106, "{}", NC_ALERT_HIGH_LATENCY, &fine), 20.3, 1e-9);
  g_assert_true(isnan(look(facts, 107, "{\"rtt_us\":0}", NC_ALERT_HIGH_LATENCY, &fine)));
  g_assert_cmpfloat(look(facts, 108, "{\"converges\":false}", NC_ALERT_NOT_CONVERGING, &fine), ==, 1);
  g_assert_true(isnan(look(facts, 109, "{\"converges\":null}", NC_ALERT_NOT_CONVERGING, &fine)));
  look(facts, 110, "{\"stream_bytes\":2000,\"wire_bytes\":1000}", NC_ALERT_STUCK, &fine);
  g_assert_cmpfloat(look(facts, 410, "{\"stream_bytes\":2000,\"wire_bytes\":9000}", NC_ALERT_STUCK, &fine), ==, 300); /* pings are no move */
  g_assert_false(fine);
  look(facts, 411, "{\"stream_bytes\":2000,\"phase\":\"verify\"}", NC_ALERT_STUCK, &fine);
  g_assert_true(fine);
  g_assert_cmpfloat(look(facts, 412, "{\"stream_bytes\":2000,\"disks\":[{\"wire_bytes\":7}]}", NC_ALERT_STUCK, &fine), ==, 0);
  look(facts, 413, "{\"stream_bytes\":2000,\"phase\":\"verify\"}", NC_ALERT_STUCK, &fine);
  g_assert_true(fine);
  g_assert_cmpfloat(look(facts, 412, "{\"attention\":\"decide\"}", NC_ALERT_NEEDS_ATTENTION, &fine), ==, 1);
}

/* The destination complains of its own mover and of what waits for a human, and of nothing that the source sees better. */
/* While disks go ahead of the memory, what counts is how fast they go. */
static void
test_facts_of_disks(void)
{
#define DISKS(rate) "\"phase\":\"disk_copy\",\"rate_bps\":0,\"link_rate_bps\":50000000,\"disks\":[{\"rate_bps\":" #rate "},{\"rate_bps\":1000000}]"
  g_autoptr(NcAlertFacts) facts = nc_alert_facts_new("a");
  bool fine;

  g_assert_cmpfloat(look(facts, 1000, "{" DISKS(7000000) "}", NC_ALERT_SLOW_TRANSFER, &fine), ==, 8);
  g_assert_false(fine);
  look(facts, 1001, "{" DISKS(7000000) ",\"wire_rate_bps\":45000000}", NC_ALERT_SLOW_TRANSFER, &fine);
  g_assert_true(fine); /* the link is full */
  look(facts, 1002, "{" DISKS(7000000) ",\"target_rate_bps\":8000000}", NC_ALERT_SLOW_TRANSFER, &fine);
  g_assert_true(fine);
  g_assert_cmpfloat(look(facts, 1003, "{" DISKS(300000000) "}", NC_ALERT_SLOW_TRANSFER, &fine), ==, 301);
  look(facts, 1004, "{" DISKS(7000000) "}", NC_ALERT_NOT_CONVERGING, &fine);
  g_assert_true(fine); /* that is about memory */
  g_assert_true(isnan(look(facts, 1005, "{\"phase\":\"disk_copy\"}", NC_ALERT_SLOW_TRANSFER, &fine)));
}

static void
test_facts_of_the_destination(void)
{
  g_autoptr(NcAlertFacts) facts = nc_alert_facts_new("b");
  g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(nc_alert_fact_free);
  nc_autojson json_t *running = json_array();

  json_array_append_new(running, record_of("{\"role\":\"destination\"}"));
  nc_alert_facts_of_migrations(facts, running, S, found);
  g_assert_cmpint(found->len, ==, 2);
  nc_autojson json_t *record = record_of("{\"role\":\"destination\",\"pause_ms\":400}");
  g_assert_null(nc_alert_facts_of_end(facts, record, "failed", S));
}

static double
node_value(NcAlertFacts *facts, int64_t s, const char *store, NcAlertRule rule, bool *ret_fine)
{
  g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(nc_alert_fact_free);
  nc_autojson json_t *status = store ? json_loads(store, 0, NULL) : NULL;
  const NcAlertNode node = { .store = status, .certificate_left_us = 7 * 86400 * S };

  nc_alert_facts_of_node(facts, &node, s * S, found);
  for (guint i = 0; i < found->len; i++) {
    const NcAlertFact *f = found->pdata[i];
    if (f->rule == rule) {
      *ret_fine = f->is_fine;
      return f->value;
    }
  }
  g_assert_not_reached();
}

static void
test_facts_of_ends_and_of_the_node(void)
{
  g_autoptr(NcAlertFacts) facts = nc_alert_facts_new("a");
  nc_autojson json_t *record = record_of("{\"pause_ms\":450.0}"), *unknown = record_of("{}");
  bool fine;

  NcAlertFact *pause = nc_alert_facts_of_end(facts, record, "completed", 1000 * S);
  g_assert_cmpfloat(pause->value, ==, 150);
  nc_alert_fact_free(pause);
  g_assert_cmpfloat(node_value(facts, 1000, NULL, NC_ALERT_FAILURES, &fine), ==, 0);
  for (int64_t s = 1000; s < 1600; s += 200)
    g_assert_null(nc_alert_facts_of_end(facts, unknown, "failed", s * S));
  g_assert_cmpfloat(node_value(facts, 1600, NULL, NC_ALERT_FAILURES, &fine), ==, 3);
  g_assert_cmpfloat(node_value(facts, 2850, NULL, NC_ALERT_FAILURES, &fine), ==, 2);
  g_assert_cmpfloat(node_value(facts, 9000, NULL, NC_ALERT_FAILURES, &fine), ==, 0);
  g_assert_cmpfloat(node_value(facts, 9000, NULL, NC_ALERT_CERTIFICATE_EXPIRES, &fine), ==, 7);
  g_assert_cmpfloat(node_value(facts, 9000, NULL, NC_ALERT_STORE_DOWN, &fine), ==, 1);
  g_assert_cmpfloat(node_value(facts, 9000, "{\"failed\":false,\"read_only\":false}", NC_ALERT_STORE_DOWN, &fine), ==, 0);
  g_assert_cmpfloat(node_value(facts, 9000, "{\"failed\":true}", NC_ALERT_STORE_DOWN, &fine), ==, 1);
  g_assert_cmpfloat(node_value(facts, 9000, "{\"used_bytes\":95,\"free_bytes\":5,\"budget_bytes\":100}", NC_ALERT_STORE_NEARLY_FULL, &fine), ==, 95);
  g_assert_cmpfloat(node_value(facts, 9000, "{\"used_bytes\":1,\"free_bytes\":0,\"budget_bytes\":0}", NC_ALERT_STORE_NEARLY_FULL, &fine), ==, 100);
  g_assert_cmpfloat(node_value(facts, 9000, "{\"used_bytes\":1,\"free_bytes\":3,\"budget_bytes\":100}", NC_ALERT_STORE_NEARLY_FULL, &fine), ==, 25);
  g_assert_true(isnan(node_value(facts, 9000, NULL, NC_ALERT_STORE_NEARLY_FULL, &fine)));
}

/* The best five seconds, whatever the mover counts anew; nothing before the first byte. */
static void
test_link_rate(void)
{
  NcLinkRate rate = { 0 };

  g_assert_cmpint(nc_link_rate_take(&rate, 0, 1 * S), ==, 0);
  g_assert_cmpint(nc_link_rate_take(&rate, 0, 50 * S), ==, 0);
  g_assert_cmpint(nc_link_rate_take(&rate, 1000, 51 * S), ==, 0);
  g_assert_cmpint(nc_link_rate_take(&rate, 90000, 55 * S), ==, 0);
  g_assert_cmpint(nc_link_rate_take(&rate, 101000, 56 * S), ==, 20000);
  g_assert_cmpint(nc_link_rate_take(&rate, 111000, 61 * S), ==, 20000);
  g_assert_cmpint(nc_link_rate_take(&rate, 10, 62 * S), ==, 20000);
  g_assert_cmpint(nc_link_rate_take(&rate, 500010, 67 * S), ==, 100000);
}

/* --- the webhook --- */

static void
test_webhook(void)
{
  /* printf '1767323105.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef */
  g_autofree char *signature = nc_alert_webhook_sign("0123456789abcdef", 16, 1767323105, "{\"a\":1}");
  g_assert_cmpstr(signature, ==, "v1=70f6d2a34b53550b4d09f446b5f4b9cf4652c814e9d62ec34e166bb323a90071");
  g_assert_cmpint(nc_alert_webhook_verdict(204), ==, NC_WEBHOOK_TAKEN);
  g_assert_cmpint(nc_alert_webhook_verdict(302), ==, NC_WEBHOOK_REFUSED);
  g_assert_cmpint(nc_alert_webhook_verdict(401), ==, NC_WEBHOOK_REFUSED);
  g_assert_cmpint(nc_alert_webhook_verdict(429), ==, NC_WEBHOOK_AGAIN);
  g_assert_cmpint(nc_alert_webhook_verdict(503), ==, NC_WEBHOOK_AGAIN);
  g_assert_cmpint(nc_alert_webhook_pause_us(2), ==, 1 * S);
  g_assert_cmpint(nc_alert_webhook_pause_us(4), ==, 4 * S);
  g_assert_cmpint(nc_alert_webhook_pause_us(4000000000u), ==, 60 * S);
}

static int64_t
news_id(json_t *page, size_t i)
{
  return nc_json_int_or(json_array_get(json_object_get(page, "events"), i), "id", 0);
}

static void
assert_page(const NcAlertNews *news, int64_t since, int64_t from, size_t count, bool more)
{
  nc_autojson json_t *page = nc_alert_news_page(news, since);

  g_assert_cmpint(nc_json_int_or(page, "from", -1), ==, from);
  g_assert_cmpuint(json_array_size(json_object_get(page, "events")), ==, count);
  g_assert_cmpint(nc_json_int_or(page, "last", -1), ==, from + (int64_t)count);
  g_assert_true(nc_json_bool_or(page, "more", !more) == more);
  for (size_t i = 0; i < count; i++)
    g_assert_cmpint(news_id(page, i), ==, from + 1 + (int64_t)i);
}

static void
test_news(void)
{
  NcAlertNews *news = nc_alert_news_new(5000);
  nc_autojson json_t *alert = json_pack("{s:s}", "alert", "NovacronStoreDown");

  assert_page(news, -1, 5000, 0, false);
  assert_page(news, 0, 5000, 0, false);
  for (unsigned i = 0; i < 250; i++)
    nc_alert_news_add(news, alert, 1767323045678000);
  nc_autojson json_t *first = nc_alert_news_page(news, 0);
  json_t *message = json_array_get(json_object_get(first, "events"), 0);
  g_assert_cmpstr(nc_json_string_or(message, "type", ""), ==, "alert");
  g_assert_cmpstr(nc_json_string_or(message, "at", ""), ==, "2026-01-02T03:04:05.678Z");
  g_assert_true(json_equal(json_object_get(message, "data"), alert));
  assert_page(news, -1, 5150, 100, false);
  assert_page(news, 0, 5000, 200, true);
  assert_page(news, 5200, 5200, 50, false);
  assert_page(news, 5250, 5250, 0, false);
  assert_page(news, 9000, 5150, 100, false); /* it has not come: a clock went back */
  for (unsigned i = 0; i < NC_ALERT_NEWS_MAX; i++)
    nc_alert_news_add(news, alert, 0);
  assert_page(news, 5100, 5250, 200, true); /* older ones are not kept: "from" says so */
  assert_page(news, G_MAXINT64, 6150, 100, false);
  nc_alert_news_free(news);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/alerts/raised-and-cleared-with-hysteresis", test_raised_and_cleared_with_hysteresis);
  g_test_add_func("/alerts/a-moment-of-it-raises-nothing", test_a_moment_of_it_raises_nothing);
  g_test_add_func("/alerts/fickle", test_fickle);
  g_test_add_func("/alerts/fickle-and-fine", test_fickle_and_fine);
  g_test_add_func("/alerts/below-and-excused", test_below_and_excused);
  g_test_add_func("/alerts/what-it-is-about-is-over", test_what_it_is_about_is_over);
  g_test_add_func("/alerts/inhibited", test_inhibited);
  g_test_add_func("/alerts/an-event", test_an_event);
  g_test_add_func("/alerts/resolved-ones-are-few", test_resolved_ones_are_few);
  g_test_add_func("/alerts/settings", test_settings);
  g_test_add_func("/alerts/remedies", test_remedies);
  g_test_add_func("/alerts/the-same-rules-as-prometheus", test_the_same_rules_as_prometheus);
  g_test_add_func("/alerts/alertmanager-inhibits-the-same", test_alertmanager_inhibits_the_same);
  g_test_add_func("/alerts/facts-of-the-last-seconds", test_facts_of_the_last_seconds);
  g_test_add_func("/alerts/facts-of-a-link", test_facts_of_a_link);
  g_test_add_func("/alerts/facts-of-disks", test_facts_of_disks);
  g_test_add_func("/alerts/facts-of-the-destination", test_facts_of_the_destination);
  g_test_add_func("/alerts/facts-of-ends-and-of-the-node", test_facts_of_ends_and_of_the_node);
  g_test_add_func("/alerts/link-rate", test_link_rate);
  g_test_add_func("/alerts/webhook", test_webhook);
  g_test_add_func("/alerts/news", test_news);
  return g_test_run();
}
