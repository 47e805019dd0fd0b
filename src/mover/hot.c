/* SPDX-License-Identifier: Apache-2.0 */
/* A byte per page: first how often it was sent, then what is to become of it. */
#include "mover/hot.h"

#include <pthread.h>
#include <string.h>

#define NC_HOT_CLASSES 256 /* values of a byte */
#define NC_HOT_CROWDS 7    /* 1, 2, up to 4, 8, 16, 32 and 64 pages in a window */
#define NC_HOT_WINDOW 64   /* pages */

/* What a page's byte means once the list is made. */
enum { NC_HOT_OTHER, NC_HOT_WANTED, NC_HOT_ASKED };

/* A RAM block. */
typedef struct {
  char *name;
  uint64_t pages;  /* 0: nothing is asked of it */
  uint8_t *states; /* NULL until its first page was sent */
  uint8_t *crowd;  /* while the list is made: of each window, how many of its pages are listed */
} NcHotBlock;

typedef struct {
  uint32_t block, page;
} NcHotPage;

typedef struct {
  NcHotPage page;
  int64_t asked_us;
} NcHotAsked;

struct NcHot {
  GArray *blocks; /* of NcHotBlock; they stay where they are from nc_hot_enter() on */

  pthread_mutex_t lock; /* protects everything below, and from nc_hot_enter() on the states */
  GArray *discards;     /* of NcStreamRange; NULL: not in post-copy, or the list is made */
  GArray *list;         /* of NcHotPage, hottest first; NULL: not made */
  guint next;           /* in it */
  bool permitted, stopped;
  NcHotPage near;       /* the guest waits for that one: those about it are next */
  unsigned near_left;   /* of them, from near.page on; 0: none */
  NcHotAsked asked[NC_HOT_OUTSTANDING + NC_HOT_NEAR];
  unsigned asked_count; /* in the order they were asked */
  uint64_t total_asked, total_seen;
};

static void
nc_hot_clear_block(gpointer data)
{
  NcHotBlock *block = data;

  g_free(block->name);
  g_free(block->states);
  g_free(block->crowd);
}

NcHot *
nc_hot_new(void)
{
  NcHot *h = g_new0(NcHot, 1);

  h->blocks = g_array_new(FALSE, FALSE, sizeof(NcHotBlock));
  g_array_set_clear_func(h->blocks, nc_hot_clear_block);
  pthread_mutex_init(&h->lock, NULL);
  return h;
}

void
nc_hot_free(NcHot *h)
{
  if (!h)
    return;
  g_array_unref(h->blocks);
  g_clear_pointer(&h->discards, g_array_unref);
  g_clear_pointer(&h->list, g_array_unref);
  pthread_mutex_destroy(&h->lock);
  g_free(h);
}

/* --- counting --- */

void
nc_hot_add_block(NcHot *h, const NcStreamBlock *b)
{
  bool is_plain = b->page_size == NC_STREAM_PAGE_BYTES && b->used_length % NC_STREAM_PAGE_BYTES == 0;
  uint64_t pages = b->used_length / NC_STREAM_PAGE_BYTES; /* 0: unknown */
  NcHotBlock block = { .name = g_strdup(b->name), .pages = is_plain && pages <= NC_HOT_BLOCK_PAGES_MAX ? pages : 0 };

  g_array_append_val(h->blocks, block);
}

size_t
nc_hot_block_count(const NcHot *h)
{
  return h->blocks->len;
}

static NcHotBlock *
nc_hot_block(const NcHot *h, uint32_t index)
{
  return index < h->blocks->len ? &g_array_index(h->blocks, NcHotBlock, index) : NULL;
}

/* The byte of a page; NULL if it has none. */
static uint8_t *
nc_hot_state(const NcHot *h, uint32_t block_index, uint64_t page)
{
  NcHotBlock *block = nc_hot_block(h, block_index);
  return block && block->states && page < block->pages ? &block->states[page] : NULL;
}

void
nc_hot_count(NcHot *h, const NcStreamRecord *records, size_t n_records)
{
  for (size_t i = 0; i < n_records; i++) {
    NcHotBlock *block = nc_hot_block(h, records[i].block);
    if (block && !block->states && block->pages > 0 && !(block->states = g_try_malloc0(block->pages)))
      block->pages = 0; /* too large to be counted */
    uint8_t *sent = nc_hot_state(h, records[i].block, records[i].page_offset / NC_STREAM_PAGE_BYTES);
    if (sent && *sent < UINT8_MAX)
      (*sent)++;
  }
}

void
nc_hot_enter(NcHot *h, const GArray *discards)
{
  pthread_mutex_lock(&h->lock);
  if (!h->discards && !h->list) {
    h->discards = g_array_new(FALSE, FALSE, sizeof(NcStreamRange));
    if (discards->len > 0)
      g_array_append_vals(h->discards, discards->data, discards->len);
  }
  pthread_mutex_unlock(&h->lock);
}

/* --- the list --- */

/* Calls ${visit} for each discarded page that was sent before. */
static void
nc_hot_for_each_locked(NcHot *h, void (*visit)(NcHot *h, NcHotPage page, uint8_t *sent, void *data), void *data)
{
  for (guint i = 0; i < h->discards->len; i++) {
    NcStreamRange range = g_array_index(h->discards, NcStreamRange, i);
    uint64_t first = range.start / NC_STREAM_PAGE_BYTES, n = range.length / NC_STREAM_PAGE_BYTES;
    for (uint64_t j = 0; j < n; j++) {
      uint8_t *sent = nc_hot_state(h, range.block, first + j);
      if (!sent)
        break; /* nor have those behind it */
      if (*sent > 0)
        visit(h, (NcHotPage){ .block = range.block, .page = (uint32_t)(first + j) }, sent, data);
    }
  }
}

static void
nc_hot_tally(NcHot *h, NcHotPage page, uint8_t *sent, void *data)
{
  NcHotBlock *block = nc_hot_block(h, page.block);
  uint64_t *tally = data;

  tally[*sent]++;
  if (!block->crowd)
    block->crowd = g_malloc0(block->pages / NC_HOT_WINDOW + 1);
  uint8_t *crowd = &block->crowd[page.page / NC_HOT_WINDOW];
  *crowd = MIN(*crowd + 1, NC_HOT_WINDOW);
}

/* 0 for the loneliest. */
static unsigned
nc_hot_crowd(NcHot *h, NcHotPage page)
{
  unsigned n = nc_hot_block(h, page.block)->crowd[page.page / NC_HOT_WINDOW];
  return MIN(n <= 1 ? 0 : g_bit_storage(n - 1), NC_HOT_CROWDS - 1);
}

typedef struct {
  unsigned coldest;               /* of those that are listed */
  GArray *classes[NC_HOT_CLASSES][NC_HOT_CROWDS]; /* of NcHotPage, by how often they were sent, and how many there are about them */
} NcHotSorter;

/* Twice in the discards is once in the list. */
static void
nc_hot_sort(NcHot *h, NcHotPage page, uint8_t *sent, void *data)
{
  NcHotSorter *sorter = data;

  if (*sent < sorter->coldest)
    return;
  GArray **class = &sorter->classes[*sent][nc_hot_crowd(h, page)];
  if (!*class)
    *class = g_array_new(FALSE, FALSE, sizeof(NcHotPage));
  g_array_append_val(*class, page);
  *sent = 0;
}

/* Down to where it would be too many; more pages alike than that are none of them hot. */
static unsigned
nc_hot_find_coldest(const uint64_t tally[NC_HOT_CLASSES])
{
  uint64_t sum = 0;
  unsigned coldest = NC_HOT_CLASSES;

  while (coldest > 1 && sum + tally[coldest - 1] <= NC_HOT_PAGES_MAX)
    sum += tally[--coldest];
  return coldest;
}

static void
nc_hot_mark_locked(NcHot *h)
{
  for (guint i = 0; i < h->blocks->len; i++) {
    NcHotBlock *block = nc_hot_block(h, i);
    g_clear_pointer(&block->crowd, g_free);
    if (block->states)
      memset(block->states, NC_HOT_OTHER, block->pages);
  }
  for (guint i = 0; i < h->list->len; i++) {
    NcHotPage page = g_array_index(h->list, NcHotPage, i);
    *nc_hot_state(h, page.block, page.page) = NC_HOT_WANTED;
  }
}

/* From counts to a list, and from then on the bytes mean something else. */
static void
nc_hot_make_list_locked(NcHot *h)
{
  uint64_t tally[NC_HOT_CLASSES] = { 0 };
  NcHotSorter sorter = { 0 };

  nc_hot_for_each_locked(h, nc_hot_tally, tally);
  sorter.coldest = nc_hot_find_coldest(tally);
  nc_hot_for_each_locked(h, nc_hot_sort, &sorter);
  h->list = g_array_new(FALSE, FALSE, sizeof(NcHotPage));
  for (unsigned i = NC_HOT_CLASSES; i-- > 0;)
    for (unsigned j = 0; j < NC_HOT_CROWDS; j++)
      if (sorter.classes[i][j]) {
        g_array_append_vals(h->list, sorter.classes[i][j]->data, sorter.classes[i][j]->len);
        g_array_unref(sorter.classes[i][j]);
      }
  nc_hot_mark_locked(h);
  g_clear_pointer(&h->discards, g_array_unref);
}

/* --- asking --- */

static void
nc_hot_drop_asked_locked(NcHot *h, unsigned index)
{
  h->asked_count--;
  memmove(&h->asked[index], &h->asked[index + 1], (h->asked_count - index) * sizeof h->asked[0]);
}

/* One page is on its way. True if it was asked for. */
static bool
nc_hot_note_sent_locked(NcHot *h, uint32_t block, uint64_t page)
{
  uint8_t *state = nc_hot_state(h, block, page);
  bool was_asked = state && h->list && *state == NC_HOT_ASKED;

  if (state)
    *state = 0; /* NC_HOT_OTHER; or, before the list is made, as if it had never been sent */
  for (unsigned i = 0; was_asked && i < h->asked_count; i++) {
    if (h->asked[i].page.block != block || h->asked[i].page.page != page)
      continue;
    nc_hot_drop_asked_locked(h, i);
    h->total_seen++;
    break;
  }
  return was_asked;
}

bool
nc_hot_sent(NcHot *h, const NcStreamRecord *records, size_t n_records)
{
  bool any = false;

  pthread_mutex_lock(&h->lock);
  for (size_t i = 0; i < n_records; i++)
    any = nc_hot_note_sent_locked(h, records[i].block, records[i].page_offset / NC_STREAM_PAGE_BYTES) || any;
  pthread_mutex_unlock(&h->lock);
  return any;
}

static uint32_t
nc_hot_find_block(const NcHot *h, const char *name)
{
  uint32_t i = 0;

  while (i < h->blocks->len && !g_str_equal(nc_hot_block(h, i)->name, name))
    i++;
  return i;
}

bool
nc_hot_sent_elsewhere(NcHot *h, const NcStreamParser *parser, const NcStreamRecord *records, size_t n_records)
{
  bool any = false;

  pthread_mutex_lock(&h->lock);
  bool entered = h->discards || h->list; /* else the blocks are the reader's */
  for (size_t i = 0; entered && i < n_records; i++) {
    uint32_t block = nc_hot_find_block(h, nc_stream_parser_block(parser, records[i].block)->name);
    any = nc_hot_note_sent_locked(h, block, records[i].page_offset / NC_STREAM_PAGE_BYTES) || any;
  }
  pthread_mutex_unlock(&h->lock);
  return any;
}

void
nc_hot_permit(NcHot *h)
{
  pthread_mutex_lock(&h->lock);
  h->permitted = true;
  pthread_mutex_unlock(&h->lock);
}

void
nc_hot_stop(NcHot *h)
{
  pthread_mutex_lock(&h->lock);
  h->stopped = true;
  pthread_mutex_unlock(&h->lock);
}

void
nc_hot_missed(NcHot *h, const char *block, uint64_t offset)
{
  uint64_t page = offset / NC_STREAM_PAGE_BYTES;

  pthread_mutex_lock(&h->lock);
  uint32_t index = h->discards || h->list ? nc_hot_find_block(h, block) : h->blocks->len;
  if (index < h->blocks->len && page <= UINT32_MAX) {
    h->near = (NcHotPage){ .block = index, .page = (uint32_t)page - MIN((uint32_t)page, NC_HOT_NEAR / 2) };
    h->near_left = NC_HOT_NEAR;
  }
  pthread_mutex_unlock(&h->lock);
}

bool
nc_hot_is_asking(NcHot *h)
{
  pthread_mutex_lock(&h->lock);
  bool is_asking = h->permitted && !h->stopped && (h->discards || (h->list && (h->next < h->list->len || h->near_left > 0)));
  pthread_mutex_unlock(&h->lock);
  return is_asking;
}

static void
nc_hot_expire_locked(NcHot *h, int64_t now_us)
{
  while (h->asked_count > 0 && h->asked[0].asked_us + NC_HOT_EXPIRE_US <= now_us) {
    *nc_hot_state(h, h->asked[0].page.block, h->asked[0].page.page) = NC_HOT_OTHER;
    nc_hot_drop_asked_locked(h, 0);
  }
}

/* The next page that is still wanted; NULL: there is none. */
static const NcHotPage *
nc_hot_peek_locked(NcHot *h)
{
  for (; h->next < h->list->len; h->next++) {
    const NcHotPage *page = &g_array_index(h->list, NcHotPage, h->next);
    if (*nc_hot_state(h, page->block, page->page) == NC_HOT_WANTED)
      return page;
  }
  return NULL;
}

/* ${first} and those that follow it in list and memory, as many as there is room for. */
static void
nc_hot_take_locked(NcHot *h, NcHotPage first, int64_t now_us, NcHotRequest *ret)
{
  const NcHotPage *next = &first;
  uint32_t n = 0;

  while (next && h->asked_count < NC_HOT_OUTSTANDING && next->block == first.block && next->page == first.page + n) {
    *nc_hot_state(h, next->block, next->page) = NC_HOT_ASKED;
    h->asked[h->asked_count++] = (NcHotAsked){ .page = *next, .asked_us = now_us };
    h->next++;
    n++;
    next = nc_hot_peek_locked(h);
  }
  h->total_asked += n;
  *ret = (NcHotRequest){ .block = nc_hot_block(h, first.block)->name,
                         .offset = (uint64_t)first.page * NC_STREAM_PAGE_BYTES,
                         .bytes = n * NC_STREAM_PAGE_BYTES };
}

/* Those about a page that the guest waits for, in one piece. */
static bool
nc_hot_take_near_locked(NcHot *h, int64_t now_us, NcHotRequest *ret)
{
  NcHotPage first = h->near;
  uint32_t n = 0;

  for (; h->near_left > 0 && h->asked_count < G_N_ELEMENTS(h->asked); h->near_left--, h->near.page++) {
    uint8_t *state = nc_hot_state(h, h->near.block, h->near.page);
    if (!state || *state != NC_HOT_WANTED) {
      if (n > 0)
        break;
      first.page = h->near.page + 1;
      continue;
    }
    *state = NC_HOT_ASKED;
    h->asked[h->asked_count++] = (NcHotAsked){ .page = h->near, .asked_us = now_us };
    n++;
  }
  h->total_asked += n;
  *ret = (NcHotRequest){ .block = nc_hot_block(h, first.block)->name,
                         .offset = (uint64_t)first.page * NC_STREAM_PAGE_BYTES,
                         .bytes = n * NC_STREAM_PAGE_BYTES };
  return n > 0;
}

static bool
nc_hot_next_locked(NcHot *h, int64_t now_us, NcHotRequest *ret, int64_t *ret_again_us)
{
  *ret_again_us = 0;
  if (!h->permitted || h->stopped)
    return false;
  if (h->discards)
    nc_hot_make_list_locked(h);
  if (!h->list)
    return false;
  nc_hot_expire_locked(h, now_us);
  if (h->near_left > 0 && nc_hot_take_near_locked(h, now_us, ret))
    return true;
  const NcHotPage *page = nc_hot_peek_locked(h);
  if (!page)
    return false;
  if (h->asked_count >= NC_HOT_OUTSTANDING) {
    *ret_again_us = h->asked[0].asked_us + NC_HOT_EXPIRE_US;
    return false;
  }
  nc_hot_take_locked(h, *page, now_us, ret);
  return true;
}

bool
nc_hot_next(NcHot *h, int64_t now_us, NcHotRequest *ret, int64_t *ret_again_us)
{
  pthread_mutex_lock(&h->lock);
  bool found = nc_hot_next_locked(h, now_us, ret, ret_again_us);
  pthread_mutex_unlock(&h->lock);
  return found;
}

void
nc_hot_totals(NcHot *h, uint64_t *ret_asked, uint64_t *ret_seen)
{
  pthread_mutex_lock(&h->lock);
  if (ret_asked)
    *ret_asked = h->total_asked;
  if (ret_seen)
    *ret_seen = h->total_seen;
  pthread_mutex_unlock(&h->lock);
}
