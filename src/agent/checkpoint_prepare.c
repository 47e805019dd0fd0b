/* SPDX-License-Identifier: Apache-2.0 */
/* What is done for a checkpoint while the guest still runs, so that its pause is short. */
#include "agent/checkpoint_create.h"
#include "base/io.h"
#include "base/log.h"
#include "qemu/footprint.h"
#include "qemu/memory_touch.h"
#include "qemu/migration_qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

bool
nc_create_record_work(NcCreate *cr, GError **error)
{
  nc_autojson json_t *before = nc_qemu_image_settings(cr->qmp, error);
  nc_autojson json_t *disks = json_array();

  if (!before)
    return false;
  for (unsigned i = 0; i < cr->n_disks; i++)
    json_array_append_new(disks, json_pack("{s:s, s:s}", "device", cr->disks[i].device, "node", cr->disks[i].node));
  cr->work =
      json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:O, s:O}", "kind", "create", "machine", cr->cp->vm, "pid",
                (json_int_t)nc_machine_hold_pid(cr->hold), "inode", (json_int_t)nc_keeper_inode(cr->keeper), "background",
                cr->was_running && cr->mode != NC_MODE_STOP, "was_running", cr->was_running, "before", before, "disks", disks);
  return nc_checkpoints_set_work(cr->cp->owner, cr->cp->id, json_incref(cr->work), error);
}

/* A file without a name in the store's directory: gone with QEMU and us, however that ends. */
static int
nc_create_open_nameless(const char *directory, uint64_t bytes, GError **error)
{
  g_autofree char *path = g_build_filename(directory, ".frozen-XXXXXX", NULL);
  nc_autofd int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);

  if (fd < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't make a file in %s", directory);
    return -1;
  }
  unlink(path);
  if (ftruncate(fd, (off_t)bytes) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "a file in %s can't have %" G_GUINT64_FORMAT " bytes", directory, bytes);
    return -1;
  }
  return nc_fd_steal(&fd);
}

bool
nc_create_prepare_disks(NcCreate *cr, GError **error)
{
  const char *directory = cr->cp->owner->deps.config->store_dir;

  for (unsigned i = 0; i < cr->n_disks; i++) {
    NcCreateDisk *disk = &cr->disks[i];
    if ((disk->fd = nc_create_open_nameless(directory, disk->bytes, error)) < 0 ||
        !nc_qemu_prepare_freeze(cr->qmp, &cr->freezable[i], i, disk->fd, error))
      return false;
  }
  return true;
}

void
nc_create_touch_memory(NcCreate *cr)
{
  uint64_t least = nc_footprint_least_bytes(nc_qemu_memory_bytes(cr->qmp));
  nc_memory_touch(nc_machine_hold_pid(cr->hold), least, &cr->cp->cancelled);
}

/* When QEMU stops it flushes its images: what the host has of them is written before, and not while the guest stands still. */
void
nc_create_write_back(NcCreate *cr)
{
  for (unsigned i = 0; i < cr->n_disks; i++) {
    nc_autofd int fd = open(cr->disks[i].spec->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
      (void)!fdatasync(fd); /* QEMU hears of what goes wrong itself */
  }
}

/* Background, if that can be and is wanted. */
bool
nc_create_choose_mode(NcCreate *cr, GError **error)
{
  nc_autojson json_t *before = NULL; /* in the journal since before that */
  g_autoptr(GError) refusal = NULL;

  if (!cr->was_running && cr->mode == NC_MODE_BACKGROUND)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "the guest of %s is paused: there is nothing that a background checkpoint could let run", cr->cp->vm);
  cr->background = cr->was_running && cr->mode != NC_MODE_STOP;
  if (cr->background && nc_qemu_image_setup(cr->qmp, true, &before, &refusal))
    return true;
  if (cr->background && (cr->mode == NC_MODE_BACKGROUND || refusal->code != NC_ERROR_UNSUITABLE)) {
    g_propagate_error(error, g_steal_pointer(&refusal));
    return false;
  }
  if (refusal)
    nc_log(NC_LOG_NOTICE, "agent", "machine %s: %s; it stands still while its memory is saved", cr->cp->vm, refusal->message);
  cr->background = false;
  return nc_qemu_image_setup(cr->qmp, false, &before, error);
}

bool
nc_create_start_worker(NcCreate *cr, GError **error)
{
  const NcConfig *config = cr->cp->owner->deps.config;
  const NcMoverProgram program = { .binary = nc_checkpointer_find_binary(),
                                   .uid = (uid_t)config->mover_uid,
                                   .gid = (gid_t)config->mover_gid };
  int pair[2];

  cr->nbd_path = g_build_filename(nc_machine_hold_run_dir(cr->hold), "cp.sock", NULL);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
    return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't make the socket for QEMU's image");
  nc_autofd int ours = pair[0];
  cr->theirs = pair[1];
  if (!(cr->keeper = nc_keeper_new(ours, error)) || !(cr->worker = nc_checkpointer_start(&program, error)))
    return false;
  nc_create_set_worker(cr, cr->worker);
  return nc_checkpointer_give(cr->worker, ours, error);
}

/* QEMU gets both ends of the socket: its own, and a duplicate of ours. */
bool
nc_create_give_ends(NcCreate *cr, GError **error)
{
  bool ok = nc_qemu_getfd(cr->qmp, NC_CHECKPOINT_KEEPER, nc_keeper_fd(cr->keeper), error) &&
            nc_qemu_getfd(cr->qmp, NC_CHECKPOINT_STREAM, cr->theirs, error);
  nc_fd_clear(&cr->theirs);
  return ok;
}
