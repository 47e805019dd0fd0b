/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/warm_return.h"
#include "agent/kept_shadows.h"
#include "base/io.h"
#include "wire/shadow.h"

void
nc_warm_return_offer(NcMigration *m, json_t *request)
{
  g_autofree char *migration = NULL, *sha256 = NULL;

  if (nc_kept_shadows_find(m->deps->kept_shadows, m->vm, m->peer, &migration, &sha256))
    json_object_set_new(request, "kept_shadow", json_pack("{s:s, s:s}", "migration", migration, "sha256", sha256));
}

/* The one that ${offer} names, in m->shadow_fd, or an empty file; returns how many frames it holds. */
static uint32_t
nc_warm_return_open(NcMigration *m, json_t *offer)
{
  const NcKeptShadowName name = { m->vm, m->peer, nc_json_string_or(offer, "migration", ""),
                                  nc_json_string_or(offer, "sha256", "") };
  uint32_t kept = 0;

  nc_fd_clear(&m->shadow_fd);
  m->shadow_fd = offer ? nc_kept_shadows_take(m->deps->kept_shadows, &name, &kept) : -1;
  if (m->shadow_fd < 0) {
    m->shadow_fd = nc_kept_shadows_new_file(m->deps->kept_shadows);
    kept = 0;
  }
  return kept;
}

/* With ${kept} frames that it has already. */
static bool
nc_warm_return_give(NcMigration *m, NcShadowSize size, uint32_t kept, GError **error)
{
  kept = MIN(kept, size.frames);
  nc_migration_set(m, "kept_shadow", json_pack("{s:b, s:I}", "used", kept > 0, "bytes", (json_int_t)kept * NC_SHADOW_PAGE_BYTES));
  if (kept > 0)
    nc_migration_note(m, "warm-return", "begins with %u MiB of pages that both sides have kept",
                      kept / (uint32_t)((1u << 20) / NC_SHADOW_PAGE_BYTES));
  return nc_mover_process_send_shadow(m->mover, size, m->shadow_fd, kept, error);
}

bool
nc_warm_return_answer(NcMigration *m, json_t *request, NcShadowSize size, bool *ret_used, GError **error)
{
  uint32_t kept = size.frames > 0 ? nc_warm_return_open(m, json_object_get(request, "kept_shadow")) : 0;

  *ret_used = kept > 0;
  return nc_warm_return_give(m, size, kept, error);
}

bool
nc_warm_return_begin(NcMigration *m, json_t *request, json_t *answer, NcShadowSize size, GError **error)
{
  json_t *offer = json_object_get(request, "kept_shadow");
  bool is_there = offer && nc_json_bool_or(answer, "kept_shadow", false);

  if (offer && !is_there) /* and never will be again */
    nc_kept_shadows_drop(m->deps->kept_shadows, nc_json_string_or(offer, "migration", ""));
  uint32_t kept = size.frames > 0 ? nc_warm_return_open(m, is_there ? offer : NULL) : 0;
  return nc_warm_return_give(m, size, kept, error);
}

void
nc_warm_return_forget(NcMigration *m)
{
  nc_fd_clear(&m->shadow_fd);
}

void
nc_warm_return_keep(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  const char *sha256 = nc_json_string_or(record, "sha256", "");
  const NcKeptShadowName name = { m->vm, m->peer, m->id, sha256 };

  if (m->shadow_fd >= 0 && sha256[0] && nc_json_bool_or(record, "sha256_equal", true))
    nc_kept_shadows_keep(m->deps->kept_shadows, &name, nc_fd_steal(&m->shadow_fd));
}
