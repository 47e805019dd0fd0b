/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/watcher.h"

#include "gate/gate_limits.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

/* Control frames of a client: pings every second, and a few more. */
#define NC_WATCHER_FRAMES_PER_S 2
#define NC_WATCHER_FRAMES_BURST 20
#define NC_WATCHER_FAREWELL_US 2000000 /* for the client to answer our close */

NcWatcher *
nc_watcher_new(const NcWatchLimits *limits, const NcWatcherOrder *order, int64_t now_us)
{
  NcWatcher *w = g_new0(NcWatcher, 1);
  int send_bytes = NC_GATE_WATCH_SEND_BYTES;

  setsockopt(order->fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
  w->limits = limits;
  w->client = g_strdup(order->client);
  w->fd = order->fd;
  w->over = order->over;
  w->data = order->data;
  w->heard_us = w->pinged_us = w->sent_us = w->allowance_us = now_us;
  w->allowance = NC_WATCHER_FRAMES_BURST;
  return w;
}

void
nc_watcher_free(gpointer watcher)
{
  NcWatcher *w = watcher;

  shutdown(w->fd, SHUT_RDWR);
  g_clear_pointer(&w->out, g_bytes_unref);
  g_clear_pointer(&w->pong, g_bytes_unref);
  g_clear_pointer(&w->close, g_bytes_unref);
  w->over(w->data);
  g_free(w->client);
  g_free(w);
}

void
nc_watcher_close(NcWatcher *w, unsigned code, const char *reason)
{
  if (!w->close && !w->closing)
    w->close = nc_ws_frame_close(code, reason);
}

static bool
nc_watcher_may_speak(NcWatcher *w, int64_t now_us)
{
  w->allowance = MIN(w->allowance + (double)(now_us - w->allowance_us) * NC_WATCHER_FRAMES_PER_S / 1e6, NC_WATCHER_FRAMES_BURST);
  w->allowance_us = now_us;
  w->allowance -= 1;
  return w->allowance >= 0;
}

static void
nc_watcher_on_frame(NcWatcher *w, NcWsGot got, unsigned code, const char *why, int64_t now_us)
{
  if (!nc_watcher_may_speak(w, now_us)) {
    nc_watcher_close(w, NC_WS_TOO_MUCH, "too many frames: slow down");
    return;
  }
  switch (got) {
  case NC_WS_GOT_PING:
    g_clear_pointer(&w->pong, g_bytes_unref); /* of several pings the last one may be answered alone */
    w->pong = nc_ws_frame(NC_WS_PONG, w->reader.payload, w->reader.payload_bytes);
    break;
  case NC_WS_GOT_CLOSE:
    if (w->closing)
      w->dead = true; /* the answer to ours */
    else
      nc_watcher_close(w, NC_WS_OVER, "");
    break;
  case NC_WS_GOT_GARBAGE:
    nc_watcher_close(w, code, why);
    break;
  case NC_WS_GOT_PONG:
  case NC_WS_GOT_NOTHING:
    break;
  }
}

void
nc_watcher_take(NcWatcher *w, const void *data, size_t length_bytes, int64_t now_us)
{
  const uint8_t *at = data;

  w->heard_us = now_us;
  while (length_bytes > 0 && !w->dead) {
    size_t used;
    unsigned code = 0;
    const char *why = "";
    if (w->close) /* what comes behind a mistake, or a close, is not read */
      return;
    NcWsGot got = nc_ws_read(&w->reader, at, length_bytes, &used, &code, &why);
    at += used;
    length_bytes -= used;
    if (got != NC_WS_GOT_NOTHING)
      nc_watcher_on_frame(w, got, code, why, now_us);
  }
}

void
nc_watcher_receive(NcWatcher *w, int64_t now_us)
{
  uint8_t buffer[4096];
  ssize_t n = recv(w->fd, buffer, sizeof buffer, MSG_DONTWAIT);

  if (n > 0)
    nc_watcher_take(w, buffer, (size_t)n, now_us);
  else if (n == 0 || (errno != EAGAIN && errno != EINTR))
    w->dead = true;
}

/*
 * From the moment that it is to be closed until it has been told, nothing more is read: who floods and reads nothing is
 * held up by the kernel, and costs nothing.
 */
short
nc_watcher_waits_for(const NcWatcher *w)
{
  bool sends = w->out || w->pong || w->close, ending = w->close || (w->closing && w->out);
  return (short)((sends ? POLLOUT : 0) | (ending ? 0 : POLLIN));
}

/* What goes out next, in turn; NULL: nothing. */
static GBytes *
nc_watcher_next(NcWatcher *w, const NcWatchLog *log)
{
  if (w->closing)
    return NULL;
  if (w->close) {
    w->closing = true;
    return g_steal_pointer(&w->close);
  }
  return w->pong ? g_steal_pointer(&w->pong) : nc_watch_log_next(log, &w->place);
}

void
nc_watcher_send(NcWatcher *w, const NcWatchLog *log, int64_t now_us)
{
  while (!w->dead) {
    gsize length = 0;
    if (!w->out) {
      w->out = nc_watcher_next(w, log);
      w->out_at = 0;
      w->sent_us = now_us;
    }
    if (!w->out)
      return;
    const uint8_t *bytes = g_bytes_get_data(w->out, &length);
    ssize_t n = send(w->fd, bytes + w->out_at, length - w->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      return;
    if (n < 0) {
      w->dead = true;
      return;
    }
    w->out_at += (size_t)n;
    w->sent_us = now_us;
    if (w->out_at < length)
      return;
    g_clear_pointer(&w->out, g_bytes_unref);
    if (w->closing) {
      shutdown(w->fd, SHUT_WR);
      w->close_us = now_us;
    }
  }
}

void
nc_watcher_tick(NcWatcher *w, int64_t now_us)
{
  int64_t silence_us = (int64_t)w->limits->silence_ms * 1000, ping_us = (int64_t)w->limits->ping_ms * 1000;

  if (w->close_us > 0) {
    w->dead |= now_us - w->close_us > NC_WATCHER_FAREWELL_US;
    return;
  }
  if (w->out ? now_us - w->sent_us > silence_us : now_us - w->heard_us > silence_us) {
    w->dead = true;
    return;
  }
  if (now_us - w->heard_us > ping_us && now_us - w->pinged_us > ping_us && !w->pong) {
    w->pinged_us = now_us;
    w->pong = nc_ws_frame(NC_WS_PING, "", 0); /* goes where a pong would */
  }
}
