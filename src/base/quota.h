/* SPDX-License-Identifier: Apache-2.0 */
/*
 * So many of something at once for each that asks, and so many for all of them
 * together: that one who takes and takes leaves room for the others. All
 * functions from any thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct NcQuota NcQuota;

/* At most ${most_each} under one name, and ${most} in all. */
NcQuota *nc_quota_new(unsigned most_each, unsigned most);
/* Nobody holds anything any more. NULL is fine. */
void nc_quota_free(NcQuota *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcQuota, nc_quota_free)

/* One more for ${name}; false: it has all that it may have, or all have together. */
bool nc_quota_take(NcQuota *q, const char *name);
/* What nc_quota_take() gave. */
void nc_quota_give_back(NcQuota *q, const char *name);
