/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of `novacron top`: from what was asked and how one looks at it to lines of text. Nothing is asked here, and
 * no clock is read.
 *
 * What was asked is an object: "node" as in Node, "fleet" as in FleetStatus or null, "queued" (of the fleet, null) and
 * "queued_more", "machines" ({"total", "by_state"}), "alerts" ({"firing", "worst": a severity or null,
 * "summary" of it or null}; null: not known), "running" and "ended" (arrays of Migration), "running_more",
 * "story" (the migration that is looked at, with its history; or null), "problem" (text or null: why the rest is old).
 */
#pragma once

#include "base/msg.h"

typedef enum { NC_TOP_BY_AGE, NC_TOP_BY_ETA, NC_TOP_BY_PROGRESS, NC_TOP_BY_RATE, NC_TOP_BY_MACHINE, NC_TOP_SORTS } NcTopSort;
typedef enum { NC_TOP_LIST, NC_TOP_DETAILS, NC_TOP_HELP } NcTopMode;

typedef struct {
  size_t columns, rows; /* rows 0: as many lines as there are */
  bool is_screen;       /* lines fill the screen, one is selected, keys are named */
  bool has_colours;
  NcTopSort sort;
  NcTopMode mode;
  char *selected;                    /* id of a migration; NULL: the first one */
  json_t *last_selected;             /* as it was last seen */
  size_t first_running, first_ended; /* the lists' first rows on the screen */
  size_t scroll;                     /* of details and help: lines that are above */
  size_t page;                       /* how far a page is, in rows or lines */
  int64_t now_us;
} NcTopLook;

void nc_top_look_clear(NcTopLook *look);

/*
 * The lines, each of at most look->columns cells. Puts right in ${look} what does not fit any more: the selection, and
 * how far is scrolled. Array of char *, the caller's.
 */
GPtrArray *nc_top_lines(json_t *frame, NcTopLook *look);

/* --- keys --- */

typedef enum {
  NC_TOP_KEY_NONE,
  NC_TOP_KEY_UP,
  NC_TOP_KEY_DOWN,
  NC_TOP_KEY_PAGE_UP,
  NC_TOP_KEY_PAGE_DOWN,
  NC_TOP_KEY_HOME,
  NC_TOP_KEY_END,
  NC_TOP_KEY_ENTER,
  NC_TOP_KEY_BACK,
  NC_TOP_KEY_SORT,
  NC_TOP_KEY_HELP,
  NC_TOP_KEY_REDRAW,
  NC_TOP_KEY_QUIT,
} NcTopKey;

/*
 * The first key of what a terminal sent. *ret_used: bytes that it took; 0: more must come before that can be told (a
 * lone ESC is NC_TOP_KEY_BACK if ${is_all}: nothing more came for a while).
 */
NcTopKey nc_top_key_read(const char *bytes, size_t length, bool is_all, size_t *ret_used);

/* What ${key} does to ${look}, of what is seen in ${frame}. false: it is to end. */
bool nc_top_key(NcTopLook *look, json_t *frame, NcTopKey key);

/* Running and then ended migrations in the order of the page; borrowed from ${frame}. Caller frees the array. */
GPtrArray *nc_top_order(json_t *frame, NcTopSort sort, size_t *ret_running);
/* The place of look->selected in ${order}; 0 if it is not there. */
size_t nc_top_selected(const NcTopLook *look, const GPtrArray *order);
