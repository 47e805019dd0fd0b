/* SPDX-License-Identifier: Apache-2.0 */
/* What a record costs on the wire, and the bucket that all links share. */
#include "mover/shaper.h"
#include "base/ident.h"
#include "mover/limits.h"
#include "wire/bucket.h"
#include "wire/yield.h"

#include <linux/tcp.h> /* has more of TCP_INFO than netinet/tcp.h */
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define NC_SHAPER_TLS_BYTES 22u /* TLS 1.3 and AES-GCM: header 5, content type 1, tag 16 */
#define NC_SHAPER_TCP_BYTES 20u
#define NC_SHAPER_STAMP_BYTES 12u /* the timestamp option, padded */
#define NC_SHAPER_IPV4_BYTES 20u
#define NC_SHAPER_IPV6_BYTES 40u
#define NC_SHAPER_ETHERNET_BYTES 38u /* header 14, checksum 4, preamble 8, gap 12 */
#define NC_SHAPER_DEFAULT_MSS 1448u
#define NC_SHAPER_LEAST_MSS 256u /* below it, a record would cost more than the bucket's burst */

struct NcShaper {
  _Atomic uint64_t rate_bps;   /* the bucket's, to be read without the lock */
  _Atomic uint64_t sent_bytes; /* wire bytes, as estimated */

  pthread_mutex_t lock; /* protects all below */
  NcBucket bucket;
  uint64_t limit_bps; /* what we were told; the bucket's is less while we yield */
  bool yields;
  NcYield yield;
};

NcShaper *
nc_shaper_new(uint64_t rate_bps, bool yields)
{
  NcShaper *s = g_new0(NcShaper, 1);

  pthread_mutex_init(&s->lock, NULL);
  nc_bucket_init(&s->bucket, 0, (uint64_t)nc_mono_us());
  nc_yield_init(&s->yield);
  nc_shaper_set(s, rate_bps, yields);
  return s;
}

/* The bucket gets the rate that limit and yielding leave. */
static void
nc_shaper_apply_locked(NcShaper *s, uint64_t now_us)
{
  uint64_t rate_bps = s->limit_bps;

  if (s->yields)
    rate_bps = nc_yield_rate(&s->yield, s->limit_bps, atomic_load(&s->sent_bytes), now_us);
  if (rate_bps == nc_bucket_rate(&s->bucket))
    return;
  nc_bucket_set_rate(&s->bucket, rate_bps, now_us);
  atomic_store(&s->rate_bps, nc_bucket_rate(&s->bucket));
}

void
nc_shaper_set(NcShaper *s, uint64_t rate_bps, bool yields)
{
  pthread_mutex_lock(&s->lock);
  s->limit_bps = MIN(rate_bps, NC_BUCKET_MAX_RATE);
  s->yields = yields;
  nc_shaper_apply_locked(s, (uint64_t)nc_mono_us());
  pthread_mutex_unlock(&s->lock);
}

/* Round trips are noted whether we yield or not: the shortest is known when it is needed. */
void
nc_shaper_rtt(NcShaper *s, uint64_t rtt_us)
{
  uint64_t now_us = (uint64_t)nc_mono_us();

  pthread_mutex_lock(&s->lock);
  nc_yield_rtt(&s->yield, rtt_us, now_us);
  nc_shaper_apply_locked(s, now_us);
  pthread_mutex_unlock(&s->lock);
}

uint64_t
nc_shaper_rate(NcShaper *s)
{
  return atomic_load_explicit(&s->rate_bps, memory_order_relaxed);
}

bool
nc_shaper_has_room(NcShaper *s)
{
  if (nc_shaper_rate(s) == 0)
    return true;
  pthread_mutex_lock(&s->lock);
  bool has_room = nc_bucket_available(&s->bucket, (uint64_t)nc_mono_us()) > 0;
  pthread_mutex_unlock(&s->lock);
  return has_room;
}

static bool
nc_shaper_read_kernel(int fd, struct tcp_info *ret)
{
  socklen_t length = sizeof *ret;
  *ret = (struct tcp_info){ 0 };
  return fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &length) == 0;
}

/* ${tcp_bytes} of a connection's stream, sent at once, with all headers. */
static uint64_t
nc_shaper_on_wire(const NcShaperPort *port, uint64_t tcp_bytes)
{
  return tcp_bytes + (tcp_bytes + port->mss - 1) / port->mss * port->header;
}

/* What the kernel has sent and will send of what it was given. */
static uint64_t
nc_shaper_kernel_count(const NcShaperPort *port, const struct tcp_info *info)
{
  return info->tcpi_bytes_sent + (uint64_t)info->tcpi_segs_out * port->header +
         nc_shaper_on_wire(port, info->tcpi_notsent_bytes);
}

/* The kernel's minimum is that of its handshake or of a moment without queue: shorter than any ping of ours. */
static void
nc_shaper_base(NcShaper *s, const struct tcp_info *info)
{
  if (info->tcpi_min_rtt == 0 || info->tcpi_min_rtt == ~0u)
    return;
  pthread_mutex_lock(&s->lock);
  nc_yield_base(&s->yield, info->tcpi_min_rtt, (uint64_t)nc_mono_us());
  pthread_mutex_unlock(&s->lock);
}

void
nc_shaper_attach(NcShaper *s, NcShaperPort *port, int fd)
{
  struct tcp_info info;
  struct sockaddr_storage address = { 0 };
  socklen_t length = sizeof address;

  *port = (NcShaperPort){ .fd = fd, .mss = NC_SHAPER_DEFAULT_MSS };
  if (!nc_shaper_read_kernel(fd, &info))
    port->fd = -1;
  else if (info.tcpi_snd_mss > 0)
    port->mss = MAX(info.tcpi_snd_mss, NC_SHAPER_LEAST_MSS);
  bool is_ipv6 = getsockname(fd, (struct sockaddr *)&address, &length) == 0 && address.ss_family == AF_INET6;
  port->header =
      NC_SHAPER_ETHERNET_BYTES + NC_SHAPER_TCP_BYTES + (is_ipv6 ? NC_SHAPER_IPV6_BYTES : NC_SHAPER_IPV4_BYTES);
  if (info.tcpi_options & TCPI_OPT_TIMESTAMPS)
    port->header += NC_SHAPER_STAMP_BYTES;
  nc_shaper_base(s, &info);
}

/* Small enough on a slow link that a record is less than half a percent of a second. */
static size_t
nc_shaper_record_bytes(uint64_t rate_bps, size_t most)
{
  return MIN(CLAMP(rate_bps / NC_MOVER_SHAPER_RECORDS, NC_MOVER_SHAPER_RECORD_MIN, NC_MOVER_SHAPER_RECORD_MAX), most);
}

size_t
nc_shaper_ask(NcShaper *s, const NcShaperPort *port, size_t most, int64_t *ret_ask_us)
{
  uint64_t rate_bps = nc_shaper_rate(s);
  if (rate_bps == 0)
    return most;
  size_t record = nc_shaper_record_bytes(rate_bps, most);
  uint64_t cost = nc_shaper_on_wire(port, record + NC_SHAPER_TLS_BYTES);
  uint64_t now_us = (uint64_t)nc_mono_us();

  pthread_mutex_lock(&s->lock);
  bool may = nc_bucket_available(&s->bucket, now_us) >= cost;
  if (!may) /* several records at a time where one is so short that waking up for each would cost too much */
    *ret_ask_us =
        (int64_t)nc_bucket_ready_us(&s->bucket, MAX(cost, rate_bps * NC_MOVER_SHAPER_WAKE_US / 1000000), now_us);
  pthread_mutex_unlock(&s->lock);
  return may ? record : 0;
}

/* What the kernel's count says beyond what was charged; negative if it is less. */
static int64_t
nc_shaper_correction(NcShaperPort *port, int64_t now_us)
{
  struct tcp_info info;

  if (now_us < port->next_check_us || !nc_shaper_read_kernel(port->fd, &info))
    return 0;
  port->next_check_us = now_us + NC_MOVER_SHAPER_CHECK_US;
  if (info.tcpi_snd_mss > 0)
    port->mss = MAX(info.tcpi_snd_mss, NC_SHAPER_LEAST_MSS);
  uint64_t count = nc_shaper_kernel_count(port, &info);
  if (!port->is_counting) {
    port->is_counting = true;
    port->kernel_had = count;
    port->charged = 0;
  }
  int64_t more = (int64_t)(count - port->kernel_had - port->charged);
  more = CLAMP(more, -NC_MOVER_SHAPER_CORRECTION, NC_MOVER_SHAPER_CORRECTION); /* the rest at the next check */
  port->charged += (uint64_t)more;
  return more;
}

void
nc_shaper_charge(NcShaper *s, NcShaperPort *port, size_t payload_bytes)
{
  uint64_t cost = nc_shaper_on_wire(port, payload_bytes + NC_SHAPER_TLS_BYTES);
  int64_t now_us;

  atomic_fetch_add_explicit(&s->sent_bytes, cost, memory_order_relaxed);
  if (nc_shaper_rate(s) == 0) {
    port->is_counting = false;
    port->next_check_us = 0;
    return;
  }
  now_us = nc_mono_us();
  int64_t more = nc_shaper_correction(port, now_us); /* before the record: the kernel does not know it yet */
  port->charged += cost;
  pthread_mutex_lock(&s->lock);
  nc_bucket_take(&s->bucket, (int64_t)cost + more, (uint64_t)now_us);
  pthread_mutex_unlock(&s->lock);
}
