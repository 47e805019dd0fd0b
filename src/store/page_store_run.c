/* SPDX-License-Identifier: Apache-2.0 */
/* Reading runs: one entry, or all. */
#include "store/page_store_run.h"
#include "store/page_store_run_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

void
nc_run_name(uint32_t id, char ret[NC_RUN_NAME_BYTES])
{
  snprintf(ret, NC_RUN_NAME_BYTES, "index/%08x.run", id);
}

uint32_t
nc_run_id_of(const char *name)
{
  char again[NC_RUN_NAME_BYTES];
  guint64 id = g_ascii_strtoull(name, NULL, 16);

  if (id == 0 || id > UINT32_MAX)
    return 0;
  nc_run_name((uint32_t)id, again);
  return strcmp(name, again + strlen("index/")) == 0 ? (uint32_t)id : 0;
}

uint64_t
nc_run_page_sum(const uint8_t page[NC_RUN_PAGE_BYTES], uint64_t seed)
{
  return XXH3_64bits_withSeed(page, NC_RUN_PAGE_BYTES - 8, seed);
}

static bool
nc_run_read_page(const NcRun *run, uint32_t number, uint64_t seed, uint8_t ret[NC_RUN_PAGE_BYTES], GError **error)
{
  if (!nc_store_read(run->dir, run->name, run->fd, ret, NC_RUN_PAGE_BYTES, (uint64_t)number * NC_RUN_PAGE_BYTES, error))
    return false;
  if (nc_be64(ret + NC_RUN_PAGE_BYTES - 8) != nc_run_page_sum(ret, seed))
    return nc_fail(error, NC_ERROR_CORRUPT,
                   "page store %s: %s is damaged at %llu (checksum): have the index made again (gc does it)", run->dir->path,
                   run->name, (unsigned long long)number * NC_RUN_PAGE_BYTES);
  return true;
}

/* A page of entries or packs; *ret_count of them. */
static bool
nc_run_read_body(const NcRun *run, uint32_t number, unsigned kind, unsigned most, uint8_t ret[NC_RUN_PAGE_BYTES],
                 unsigned *ret_count, GError **error)
{
  if (!nc_run_read_page(run, number, run->salt + number, ret, error))
    return false;
  *ret_count = nc_be16(ret + 2);
  if (nc_be16(ret) != kind || nc_be32(ret + 4) != number || *ret_count == 0 || *ret_count > most)
    return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: page %u of %s is not what it should be", run->dir->path, number,
                   run->name);
  return true;
}

static bool
nc_run_decode_header(NcRun *run, const uint8_t store_id[NC_STORE_ID_BYTES], uint32_t *ret_packs, GError **error)
{
  uint8_t page[NC_RUN_PAGE_BYTES];

  if (!nc_run_read_page(run, 0, run->id, page, error))
    return false;
  if (memcmp(page, NC_RUN_MAGIC, 8) != 0 || nc_be16(page + 8) != NC_STORE_VERSION || nc_be32(page + 12) != run->id ||
      memcmp(page + 40, store_id, NC_STORE_ID_BYTES) != 0)
    return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: %s is of a later version, or from another store", run->dir->path,
                   run->name);
  run->replaces = nc_be32(page + 16);
  run->entry_pages = nc_be32(page + 20);
  run->entries = nc_be64(page + 24);
  *ret_packs = nc_be32(page + 32);
  run->last_pack = nc_be32(page + 36);
  run->salt = nc_be64(page + 56);
  uint64_t pages = 1 + (uint64_t)run->entry_pages + (*ret_packs + NC_RUN_PACKS - 1ull) / NC_RUN_PACKS;
  if (run->replaces > run->id || run->bytes != pages * NC_RUN_PAGE_BYTES ||
      run->entry_pages != (run->entries + NC_RUN_ENTRIES - 1) / NC_RUN_ENTRIES)
    return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: %s has %llu bytes where %llu should be", run->dir->path, run->name,
                   (unsigned long long)run->bytes, (unsigned long long)pages * NC_RUN_PAGE_BYTES);
  return true;
}

static bool
nc_run_load_packs(NcRun *run, uint32_t packs, GError **error)
{
  uint8_t page[NC_RUN_PAGE_BYTES];
  uint32_t last = 0;

  for (uint32_t number = run->entry_pages + 1; run->packs->len < packs; number++) {
    unsigned count;
    if (!nc_run_read_body(run, number, NC_RUN_KIND_PACKS, NC_RUN_PACKS, page, &count, error))
      return false;
    for (unsigned i = 0; i < count; i++) {
      const uint8_t *p = page + 8 + i * NC_RUN_PACK_BYTES;
      NcRunPack pack = { .id = nc_be32(p), .length = nc_be32(p + 4), .blocks = nc_be32(p + 8), .block_bytes = nc_be64(p + 16) };
      if (pack.id <= last)
        return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: the packs of %s are out of order", run->dir->path, run->name);
      last = pack.id;
      g_array_append_val(run->packs, pack);
    }
  }
  return true;
}

/* Takes ${fd}; -1: ${error} is set already. */
static NcRun *
nc_run_take(const NcStoreDir *dir, uint32_t id, int fd, const uint8_t store_id[NC_STORE_ID_BYTES], GError **error)
{
  g_autoptr(NcRun) run = g_new0(NcRun, 1);
  uint32_t packs;

  run->refs = 1;
  run->dir = dir;
  run->id = id;
  run->fd = fd;
  run->packs = g_array_new(FALSE, FALSE, sizeof(NcRunPack));
  nc_run_name(id, run->name);
  if (run->fd < 0 || !nc_store_length(dir, run->name, run->fd, &run->bytes, error) ||
      !nc_run_decode_header(run, store_id, &packs, error) || !nc_run_load_packs(run, packs, error))
    return NULL;
  return g_steal_pointer(&run);
}

NcRun *
nc_run_open(const NcStoreDir *dir, uint32_t id, const uint8_t store_id[NC_STORE_ID_BYTES], GError **error)
{
  char name[NC_RUN_NAME_BYTES];

  nc_run_name(id, name);
  return nc_run_take(dir, id, nc_store_open(dir, name, false, error), store_id, error);
}

NcRun *
nc_run_reopen(const NcRun *run, const uint8_t store_id[NC_STORE_ID_BYTES], GError **error)
{
  int fd = fcntl(run->fd, F_DUPFD_CLOEXEC, 0);

  if (fd < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "page store %s: can't open %s again", run->dir->path, run->name);
    return NULL;
  }
  return nc_run_take(run->dir, run->id, fd, store_id, error);
}

NcRun *
nc_run_ref(NcRun *run)
{
  __atomic_add_fetch(&run->refs, 1, __ATOMIC_RELAXED);
  return run;
}

void
nc_run_unref(NcRun *run)
{
  if (!run || __atomic_sub_fetch(&run->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  nc_fd_clear(&run->fd);
  g_array_unref(run->packs);
  g_free(run);
}

static void
nc_run_decode_entry(const uint8_t *page, unsigned i, NcLocation *ret)
{
  const uint8_t *p = page + 8 + i * NC_RUN_ENTRY_BYTES;

  memcpy(ret->address, p, NC_ADDRESS_BYTES);
  ret->pack = nc_be32(p + 32);
  ret->offset = nc_be32(p + 36);
  ret->slot = nc_be16(p + 40);
  ret->length_less_1 = nc_be16(p + 42);
}

static int
nc_run_compare_at(const uint8_t *page, unsigned i, const uint8_t *address)
{
  return memcmp(address, page + 8 + i * NC_RUN_ENTRY_BYTES, NC_ADDRESS_BYTES);
}

/* In a page whose first and last entry enclose ${address}. */
static NcRunOutcome
nc_run_find_in_page(const uint8_t *page, unsigned count, const uint8_t *address, NcLocation *ret)
{
  unsigned low = 0, high = count;

  while (low < high) {
    unsigned middle = (low + high) / 2;
    int order = nc_run_compare_at(page, middle, address);
    if (order == 0) {
      nc_run_decode_entry(page, middle, ret);
      return NC_RUN_FOUND;
    }
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NC_RUN_ABSENT;
}

/* Where between pages ${low} and ${high} ${key} should be, if keys are spread evenly from ${from} to ${to}. */
static uint32_t
nc_run_guess(uint32_t low, uint32_t high, uint64_t from, uint64_t to, uint64_t key)
{
  if (key <= from || to <= from)
    return low;
  double share = (double)(key - from) / (double)(to - from);
  uint32_t step = (uint32_t)(share * (high - low + 1.0));
  return step > high - low ? high : low + step;
}

NcRunOutcome
nc_run_find(const NcRun *run, const uint8_t address[NC_ADDRESS_BYTES], NcLocation *ret, GError **error)
{
  uint8_t page[NC_RUN_PAGE_BYTES];
  uint32_t low = 1, high = run->entry_pages;
  uint64_t from = 0, to = UINT64_MAX, key = nc_be64(address);

  for (unsigned round = 0; low <= high; round++) {
    /* Addresses are hashes, so guesses are good; should they not be, halving ends it. */
    uint32_t middle = round % 4 < 3 ? nc_run_guess(low, high, from, to, key) : low + (high - low) / 2;
    unsigned count;
    if (!nc_run_read_body(run, middle, NC_RUN_KIND_ENTRIES, NC_RUN_ENTRIES, page, &count, error))
      return NC_RUN_BAD;
    if (nc_run_compare_at(page, 0, address) < 0) {
      high = middle - 1;
      to = nc_be64(page + 8);
    } else if (nc_run_compare_at(page, count - 1, address) > 0) {
      low = middle + 1;
      from = nc_be64(page + 8 + (count - 1) * NC_RUN_ENTRY_BYTES);
    } else {
      return nc_run_find_in_page(page, count, address, ret);
    }
  }
  return NC_RUN_ABSENT;
}

bool
nc_run_check(const NcRun *run, NcRunBadFunc func, gpointer data)
{
  uint8_t page[NC_RUN_PAGE_BYTES], last[NC_ADDRESS_BYTES] = { 0 };
  uint64_t seen = 0;
  bool good = true;

  for (uint32_t number = 1; number <= run->entry_pages; number++) {
    g_autoptr(GError) error = NULL;
    unsigned count;
    bool ok = nc_run_read_body(run, number, NC_RUN_KIND_ENTRIES, NC_RUN_ENTRIES, page, &count, &error);
    for (unsigned i = 0; ok && i < count; i++) {
      ok = nc_run_compare_at(page, i, last) < 0 || (seen == 0 && i == 0);
      memcpy(last, page + 8 + i * NC_RUN_ENTRY_BYTES, NC_ADDRESS_BYTES);
      seen++;
    }
    if (!ok)
      func(number, error ? error->message : "addresses are out of order", data);
    good = good && ok;
  }
  if (good && seen != run->entries) {
    func(0, "entries are missing", data);
    good = false;
  }
  return good;
}

void
nc_run_cursor_init(NcRunCursor *cursor, const NcRun *run)
{
  memset(cursor, 0, sizeof *cursor);
  cursor->run = run;
}

void
nc_run_cursor_init_array(NcRunCursor *cursor, const NcLocation *array, size_t count)
{
  memset(cursor, 0, sizeof *cursor);
  cursor->array = array;
  cursor->array_count = count;
}

bool
nc_run_cursor_peek(NcRunCursor *cursor, const NcLocation **ret, GError **error)
{
  const NcRun *run = cursor->run;

  *ret = NULL;
  if (!run) {
    if (cursor->next < cursor->array_count)
      *ret = &cursor->array[cursor->next];
    return true;
  }
  if (cursor->next >= run->entries)
    return true;
  uint32_t number = 1 + (uint32_t)(cursor->next / NC_RUN_ENTRIES);
  unsigned i = (unsigned)(cursor->next % NC_RUN_ENTRIES);
  if (cursor->page != number) {
    uint8_t page[NC_RUN_PAGE_BYTES];
    if (!nc_run_read_body(run, number, NC_RUN_KIND_ENTRIES, NC_RUN_ENTRIES, page, &cursor->rows_count, error))
      return false;
    for (unsigned k = 0; k < cursor->rows_count; k++)
      nc_run_decode_entry(page, k, &cursor->rows[k]);
    cursor->page = number;
  }
  if (i >= cursor->rows_count)
    return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: page %u of %s has too few entries", run->dir->path, number,
                   run->name);
  *ret = &cursor->rows[i];
  return true;
}

void
nc_run_cursor_skip(NcRunCursor *cursor)
{
  cursor->next++;
}
