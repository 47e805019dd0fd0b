/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stored_pages.h"
#include "base/io.h"

#include <errno.h>
#include <sys/mman.h>

/* Of a checkpoint, disks included: the source waits for its list, and a larger one takes too long to read. */
#define NC_STORED_ENTRIES_MAX (UINT64_C(4) << 20)

static bool
nc_stored_pages_tell_mover(NcMigration *m, uint32_t pages, int fd, GError **error)
{
  return nc_mover_process_send(m->mover, json_pack("{s:s, s:I}", "op", "stored", "pages", (json_int_t)pages), fd,
                               error);
}

void
nc_stored_pages_ask(NcMigration *m, json_t *request)
{
  if (m->deps->config->store_dedup == NC_STORE_DEDUP_MACHINE)
    json_object_set_new(request, "stored", json_true());
}

void
nc_stored_pages_give(NcMigration *m, const uint8_t *list, uint32_t pages)
{
  nc_autofd int fd = memfd_create("novacron-stored", MFD_CLOEXEC);
  g_autoptr(GError) error = NULL;

  if (fd < 0)
    nc_fail_errno(&error, NC_ERROR_RESOURCE, errno, "no memory for the list of stored pages");
  if (!error && nc_write_all(fd, list, (size_t)pages * NC_STORED_PREFIX_BYTES, &error) && nc_stored_pages_tell_mover(m, pages, fd, &error))
    nc_migration_note(m, "stored-pages", "%u pages of the machine are in the page store of %s", pages, m->peer);
  else
    nc_migration_note(m, "warning", "pages in the page store of %s are not used: %s", m->peer, error->message);
}

GByteArray *
nc_stored_pages_answer(NcMigration *m, json_t *request)
{
  bool asked = nc_json_bool_or(request, "stored", false) && m->deps->config->store_dedup == NC_STORE_DEDUP_MACHINE;
  NcImage *image = asked ? nc_checkpoints_open_last(m->deps->checkpoints, m->vm, NC_STORED_ENTRIES_MAX) : NULL;
  g_autoptr(GByteArray) prefixes = NULL;
  g_autoptr(GError) error = NULL;
  nc_autofd int theirs = -1;

  g_clear_pointer(&m->stored, nc_stored_giver_free);
  if (!image)
    return NULL;
  g_autofree char *id = g_strdup(nc_image_name(image));
  m->stored = nc_stored_giver_new(image, &prefixes, &theirs, &error);
  uint32_t pages = m->stored ? prefixes->len / NC_STORED_PREFIX_BYTES : 0;
  if (m->stored && nc_stored_pages_tell_mover(m, pages, theirs, &error)) {
    nc_migration_set(m, "stored_listed", json_integer(pages));
    nc_migration_note(m, "stored-pages", "%u pages of checkpoint %s need not come", pages, id);
    return g_steal_pointer(&prefixes);
  }
  g_clear_pointer(&m->stored, nc_stored_giver_free);
  nc_migration_note(m, "warning", "pages of checkpoint %s are not used: %s", id, error->message);
  return NULL;
}
