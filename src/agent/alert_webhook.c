/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/alert_webhook.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "base/msg.h"
#include "crypto/digest.h"
#include "crypto/seal.h"
#include "post/process.h"

#include <string.h>

#define NC_WEBHOOK_QUEUE 256                           /* alerts; of more the oldest are dropped */
#define NC_WEBHOOK_AGE_US (INT64_C(3600) * 1000000)    /* what could not be sent for so long is dropped */
#define NC_WEBHOOK_FIRST_PAUSE_US G_USEC_PER_SEC       /* before the second attempt; twice as long before each further one */
#define NC_WEBHOOK_MAX_PAUSE_US (INT64_C(60) * 1000000)
#define NC_WEBHOOK_KEY_MIN 16
#define NC_WEBHOOK_KEY_MAX 4096
#define NC_WEBHOOK_CA_MAX (1u << 20)

typedef struct {
  char *id, *body;
  int64_t pushed_us;
  unsigned attempts;
} NcDelivery;

struct NcAlertWebhook {
  const NcConfig *config;
  char *cluster, *node;
  GThread *thread;

  GMutex lock; /* protects what follows */
  GCond wake;
  bool quitting;
  GQueue queue;     /* NcDelivery, the oldest first */
  NcPoster *poster; /* the thread makes and frees it; who quits breaks it */
};

static void
nc_delivery_free(gpointer data)
{
  NcDelivery *delivery = data;
  g_free(delivery->id);
  g_free(delivery->body);
  g_free(delivery);
}

/* --- pure --- */

char *
nc_alert_webhook_sign(const void *key, size_t key_bytes, int64_t timestamp_s, const char *body)
{
  g_autofree char *stamp = g_strdup_printf("%" G_GINT64_FORMAT ".", timestamp_s);
  GHmac *hmac = g_hmac_new(G_CHECKSUM_SHA256, key, key_bytes);

  g_hmac_update(hmac, (const guchar *)stamp, (gssize)strlen(stamp));
  g_hmac_update(hmac, (const guchar *)body, (gssize)strlen(body));
  char *text = g_strconcat("v1=", g_hmac_get_string(hmac), NULL);
  g_hmac_unref(hmac);
  return text;
}

NcWebhookVerdict
nc_alert_webhook_verdict(int status)
{
  if (status >= 200 && status < 300)
    return NC_WEBHOOK_TAKEN;
  /* Too early, too many, or it took too long: later it may be taken. Anything else of 300 to 499 it would say again. */
  bool may_pass = status == 408 || status == 425 || status == 429 || status < 300 || status >= 500;
  return may_pass ? NC_WEBHOOK_AGAIN : NC_WEBHOOK_REFUSED;
}

int64_t
nc_alert_webhook_pause_us(unsigned attempt)
{
  int64_t pause_us = NC_WEBHOOK_FIRST_PAUSE_US;
  for (unsigned i = 2; i < attempt && pause_us < NC_WEBHOOK_MAX_PAUSE_US; i++)
    pause_us *= 2;
  return MIN(pause_us, NC_WEBHOOK_MAX_PAUSE_US);
}

/* --- one attempt --- */

typedef struct {
  uint8_t bytes[NC_WEBHOOK_KEY_MAX];
  size_t n;
} NcWebhookKey;

static void
nc_webhook_key_clear(NcWebhookKey *key)
{
  nc_secret_clear(key->bytes, sizeof key->bytes);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcWebhookKey, nc_webhook_key_clear)

/* The file's bytes without the end of the line. */
static bool
nc_webhook_key_read(const char *path, NcWebhookKey *ret, GError **error)
{
  nc_autofd int fd = nc_key_file_open(path, &ret->n, error);

  if (fd < 0)
    return false;
  if (ret->n > NC_WEBHOOK_KEY_MAX)
    return nc_fail(error, NC_ERROR_TRUST, "the key in %s has more than %d bytes", path, NC_WEBHOOK_KEY_MAX);
  if (!nc_read_all(fd, ret->bytes, ret->n, -1, error))
    return false;
  while (ret->n > 0 && (ret->bytes[ret->n - 1] == '\n' || ret->bytes[ret->n - 1] == '\r'))
    ret->n--;
  return ret->n >= NC_WEBHOOK_KEY_MIN || nc_fail(error, NC_ERROR_TRUST, "the key in %s has less than %d bytes", path, NC_WEBHOOK_KEY_MIN);
}

static json_t *
nc_webhook_headers(const NcDelivery *delivery, const NcWebhookKey *key)
{
  int64_t now_s = nc_wall_us() / G_USEC_PER_SEC;
  g_autofree char *signature = nc_alert_webhook_sign(key->bytes, key->n, now_s, delivery->body);
  g_autofree char *stamp = g_strdup_printf("X-Novacron-Timestamp: %" G_GINT64_FORMAT, now_s);
  g_autofree char *signed_with = g_strconcat("X-Novacron-Signature: ", signature, NULL);
  g_autofree char *id = g_strconcat("X-Novacron-Delivery: ", delivery->id, NULL);

  return json_pack("[s, s, s, s]", "Content-Type: application/json", stamp, signed_with, id);
}

/* The program, started anew if it is gone. Borrowed; the thread's. */
static NcPoster *
nc_webhook_poster(NcAlertWebhook *webhook, GError **error)
{
  const NcConfig *config = webhook->config;
  NcPoster *poster = webhook->poster ? webhook->poster : nc_poster_start((uid_t)config->mover_uid, (gid_t)config->mover_gid, error);

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&webhook->lock);
  webhook->poster = poster;
  if (poster && webhook->quitting)
    nc_poster_break(poster);
  return poster;
}

static void
nc_webhook_drop_poster(NcAlertWebhook *webhook)
{
  g_mutex_lock(&webhook->lock);
  NcPoster *poster = g_steal_pointer(&webhook->poster);
  g_mutex_unlock(&webhook->lock);
  nc_poster_free(poster);
}

/* *ret_status: of the answer. */
static bool
nc_webhook_send(NcAlertWebhook *webhook, const NcDelivery *delivery, int *ret_status, GError **error)
{
  const char *ca_path = webhook->config->alert_webhook_ca_file;
  g_auto(NcWebhookKey) key = { .n = 0 };
  g_autofree char *ca = NULL;
  g_autoptr(GError) problem = NULL;

  if (!nc_webhook_key_read(webhook->config->alert_webhook_key_file, &key, error)) {
    g_prefix_error(error, "alert_webhook_key_file: ");
    return false;
  }
  if (ca_path[0] && !(ca = nc_file_read(ca_path, NC_WEBHOOK_CA_MAX, NULL, error))) {
    g_prefix_error(error, "alert_webhook_ca_file: ");
    return false;
  }
  nc_autojson json_t *headers = nc_webhook_headers(delivery, &key);
  const NcPost post = { .url = webhook->config->alert_webhook_url, .ca = ca, .body = delivery->body, .headers = headers };
  NcPoster *poster = nc_webhook_poster(webhook, error);
  if (!poster || nc_poster_post(poster, &post, ret_status, &problem))
    return poster != NULL;
  if (!g_error_matches(problem, NC_ERROR, NC_ERROR_UNREACHABLE))
    nc_webhook_drop_poster(webhook);
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}

/* True: there is nothing more to do about it. */
static bool
nc_webhook_attempt(NcAlertWebhook *webhook, NcDelivery *delivery)
{
  g_autoptr(GError) error = NULL;
  int status = 0;
  bool answered = nc_webhook_send(webhook, delivery, &status, &error);
  NcWebhookVerdict verdict = answered ? nc_alert_webhook_verdict(status) : NC_WEBHOOK_AGAIN;
  g_autofree char *why = answered ? g_strdup_printf("it answered with status %d", status) : g_strdup(error->message);

  delivery->attempts++;
  if (verdict == NC_WEBHOOK_AGAIN && nc_mono_us() - delivery->pushed_us < NC_WEBHOOK_AGE_US) {
    nc_log(NC_LOG_WARNING, "alerts", "the webhook did not take %s (attempt %u): %s; trying again", delivery->id, delivery->attempts, why);
    return false;
  }
  if (verdict != NC_WEBHOOK_TAKEN)
    nc_log(NC_LOG_ERR, "alerts", "the webhook did not take %s: %s; given up", delivery->id, why);
  return true;
}

/* --- the thread --- */

/* NULL: it is time to end. Waits for one, and then for its time. */
static NcDelivery *
nc_webhook_next(NcAlertWebhook *webhook)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&webhook->lock);
  while (!webhook->quitting && g_queue_is_empty(&webhook->queue))
    g_cond_wait(&webhook->wake, &webhook->lock);
  return webhook->quitting ? NULL : g_queue_pop_head(&webhook->queue);
}

/* False: it is time to end. */
static bool
nc_webhook_wait(NcAlertWebhook *webhook, int64_t pause_us)
{
  int64_t until_us = nc_mono_us() + pause_us;

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&webhook->lock);
  while (!webhook->quitting && g_cond_wait_until(&webhook->wake, &webhook->lock, until_us))
    ;
  return !webhook->quitting;
}

static gpointer
nc_webhook_thread(gpointer data)
{
  NcAlertWebhook *webhook = data;
  NcDelivery *delivery;
  bool goes_on = true;

  while (goes_on && (delivery = nc_webhook_next(webhook))) {
    while (goes_on && !nc_webhook_attempt(webhook, delivery))
      goes_on = nc_webhook_wait(webhook, nc_alert_webhook_pause_us(delivery->attempts + 1));
    if (!goes_on)
      nc_log(NC_LOG_WARNING, "alerts", "novacrond ends before the webhook has taken %s", delivery->id);
    nc_delivery_free(delivery);
  }
  nc_webhook_drop_poster(webhook);
  return NULL;
}

/* --- from outside --- */

NcAlertWebhook *
nc_alert_webhook_new(const NcConfig *config, const char *cluster, const char *node)
{
  NcAlertWebhook *webhook = g_new0(NcAlertWebhook, 1);
  webhook->config = config;
  webhook->cluster = g_strdup(cluster);
  webhook->node = g_strdup(node);
  g_mutex_init(&webhook->lock);
  g_cond_init(&webhook->wake);
  g_queue_init(&webhook->queue);
  webhook->thread = g_thread_new("webhook", nc_webhook_thread, webhook);
  return webhook;
}

void
nc_alert_webhook_free(NcAlertWebhook *webhook)
{
  if (!webhook)
    return;
  g_mutex_lock(&webhook->lock);
  webhook->quitting = true;
  if (webhook->poster)
    nc_poster_break(webhook->poster);
  g_cond_signal(&webhook->wake);
  g_mutex_unlock(&webhook->lock);
  g_thread_join(webhook->thread);
  if (!g_queue_is_empty(&webhook->queue))
    nc_log(NC_LOG_WARNING, "alerts", "novacrond ends before the webhook has taken %u more", g_queue_get_length(&webhook->queue));
  g_queue_clear_full(&webhook->queue, nc_delivery_free);
  g_mutex_clear(&webhook->lock);
  g_cond_clear(&webhook->wake);
  g_free(webhook->cluster);
  g_free(webhook->node);
  g_free(webhook);
}

void
nc_alert_webhook_push(NcAlertWebhook *webhook, json_t *alert)
{
  nc_autojson json_t *message =
      json_pack("{s:i, s:s, s:s, s:O}", "version", 1, "cluster", webhook->cluster, "node", webhook->node, "alert", alert);
  NcDelivery *delivery;

  if (!webhook->config->alert_webhook_url[0])
    return;
  delivery = g_new0(NcDelivery, 1);
  delivery->id = g_strdup_printf("%s-%s", nc_json_string_or(alert, "id", "?"), nc_json_string_or(alert, "state", "?"));
  delivery->body = json_dumps(message, JSON_COMPACT);
  delivery->pushed_us = nc_mono_us();
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&webhook->lock);
  if (g_queue_get_length(&webhook->queue) >= NC_WEBHOOK_QUEUE) {
    NcDelivery *oldest = g_queue_pop_head(&webhook->queue);
    nc_log(NC_LOG_ERR, "alerts", "the webhook has too much to take: %s is dropped", oldest->id);
    nc_delivery_free(oldest);
  }
  g_queue_push_tail(&webhook->queue, delivery);
  g_cond_signal(&webhook->wake);
}
