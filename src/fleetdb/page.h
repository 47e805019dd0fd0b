/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists, page by page. A page ends with a cursor, which names the last row seen by the list's own order; the next page begins behind
 * it, whatever was added or removed meanwhile. No page costs more than another one, as no row is counted that was seen before.
 */
#pragma once

#include "fleetdb/fleetdb.h"

#define NC_PAGE_MOST 1000u /* rows */
#define NC_PAGE_USUAL 100u
#define NC_CURSOR_MOST_BYTES 128u

typedef struct {
  const char *cursor; /* of the page before; NULL or "": the first one. A stranger's: anything else than a cursor of this list is NC_ERROR_INVALID */
  unsigned limit;     /* 0: NC_PAGE_USUAL; more than NC_PAGE_MOST is NC_PAGE_MOST */
} NcPage;
