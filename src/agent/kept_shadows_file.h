/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kept shadow on disk: 4096 bytes with a JSON object {"format":1, vm, peer, migration, sha256, kept_us, frames} and zeros
 * behind it, then the frames. Named MIGRATION.shadow; whole before it has that name.
 */
#pragma once

#include "base/error.h"

#include <glib.h>
#include <stdint.h>

#define NC_KEPT_SUFFIX ".shadow"

typedef struct {
  char *vm, *peer, *migration, *sha256;
  int64_t kept_us; /* wall clock */
  uint32_t frames;
  int fd;       /* in memory; -1: only in its file */
  bool is_done; /* not to be written, or written */
} NcKeptShadow;

void nc_kept_shadow_free(NcKeptShadow *shadow); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcKeptShadow, nc_kept_shadow_free)

/* Bytes of its frames. */
uint64_t nc_kept_shadow_bytes(const NcKeptShadow *shadow);
/* Where it is in ${directory}. Caller frees. */
char *nc_kept_shadow_path(const char *directory, const char *migration);

/* An empty file in memory, or -1. */
int nc_kept_shadow_memory(void);
/* Frames in the file in memory ${fd}, from its beginning. */
uint32_t nc_kept_shadow_count(int fd);

/*
 * Writes ${shadow} from its fd, durably. NC_ERROR_RESOURCE where too little would be left free on the disk; NC_ERROR_CANCELLED
 * soon after ${stop} (atomic) is not 0.
 */
bool nc_kept_shadow_write(const char *directory, const NcKeptShadow *shadow, const gint *stop, GError **error);
/* What ${path} says about itself, checked; its frames are not read. */
NcKeptShadow *nc_kept_shadow_look(const char *path, GError **error);
/* Its frames, in a new file in memory; -1 on error. */
int nc_kept_shadow_load(const char *path, uint32_t frames, GError **error);
