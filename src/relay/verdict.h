/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a relayed migration ended, judged from what the source's relay has seen.
 * Pure. The relay decides nothing about the machine: QEMU's own handoff does, and
 * this only puts it into words.
 */
#pragma once

#include "base/error.h"
#include <stdint.h>

typedef struct {
  bool shut;             /* the destination's QEMU has sent its final SHUT ... */
  int64_t shut_status;   /* ... with this: 0, it has loaded the machine */
  bool shut_equal;       /* ... and had been given what the source's QEMU had written so far */
  bool tail;             /* the source's QEMU closed where a whole stream ends */
  bool whole;            /* everything it wrote was verified and delivered */
  bool digests_equal;    /* both movers name the same digest for it */
  bool return_path;      /* bytes came back */
  bool destination_left; /* the destination's QEMU closed without SHUT */
} NcRelayFacts;

/* True: completed. Else NC_ERROR_QEMU or NC_ERROR_CORRUPT, naming side and remedy. */
bool nc_relay_verdict(const NcRelayFacts *facts, GError **error);
/* Are the bytes known to be equal? 1 yes, 0 no, -1 not known: it ended before that could be said. */
int nc_relay_bytes_equal(const NcRelayFacts *facts);
