/* SPDX-License-Identifier: Apache-2.0 */
/* What capture.c and capture_changed.c share. */
#pragma once

#include "checkpoint/capture.h"

/* ${length} bytes of ${disk} at ${offset}, which is at the beginning of a block: what is not zero of it. */
bool nc_capture_disk_data(const NcCapture *capture, unsigned disk, uint64_t offset, const uint8_t *data, uint32_t length,
                          uint32_t block_bytes, GError **error);
