/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that all parts of the page store need. */
#include "store/page_store_internal.h"

void
nc_store_address(const NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES], uint8_t ret[NC_ADDRESS_BYTES])
{
  if (store->key)
    nc_seal_key_mac(store->key, hash, NC_SHA256_BYTES, ret);
  else
    memcpy(ret, hash, NC_ADDRESS_BYTES);
}

bool
nc_store_writable(NcPageStore *store, GError **error)
{
  if (store->read_only)
    return nc_fail(error, NC_ERROR_FORBIDDEN, "page store %s is open for reading only", store->dir.path);
  nc_hold(&store->small);
  if (store->failed || g_atomic_int_get(&store->refused))
    return nc_fail(error, NC_ERROR_IO,
                   "page store %s: the disk refused a write, or could not make it durable; nothing more is written until the store is "
                   "opened again: look at the kernel's log (journalctl -k), then restart novacrond",
                   store->dir.path);
  return true;
}

bool
nc_store_fail(NcPageStore *store)
{
  nc_hold(&store->small);
  store->failed = true;
  return false;
}

void
nc_store_count(NcPageStore *store, int64_t more_bytes)
{
  nc_hold(&store->small);
  store->used += (uint64_t)more_bytes;
}

bool
nc_store_within_budget(NcPageStore *store, uint64_t more, GError **error)
{
  nc_hold(&store->small);
  if (store->budget == 0 || (store->used <= store->budget && more <= store->budget - store->used))
    return true;
  return nc_fail(error, NC_ERROR_RESOURCE,
                 "page store %s: its budget of %llu bytes is used up (%llu in use, %llu more wanted): delete checkpoints and "
                 "collect garbage, or raise the budget",
                 store->dir.path, (unsigned long long)store->budget, (unsigned long long)store->used, (unsigned long long)more);
}

bool
nc_store_go_on(const gint *cancelled, GError **error)
{
  if (cancelled && __atomic_load_n(cancelled, __ATOMIC_RELAXED) != 0)
    return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
  return true;
}
