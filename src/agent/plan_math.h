/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migration would be like, worked out of what was measured and of earlier ones. The theory is that of forecast.h, which is
 * told here what it would otherwise see: the link's rate, what coding makes of the memory, and how wrong that may be.
 *
 * Earlier migrations tell what measurements can't: that several connections in minutes carry more than one in a second, how far
 * a sample coded alone is from what becomes of all pages together, and how fast everything besides the link is.
 *
 * Pure computation.
 */
#pragma once

#include "agent/algorithm.h"
#include "agent/forecast.h"

#include <jansson.h>

#define NC_PLAN_LOOKS 2

typedef enum {
  NC_PLAN_DEFAULTS, /* there are no earlier ones */
  NC_PLAN_NODES,    /* those of other machines between the same nodes */
  NC_PLAN_VM,       /* those of the same machine */
} NcPlanBasis;

/* "defaults", "nodes", "vm". */
const char *nc_plan_basis_name(NcPlanBasis basis);

/* Numbers are 0 where earlier migrations do not tell. */
typedef struct {
  NcPlanBasis basis;
  double factor;      /* as in NcForecastPrior */
  double ratio;       /* content per wire byte */
  double content_bps; /* the best seen without a limit, between these nodes */
  double link_bps;    /* on the wire, likewise */
  double disk_ratio;  /* of disks: bytes that they take here per wire byte */
} NcPlanHistory;

/* Who moves where, and how. */
typedef struct {
  const char *vm, *from, *to, *compression;
} NcPlanMove;

/*
 * Of ${records} (the journal's, newest first; borrowed) those of completed migrations that left this node with the same compression:
 * the last few of this machine, or if there are none, between the same nodes.
 */
void nc_plan_read_history(json_t *records, const NcPlanMove *move, NcPlanHistory *ret);

/* What was measured. */
typedef struct {
  uint64_t ram_bytes;
  uint64_t content_bytes; /* 0: not known */
  double dirty_bps;       /* by QEMU's sample of a second */
  bool has_sample;        /* the next four are known */
  NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES];
  uint64_t sampled_bytes;
  NcMemoryChange looks[NC_PLAN_LOOKS];
  unsigned look_count;
  double link_bps; /* of one connection; 0: it could not be measured */
  int64_t rtt_us;
} NcPlanFacts;

/* What is asked for, and allowed. */
typedef struct {
  NcAlgorithm algorithm;
  const char *compression;
  int64_t max_downtime_ms;
  int64_t limit_bps; /* on the wire; 0: none */
  bool may_postcopy;
  int max_throttle; /* percent */
} NcPlanTerms;

typedef struct {
  bool postcopy;  /* it would end in that */
  bool converges; /* it comes to its end, by the algorithm asked for */
  char *reason;   /* one sentence; owned by the caller */
  NcForecastResult forecast; /* of the way it would go; eta from the request on */
  double ratio;   /* of the memory, content per wire byte; 0: not known */
  double disk_ms, disk_wire_bytes; /* of the disks alone; part of the forecast's eta and wire bytes, if it converges */
} NcPlanResult;

/* A disk that would be copied. */
typedef struct {
  uint64_t bytes;   /* that it takes here */
  double write_bps; /* by the guest, as measured */
  /* worked out: */
  double ms;         /* its share of the time that all take together */
  double wire_bytes;
  bool is_slowed;    /* the guest would have to wait for the copy */
} NcPlanDisk;

void nc_plan_work_out(const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms, NcPlanResult *ret);
/* Then: what disks add to ${ret}. They come first, all at once; what the guest writes meanwhile is copied, too. */
void nc_plan_add_disks(const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms, NcPlanDisk *disks, unsigned count,
                       NcPlanResult *ret);
