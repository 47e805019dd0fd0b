/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node sends that copies a checkpoint to us: messages (u32 length, JSON) with the bytes that they announce
 * behind them. The store must come through it whole: a checkpoint that appears has all its blocks.
 */
#include "base/bytes.h"
#include "checkpoint/copy.h"
#include "checkpoint/image.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
fuzz_send(gpointer data, json_t *message, const void *bytes, size_t length, GError **error)
{
  return true;
}

static json_t *
fuzz_recv(gpointer data, int timeout_ms, GError **error)
{
  NcReader *reader = data;
  uint32_t length;
  const uint8_t *text = nc_reader_u32(reader, &length) ? nc_reader_take(reader, length) : NULL;

  if (text)
    return nc_msg_decode(text, length, error);
  nc_fail(error, NC_ERROR_IO, "closed");
  return NULL;
}

static bool
fuzz_recv_bytes(gpointer data, void *bytes, size_t length, GError **error)
{
  const uint8_t *from = nc_reader_take(data, length);

  if (!from)
    return nc_fail(error, NC_ERROR_IO, "closed");
  memcpy(bytes, from, length);
  return true;
}

static char directory[] = "/tmp/nc-fuzz-copy-XXXXXX";

static void
fuzz_remove_store(void)
{
  const char *argv[] = { "rm", "-rf", directory, NULL };
  g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

/* One for all inputs: they find each other's blocks, as in life. */
static NcPageStore *
fuzz_store(void)
{
  static NcPageStore *store;
  const NcPageStoreOptions options = { .budget_bytes = 64 << 20 };

  if (store)
    return store;
  if (!mkdtemp(directory) || !(store = nc_page_store_open(directory, &options, NULL)))
    abort();
  atexit(fuzz_remove_store);
  return store;
}

static void
fuzz_judge(NcPageStore *store, const char *id)
{
  NcPageStoreVerifyReport report = { 0 };

  if (!nc_manifest_verify(store, id, NULL, NULL, NULL, &report, NULL) || report.lost || report.findings)
    abort();
  if (!nc_manifest_delete(store, id, NULL))
    abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const gint go_on = 0;
  NcReader reader = nc_reader(data, size);
  const NcCopyLink link = { .data = &reader, .send = fuzz_send, .recv = fuzz_recv, .recv_bytes = fuzz_recv_bytes };
  uint64_t progress = 0;
  const NcCopy copy = { .store = fuzz_store(), .link = &link, .cancelled = &go_on, .progress = &progress };
  nc_autojson json_t *offered = fuzz_recv(&reader, 0, NULL), *note = json_object();
  NcCopyOffer offer;
  NcCopyTotals totals;
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *meta = NULL;

  if (!offered || !nc_copy_offer_parse(offered, &offer, NULL))
    return 0;
  if (nc_copy_receive(&copy, &offer, note, &totals, &meta, &problem))
    fuzz_judge(copy.store, offer.id);
  else
    nc_copy_reject(&link, problem);
  return 0;
}
