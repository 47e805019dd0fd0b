/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing, linear probing: addresses are hashes already. Nothing is ever removed. */
#include "store/page_store_table.h"

#include <stdlib.h>
#include <string.h>

NcTable *
nc_table_new(void)
{
  return g_new0(NcTable, 1);
}

void
nc_table_free(NcTable *table)
{
  if (!table)
    return;
  g_free(table->rows);
  g_free(table);
}

/* The row of ${address}, or the free one where it would go. room > count. */
static NcLocation *
nc_table_row(const NcTable *table, const uint8_t *address)
{
  size_t at = (size_t)nc_be64(address) & (table->room - 1);

  while (table->rows[at].pack != 0 && memcmp(table->rows[at].address, address, NC_ADDRESS_BYTES) != 0)
    at = (at + 1) & (table->room - 1);
  return &table->rows[at];
}

static void
nc_table_grow(NcTable *table)
{
  NcTable larger = { .room = table->room ? table->room * 2 : 64, .count = table->count };

  larger.rows = g_new0(NcLocation, larger.room);
  for (size_t i = 0; i < table->room; i++)
    if (table->rows[i].pack != 0)
      *nc_table_row(&larger, table->rows[i].address) = table->rows[i];
  g_free(table->rows);
  *table = larger;
}

void
nc_table_put(NcTable *table, const NcLocation *location)
{
  if ((table->count + 1) * 4 > table->room * 3)
    nc_table_grow(table);
  NcLocation *row = nc_table_row(table, location->address);
  table->count += row->pack == 0;
  *row = *location;
}

const NcLocation *
nc_table_find(const NcTable *table, const uint8_t address[NC_ADDRESS_BYTES])
{
  if (table->room == 0)
    return NULL;
  const NcLocation *row = nc_table_row(table, address);
  return row->pack != 0 ? row : NULL;
}

static int
nc_location_compare(const void *a, const void *b)
{
  return memcmp(((const NcLocation *)a)->address, ((const NcLocation *)b)->address, NC_ADDRESS_BYTES);
}

NcLocation *
nc_table_sorted(const NcTable *table)
{
  NcLocation *all = g_new(NcLocation, table->count + 1);
  size_t n = 0;

  for (size_t i = 0; i < table->room; i++)
    if (table->rows[i].pack != 0)
      all[n++] = table->rows[i];
  qsort(all, n, sizeof *all, nc_location_compare);
  return all;
}
