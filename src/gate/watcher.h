/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One watcher's connection: what it is sent, what it says, and when it is over.
 * Never more is queued for it than one frame, one answer to a ping and a close.
 * Of the thread in watchers.c.
 */
#pragma once

#include "gate/watch_log.h"
#include "gate/watchers.h"
#include "gate/websocket.h"

typedef struct {
  const NcWatchLimits *limits;
  char *client; /* NULL: its place is nobody's */
  int fd;
  void (*over)(void *);
  void *data;
  NcWatchPlace place;
  NcWsReader reader;
  GBytes *out; /* being sent */
  size_t out_at;
  GBytes *pong; /* the newest; goes before the next frame */
  GBytes *close; /* goes behind ${out}; nothing after it */
  bool closing; /* the close is out, or being sent */
  bool dead;    /* nothing goes any more */
  int64_t heard_us, pinged_us, sent_us, close_us;
  double allowance; /* frames that it may send */
  int64_t allowance_us;
} NcWatcher;

NcWatcher *nc_watcher_new(const NcWatchLimits *limits, const NcWatcherOrder *order, int64_t now_us);
/* Calls ${over}. */
void nc_watcher_free(gpointer watcher);

/* Begins the end, with a code and a reason (gate/websocket.h). The first call counts. */
void nc_watcher_close(NcWatcher *watcher, unsigned code, const char *reason);
/* Bytes from the client. */
void nc_watcher_take(NcWatcher *watcher, const void *data, size_t length_bytes, int64_t now_us);
/* The descriptor can be read, or written. */
void nc_watcher_receive(NcWatcher *watcher, int64_t now_us);
/* Sends what there is of ${log}, as far as it goes now. */
void nc_watcher_send(NcWatcher *watcher, const NcWatchLog *log, int64_t now_us);
/* Events for poll(). */
short nc_watcher_waits_for(const NcWatcher *watcher);
/* Pings, and gives up those that are silent. */
void nc_watcher_tick(NcWatcher *watcher, int64_t now_us);
