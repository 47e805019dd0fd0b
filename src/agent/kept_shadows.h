/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shadows (wire/shadow.h) of migrations that have ended well, kept for the machine's way back.
 *
 * A migration's mover has its shadow in a file without a name, in memory. When the migration has completed, that is given to this
 * register, whose thread writes it to DATA_DIR/shadows/ and lets the memory go; with store_key_file set, nothing a guest wrote
 * goes to disk in the clear, so it stays in memory until it is used, or novacrond ends. There is one for a machine and the node
 * it went to or came from; all together are at most kept_shadow_mib, where the oldest go first, and each goes after
 * kept_shadow_hours.
 *
 * A kept shadow is a hint and nothing else: whatever is wrong with it (a torn file, another version) costs pages
 * that are sent again, since every batch made with it has its SHA-256. It is used once.
 *
 * Thread-safe throughout.
 */
#pragma once

#include "agent/config.h"

#include <glib.h>
#include <stdint.h>

typedef struct NcKeptShadows NcKeptShadows;

/* Which one; both nodes name it alike. Borrowed. */
typedef struct {
  const char *vm;
  const char *peer;      /* the other node */
  const char *migration; /* whose it was, */
  const char *sha256;    /* and that one's whole stream's digest, in hexadecimal */
} NcKeptShadowName;

/* ${config}: borrowed. Takes up what an earlier novacrond has left in the directory. */
NcKeptShadows *nc_kept_shadows_new(const NcConfig *config);
/* What is not written yet is lost. NULL is fine. */
void nc_kept_shadows_free(NcKeptShadows *kept);

/* Is anything to be kept, as the configuration stands? */
bool nc_kept_shadows_wanted(NcKeptShadows *kept);

/* An empty file for a mover's shadow, close-on-exec; -1: none is to be kept, or there is no memory for one. */
int nc_kept_shadows_new_file(NcKeptShadows *kept);

/*
 * Takes ${fd}, the file of a migration that has completed and whose mover is gone. It replaces the one of the same machine and
 * node. Without effect if it is empty, or larger than all may be.
 */
void nc_kept_shadows_keep(NcKeptShadows *kept, const NcKeptShadowName *name, int fd);

/* The one of ${vm} and ${peer}: its migration and sha256, to be freed by the caller. False: there is none. */
bool nc_kept_shadows_find(NcKeptShadows *kept, const char *vm, const char *peer, char **ret_migration, char **ret_sha256);

/*
 * The one called ${name}, as a file in memory that is the caller's; *ret_frames: how many it holds. It is not kept any longer.
 * -1: there is no such one, or it can't be read (logged). Reads all of it from disk, if it is there.
 */
int nc_kept_shadows_take(NcKeptShadows *kept, const NcKeptShadowName *name, uint32_t *ret_frames);
/* It is of no use to anybody. */
void nc_kept_shadows_drop(NcKeptShadows *kept, const char *migration);
