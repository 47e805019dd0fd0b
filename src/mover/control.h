/* SPDX-License-Identifier: Apache-2.0 */
/* The main thread: novacrond's messages (docs/protocols.md section 1), progress, and the end. */
#pragma once

#include "base/error.h"

typedef struct NcControl NcControl;

/* Opens what can't be opened later. ${fd} is the socket to novacrond, borrowed. */
NcControl *nc_control_new(int fd, GError **error);
void nc_control_free(NcControl *control); /* NULL is fine; only before nc_control_run() */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcControl, nc_control_free)

/* Serves novacrond until the end of the process. */
void nc_control_run(NcControl *control) G_GNUC_NORETURN;
