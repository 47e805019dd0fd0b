/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What novacrond alerts about: the rules with their names, which are those of packaging/prometheus/novacron.rules.yml, the thresholds
 * that a configuration may change, and the words. Pure.
 *
 * A setting is "off", or "THRESHOLD for S clear THRESHOLD after S": raised when the value has been beyond the first threshold for so many
 * seconds, cleared when it has been on the good side of the second one for so many. Rules about what is or is not so have "on" in place of a
 * threshold. What is left out behind the threshold is as in the default, the second threshold in proportion.
 */
#pragma once

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Its constant; its key in the configuration, behind "alert_"; its default. */
#define NC_ALERT_RULES(X)                                          \
  X(SLOW_TRANSFER, slow_transfer, "100 for 60 clear 110 after 30") \
  X(HIGH_LATENCY, high_latency, "100 for 60 clear 90 after 30")    \
  X(PACKET_LOSS, packet_loss, "1 for 60 clear 0.8 after 30")       \
  X(NOT_CONVERGING, not_converging, "on for 300 after 30")         \
  X(MOVER_BUSY, mover_busy, "80 for 60 clear 70 after 30")         \
  X(PAUSE_OVER_BUDGET, pause_over_budget, "100 after 300")         \
  X(STUCK, stuck, "300 for 60 clear 300 after 10")                 \
  X(NEEDS_ATTENTION, needs_attention, "on for 0 after 0")          \
  X(FAILURES, failures, "2 for 0 clear 2 after 60")                \
  X(STORE_NEARLY_FULL, store_nearly_full, "90 for 300 clear 85 after 60") \
  X(STORE_DOWN, store_down, "on for 60 after 30")                  \
  X(CERTIFICATE_EXPIRES, certificate_expires, "14 for 0 clear 14 after 0")

#define NC_ALERT_ENUM(constant, key, fallback) NC_ALERT_##constant,
typedef enum { NC_ALERT_RULES(NC_ALERT_ENUM) NC_ALERT_RULE_COUNT } NcAlertRule;
#undef NC_ALERT_ENUM

typedef struct {
  const char *name;
  const char *unit;    /* of value and threshold; "" where it is or is not so */
  bool is_flag;        /* 1: so, 0: not so */
  bool is_below;       /* raised below the threshold, not above it */
  bool is_critical;    /* a human has to come; else a warning */
  bool is_event;       /* happens once: cleared by time alone */
  bool is_fickle;      /* may be well for a look or two: until it is raised, too, only `after` seconds of that end it */
  unsigned inhibitors; /* bits 1 << rule: while one of these is raised of the same subject, this is not told; as in alertmanager.example.yml */
  const char *remedy;  /* "{id}", "{vm}", "{to}", "{node}" stand for the migration, its machine and destination, and this node */
} NcAlertRuleInfo;

const NcAlertRuleInfo *nc_alert_rule(NcAlertRule rule);
/* Its setting where the configuration says nothing. */
const char *nc_alert_fallback(NcAlertRule rule);
/* NULL: none has that name. */
const NcAlertRuleInfo *nc_alert_rule_named(const char *name);

typedef struct {
  bool on;
  double threshold, clear;
  int64_t for_us, after_us;
} NcAlertSetting;

/* false: ${text} is no setting of ${rule}. */
bool nc_alert_setting_parse(NcAlertRule rule, const char *text, NcAlertSetting *ret);
/* Is ${value} (known) on the bad side of ${threshold}? */
bool nc_alert_is_beyond(NcAlertRule rule, double value, double threshold);

/* One line of what is wrong. ${about}: vm, destination, ... (borrowed). Caller frees. */
char *nc_alert_summary(NcAlertRule rule, json_t *about, double value);
/* What to do. Caller frees. */
char *nc_alert_remedy(NcAlertRule rule, json_t *about);
