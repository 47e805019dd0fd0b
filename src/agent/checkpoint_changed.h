/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of a checkpoint's disks only what has changed since the machine's last one is read (decision 054), if that can be: in the order in
 * which it is done. None of it makes a checkpoint fail but the reading: what is not sure is read whole.
 */
#pragma once

#include "agent/checkpoint_create.h"

/* While the guest runs: is there an earlier checkpoint, and a bitmap in QEMU of all that was written since? */
void nc_create_choose_earlier(NcCreate *cr);
/* In the pause: from here on another bitmap records, for the checkpoint after this one. */
void nc_create_turn_bitmaps(NcCreate *cr);
/* Takes in disk ${index} from ${nbd}, as it was: what has changed of it, else all. */
bool nc_create_capture_disk(NcCreate *cr, unsigned index, NcNbd *nbd, GError **error);
/* When everything has gone its way or not: leaves in QEMU what the next checkpoint can use. */
void nc_create_end_bitmaps(NcCreate *cr, bool ok);
