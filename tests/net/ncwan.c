/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WAN between two network namespaces, in user space.
 *
 * One TUN device in each namespace; what leaves one arrives at the other after
 * a queue of bounded length, a serialisation time given by the rate, and a
 * one-way delay; packets get lost at random (seeded), or all of them while the
 * link is down. The TUNs take segmentation offload (IFF_VNET_HDR, TSO), so one
 * read carries up to 64 KiB and 1 Gbit/s costs little CPU; the rate is charged
 * for the headers that each segment would have had on a real link.
 *
 * Limits: an offloaded packet is lost or kept as a whole (the probability is that
 * of losing any of its segments); no reordering, no corruption.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <math.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX (sizeof(struct virtio_net_hdr) + 65536)
#define ETHERNET_OVERHEAD 38 /* header, checksum, preamble and gap of each segment */
#define TX_QUEUE_LEN 4096    /* packets the kernel keeps for us while we are not scheduled */
#define RING 65536         /* packets per direction; a power of two */
#define BATCH 64           /* packets read before timers are looked at again */

struct packet {
  int64_t sent_ns; /* when its last bit is on the wire; the delay comes on top */
  double wire_bytes;
  uint32_t length;
  uint8_t data[];
};

struct direction {
  int in, out;
  const char *name;
  struct packet *ring[RING];
  uint32_t head, tail; /* free running */
  int64_t free_ns;     /* when the transmitter has sent all that is queued */
  uint64_t packets, bytes, wire_bytes, dropped_queue, dropped_loss, dropped_down, write_errors;
};

static struct {
  double rate_bps; /* 0: no limit */
  int64_t delay_ns;
  double loss; /* probability per segment */
  int64_t queue_bytes;
  bool down;
  uint64_t random;
  struct direction ab, ba;
} wan = { .rate_bps = 0, .random = 42 };

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void
die(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fprintf(stderr, "ncwan: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  exit(1);
}

static int64_t
now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double
next_random(void)
{
  wan.random ^= wan.random << 13;
  wan.random ^= wan.random >> 7;
  wan.random ^= wan.random << 17;
  return (double)(wan.random >> 11) / 9007199254740992.0;
}

/* "100mbit", "1gbit", "64kbit", "0" (none); false for anything else. */
static bool
parse_rate(const char *text, double *bps)
{
  static const struct { const char *unit; double factor; } units[] = { { "gbit", 1e9 }, { "mbit", 1e6 }, { "kbit", 1e3 }, { "bit", 1 }, { "", 1 } };
  char *end;
  double value = strtod(text, &end);
  for (size_t i = 0; end != text && value >= 0 && i < sizeof units / sizeof *units; i++) {
    if (strcmp(end, units[i].unit) == 0) {
      *bps = value * units[i].factor;
      return true;
    }
  }
  return false;
}

static bool
parse_delay(const char *text, int64_t *ns)
{
  char *end;
  double value = strtod(text, &end);
  if (end == text || value < 0 || value > 60000)
    return false;
  *ns = (int64_t)(value * (strcmp(end, "s") == 0 ? 1e9 : 1e6));
  return strcmp(end, "ms") == 0 || strcmp(end, "s") == 0 || *end == '\0';
}

static bool
parse_percent(const char *text, double *share)
{
  char *end;
  double value = strtod(text, &end);
  if (end == text || (*end && strcmp(end, "%") != 0) || !(value >= 0 && value <= 100))
    return false;
  *share = value / 100;
  return true;
}

static bool
parse_bytes(const char *text, int64_t *bytes)
{
  char *end;
  double value = strtod(text, &end);
  double factor = strcmp(end, "m") == 0 ? 1048576 : strcmp(end, "k") == 0 ? 1024 : *end == '\0' ? 1 : -1;
  *bytes = (int64_t)(value * factor);
  return end != text && factor > 0 && *bytes > 0;
}

/* IP and TCP header, which each segment of an offloaded packet would carry; hdr_len is the kernel's hint. */
static uint32_t
headers_of(const struct packet *p)
{
  const struct virtio_net_hdr *header = (const void *)p->data;
  return header->hdr_len >= 40 && header->hdr_len <= 140 ? header->hdr_len : 52;
}

static uint32_t
segments_of(const struct packet *p)
{
  const struct virtio_net_hdr *header = (const void *)p->data;
  uint32_t payload = p->length - (uint32_t)sizeof *header, headers = headers_of(p);
  if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE || header->gso_size == 0 || payload <= headers)
    return 1;
  return (payload - headers + header->gso_size - 1) / header->gso_size;
}

static int64_t
transmit_ns(const struct packet *p)
{
  return wan.rate_bps > 0 ? (int64_t)(p->wire_bytes * 8e9 / wan.rate_bps) : 0;
}

static bool
direction_accept(struct direction *d, struct packet *p, int64_t now)
{
  uint32_t segments = segments_of(p);
  p->wire_bytes = (double)(p->length - sizeof(struct virtio_net_hdr)) + ETHERNET_OVERHEAD +
                  (double)(segments - 1) * (ETHERNET_OVERHEAD + headers_of(p));
  if (wan.down) {
    d->dropped_down++;
    return false;
  }
  if (wan.loss > 0 && next_random() < 1 - pow(1 - wan.loss, segments)) {
    d->dropped_loss++;
    return false;
  }
  double backlog = wan.rate_bps > 0 && d->free_ns > now ? (double)(d->free_ns - now) * wan.rate_bps / 8e9 : 0;
  if (backlog + p->wire_bytes > (double)wan.queue_bytes + 65536 || d->tail - d->head == RING) {
    d->dropped_queue++;
    return false;
  }
  return true;
}

static void
direction_read(struct direction *d)
{
  static struct packet *spare;
  for (int i = 0; i < BATCH; i++) {
    if (!spare && !(spare = malloc(sizeof *spare + PACKET_MAX)))
      die("out of memory");
    ssize_t n = read(d->in, spare->data, PACKET_MAX);
    if (n <= (ssize_t)sizeof(struct virtio_net_hdr))
      return;
    int64_t now = now_ns();
    spare->length = (uint32_t)n;
    if (!direction_accept(d, spare, now))
      continue;
    d->free_ns = (d->free_ns > now ? d->free_ns : now) + transmit_ns(spare);
    spare->sent_ns = d->free_ns;
    d->packets++;
    d->bytes += (uint64_t)n - sizeof(struct virtio_net_hdr);
    d->wire_bytes += (uint64_t)spare->wire_bytes;
    struct packet *kept = realloc(spare, sizeof *spare + (size_t)n);
    d->ring[d->tail++ % RING] = kept ? kept : spare;
    spare = NULL;
  }
}

/* After a change of rate: what is queued leaves at the new one, so that a link once slow does not stay blocked. */
static void
direction_reschedule(struct direction *d, int64_t now)
{
  int64_t free_ns = now;
  for (uint32_t i = d->head; i != d->tail; i++) {
    struct packet *p = d->ring[i % RING];
    if (p->sent_ns > now)
      p->sent_ns = free_ns += transmit_ns(p);
  }
  d->free_ns = free_ns;
}

/* Delivers what is due; returns when the next one is, or INT64_MAX. */
static int64_t
direction_deliver(struct direction *d, int64_t now)
{
  while (d->head != d->tail) {
    struct packet *p = d->ring[d->head % RING];
    if (p->sent_ns + wan.delay_ns > now)
      return p->sent_ns + wan.delay_ns;
    if (wan.down)
      d->dropped_down++;
    else if (write(d->out, p->data, p->length) < 0)
      d->write_errors++;
    free(p);
    d->head++;
  }
  return INT64_MAX;
}

/* --- devices --- */

static void
configure(const char *name, const char *address, int mtu)
{
  char ip[64];
  const char *slash = strchr(address, '/');
  if (!slash || (size_t)(slash - address) >= sizeof ip)
    die("%s is not an address like 10.99.0.1/24", address);
  snprintf(ip, sizeof ip, "%.*s", (int)(slash - address), address);
  int bits = atoi(slash + 1);
  struct ifreq request = { 0 };
  struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
  in->sin_family = AF_INET;
  if (inet_pton(AF_INET, ip, &in->sin_addr) != 1 || bits < 1 || bits > 32)
    die("%s is not an address like 10.99.0.1/24", address);
  if (ioctl(s, SIOCSIFADDR, &request) < 0)
    die("%s: can't set %s: %s", name, address, strerror(errno));
  in->sin_addr.s_addr = htonl(bits == 32 ? ~0u : ~(~0u >> bits));
  if (ioctl(s, SIOCSIFNETMASK, &request) < 0)
    die("%s: can't set netmask: %s", name, strerror(errno));
  request.ifr_mtu = mtu;
  if (ioctl(s, SIOCSIFMTU, &request) < 0)
    die("%s: can't set mtu: %s", name, strerror(errno));
  request.ifr_qlen = TX_QUEUE_LEN;
  if (ioctl(s, SIOCSIFTXQLEN, &request) < 0)
    die("%s: can't set queue length: %s", name, strerror(errno));
  if (ioctl(s, SIOCGIFFLAGS, &request) < 0)
    die("%s: %s", name, strerror(errno));
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(s, SIOCSIFFLAGS, &request) < 0)
    die("%s: can't bring up: %s", name, strerror(errno));
  close(s);
}

static int
open_tun(const char *netns, const char *name, const char *address, int mtu)
{
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", netns);
  int ns = open(path, O_RDONLY | O_CLOEXEC);
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
    die("network namespace %s: %s", netns, strerror(errno));
  close(ns);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    die("/dev/net/tun: %s", strerror(errno));
  struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
  snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
  if (ioctl(fd, TUNSETIFF, &request) < 0)
    die("can't make %s in %s: %s", name, netns, strerror(errno));
  if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
    die("%s: no segmentation offload: %s", name, strerror(errno));
  configure(name, address, mtu);
  return fd;
}

/* --- control --- */

static void
print_direction(char **at, char *end, const struct direction *d)
{
  *at += snprintf(*at, (size_t)(end - *at),
                  "\"%s\":{\"packets\":%llu,\"bytes\":%llu,\"wire_bytes\":%llu,\"dropped_queue\":%llu,\"dropped_loss\":%llu,"
                  "\"dropped_down\":%llu,\"write_errors\":%llu}",
                  d->name, (unsigned long long)d->packets, (unsigned long long)d->bytes, (unsigned long long)d->wire_bytes,
                  (unsigned long long)d->dropped_queue, (unsigned long long)d->dropped_loss,
                  (unsigned long long)d->dropped_down, (unsigned long long)d->write_errors);
}

static void
obey(int client, char *line)
{
  char reply[1024] = "ok\n", *argument;
  line[strcspn(line, "\r\n")] = '\0';
  argument = strchr(line, ' ');
  argument = argument ? (*argument = '\0', argument + 1) : line + strlen(line);
  bool ok = true;
  if (strcmp(line, "down") == 0 || strcmp(line, "up") == 0) {
    wan.down = line[0] == 'd';
  } else if (strcmp(line, "rate") == 0) {
    ok = parse_rate(argument, &wan.rate_bps);
    direction_reschedule(&wan.ab, now_ns());
    direction_reschedule(&wan.ba, now_ns());
  } else if (strcmp(line, "delay") == 0) {
    ok = parse_delay(argument, &wan.delay_ns);
  } else if (strcmp(line, "queue") == 0) {
    ok = parse_bytes(argument, &wan.queue_bytes);
  } else if (strcmp(line, "loss") == 0) {
    ok = parse_percent(argument, &wan.loss);
  } else if (strcmp(line, "stats") == 0) {
    char *at = reply, *end = reply + sizeof reply;
    at += snprintf(at, (size_t)(end - at), "{");
    print_direction(&at, end, &wan.ab);
    at += snprintf(at, (size_t)(end - at), ",");
    print_direction(&at, end, &wan.ba);
    snprintf(at, (size_t)(end - at), "}\n");
  } else {
    ok = false;
  }
  if (!ok)
    snprintf(reply, sizeof reply, "error: down, up, rate 100mbit, delay 25ms, queue 4m, loss 0.5, stats\n");
  if (write(client, reply, strlen(reply)) < 0)
    perror("ncwan: control");
}

/* One command per connection, from a local tool: a short blocking read is enough. */
static void
control(int listener)
{
  char line[128] = "";
  int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  struct pollfd p = { .fd = client, .events = POLLIN };
  if (client < 0)
    return;
  if (poll(&p, 1, 200) == 1) {
    ssize_t n = read(client, line, sizeof line - 1);
    if (n > 0)
      obey(client, line);
  }
  close(client);
}

static int
listen_control(const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  unlink(path);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0)
    die("control socket %s: %s", path, strerror(errno));
  return fd;
}

static void
usage(FILE *to)
{
  fprintf(to, "usage: ncwan --a NETNS --b NETNS [options]\n"
              "A link between two network namespaces, with rate, delay, loss and outages.\n\n"
              "  --addr-a A/BITS    address in the first namespace (10.99.0.1/24)\n"
              "  --addr-b B/BITS    address in the second (10.99.0.2/24)\n"
              "  --dev NAME         name of both devices (wan0)\n"
              "  --rate RATE        e.g. 100mbit, 1gbit; 0: no limit (default)\n"
              "  --delay MS         one way, e.g. 10ms (default 0)\n"
              "  --loss PERCENT     per segment (default 0)\n"
              "  --queue BYTES      e.g. 512k, 4m (default: the larger of 50 ms and one round trip at the rate, at least 256k)\n"
              "  --seed N           of the loss (default 42)\n"
              "  --mtu BYTES        (default 1500)\n"
              "  --control PATH     UNIX socket for: down, up, rate R, delay D, queue Q, loss P, stats\n"
              "  --die-with-parent  end when standard input closes\n"
              "It prints \"ready\" when both devices are up and runs until SIGTERM.\n");
}

static void
loop(int listener, bool die_with_parent)
{
  int ep = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  int quit = signalfd(-1, &mask, SFD_CLOEXEC);
  int fds[] = { wan.ab.in, wan.ba.in, timer, quit, listener, die_with_parent ? STDIN_FILENO : -1 };
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fds[i] };
    if (fds[i] >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &event) < 0)
      die("%s", fds[i] == STDIN_FILENO ? "--die-with-parent needs a pipe or a terminal as standard input" : strerror(errno));
  }
  for (;;) {
    struct epoll_event events[8];
    int n = epoll_wait(ep, events, 8, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      uint64_t expirations;
      char ignored[64];
      if ((fd == wan.ab.in || fd == wan.ba.in) && (events[i].events & (EPOLLERR | EPOLLHUP)))
        die("a device is gone (its namespace was deleted?)");
      if (fd == wan.ab.in)
        direction_read(&wan.ab);
      else if (fd == wan.ba.in)
        direction_read(&wan.ba);
      else if (fd == timer)
        (void)!read(timer, &expirations, sizeof expirations);
      else if (fd == listener)
        control(listener);
      else if (fd == quit || (fd == STDIN_FILENO && read(fd, ignored, sizeof ignored) <= 0))
        return;
    }
    int64_t now = now_ns(), next = direction_deliver(&wan.ab, now), other = direction_deliver(&wan.ba, now);
    next = other < next ? other : next;
    struct itimerspec when = { 0 };
    if (next != INT64_MAX) {
      when.it_value.tv_sec = next / 1000000000;
      when.it_value.tv_nsec = next % 1000000000;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
  }
}

int
main(int argc, char **argv)
{
  static const struct option options[] = {
    { "a", 1, 0, 'a' },     { "b", 1, 0, 'b' },     { "addr-a", 1, 0, 'A' },  { "addr-b", 1, 0, 'B' },
    { "rate", 1, 0, 'r' },  { "delay", 1, 0, 'd' }, { "loss", 1, 0, 'l' },    { "queue", 1, 0, 'q' },
    { "seed", 1, 0, 's' },  { "mtu", 1, 0, 'm' },   { "control", 1, 0, 'c' }, { "die-with-parent", 0, 0, 'p' },
    { "dev", 1, 0, 'n' },   { "help", 0, 0, 'h' },  { 0 },
  };
  const char *a = NULL, *b = NULL, *addr_a = "10.99.0.1/24", *addr_b = "10.99.0.2/24", *path = NULL, *dev = "wan0";
  int mtu = 1500, c;
  bool ok = true, die_with_parent = false;
  while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (c) {
    case 'a': a = optarg; break;
    case 'b': b = optarg; break;
    case 'A': addr_a = optarg; break;
    case 'B': addr_b = optarg; break;
    case 'r': ok &= parse_rate(optarg, &wan.rate_bps); break;
    case 'd': ok &= parse_delay(optarg, &wan.delay_ns); break;
    case 'l': ok &= parse_percent(optarg, &wan.loss); break;
    case 'q': ok &= parse_bytes(optarg, &wan.queue_bytes); break;
    case 's': wan.random = strtoull(optarg, NULL, 10) | 1; break;
    case 'm': mtu = atoi(optarg); break;
    case 'c': path = optarg; break;
    case 'n': dev = optarg; break;
    case 'p': die_with_parent = true; break;
    case 'h': usage(stdout); return 0;
    default: usage(stderr); return 2;
    }
  }
  if (!a || !b || optind != argc || !ok || mtu < 576 || mtu > 65535) {
    usage(stderr);
    return 2;
  }
  if (!wan.queue_bytes) {
    double wait_s = fmax(0.05, (double)wan.delay_ns * 2 / 1e9);
    wan.queue_bytes = (int64_t)fmax(262144, wan.rate_bps / 8 * wait_s);
    if (wan.rate_bps == 0)
      wan.queue_bytes = INT64_C(64) << 20;
  }
  int listener = path ? listen_control(path) : -1;
  int fd_a = open_tun(a, dev, addr_a, mtu), fd_b = open_tun(b, dev, addr_b, mtu);
  wan.ab = (struct direction){ .in = fd_a, .out = fd_b, .name = "ab" };
  wan.ba = (struct direction){ .in = fd_b, .out = fd_a, .name = "ba" };
  printf("ready\n");
  fflush(stdout);
  loop(listener, die_with_parent);
  if (path)
    unlink(path);
  return 0;
}
