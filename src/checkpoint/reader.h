/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a migration stream to pieces (frames.h). */
#pragma once

#include "base/error.h"

/*
 * Reads QEMU's stream from ${qemu} to its end and writes frames to ${novacrond}. False if either is broken; what QEMU's side
 * says is then told to novacrond, as far as that goes. In any case ${qemu} is read to its end, though the rest is thrown away if
 * novacrond has gone: QEMU's guest may depend on it.
 */
bool nc_reader_run(int qemu, int novacrond, GError **error);
