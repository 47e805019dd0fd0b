/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/capture_changed.h"
#include "checkpoint/capture_blocks.h"

#define NC_CHANGED_READ_BYTES (2u << 20)

/* The disk as ${base} has it, block by block in their order: a walk that only goes forward. */
typedef struct {
  NcImage *image;
  unsigned disk;
  NcStep step;      /* the run at hand: of ${disk}, or at the end */
  uint64_t used;    /* of its entries */
  bool at_end;
  NcManifestEntry entry; /* of block ${next}, if !at_end */
  uint64_t next;
} NcBaseWalk;

/* One after the other; each block at most once, and in ascending order, or the image is not what we make. */
static bool
nc_base_advance(NcBaseWalk *w, GError **error)
{
  bool first = w->step.kind == 0;
  uint64_t last = w->next;

  while (w->step.kind != NC_STEP_DISK || w->step.block != w->disk || w->used == w->step.count) {
    if (w->step.kind && w->step.kind != NC_STEP_DISK && !nc_image_skip_blocks(w->image, nc_layout_entries(&w->step), error))
      return false;
    if (w->step.kind == NC_STEP_DISK && w->step.block != w->disk && !nc_image_skip_blocks(w->image, w->step.count, error))
      return false;
    w->used = 0;
    switch (nc_image_next_step(w->image, &w->step, error)) {
    case NC_LAYOUT_END:
      w->at_end = true;
      return true;
    case NC_LAYOUT_BAD:
      return false;
    case NC_LAYOUT_STEP:
      break;
    }
  }
  if (!nc_image_next_entry(w->image, &w->entry, error))
    return false;
  w->next = w->step.index + w->used++;
  bool fits = !nc_manifest_entry_is_hole(&w->entry) && (first || w->next > last);
  return fits || nc_fail(error, NC_ERROR_CORRUPT, "the disks of checkpoint %s are not in order", nc_image_name(w->image));
}

typedef struct {
  const NcCapture *capture;
  unsigned disk;
  NcNbd *from;
  uint64_t size;
  uint32_t block_bytes;
  uint8_t *room;
  NcBaseWalk base;
  bool begun;
  uint64_t read_bytes;
} NcChanged;

static uint64_t
nc_changed_block_length(const NcChanged *c, uint64_t block)
{
  return MIN(c->block_bytes, c->size - block * c->block_bytes);
}

/* Blocks from ${first} to before ${end} are as they were: what the base has of them is referred to. */
static bool
nc_changed_keep(NcChanged *c, uint64_t first, uint64_t end, bool refer, GError **error)
{
  NcBaseWalk *w = &c->base;

  while (!w->at_end && (!c->begun || w->next < first)) {
    c->begun = true;
    if (!nc_base_advance(w, error))
      return false;
  }
  for (; !w->at_end && w->next < end;) {
    const NcStep step = { .kind = NC_STEP_DISK, .block = c->disk, .index = w->next, .count = 1 };
    if (w->entry.length != nc_changed_block_length(c, w->next))
      return nc_fail(error, NC_ERROR_CORRUPT, "a disk's block in checkpoint %s has a strange length", nc_image_name(w->image));
    if (refer) {
      if (!nc_puts_add_known(c->capture->puts, w->entry.hash, w->entry.length, error))
        return false;
      nc_layout_builder_add(c->capture->layout, &step);
    }
    if (!nc_base_advance(w, error))
      return false;
  }
  return true;
}

static bool
nc_changed_read(NcChanged *c, uint64_t first, uint64_t end, GError **error)
{
  uint64_t at = first * c->block_bytes, stop = MIN(end * c->block_bytes, c->size);

  while (at < stop) {
    uint32_t length = (uint32_t)MIN(stop - at, NC_CHANGED_READ_BYTES);
    if (!nc_nbd_read(c->from, at, c->room, length, error) ||
        !nc_capture_disk_data(c->capture, c->disk, at, c->room, length, c->block_bytes, error))
      return false;
    at += length;
    c->read_bytes += length;
  }
  return nc_changed_keep(c, first, end, false, error); /* the base's of these are of no use */
}

/* Extents need not end where blocks do: a block of which a part has changed has changed. */
static bool
nc_changed_run(NcChanged *c, NcNbd *changed, GError **error)
{
  uint64_t blocks = (c->size + c->block_bytes - 1) / c->block_bytes;

  for (uint64_t block = 0; block < blocks;) {
    uint64_t at = block * c->block_bytes;
    uint32_t limit = (uint32_t)MIN(c->size - at, UINT32_C(1) << 30), length;
    bool dirty;
    if (g_atomic_int_get(c->capture->cancelled))
      return nc_fail(error, NC_ERROR_CANCELLED, "the checkpoint was cancelled");
    if (!nc_nbd_is_dirty(changed, at, limit, &length, &dirty, error))
      return false;
    uint64_t end = at + length == c->size ? blocks : (at + length) / c->block_bytes;
    if (end == block) { /* what is left of this block is of another kind */
      end = block + 1;
      dirty = true;
    }
    if (!(dirty ? nc_changed_read(c, block, end, error) : nc_changed_keep(c, block, end, true, error)))
      return false;
    __atomic_add_fetch(c->capture->progress, MIN(end * c->block_bytes, c->size) - at, __ATOMIC_RELAXED);
    block = end;
  }
  return true;
}

bool
nc_capture_disk_changed(const NcCapture *capture, unsigned disk, NcNbd *from, NcNbd *changed, NcImage *base, unsigned base_disk,
                        uint64_t *ret_read_bytes, GError **error)
{
  uint64_t size = nc_nbd_size(from);
  g_autofree uint8_t *room = g_malloc(NC_CHANGED_READ_BYTES);
  NcChanged c = { .capture = capture,
                  .disk = disk,
                  .from = from,
                  .size = size,
                  .block_bytes = nc_capture_disk_block_bytes(size),
                  .room = room,
                  .base = { .image = base, .disk = base_disk } };

  if (nc_nbd_size(changed) != size)
    return nc_fail(error, NC_ERROR_QEMU, "QEMU's bitmap is of a disk of another size");
  nc_image_rewind(base);
  bool ok = nc_changed_run(&c, changed, error);
  *ret_read_bytes = c.read_bytes;
  return ok;
}
