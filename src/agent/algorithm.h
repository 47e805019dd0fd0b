/* SPDX-License-Identifier: Apache-2.0 */
/* How a machine's memory is moved, as users choose it. */
#pragma once

#include "base/error.h"

typedef enum {
  NC_ALGORITHM_AUTO,     /* pre-copy; post-copy if its rounds do not come to an end, and the destination can */
  NC_ALGORITHM_PRECOPY,  /* never post-copy: until the last page is there, the machine can go on at the source */
  NC_ALGORITHM_POSTCOPY, /* the machine moves at once, and its memory after it */
  NC_ALGORITHM_COUNT
} NcAlgorithm;

#define NC_ALGORITHM_NAMES "auto, pre-copy or post-copy"

const char *nc_algorithm_name(NcAlgorithm algorithm);
/* Also "hybrid", another word for auto. False for any other name and NULL. */
bool nc_algorithm_from_name(const char *name, NcAlgorithm *ret);
/* Whether it may become a post-copy to ${destination}; NC_ERROR_UNSUITABLE if it has to, and can't. */
bool nc_algorithm_may_postcopy(NcAlgorithm algorithm, bool destination_can, const char *destination, bool *ret, GError **error);
