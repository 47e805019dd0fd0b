/* SPDX-License-Identifier: Apache-2.0 */
/* The gate's listening sockets: handed over by systemd, or opened here. */
#pragma once

#include "gate/options.h"

typedef struct {
  int local; /* UNIX; -1: none */
  int https; /* TCP; -1: none */
} NcListeners;

/*
 * Sockets passed by systemd (LISTEN_FDS) are taken as they are, by their
 * family; if there are none, those of ${options} are opened. Fails if nothing
 * is left to listen on. The caller owns the descriptors.
 */
bool nc_listeners_open(const NcGateOptions *options, NcListeners *ret, GError **error);
