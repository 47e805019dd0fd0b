/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's load, which verifies itself: it dirties pages at a set rate,
 * checks every page against what it must hold, beats on a serial port every
 * 2 ms, and serves a counter over TCP. A page update lost on the way is an error
 * it can name: each page carries its number, its generation and a checksum, and
 * the generations expected are kept apart from the pages.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define WORDS (PAGE / 8)
#define PORT 7000

enum pattern { TEXT, RANDOM, SPARSE };

static struct {
  size_t pages;       /* working set */
  size_t hot_pages;   /* of these, the ones written to */
  size_t fill_pages;  /* written once */
  size_t freed_pages; /* written at boot and given back to the kernel */
  uint64_t rate;      /* bytes dirtied per second */
  long beat_ns;       /* between two beats */
  enum pattern pattern;
  uint64_t *memory, *fill;
  uint32_t *generation; /* expected, per page of the working set */
  atomic_ulong errors, verified, written, beats;
  atomic_uint newest_generation; /* of any page */
  uint64_t *reused;              /* memory taken again, where free pages were */
  atomic_size_t reused_pages;    /* of it, how many are written: these are checked */
  atomic_flag reusing;
  atomic_ulong records, records_verified, records_lost, records_torn; /* on the disk */
  struct timespec start;
} load;

static uint64_t
mix(uint64_t x)
{
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

static const char *const words[] = { "server", "request", "GET", "/index.html", "HTTP/1.1", "200", "time=",  "status", "INFO",
                                     "user",   "session", "cache", "miss", "hit", "connect", "closed", "error", "retry" };

/*
 * Rendered once: under TCG a page of snprintf() costs more than the migration
 * it is meant to load. Each piece is padded for fixed-size copies.
 */
#define PIECES 1024
#define PIECE_MAX 32
static struct {
  char text[PIECE_MAX];
  uint8_t length;
} pieces[PIECES];

static void
render_pieces(void)
{
  for (unsigned i = 0; i < PIECES; i++) {
    uint64_t r = mix(i + 1);
    int k = snprintf(pieces[i].text, PIECE_MAX, "%s %s%u ", words[r % 18], words[(r >> 8) % 18], (unsigned)(r >> 16 & 0xfff));
    pieces[i].length = (uint8_t)(k < PIECE_MAX ? k : PIECE_MAX - 1);
  }
}

/* Text-like content that depends on page and generation only. */
static void
write_text(char *at, size_t length, uint64_t seed)
{
  size_t n = 0;
  while (n < length) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    const char *piece = pieces[seed >> 54].text;
    size_t take = pieces[seed >> 54].length;
    if (length - n >= PIECE_MAX)
      memcpy(at + n, piece, PIECE_MAX); /* the next piece overwrites the padding */
    else
      memcpy(at + n, piece, take = take < length - n ? take : length - n);
    n += take;
  }
}

static void
make_page(uint64_t *page, uint64_t number, uint64_t generation, enum pattern pattern)
{
  uint64_t seed = mix(number * 1000003 + (pattern == SPARSE ? 0 : generation));
  if (pattern == TEXT)
    write_text((char *)(page + 3), PAGE - 24, seed);
  else if (pattern == RANDOM)
    for (int i = 3; i < WORDS; i++)
      page[i] = mix(seed + (uint64_t)i);
  else {
    if (generation == 0)
      write_text((char *)(page + 3), PAGE - 24, seed);
    for (int i = 0; i < 8; i++)
      page[3 + (seed + (uint64_t)i * 61) % (WORDS - 3)] = mix(seed + generation * 1000003 + (uint64_t)i); /* no other page's */
  }
  page[0] = number;
  page[1] = generation;
  uint64_t sum = 0;
  for (int i = 3; i < WORDS; i++)
    sum = (sum << 1 | sum >> 63) ^ page[i];
  page[2] = sum;
}

static void
check_page(const uint64_t *page, uint64_t number, uint64_t generation, const char *where)
{
  uint64_t sum = 0;
  for (int i = 3; i < WORDS; i++)
    sum = (sum << 1 | sum >> 63) ^ page[i];
  if (page[0] != number || page[1] != generation || page[2] != sum) {
    if (atomic_fetch_add(&load.errors, 1) < 20)
      printf("NCLOAD ERROR %s page %llu: number %llu generation %llu (must be %llu) checksum %s\n", where,
             (unsigned long long)number, (unsigned long long)page[0], (unsigned long long)page[1],
             (unsigned long long)generation, page[2] == sum ? "ok" : "wrong");
  }
  atomic_fetch_add(&load.verified, 1);
}

static double
seconds_since(const struct timespec *t)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)(now.tv_sec - t->tv_sec) + (double)(now.tv_nsec - t->tv_nsec) / 1e9;
}

/* Dirties at the set rate in 10 ms slices, and checks some pages in each. */
static void *
work(void *unused)
{
  (void)unused;
  uint64_t turn = 0, done = 0, checked = 0;
  struct timespec begin;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  double debt_base = 0;
  for (;;) {
    double due = (seconds_since(&begin) - debt_base) * (double)load.rate / PAGE - (double)done;
    if (due > (double)load.rate / PAGE / 5) { /* after a pause it does not catch up */
      debt_base = seconds_since(&begin) - (double)done * PAGE / (double)(load.rate ? load.rate : 1);
      due = 0;
    }
    for (; due >= 1; due--, done++) {
      uint64_t n = mix(turn++) % load.hot_pages;
      uint64_t *page = load.memory + n * WORDS;
      check_page(page, n, load.generation[n], "before writing");
      make_page(page, n, ++load.generation[n], load.pattern);
      if (load.generation[n] > atomic_load(&load.newest_generation))
        atomic_store(&load.newest_generation, load.generation[n]);
      atomic_fetch_add(&load.written, 1);
    }
    for (int i = 0; i < 64; i++, checked++) {
      uint64_t n = checked % load.pages;
      check_page(load.memory + n * WORDS, n, load.generation[n], "working set");
    }
    for (int i = 0; load.fill_pages && i < 16; i++) {
      uint64_t n = (checked / 4 + (uint64_t)i) % load.fill_pages;
      check_page(load.fill + n * WORDS, n, 0, "fill");
    }
    size_t reused = atomic_load(&load.reused_pages);
    for (int i = 0; reused && i < 64; i++) {
      uint64_t n = (checked + (uint64_t)i) % reused;
      check_page(load.reused + n * WORDS, n, 0, "reused");
    }
    usleep(10000);
  }
  return NULL;
}

static void *
beat(void *unused)
{
  (void)unused;
  int fd = open("/dev/ttyS1", O_WRONLY | O_NOCTTY);
  struct termios raw;
  if (fd >= 0 && tcgetattr(fd, &raw) == 0) {
    cfmakeraw(&raw);
    cfsetspeed(&raw, B115200);
    tcsetattr(fd, TCSANOW, &raw);
  }
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (unsigned long n = 0; fd >= 0; n++) {
    char line[32];
    int k = snprintf(line, sizeof line, "B %lu\n", n);
    if (write(fd, line, (size_t)k) != k)
      usleep(1000);
    atomic_store(&load.beats, n);
    struct timespec now;
    next.tv_nsec += load.beat_ns;
    if (next.tv_nsec >= 1000000000) {
      next.tv_nsec -= 1000000000;
      next.tv_sec++;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > next.tv_sec || (now.tv_sec == next.tv_sec && now.tv_nsec > next.tv_nsec))
      next = now; /* missed ticks are skipped, not made up */
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
  return NULL;
}

static uint64_t *
allocate(size_t pages)
{
  void *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("NCLOAD mmap");
    exit(1);
  }
  return memory;
}

/* Memory that is free now, but still holds what was in it: nothing compresses there. */
static void
leave_freed(size_t pages)
{
  uint64_t *memory = allocate(pages);
  for (size_t i = 0; i < pages; i++)
    make_page(memory + i * WORDS, i, 0, RANDOM);
  munmap(memory, pages * PAGE);
}

/* Takes half of what was freed again, and has it checked from then on. */
static void *
reuse(void *unused)
{
  size_t pages = load.freed_pages / 2;
  load.reused = pages ? allocate(pages) : NULL;
  for (size_t i = 0; i < pages; i++) {
    make_page(load.reused + i * WORDS, i, 0, TEXT);
    atomic_store(&load.reused_pages, i + 1);
  }
  return unused;
}

static void
begin_reuse(void)
{
  pthread_t thread;
  if (!atomic_flag_test_and_set(&load.reusing) && pthread_create(&thread, NULL, reuse, NULL) == 0)
    pthread_detach(thread);
}

static int
stat_line(char *out, size_t size)
{
  return snprintf(out, size,
                  "{\"errors\":%lu,\"pages_verified\":%lu,\"pages_written\":%lu,\"generation\":%u,\"beats\":%lu,"
                  "\"uptime\":%.3f,\"working_set_pages\":%zu,\"fill_pages\":%zu,\"reused_pages\":%zu,"
                  "\"records\":%lu,\"records_verified\":%lu,\"records_lost\":%lu,\"records_torn\":%lu}\n",
                  atomic_load(&load.errors), atomic_load(&load.verified), atomic_load(&load.written),
                  atomic_load(&load.newest_generation), atomic_load(&load.beats), seconds_since(&load.start), load.pages,
                  load.fill_pages, atomic_load(&load.reused_pages), atomic_load(&load.records), atomic_load(&load.records_verified),
                  atomic_load(&load.records_lost), atomic_load(&load.records_torn));
}

static void *
serve(void *argument)
{
  int fd = (int)(intptr_t)argument;
  char line[512];
  for (unsigned long counter = 0;; counter++) {
    char in[64];
    ssize_t n = recv(fd, in, sizeof in, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
      break;
    if (n > 0 && memmem(in, (size_t)n, "reuse", 5))
      begin_reuse();
    int k = n > 0 && memmem(in, (size_t)n, "stat", 4)
                ? stat_line(line, sizeof line)
                : snprintf(line, sizeof line, "%lu %lu %lu\n", counter, atomic_load(&load.errors), atomic_load(&load.verified));
    if (send(fd, line, (size_t)k, MSG_NOSIGNAL) != k)
      break;
    usleep(10000);
  }
  close(fd);
  return NULL;
}

/*
 * A database, as far as a disk can tell: records of 8 KiB, one after the other, each to the slot that its number gives,
 * written around the page cache and synced before it counts. What was synced must be there ever after, whole.
 * Which record a slot holds is known apart from the disk; tests/lib/nctest/disks.py knows the same format.
 */
#define RECORD 8192
#define RECORD_WORDS (RECORD / 8)
#define RECORD_MAGIC 0x4e43524543303031ull

static struct {
  int fd;
  size_t slots, rate; /* per second */
  uint64_t *expected; /* number of the record in each slot; 0: none */
} disk;

static uint64_t
record_sum(const uint64_t *record)
{
  uint64_t sum = 0;
  for (int i = 0; i < RECORD_WORDS; i++)
    if (i != 2)
      sum = (sum << 1 | sum >> 63) ^ record[i];
  return sum;
}

static void
write_record(uint64_t *record, uint64_t number)
{
  size_t slot = mix(number) % disk.slots;
  record[0] = RECORD_MAGIC;
  record[1] = number;
  record[3] = slot;
  write_text((char *)(record + 4), RECORD - 32, mix(number * 7919));
  record[2] = record_sum(record);
  if (pwrite(disk.fd, record, RECORD, (off_t)(slot * RECORD)) != RECORD || fdatasync(disk.fd) < 0) {
    printf("NCLOAD ERROR record %llu: %s\n", (unsigned long long)number, strerror(errno));
    atomic_fetch_add(&load.records_lost, 1);
    return;
  }
  disk.expected[slot] = number;
  atomic_store(&load.records, number);
}

static void
check_record(uint64_t *record, size_t slot)
{
  if (disk.expected[slot] == 0)
    return;
  bool read = pread(disk.fd, record, RECORD, (off_t)(slot * RECORD)) == RECORD;
  bool whole = read && record[0] == RECORD_MAGIC && record[3] == slot && record[2] == record_sum(record);
  atomic_fetch_add(&load.records_verified, 1);
  if (whole && record[1] == disk.expected[slot])
    return;
  atomic_fetch_add(whole ? &load.records_lost : &load.records_torn, 1);
  printf("NCLOAD ERROR slot %zu: record %llu (must be %llu) %s\n", slot, (unsigned long long)record[1],
         (unsigned long long)disk.expected[slot], whole ? "lost" : "torn");
}

static void *
keep_records(void *unused)
{
  uint64_t *record = aligned_alloc(4096, RECORD), number = 0;
  size_t checked = 0;
  for (;;) {
    write_record(record, ++number);
    for (int i = 0; i < 2; i++, checked++)
      check_record(record, checked % disk.slots);
    if (disk.rate)
      usleep((useconds_t)(1000000 / disk.rate));
  }
  return unused;
}

static void
open_disk(size_t mib, size_t rate, size_t used_mib)
{
  disk.slots = mib * (1048576 / RECORD);
  disk.rate = rate;
  disk.expected = calloc(disk.slots, sizeof *disk.expected);
  disk.fd = open("/dev/vda", O_RDWR | O_DIRECT);
  if (disk.fd < 0) {
    perror("NCLOAD /dev/vda");
    exit(1);
  }
  for (size_t i = 0; i < used_mib * (1048576 / PAGE) / 64; i++) { /* text behind the records, in pieces of 256 KiB */
    static char piece[64 * PAGE] __attribute__((aligned(4096)));
    write_text(piece, sizeof piece, mix(i + 99));
    if (pwrite(disk.fd, piece, sizeof piece, (off_t)(disk.slots * RECORD + i * sizeof piece)) != (ssize_t)sizeof piece)
      perror("NCLOAD fill");
  }
}

/* Before the guest calls itself ready, so that nobody is refused after that. */
static int
listen_tcp(void)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
  int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0) {
    perror("NCLOAD listen");
    exit(1);
  }
  return fd;
}

static void *
accept_clients(void *argument)
{
  int fd = (int)(intptr_t)argument;
  for (;;) {
    int client = accept(fd, NULL, NULL);
    pthread_t thread;
    if (client >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)client) == 0)
      pthread_detach(thread);
    else if (client >= 0)
      close(client);
  }
  return NULL;
}

/* The value of ${key} ("nc.ws=") on the kernel's command line, or ${fallback}. */
static const char *
parameter(const char *cmdline, const char *key, const char *fallback)
{
  static char values[16][64];
  static int used;
  const char *at = strstr(cmdline, key);
  if (!at)
    return fallback;
  char *out = values[used++ % 16];
  snprintf(out, 64, "%.*s", (int)strcspn(at + strlen(key), " \n"), at + strlen(key));
  return out;
}

int
main(void)
{
  char cmdline[4096] = "";
  FILE *file = fopen("/proc/cmdline", "r");
  if (!file || !fgets(cmdline, sizeof cmdline, file))
    perror("NCLOAD cmdline");
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  clock_gettime(CLOCK_MONOTONIC, &load.start);

  const char *pattern = parameter(cmdline, "nc.pattern=", "text");
  load.pattern = strcmp(pattern, "random") == 0 ? RANDOM : strcmp(pattern, "sparse") == 0 ? SPARSE : TEXT;
  load.pages = (size_t)atol(parameter(cmdline, "nc.ws=", "64")) * 256;
  size_t hot = (size_t)atol(parameter(cmdline, "nc.hot=", "0")) * 256;
  load.hot_pages = hot && hot < load.pages ? hot : load.pages;
  load.fill_pages = (size_t)atol(parameter(cmdline, "nc.fill=", "0")) * 256;
  load.freed_pages = (size_t)atol(parameter(cmdline, "nc.freed=", "0")) * 256;
  load.rate = (uint64_t)(atof(parameter(cmdline, "nc.rate=", "5")) * 1048576);
  load.beat_ns = atol(parameter(cmdline, "nc.beat_ms=", "2")) * 1000000;
  render_pieces();
  load.memory = allocate(load.pages);
  load.generation = calloc(load.pages, sizeof *load.generation);
  for (size_t i = 0; i < load.pages; i++)
    make_page(load.memory + i * WORDS, i, 0, load.pattern);
  if (load.fill_pages) {
    load.fill = allocate(load.fill_pages);
    for (size_t i = 0; i < load.fill_pages; i++)
      make_page(load.fill + i * WORDS, i, 0, TEXT);
  }
  if (load.freed_pages)
    leave_freed(load.freed_pages);

  size_t records = (size_t)atol(parameter(cmdline, "nc.records=", "0"));
  if (records)
    open_disk(records, (size_t)atol(parameter(cmdline, "nc.record_rate=", "0")), (size_t)atol(parameter(cmdline, "nc.disk_text=", "0")));

  int listener = listen_tcp();
  pthread_t threads[4];
  pthread_create(&threads[0], NULL, work, NULL);
  pthread_create(&threads[1], NULL, beat, NULL);
  pthread_create(&threads[2], NULL, accept_clients, (void *)(intptr_t)listener);
  if (records)
    pthread_create(&threads[3], NULL, keep_records, NULL);
  printf("NCLOAD READY\n");
  for (;;) {
    sleep(1);
    printf("NCLOAD errors=%lu verified=%lu written=%lu beats=%lu\n", atomic_load(&load.errors), atomic_load(&load.verified),
           atomic_load(&load.written), atomic_load(&load.beats));
  }
}
