/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening socket whose connections are each served by a thread of their
 * own, up to a maximum: what novacrond's control socket, its TCP port and a
 * relay's port have in common.
 */
#pragma once

#include "base/error.h"

typedef struct NcService NcService;

/* Serves one connection; ${fd} is taken. Runs in a thread of its own. */
typedef void (*NcServiceFunc)(int fd, gpointer user_data);

/*
 * Takes ${listener}. ${name} is for the log and the threads (static). At
 * ${max_connections} a further one is closed at once, with a log line.
 */
NcService *nc_service_new(const char *name, int listener, unsigned max_connections, NcServiceFunc func, gpointer user_data);
/* Accepts no more, shuts the living connections down and waits until their functions have returned. */
void nc_service_free(NcService *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcService, nc_service_free)
