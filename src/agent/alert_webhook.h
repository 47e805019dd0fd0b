/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alerts to a webhook: a bounded queue, and a thread that has novacron-post (post/process.h) send them, one after the other, each again until
 * it is taken (docs/alerts.md). What it needs of the configuration is read at each attempt. Nobody who pushes ever waits.
 */
#pragma once

#include "agent/config.h"
#include <jansson.h>

typedef struct NcAlertWebhook NcAlertWebhook;

/* ${config}: borrowed; the names are copied. */
NcAlertWebhook *nc_alert_webhook_new(const NcConfig *config, const char *cluster, const char *node);
/* What was not sent is lost, and logged. NULL is fine. */
void nc_alert_webhook_free(NcAlertWebhook *webhook);

/* ${alert}: borrowed. Where no URL is configured nothing happens. */
void nc_alert_webhook_push(NcAlertWebhook *webhook, json_t *alert);

/* --- pure --- */

/* "v1=" and the HMAC-SHA256 of "${timestamp}.${body}" with ${key}, in hexadecimal. Caller frees. */
char *nc_alert_webhook_sign(const void *key, size_t key_bytes, int64_t timestamp_s, const char *body);

typedef enum { NC_WEBHOOK_TAKEN, NC_WEBHOOK_AGAIN, NC_WEBHOOK_REFUSED } NcWebhookVerdict;
/* What the status of an answer means. */
NcWebhookVerdict nc_alert_webhook_verdict(int status);
/* How long to wait before attempt ${attempt} (the second is 2). */
int64_t nc_alert_webhook_pause_us(unsigned attempt);
