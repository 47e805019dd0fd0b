/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What novacrond has told of the destination's page store (wire/stored.h): at the source a list, at the destination
 * where to get the pages. The store is novacrond's, as is the key it may be encrypted with, and so this process asks
 * for pages instead of reading packs.
 *
 * Requests on the socket, one at a time: u32 n (1 to NC_STORED_READ_MAX), n times u32 number. Answer: u8 1 and n pages
 * of 4 KiB, or u8 0: not all of them can be had. Big-endian.
 */
#pragma once

#include "base/error.h"
#include "wire/stored.h"

/* The list of ${count} pages in the file ${fd} (borrowed). NULL: NC_ERROR_PROTOCOL, NC_ERROR_IO. */
NcStoredIndex *nc_mover_stored_list(int fd, uint32_t count, GError **error);
/* Pages of a list of ${count}, got by the stream socket ${fd}, which is taken. Lives until the process ends. */
NcStoredPages *nc_mover_stored_pages(int fd, uint32_t count);
