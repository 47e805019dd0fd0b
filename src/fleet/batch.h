/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several requests as one.
 *
 * "any": each is submitted for itself. "all": either room for every one of them is reserved at once, and then all are submitted; or
 * nothing is, and each that can't be says why. An item of an "all" batch that fails later for good cancels those which have not begun; what has
 * moved stays where it is.
 *
 * Not thread-safe.
 */
#pragma once

#include "fleet/queue.h"

typedef enum { NC_BATCH_ALL, NC_BATCH_ANY, NC_BATCH_POLICY_COUNT } NcBatchPolicy;

/* false: ${name} (may be NULL) is neither "all" nor "any". */
bool nc_batch_policy_from_name(const char *name, NcBatchPolicy *ret);

typedef struct {
  uint64_t id;  /* of the item in the queue; 0: it was not submitted */
  char *reason; /* why not; "all": NULL if only others were the reason */
} NcBatchResult;

/*
 * Fills in ${results}, one of each of the ${count} ${requests}; their reasons are the caller's to free. ${group}, more than 0, is
 * the items' group in the queue, whatever the requests say. How many were submitted.
 */
size_t nc_batch_submit(NcQueue *q, NcBatchPolicy policy, uint64_t group, const NcRequest *requests, size_t count, int64_t now_us,
                       NcBatchResult *results);
