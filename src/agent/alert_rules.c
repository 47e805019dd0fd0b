/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/alert_rules.h"
#include "base/msg.h"

#include <math.h>
#include <string.h>

#define NC_ALERT_MAX_S (7 * 86400)
#define NC_ALERT_MAX_VALUE 1e9

#define BIT(rule) (1u << NC_ALERT_##rule)
/* With these the rest of what is wrong with a migration is no news. */
#define NC_ALERT_WORSE (BIT(NEEDS_ATTENTION) | BIT(STUCK))

#define NC_ALERT_FALLBACK(constant, key, fallback) [NC_ALERT_##constant] = fallback,
static const char *const nc_alert_fallbacks[] = { NC_ALERT_RULES(NC_ALERT_FALLBACK) };

static const NcAlertRuleInfo nc_alert_table[NC_ALERT_RULE_COUNT] = {
  [NC_ALERT_SLOW_TRANSFER] = { .name = "NovacronSlowTransfer",
                               .unit = "MB/s",
                               .is_below = true,
                               .inhibitors = NC_ALERT_WORSE,
                               .remedy = "Less than the link should carry. `novacron doctor {id}` on {node} says what holds it back." },
  [NC_ALERT_HIGH_LATENCY] = { .name = "NovacronHighLatency",
                              .unit = "ms",
                              .inhibitors = NC_ALERT_WORSE,
                              .remedy = "Pauses grow with the round trip. Is something else filling the link's queue? `novacron doctor {id}` on "
                                        "{node} tells whether this one does; `novacron limit {id} --bandwidth 20MB/s` has it send less." },
  [NC_ALERT_PACKET_LOSS] = { .name = "NovacronPacketLoss",
                             .unit = "%",
                             .inhibitors = NC_ALERT_WORSE,
                             .remedy = "Look at the link, `ip -s link` on {node} and on {to}. More streams help against loss: `novacron cancel {id}`, "
                                       "then `novacron migrate {vm} --to {to} --streams 8`." },
  [NC_ALERT_NOT_CONVERGING] = { .name = "NovacronNotConverging",
                                .unit = "",
                                .is_flag = true,
                                .is_fickle = true,
                                .inhibitors = NC_ALERT_WORSE,
                                .remedy = "If it has a limit, `novacron limit {id} --bandwidth 0` on {node} takes it away. Else `novacron cancel "
                                          "{id}`, and `novacron migrate {vm} --to {to} --algorithm auto --max-throttle 99`, which allows post-copy "
                                          "and more throttling; or move it at a quieter hour." },
  [NC_ALERT_MOVER_BUSY] = { .name = "NovacronMoverBusy",
                            .unit = "%",
                            .inhibitors = BIT(NEEDS_ATTENTION),
                            .remedy = "If that takes too much from guests: a lower bandwidth, on the node that it leaves `novacron limit {id} "
                                      "--bandwidth 20MB/s`; and later max_cpu in novacrond.conf, or `novacron migrate {vm} --to {to} --max-cpu 25 "
                                      "--compression lz4`." },
  [NC_ALERT_PAUSE_OVER_BUDGET] = { .name = "NovacronPauseOverBudget",
                                   .unit = "%",
                                   .is_event = true,
                                   .remedy = "`novacron doctor {id}` on {node} says what took the time, `novacron status {id} --forecast` what was "
                                             "expected." },
  [NC_ALERT_STUCK] = { .name = "NovacronStuck",
                       .unit = "s",
                       .is_critical = true,
                       .inhibitors = BIT(NEEDS_ATTENTION),
                       .remedy = "Is there a path between the nodes? `novacron doctor` on {node} asks {to}. The migration waits for one; `novacron "
                                 "cancel {id}` gives it up where that is possible." },
  [NC_ALERT_NEEDS_ATTENTION] = { .name = "NovacronNeedsAttention",
                                 .unit = "",
                                 .is_flag = true,
                                 .is_critical = true,
                                 .remedy = "`novacron status {id}` on {node} says what happened, what is safe, and the commands." },
  [NC_ALERT_FAILURES] = { .name = "NovacronFailures",
                          .unit = "",
                          .remedy = "Their machines run on at the source, unless one was lost in post-copy. `novacron status` on {node} lists them, and of each `novacron doctor ID` "
                                    "says why it failed and what to do." },
  [NC_ALERT_STORE_NEARLY_FULL] = { .name = "NovacronStoreNearlyFull",
                                   .unit = "%",
                                   .inhibitors = BIT(STORE_DOWN),
                                   .remedy = "On {node}: `novacron store status` says whether budget or disk is short; `novacron checkpoint list`, "
                                             "`novacron checkpoint delete ID` and `novacron store gc` free some. Or free the disk of other things; or "
                                             "raise store_budget_mib and restart novacrond." },
  [NC_ALERT_STORE_DOWN] = { .name = "NovacronStoreDown",
                            .unit = "",
                            .is_flag = true,
                            .is_critical = true,
                            .remedy = "`novacron store status` on {node} says why. Look at its disk (`journalctl -k`); when that is well, `systemctl "
                                      "restart novacrond` (machines run on), then `novacron store verify`." },
  [NC_ALERT_CERTIFICATE_EXPIRES] = { .name = "NovacronCertificateExpires",
                                     .unit = "days",
                                     .is_below = true,
                                     .remedy = "`novacron pki renew` on {node}, before that. Once it has ended, only the node with the CA's key can; any other has to join "
                                               "again: `novacron node remove` and `novacron node token` on that node; on {node}, with data_dir/pki set aside, "
                                               "`novacrond join` and a reload; cordon it again if it was." },
};

const NcAlertRuleInfo *
nc_alert_rule(NcAlertRule rule)
{
  return &nc_alert_table[rule];
}

const char *
nc_alert_fallback(NcAlertRule rule)
{
  return nc_alert_fallbacks[rule];
}

const NcAlertRuleInfo *
nc_alert_rule_named(const char *name)
{
  for (NcAlertRule rule = 0; rule < NC_ALERT_RULE_COUNT; rule++)
    if (g_str_equal(nc_alert_table[rule].name, name))
      return &nc_alert_table[rule];
  return NULL;
}

/* --- settings --- */

bool
nc_alert_is_beyond(NcAlertRule rule, double value, double threshold)
{
  return nc_alert_table[rule].is_below ? value < threshold : value > threshold;
}

static bool
nc_alert_number(const char *text, double maximum, double *ret)
{
  char *end = NULL;

  if (!text || !text[0] || text[strspn(text, "0123456789.")])
    return false;
  *ret = g_ascii_strtod(text, &end);
  return end != text && !*end && isfinite(*ret) && *ret >= 0 && *ret <= maximum;
}

static bool
nc_alert_seconds(const char *text, int64_t *ret_us)
{
  double s;

  if (!nc_alert_number(text, NC_ALERT_MAX_S, &s))
    return false;
  *ret_us = (int64_t)(s * G_USEC_PER_SEC);
  return true;
}

/* "for 60", "clear 90", "after 30", each once at most. */
static bool
nc_alert_setting_words(NcAlertRule rule, char **words, NcAlertSetting *ret)
{
  bool has_for = nc_alert_table[rule].is_event, has_clear = nc_alert_table[rule].is_flag || has_for, has_after = false;

  for (; *words; words += 2) {
    bool *has = g_str_equal(*words, "for") ? &has_for : g_str_equal(*words, "clear") ? &has_clear : g_str_equal(*words, "after") ? &has_after : NULL;
    if (!has || *has || !words[1])
      return false;
    *has = true;
    if (has == &has_clear ? !nc_alert_number(words[1], NC_ALERT_MAX_VALUE, &ret->clear)
                          : !nc_alert_seconds(words[1], has == &has_for ? &ret->for_us : &ret->after_us))
      return false;
  }
  return !nc_alert_is_beyond(rule, ret->clear, ret->threshold); /* or it would be raised and cleared at once */
}

static bool
nc_alert_setting_read(NcAlertRule rule, const char *text, const NcAlertSetting *fallback, NcAlertSetting *ret)
{
  g_auto(GStrv) all = g_strsplit_set(text, " \t", -1);
  g_autoptr(GPtrArray) words = g_ptr_array_new();

  for (char **word = all; *word; word++)
    if (**word)
      g_ptr_array_add(words, *word);
  g_ptr_array_add(words, NULL);
  *ret = *fallback;
  ret->on = words->len == 1 || !g_str_equal(words->pdata[0], "off");
  if (!ret->on)
    return words->len == 2;
  if (nc_alert_table[rule].is_flag)
    ret->threshold = ret->clear = 0.5;
  else if (!nc_alert_number(words->pdata[0], NC_ALERT_MAX_VALUE, &ret->threshold))
    return false;
  else
    ret->clear = fallback->threshold > 0 ? ret->threshold * fallback->clear / fallback->threshold : ret->threshold;
  if (nc_alert_table[rule].is_flag && g_strcmp0(words->pdata[0], "on") != 0)
    return false;
  return nc_alert_setting_words(rule, (char **)words->pdata + 1, ret);
}

bool
nc_alert_setting_parse(NcAlertRule rule, const char *text, NcAlertSetting *ret)
{
  const NcAlertSetting nothing = { 0 };
  NcAlertSetting fallback;

  return nc_alert_setting_read(rule, nc_alert_fallbacks[rule], &nothing, &fallback) && nc_alert_setting_read(rule, text, &fallback, ret);
}

/* --- words --- */

char *
nc_alert_summary(NcAlertRule rule, json_t *about, double value)
{
  const char *vm = nc_json_string_or(about, "vm", "?"), *to = nc_json_string_or(about, "destination", "?");
  const char *node = nc_json_string_or(about, "node", "?");

  switch (rule) {
  case NC_ALERT_SLOW_TRANSFER:
    return g_strdup_printf("%s: %.1f MB/s of the machine to %s", vm, value, to);
  case NC_ALERT_HIGH_LATENCY:
    return g_strdup_printf("%s: round trip of %.0f ms to %s", vm, value, to);
  case NC_ALERT_PACKET_LOSS:
    return g_strdup_printf("%s: %.1f %% of the segments to %s were sent again", vm, value, to);
  case NC_ALERT_NOT_CONVERGING:
    return g_strdup_printf("%s dirties its memory faster than it can be carried to %s", vm, to);
  case NC_ALERT_MOVER_BUSY:
    return g_strdup_printf("the mover of %s takes %.0f %% of a processor on %s", vm, value, node);
  case NC_ALERT_PAUSE_OVER_BUDGET:
    return g_strdup_printf("%s stood still for %.0f %% of the time that it may", vm, value);
  case NC_ALERT_STUCK:
    return g_strdup_printf("%s: nothing has crossed to %s for %.0f s", vm, to, value);
  case NC_ALERT_NEEDS_ATTENTION:
    return g_strdup_printf("%s (%s to %s) waits for a human", vm, nc_json_string_or(about, "source", "?"), to);
  case NC_ALERT_FAILURES:
    return g_strdup_printf("%.0f migrations from %s failed in half an hour", value, node);
  case NC_ALERT_STORE_NEARLY_FULL:
    return g_strdup_printf("the page store of %s has used %.0f %% of its room", node, value);
  case NC_ALERT_STORE_DOWN:
    return g_strdup_printf("the page store of %s takes no checkpoints", node);
  case NC_ALERT_CERTIFICATE_EXPIRES:
    return value < 0 ? g_strdup_printf("the certificate of %s ended %.1f days ago", node, -value)
                     : g_strdup_printf("the certificate of %s ends in %.1f days", node, value);
  case NC_ALERT_RULE_COUNT:
    break;
  }
  return g_strdup("?");
}

char *
nc_alert_remedy(NcAlertRule rule, json_t *about)
{
  static const struct {
    const char *name, *key, *otherwise;
  } words[] = { { "{id}", "migration", "ID" }, { "{vm}", "vm", "NAME" }, { "{to}", "destination", "NODE" }, { "{node}", "node", "the node" } };
  GString *text = g_string_new(nc_alert_table[rule].remedy);

  for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
    g_string_replace(text, words[i].name, nc_json_string_or(about, words[i].key, words[i].otherwise), 0);
  return g_string_free(text, FALSE);
}
