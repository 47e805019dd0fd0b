/* SPDX-License-Identifier: Apache-2.0 */
#include "base/quota.h"

struct NcQuota {
  unsigned most_each, most;
  GMutex lock;     /* protects what follows */
  GHashTable *held; /* name -> how many, never 0 */
  unsigned total;
};

NcQuota *
nc_quota_new(unsigned most_each, unsigned most)
{
  NcQuota *q = g_new0(NcQuota, 1);

  q->most_each = most_each;
  q->most = most;
  g_mutex_init(&q->lock);
  q->held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  return q;
}

void
nc_quota_free(NcQuota *q)
{
  if (!q)
    return;
  g_hash_table_unref(q->held);
  g_mutex_clear(&q->lock);
  g_free(q);
}

bool
nc_quota_take(NcQuota *q, const char *name)
{
  g_mutex_lock(&q->lock);
  unsigned held = GPOINTER_TO_UINT(g_hash_table_lookup(q->held, name));
  bool may = held < q->most_each && q->total < q->most;
  if (may) {
    g_hash_table_insert(q->held, g_strdup(name), GUINT_TO_POINTER(held + 1));
    q->total++;
  }
  g_mutex_unlock(&q->lock);
  return may;
}

void
nc_quota_give_back(NcQuota *q, const char *name)
{
  g_mutex_lock(&q->lock);
  unsigned held = GPOINTER_TO_UINT(g_hash_table_lookup(q->held, name));
  g_assert(held > 0);
  if (held > 1)
    g_hash_table_insert(q->held, g_strdup(name), GUINT_TO_POINTER(held - 1));
  else
    g_hash_table_remove(q->held, name);
  q->total--;
  g_mutex_unlock(&q->lock);
}
