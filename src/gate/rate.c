/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets in a bounded hash table. */
#include "gate/rate.h"

typedef struct {
  char *client;
  double tokens;
  int64_t at_us; /* when ${tokens} was right */
} NcBucket;

struct NcRate {
  unsigned per_s, burst, clients;
  GHashTable *buckets; /* client -> NcBucket, borrowed from the bucket and owned */
};

static void
nc_bucket_free(gpointer data)
{
  NcBucket *bucket = data;
  g_free(bucket->client);
  g_free(bucket);
}

NcRate *
nc_rate_new(unsigned per_s, unsigned burst, unsigned clients)
{
  NcRate *rate = g_new0(NcRate, 1);
  rate->per_s = per_s;
  rate->burst = burst;
  rate->clients = clients;
  rate->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, nc_bucket_free);
  return rate;
}

void
nc_rate_free(NcRate *rate)
{
  if (!rate)
    return;
  g_hash_table_unref(rate->buckets);
  g_free(rate);
}

/* The client heard of least recently makes room: its bucket is the fullest, so forgetting it gives the least away. */
static void
nc_rate_evict(NcRate *rate)
{
  GHashTableIter iter;
  gpointer value;
  NcBucket *oldest = NULL;

  g_hash_table_iter_init(&iter, rate->buckets);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    NcBucket *bucket = value;
    if (!oldest || bucket->at_us < oldest->at_us)
      oldest = bucket;
  }
  if (oldest)
    g_hash_table_remove(rate->buckets, oldest->client);
}

static NcBucket *
nc_rate_bucket(NcRate *rate, const char *client, int64_t now_us)
{
  NcBucket *bucket = g_hash_table_lookup(rate->buckets, client);

  if (bucket)
    return bucket;
  if (g_hash_table_size(rate->buckets) >= rate->clients)
    nc_rate_evict(rate);
  bucket = g_new0(NcBucket, 1);
  bucket->client = g_strdup(client);
  bucket->tokens = rate->burst;
  bucket->at_us = now_us;
  g_hash_table_insert(rate->buckets, bucket->client, bucket);
  return bucket;
}

/* Gives ${bucket} what it has earned. */
static void
nc_rate_fill(const NcRate *rate, NcBucket *bucket, int64_t now_us)
{
  double earned = (double)(now_us - bucket->at_us) * rate->per_s / 1e6;

  bucket->tokens = MIN(bucket->tokens + MAX(earned, 0), (double)rate->burst);
  bucket->at_us = now_us;
}

bool
nc_rate_has(NcRate *rate, const char *client, int64_t now_us)
{
  NcBucket *bucket = g_hash_table_lookup(rate->buckets, client);

  if (!bucket)
    return true;
  nc_rate_fill(rate, bucket, now_us);
  return bucket->tokens >= 1;
}

bool
nc_rate_take(NcRate *rate, const char *client, int64_t now_us)
{
  NcBucket *bucket = nc_rate_bucket(rate, client, now_us);

  nc_rate_fill(rate, bucket, now_us);
  if (bucket->tokens < 1)
    return false;
  bucket->tokens -= 1;
  return true;
}
