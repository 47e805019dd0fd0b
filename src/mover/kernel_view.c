/* SPDX-License-Identifier: Apache-2.0 */
#include "mover/kernel_view.h"
#include "base/ident.h"

#include <linux/tcp.h> /* newer than <netinet/tcp.h>: what the kernel counts */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define NC_LOOK_US 200000
#define NC_NAME_BYTES 16 /* TCP_CA_NAME_MAX */

static bool
nc_kernel_has_bbr(int fd)
{
  char name[NC_NAME_BYTES] = "";
  socklen_t length = sizeof name - 1;

  return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 && strcmp(name, "bbr") == 0;
}

static void
nc_kernel_set(_Atomic uint64_t *number, uint64_t value)
{
  atomic_store_explicit(number, value, memory_order_relaxed);
}

static uint64_t
nc_kernel_get(_Atomic uint64_t *number)
{
  return atomic_load_explicit(number, memory_order_relaxed);
}

void
nc_kernel_view_begin(NcKernelView *view, int fd, bool watch_losses)
{
  view->before.retransmitted_bytes = nc_kernel_get(&view->retransmitted_bytes);
  view->before.segments = nc_kernel_get(&view->segments);
  view->before.retransmitted_segments = nc_kernel_get(&view->retransmitted_segments);
  view->fd = fd;
  view->watch_losses = watch_losses;
  nc_congestion_begin(&view->congestion, nc_kernel_has_bbr(fd));
}

static bool
nc_kernel_view_watch(NcKernelView *view, const struct tcp_info *info, int64_t now_us, GError **error)
{
  uint64_t shortest_us = info->tcpi_min_rtt == ~0u ? 0 : info->tcpi_min_rtt;

  return !nc_congestion_look(&view->congestion, info->tcpi_total_retrans, info->tcpi_rtt, shortest_us, now_us) ||
         nc_fail(error, NC_ERROR_IO, "its path loses segments, and not because it is full: it is made anew, with BBR where the kernel has it");
}

bool
nc_kernel_view_look(NcKernelView *view, GError **error)
{
  struct tcp_info info = { 0 };
  socklen_t length = sizeof info;
  int64_t now_us = nc_mono_us();

  if (now_us < view->next_us)
    return true;
  view->next_us = now_us + NC_LOOK_US;
  if (getsockopt(view->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
    return true;
  nc_kernel_set(&view->retransmitted_bytes, view->before.retransmitted_bytes + info.tcpi_bytes_retrans);
  nc_kernel_set(&view->segments, view->before.segments + info.tcpi_segs_out);
  nc_kernel_set(&view->retransmitted_segments, view->before.retransmitted_segments + info.tcpi_total_retrans);
  nc_kernel_set(&view->rtt_us, info.tcpi_rtt);
  nc_kernel_set(&view->min_rtt_us, info.tcpi_min_rtt == ~0u ? 0 : info.tcpi_min_rtt);
  nc_kernel_set(&view->delivery_bps, info.tcpi_delivery_rate);
  return !view->watch_losses || nc_kernel_view_watch(view, &info, now_us, error);
}

void
nc_kernel_view_read(NcKernelView *view, NcKernelNumbers *ret)
{
  *ret = (NcKernelNumbers){
    .retransmitted_bytes = nc_kernel_get(&view->retransmitted_bytes),
    .segments = nc_kernel_get(&view->segments),
    .retransmitted_segments = nc_kernel_get(&view->retransmitted_segments),
    .rtt_us = nc_kernel_get(&view->rtt_us),
    .min_rtt_us = nc_kernel_get(&view->min_rtt_us),
    .delivery_bps = nc_kernel_get(&view->delivery_bps),
  };
}
