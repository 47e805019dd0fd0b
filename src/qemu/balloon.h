/* SPDX-License-Identifier: Apache-2.0 */
/* What a running machine's balloon device is good for. */
#pragma once

#include "qemu/qmp.h"

typedef enum {
  NC_BALLOON_DOES_NOT_HINT, /* no such device, it does not offer it, or the guest has no driver that takes it */
  NC_BALLOON_HINTS_PAGES,   /* the guest's driver will say which pages are free, when QEMU asks it */
  NC_BALLOON_UNKNOWN        /* this QEMU can't say */
} NcBalloonHints;

/*
 * Have balloon device and guest agreed on free-page hints? QEMU asks for them at each round of a pre-copy of a running
 * guest, if post-copy is not possible. Blocks for QEMU's answers; any thread.
 */
NcBalloonHints nc_qemu_balloon_hints(NcQmp *qmp);
