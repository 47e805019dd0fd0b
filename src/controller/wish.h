/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a machine is to be moved, as it is asked for: read from JSON with bounds, and written to the record from which a
 * leader takes it up.
 *
 * Members, with the names, units and bounds of the API: priority, qos, bandwidth_limit_bps, retry_attempts (0 to 100;
 * default: the queue's), max_downtime_ms, algorithm, compression, streams, max_cpu, max_throttle,
 * convergence_timeout_ms, checkpoint, checkpoint_keep_s, paths, disk_chain. Those after retry_attempts are the agent's,
 * and only looked at here.
 */
#pragma once

#include "fleet/queue.h"

typedef struct {
  char *machine;                   /* NULL in what is asked of many */
  char *destination;               /* NULL: the best */
  bool is_wish, reserve, is_bound; /* as in NcRequest */
  bool has_priority;
  NcPriority priority; /* NORMAL, then the machine's, if not asked for */
  NcQos qos;
  uint64_t limit_bps;
  int retry_attempts; /* -1: the queue's */
  json_t *settings;   /* for the agent */
} NcWish;

void nc_wish_clear(NcWish *wish);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcWish, nc_wish_clear)

/*
 * ${others}: members that the caller looks at itself, NULL-terminated; "machine" and "destination" are read if they are
 * not among them. False: NC_ERROR_INVALID, and *ret is empty.
 */
bool nc_wish_read(json_t *body, const char *const *others, NcWish *ret, GError **error);
/* The object to keep in the database's "request". New reference. */
json_t *nc_wish_save(const NcWish *wish);
/* The reverse, of what was kept, perhaps by another version: what can't be read is as if it had not been asked for.
 * Machine: NULL. */
void nc_wish_load(json_t *saved, NcWish *ret);
