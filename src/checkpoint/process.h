/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a checkpointer and reading its frames: novacrond's end. Closing it ends the checkpointer, so a crash of ours leaves
 * none behind. One thread at a time, except for nc_checkpointer_break().
 */
#pragma once

#include "checkpoint/frames.h"
#include "mover/process.h"

typedef struct NcCheckpointer NcCheckpointer;

/* novacron-checkpointer where novacrond is installed, or in the build tree, else by PATH. Static. */
const char *nc_checkpointer_find_binary(void);
/* Starts it; the program's log level is not used. */
NcCheckpointer *nc_checkpointer_start(const NcMoverProgram *program, GError **error);
/* Hands it the socket that QEMU writes to; the caller keeps its copy. */
bool nc_checkpointer_give(NcCheckpointer *c, int qemu, GError **error);
/*
 * The next frame. ${body} is replaced by its body. A FAILED frame and the end of the process are errors. NC_ERROR_TIMEOUT if
 * nothing comes for ${timeout_ms}.
 */
bool nc_checkpointer_next(NcCheckpointer *c, NcFrame *ret, GByteArray *body, int timeout_ms, GError **error);
/* Any thread: what waits fails. */
void nc_checkpointer_break(NcCheckpointer *c);
/* Kills it if it still runs. */
void nc_checkpointer_free(NcCheckpointer *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcCheckpointer, nc_checkpointer_free)
