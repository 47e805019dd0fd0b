/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/replay.h"
#include "base/io.h"
#include "checkpoint/frames.h"

#include <string.h>

#define NC_REPLAY_OUT_BYTES (1u << 20)
/* The longest that is written at once: a record's header with the longest name, and a block. */
#define NC_REPLAY_PIECE_MAX (9u + NC_FRAME_NAME_MAX + NC_PAGE_STORE_BLOCK_MAX)

/* The stream on its way out. */
typedef struct {
  const NcReplay *replay;
  int fd;
  uint8_t *out; /* NC_REPLAY_OUT_BYTES */
  size_t filled;
} NcOutlet;

static bool
nc_replay_go_on(const NcReplay *replay, GError **error)
{
  return !g_atomic_int_get(replay->cancelled) || nc_fail(error, NC_ERROR_CANCELLED, "the restore was cancelled");
}

static bool
nc_outlet_flush(NcOutlet *o, GError **error)
{
  bool ok = nc_write_all(o->fd, o->out, o->filled, error);
  o->filled = 0;
  return ok;
}

/* Room for the next piece. */
static bool
nc_outlet_reserve(NcOutlet *o, GError **error)
{
  return o->filled <= NC_REPLAY_OUT_BYTES - NC_REPLAY_PIECE_MAX ||
         (nc_replay_go_on(o->replay, error) && nc_outlet_flush(o, error));
}

static void
nc_outlet_put(NcOutlet *o, const void *data, size_t length)
{
  memcpy(o->out + o->filled, data, length);
  o->filled += length;
}

/* QEMU's header of a page record: a word, and the name of its block unless that is known. */
static bool
nc_outlet_record_header(NcOutlet *o, const NcStep *step, uint64_t page, GError **error)
{
  uint8_t word[8];
  uint8_t flags = page == 0 ? step->flags : step->flags | NC_FRAME_FLAG_CONTINUE;

  nc_store_be64(word, (step->index + page) * NC_FRAME_PAGE_BYTES | flags);
  nc_outlet_put(o, word, sizeof word);
  if (flags & NC_FRAME_FLAG_CONTINUE)
    return true;
  const char *name =
      nc_json_string_or(json_array_get(json_object_get(nc_image_meta(o->replay->image), "ram_blocks"), step->block), "name", "");
  size_t length = strlen(name);
  if (length == 0 || length > NC_FRAME_NAME_MAX)
    return nc_fail(error, NC_ERROR_CORRUPT, "the checkpoint's description does not name a RAM block");
  const uint8_t counted = (uint8_t)length;
  nc_outlet_put(o, &counted, 1);
  nc_outlet_put(o, name, length);
  return true;
}

static bool
nc_outlet_pages(NcOutlet *o, const NcStep *step, GError **error)
{
  static const uint8_t zero = 0;
  uint8_t page[NC_PAGE_STORE_BLOCK_MAX];
  uint32_t length;

  for (uint64_t i = 0; i < step->count; i++) {
    if (!nc_outlet_reserve(o, error) || !nc_outlet_record_header(o, step, i, error))
      return false;
    if (step->kind == NC_STEP_ZEROS) {
      nc_outlet_put(o, &zero, 1);
      continue;
    }
    if (!nc_image_next_block(o->replay->image, page, &length, error))
      return false;
    if (length != NC_FRAME_PAGE_BYTES)
      return nc_fail(error, NC_ERROR_CORRUPT, "the checkpoint has a page of %u bytes", length);
    nc_outlet_put(o, page, length);
  }
  __atomic_add_fetch(o->replay->progress, step->count * NC_FRAME_PAGE_BYTES, __ATOMIC_RELAXED);
  return true;
}

static bool
nc_outlet_blocks(NcOutlet *o, const NcStep *step, GError **error)
{
  uint32_t length;
  for (uint64_t i = 0; i < step->count; i++) {
    if (!nc_outlet_reserve(o, error) || !nc_image_next_block(o->replay->image, o->out + o->filled, &length, error))
      return false;
    o->filled += length;
  }
  return true;
}

static bool
nc_outlet_step(NcOutlet *o, const NcStep *step, GError **error)
{
  switch (step->kind) {
  case NC_STEP_INLINE:
    if (!nc_outlet_reserve(o, error))
      return false;
    nc_outlet_put(o, step->bytes, step->count);
    return true;
  case NC_STEP_BLOCKS:
    return nc_outlet_blocks(o, step, error);
  default:
    return nc_outlet_pages(o, step, error);
  }
}

static bool
nc_outlet_run(NcOutlet *o, GError **error)
{
  NcStep step;

  for (;;) {
    NcLayoutOutcome outcome = nc_image_next_step(o->replay->image, &step, error);
    if (outcome == NC_LAYOUT_BAD)
      return false;
    if (outcome == NC_LAYOUT_END || step.kind == NC_STEP_DISK) /* the stream comes first */
      return nc_outlet_flush(o, error);
    if (!nc_outlet_step(o, &step, error))
      return false;
  }
}

bool
nc_replay_stream(const NcReplay *replay, int fd, GError **error)
{
  NcOutlet o = { .replay = replay, .fd = fd };

  o.out = g_malloc(NC_REPLAY_OUT_BYTES);
  nc_image_rewind(replay->image);
  bool ok = nc_outlet_run(&o, error);
  g_free(o.out);
  return ok;
}

/* --- disks --- */

/* Blocks that follow each other on a disk, to be written at once. */
typedef struct {
  uint8_t *data; /* NC_REPLAY_OUT_BYTES */
  uint32_t filled;
  uint64_t offset; /* of the first */
  NcNbd *disk;
} NcDiskRun;

static bool
nc_disk_run_flush(const NcReplay *replay, NcDiskRun *run, GError **error)
{
  uint32_t length = run->filled;

  run->filled = 0;
  if (length == 0)
    return true;
  if (!nc_replay_go_on(replay, error) || !nc_nbd_write(run->disk, run->offset, run->data, length, error))
    return false;
  __atomic_add_fetch(replay->progress, length, __ATOMIC_RELAXED);
  return true;
}

static bool
nc_replay_disk_block(const NcReplay *replay, NcDiskRun *run, NcNbd *disk, uint64_t offset, GError **error)
{
  bool follows = run->disk == disk && run->filled && offset == run->offset + run->filled;
  uint32_t length;

  if ((!follows || run->filled > NC_REPLAY_OUT_BYTES - NC_PAGE_STORE_BLOCK_MAX) && !nc_disk_run_flush(replay, run, error))
    return false;
  if (run->filled == 0) {
    run->disk = disk;
    run->offset = offset;
  }
  if (!nc_image_next_block(replay->image, run->data + run->filled, &length, error))
    return false;
  run->filled += length;
  return true;
}

static bool
nc_replay_disk_step(const NcReplay *replay, const NcStep *step, NcDiskRun *run, NcNbd *const *disks, GError **error)
{
  json_t *list = json_object_get(nc_image_meta(replay->image), "disks");
  int64_t block_bytes = nc_json_int_or(json_array_get(list, step->block), "block_bytes", 0);

  if (step->block >= json_array_size(list) || block_bytes <= 0 || block_bytes > NC_PAGE_STORE_BLOCK_MAX)
    return nc_fail(error, NC_ERROR_CORRUPT, "the checkpoint has a block of a disk that it does not describe");
  for (uint64_t i = 0; i < step->count; i++)
    if (!nc_replay_disk_block(replay, run, disks[step->block], (step->index + i) * (uint64_t)block_bytes, error))
      return false;
  return true;
}

static bool
nc_replay_all_disks(const NcReplay *replay, NcDiskRun *run, NcNbd *const *disks, GError **error)
{
  NcStep step;

  for (;;) {
    NcLayoutOutcome outcome = nc_image_next_step(replay->image, &step, error);
    if (outcome == NC_LAYOUT_BAD)
      return false;
    if (outcome == NC_LAYOUT_END)
      return nc_disk_run_flush(replay, run, error);
    bool ok = step.kind == NC_STEP_DISK ? nc_replay_disk_step(replay, &step, run, disks, error)
                                        : nc_image_skip_blocks(replay->image, nc_layout_entries(&step), error);
    if (!ok)
      return false;
  }
}

bool
nc_replay_disks(const NcReplay *replay, NcNbd *const *disks, GError **error)
{
  NcDiskRun run = { .data = g_malloc(NC_REPLAY_OUT_BYTES) };

  nc_image_rewind(replay->image);
  bool ok = nc_replay_all_disks(replay, &run, disks, error);
  g_free(run.data);
  return ok;
}
