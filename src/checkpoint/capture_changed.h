/* SPDX-License-Identifier: Apache-2.0 */
/* Taking in of a disk only what has changed since an earlier checkpoint; the rest is that one's. */
#pragma once

#include "checkpoint/capture.h"
#include "checkpoint/image.h"

/*
 * Disk number ${disk} of ${capture} is disk number ${base_disk} of ${base}, of the same size and in blocks of the same length, but for
 * what ${changed} says (an NBD connection with a bitmap): that is read from ${from}. *ret_read_bytes: how much was looked at. As
 * nc_capture_disk() in everything else. Walks ${base} from its first step on.
 */
bool nc_capture_disk_changed(const NcCapture *capture, unsigned disk, NcNbd *from, NcNbd *changed, NcImage *base, unsigned base_disk,
                             uint64_t *ret_read_bytes, GError **error);
