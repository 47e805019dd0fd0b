/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's UNIX socket, which one QEMU connects to once. Made with mode
 * 0600; what is there already is replaced only if it is a socket that nobody
 * listens on.
 */
#pragma once

#include "relay/relay.h"

typedef struct {
  const char *path; /* borrowed; removed by nc_doorstep_clear() */
  int listener;
} NcDoorstep;

/* ${owner}: who may connect beside root, (uid_t)-1: ourselves. NC_ERROR_EXISTS, NC_ERROR_IO. */
bool nc_doorstep_init(NcDoorstep *doorstep, const char *path, uid_t owner, GError **error);
/* Waits for QEMU and turns later ones away. Its socket, or -1: NC_ERROR_CANCELLED when stopped. */
int nc_doorstep_accept(NcDoorstep *doorstep, const NcRelaySetup *setup, GError **error);
/* Closes and removes the socket; nothing, if it was not made. */
void nc_doorstep_clear(NcDoorstep *doorstep);
