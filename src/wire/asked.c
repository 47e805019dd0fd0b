/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/asked.h"

struct NcAsked {
  GHashTable *seqs; /* uint64_t* -> GUINT_TO_POINTER(whether a stale copy has come) */
};

NcAsked *
nc_asked_new(void)
{
  NcAsked *a = g_new0(NcAsked, 1);
  a->seqs = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
  return a;
}

void
nc_asked_free(NcAsked *a)
{
  if (!a)
    return;
  g_hash_table_unref(a->seqs);
  g_free(a);
}

static void
nc_asked_note(NcAsked *a, uint64_t seq, bool stale)
{
  uint64_t *key = g_new(uint64_t, 1);

  *key = seq;
  g_hash_table_replace(a->seqs, key, GUINT_TO_POINTER(stale)); /* takes key */
}

bool
nc_asked_has(NcAsked *a, uint64_t seq)
{
  return g_hash_table_contains(a->seqs, &seq);
}

NcReorderVerdict
nc_asked_claim(NcAsked *a, NcReorder *r, uint64_t seq, uint64_t bytes)
{
  return nc_asked_has(a, seq) ? nc_reorder_judge(r, seq, bytes) : nc_reorder_claim(r, seq, bytes);
}

bool
nc_asked_is_stale(NcAsked *a, uint64_t seq)
{
  gpointer stale;

  if (!g_hash_table_lookup_extended(a->seqs, &seq, NULL, &stale) || stale)
    return false;
  nc_asked_note(a, seq, true);
  return true;
}

NcAskedVerdict
nc_asked_judge(NcAsked *a, uint64_t seq, bool refers)
{
  if (!nc_asked_has(a, seq)) {
    nc_asked_note(a, seq, false);
    return NC_ASKED_FIRST;
  }
  return refers && nc_asked_is_stale(a, seq) ? NC_ASKED_STALE : NC_ASKED_AGAIN;
}
