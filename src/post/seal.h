/* SPDX-License-Identifier: Apache-2.0 */
/* The last stage of novacron-post's sandbox (the ones before are the mover's, mover/sandbox.h). */
#pragma once

#include "base/error.h"

/*
 * System calls that libcurl, TLS and the resolver need, and no others: connections to the network, files to be read (resolv.conf,
 * certificates); nothing can be executed, written, or connected to by a UNIX path. For the whole process.
 */
bool nc_post_seal(GError **error);
