/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a verify of the page store has found, for people: which checkpoints lose something, and where the damage is. Bounded,
 * whatever there is to find. One thread.
 */
#pragma once

#include "agent/checkpoints.h"

typedef struct NcStoreDamage NcStoreDamage;

NcStoreDamage *nc_store_damage_new(void);
/* An NcPageStoreFindingFunc; ${data} is the NcStoreDamage. */
void nc_store_damage_note(const NcPageStoreFinding *finding, gpointer data);
/*
 * Adds to ${result}: damaged: [{checkpoint, machine (null: not known), pages, bytes, text}], all of them, and details: [{kind, file,
 * offset, text}], the first ones. ${checkpoints} knows whose they are; NULL: nobody does.
 */
void nc_store_damage_describe(const NcStoreDamage *damage, NcCheckpoints *checkpoints, json_t *result);
/* ${result} in a sentence, with what to do. Caller frees. */
char *nc_store_damage_text(json_t *result);
void nc_store_damage_free(NcStoreDamage *damage); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcStoreDamage, nc_store_damage_free)
