/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight window on simulated links: it must fill them within a few round trips,
 * and must not fill their queues. A link here is a rate, a delay and a queue
 * without end; the receiver takes a while per batch and collects its
 * acknowledgements as a mover does; pings wait in the same queue as bulk.
 */
#include "wire/flight.h"

#define STEP_US 20
#define PING_US 100000
#define ACK_US NC_FLIGHT_ACK_DELAY_US
#define ACK_BYTES (256u << 10)
#define SLOTS 4096 /* 64 MiB in batches of 16 KiB */

typedef struct {
  uint64_t at_us, bytes, sent_us;
} Event;

/* First in, first out. */
typedef struct {
  Event events[SLOTS];
  unsigned first, count;
} Queue;

typedef struct {
  double rate;       /* bytes per second */
  uint64_t delay_us; /* one way */
  uint64_t batch_bytes, decode_us; /* batches are decoded side by side: that limits no rate, */
  double drain_rate;               /* and this is what the machine at the other side takes; 0: all at once */
  uint64_t busy_us, idle_us; /* the application sends for so long, then nothing for so long; 0: always sends */

  uint64_t hold_every_us, hold_us; /* once in so long, acknowledgements are held up for so long; 0: never */

  NcFlight *flight;
  uint64_t now_us, start_us;
  double free_at_us;  /* the link has sent everything by then, */
  double taken_at_us; /* and the other side's machine has taken it */
  uint64_t in_flight, delivered, unacked, unacked_sent_us, last_ack_us, next_ping_us;
  Queue arrivals, acks, pongs;

  /* since nc_reset(): */
  uint64_t measured_from_us, measured_bytes, max_window, max_in_flight, max_queue_us;
} Sim;

static void
push(Queue *q, uint64_t at_us, uint64_t bytes, uint64_t sent_us)
{
  g_assert_cmpuint(q->count, <, SLOTS);
  q->events[(q->first + q->count++) % SLOTS] = (Event){ at_us, bytes, sent_us };
}

static bool
pop(Queue *q, uint64_t now_us, Event *ret)
{
  if (q->count == 0 || q->events[q->first].at_us > now_us)
    return false;
  *ret = q->events[q->first];
  q->first = (q->first + 1) % SLOTS;
  q->count--;
  return true;
}

static Sim *
sim_new(double mbit, double rtt_ms, uint64_t batch_bytes, unsigned pause_budget_ms)
{
  Sim *s = g_new0(Sim, 1);
  s->rate = mbit * 1e6 / 8;
  s->delay_us = (uint64_t)(rtt_ms * 500);
  s->batch_bytes = batch_bytes;
  s->decode_us = 500;
  s->flight = nc_flight_new(pause_budget_ms);
  s->now_us = s->start_us = s->next_ping_us = 123456789; /* clocks don't begin at 0 */
  return s;
}

static void
sim_free(Sim *s)
{
  nc_flight_free(s->flight);
  g_free(s);
}

static bool
sim_has_data(const Sim *s)
{
  return s->busy_us == 0 || (s->now_us - s->start_us) % (s->busy_us + s->idle_us) < s->busy_us;
}

/* A mover's first ping leaves before QEMU has said anything. */
static void
sim_ping(Sim *s)
{
  if (s->now_us < s->next_ping_us)
    return;
  uint64_t pong_us = (uint64_t)MAX(s->free_at_us, (double)s->now_us) + 2 * s->delay_us;
  push(&s->pongs, pong_us, pong_us - s->now_us, s->now_us);
  s->next_ping_us += PING_US;
}

static void
sim_send(Sim *s)
{
  while (sim_has_data(s) && (s->in_flight == 0 || s->in_flight + s->batch_bytes <= nc_flight_window(s->flight))) {
    s->free_at_us = MAX(s->free_at_us, (double)s->now_us) + (double)s->batch_bytes * 1e6 / s->rate;
    s->taken_at_us = MAX(s->taken_at_us, s->free_at_us + (double)(s->delay_us + s->decode_us));
    if (s->drain_rate > 0)
      s->taken_at_us += (double)s->batch_bytes * 1e6 / s->drain_rate;
    push(&s->arrivals, (uint64_t)s->taken_at_us, s->batch_bytes, s->now_us);
    s->in_flight += s->batch_bytes;
  }
}

/* When what is due at ${at_us} comes: held acknowledgements wait for the end of the hold. */
static uint64_t
sim_release_us(const Sim *s, uint64_t at_us)
{
  uint64_t into_us = s->hold_every_us ? at_us % s->hold_every_us : s->hold_us;
  return into_us < s->hold_us ? at_us + s->hold_us - into_us : at_us;
}

static void
sim_receive(Sim *s)
{
  Event batch;

  while (pop(&s->arrivals, s->now_us, &batch)) {
    s->unacked += batch.bytes;
    s->unacked_sent_us = batch.sent_us;
    s->measured_bytes += batch.bytes;
  }
  if (s->unacked >= ACK_BYTES || (s->unacked > 0 && s->now_us - s->last_ack_us >= ACK_US)) {
    push(&s->acks, sim_release_us(s, s->now_us + s->delay_us), s->unacked, s->unacked_sent_us);
    s->unacked = 0;
    s->last_ack_us = s->now_us;
  }
}

static void
sim_step(Sim *s)
{
  Event event;

  sim_receive(s);
  while (pop(&s->acks, s->now_us, &event)) {
    s->in_flight -= event.bytes;
    nc_flight_acked(s->flight, event.bytes, s->in_flight, event.sent_us, s->now_us);
  }
  while (pop(&s->pongs, s->now_us, &event))
    nc_flight_rtt(s->flight, event.bytes, s->now_us);
  sim_ping(s);
  sim_send(s);
  s->max_window = MAX(s->max_window, nc_flight_window(s->flight));
  s->max_in_flight = MAX(s->max_in_flight, s->in_flight);
  if (s->free_at_us > (double)s->now_us)
    s->max_queue_us = MAX(s->max_queue_us, (uint64_t)(s->free_at_us - (double)s->now_us));
  s->now_us += STEP_US;
}

static void
sim_run_ms(Sim *s, double ms)
{
  for (uint64_t end_us = s->now_us + (uint64_t)(ms * 1000); s->now_us < end_us;)
    sim_step(s);
}

static void
sim_measure(Sim *s)
{
  s->measured_from_us = s->now_us;
  s->measured_bytes = s->max_window = s->max_in_flight = s->max_queue_us = 0;
}

/* Of the link's rate, how much was delivered since sim_measure()? */
static double
sim_utilisation(const Sim *s)
{
  return (double)s->measured_bytes * 1e6 / (double)(s->now_us - s->measured_from_us) / s->rate;
}

static uint64_t
sim_bdp(const Sim *s)
{
  return (uint64_t)(s->rate * (double)s->delay_us * 2 / 1e6);
}

/*
 * Fills the link within ${rtts}, then stays within twice the BDP and the floor, for
 * 40 s; 10 % for acknowledgements that come in lumps and so blur the rate.
 */
static void
check_link(double mbit, double rtt_ms, uint64_t batch_bytes, unsigned rtts)
{
  Sim *s = sim_new(mbit, rtt_ms, batch_bytes, 300);
  unsigned n = 0;

  while (nc_flight_window(s->flight) < sim_bdp(s) + batch_bytes && ++n < 100)
    sim_run_ms(s, rtt_ms);
  g_test_message("%g Mbit/s, %g ms: BDP %" G_GUINT64_FORMAT " within %u RTTs", mbit, rtt_ms, sim_bdp(s), n);
  g_assert_cmpuint(n, <=, rtts);
  sim_run_ms(s, 1000);
  sim_measure(s);
  sim_run_ms(s, 40000);
  g_test_message("window up to %" G_GUINT64_FORMAT ", %.1f %% used, queue up to %" G_GUINT64_FORMAT " us",
                 s->max_window, 100 * sim_utilisation(s), s->max_queue_us);
  g_assert_cmpuint(s->max_window, <=, 2 * sim_bdp(s) * 11 / 10 + NC_FLIGHT_MIN_BYTES);
  g_assert_cmpfloat(sim_utilisation(s), >, 0.95);
  sim_free(s);
}

static void
test_gigabit_20ms(void)
{
  check_link(1000, 20, 128 << 10, 8);
}

static void
test_100_megabit_50ms(void)
{
  check_link(100, 50, 64 << 10, 8);
}

static void
test_10_gigabit_20ms(void)
{
  check_link(10000, 20, 256 << 10, 12);
}

static void
test_gigabit_100ms(void)
{
  check_link(1000, 100, 256 << 10, 10);
}

/* RTT of the order of what a receiver waits before it acknowledges: must not starve itself. */
static void
check_short_path(double mbit, double rtt_ms, double utilisation, uint64_t most_queue_us)
{
  Sim *s = sim_new(mbit, rtt_ms, 128 << 10, 300);

  sim_run_ms(s, 1000);
  sim_measure(s);
  sim_run_ms(s, 40000);
  g_test_message("%g Mbit/s, %g ms: window up to %" G_GUINT64_FORMAT ", %.1f %% used, queue up to %" G_GUINT64_FORMAT
                 " us",
                 mbit, rtt_ms, s->max_window, 100 * sim_utilisation(s), s->max_queue_us);
  g_assert_cmpfloat(sim_utilisation(s), >, utilisation);
  g_assert_cmpuint(s->max_queue_us, <, most_queue_us);
  sim_free(s);
}

static void
test_short_paths(void)
{
  check_short_path(1000, 2, 0.95, 15000);
  check_short_path(10000, 2, 0.95, 10000);
  check_short_path(100, 5, 0.95, 60000);
  check_short_path(1000, 0.3, 0.95, 50000);
}

/* veth or loopback: the window is never what limits. */
static void
test_loopback(void)
{
  Sim *s = sim_new(16000, 0.1, 256 << 10, 300);

  sim_run_ms(s, 200);
  sim_measure(s);
  sim_run_ms(s, 9000);
  g_assert_cmpuint(nc_flight_window(s->flight), >=, 4 << 20);
  g_assert_cmpfloat(sim_utilisation(s), >, 0.95);
  sim_run_ms(s, 30000); /* with the times the minimum is measured anew */
  g_assert_cmpfloat(sim_utilisation(s), >, 0.9);
  g_assert_cmpuint(s->max_window, <=, 64 << 20);
  sim_free(s);
}

/* 50 ms pause budget: at most a fifth of it, not another BDP of 100 ms; and 5 % for a rate that is blurred. */
static void
test_small_pause_budget(void)
{
  Sim *s = sim_new(100, 100, 64 << 10, 50);

  sim_run_ms(s, 5000);
  sim_measure(s);
  sim_run_ms(s, 30000);
  g_assert_cmpuint(s->max_window, <=, (sim_bdp(s) + sim_bdp(s) / 10) * 105 / 100 + NC_FLIGHT_MIN_BYTES);
  g_assert_cmpfloat(sim_utilisation(s), >, 0.95);
  sim_free(s);
}

/* The queue we cause ourselves must not be taken for distance, however long it lasts. */
static void
test_own_queue_is_not_distance(void)
{
  Sim *s = sim_new(100, 20, 64 << 10, 1000);

  sim_run_ms(s, 120000);
  g_assert_cmpuint(nc_flight_min_rtt_us(s->flight), <=, 26000);
  g_assert_cmpuint(nc_flight_window(s->flight), <=, 3 * sim_bdp(s) + NC_FLIGHT_MIN_BYTES);
  sim_free(s);
}

/* What comes late comes all at once, and is not a faster link: a lost segment, or a processor that was away. */
static void
test_held_acknowledgements(void)
{
  Sim *s = sim_new(100, 50, 64 << 10, 300);

  s->hold_every_us = 700000;
  s->hold_us = 60000;
  sim_run_ms(s, 2000);
  sim_measure(s);
  sim_run_ms(s, 60000);
  g_test_message("window up to %" G_GUINT64_FORMAT ", BDP %" G_GUINT64_FORMAT ", %.1f %% used", s->max_window, sim_bdp(s),
                 100 * sim_utilisation(s));
  g_assert_cmpuint(s->max_window, <=, 2 * sim_bdp(s) * 11 / 10 + NC_FLIGHT_MIN_BYTES);
  g_assert_cmpfloat(sim_utilisation(s), >, 0.95);
  sim_free(s);
}

/*
 * Where processors are short, answers take long; a second in which hardly anything was answered must not leave a window
 * that keeps the rate low.
 */
static void
test_slow_answers(void)
{
  Sim *s = sim_new(100, 50, 64 << 10, 300);

  s->decode_us = 75000;
  sim_run_ms(s, 3000);
  s->rate /= 4; /* for longer than the rate is remembered */
  sim_run_ms(s, 3000);
  s->rate *= 4;
  sim_run_ms(s, 2000);
  sim_measure(s);
  sim_run_ms(s, 20000);
  g_test_message("window up to %" G_GUINT64_FORMAT ", BDP %" G_GUINT64_FORMAT ", %.1f %% used", s->max_window, sim_bdp(s),
                 100 * sim_utilisation(s));
  g_assert_cmpfloat(sim_utilisation(s), >, 0.85); /* not more: of 75 ms 60 are granted */
  g_assert_cmpuint(s->max_queue_us, <, 60000);
  sim_free(s);
}

/* A destination that takes less than the link brings: what waits for it is part of the pause, and stays a fifth of it. */
static void
test_slow_destination(void)
{
  Sim *s = sim_new(1000, 20, 64 << 10, 300);

  s->drain_rate = s->rate / 5;
  sim_run_ms(s, 5000);
  sim_measure(s);
  sim_run_ms(s, 30000);
  g_test_message("window up to %" G_GUINT64_FORMAT ", BDP %" G_GUINT64_FORMAT ", %.1f %% used", s->max_window, sim_bdp(s),
                 100 * sim_utilisation(s));
  g_assert_cmpuint(s->max_window, <=, (uint64_t)(s->drain_rate * (0.020 + 0.060) * 1.1) + NC_FLIGHT_MIN_BYTES);
  g_assert_cmpfloat(sim_utilisation(s), >, 0.2 * 0.95);
  sim_free(s);
}

static void
test_link_becomes_slower(void)
{
  Sim *s = sim_new(1000, 20, 64 << 10, 300);

  sim_run_ms(s, 3000);
  s->rate /= 10;
  sim_run_ms(s, 5000);
  g_assert_cmpuint(nc_flight_window(s->flight), <=, 2 * sim_bdp(s) + sim_bdp(s) / 5 + NC_FLIGHT_MIN_BYTES);
  sim_free(s);
}

static void
test_link_becomes_faster(void)
{
  Sim *s = sim_new(50, 20, 64 << 10, 300);

  sim_run_ms(s, 3000);
  s->rate *= 20;
  sim_run_ms(s, 1000);
  sim_measure(s);
  sim_run_ms(s, 5000);
  g_assert_cmpfloat(sim_utilisation(s), >, 0.9);
  sim_free(s);
}

/* A route that is longer from now on; the minimum is at most 10 s old. */
static void
test_path_becomes_longer(void)
{
  Sim *s = sim_new(100, 5, 64 << 10, 300);

  sim_run_ms(s, 3000);
  s->delay_us = 40000;
  sim_run_ms(s, 15000);
  g_assert_cmpuint(nc_flight_min_rtt_us(s->flight), >=, 80000);
  sim_measure(s);
  sim_run_ms(s, 9000);
  g_assert_cmpfloat(sim_utilisation(s), >, 0.9);
  sim_free(s);
}

/* A sender with pauses longer than the rate's memory: what is known about the link stays known. */
static void
test_silence_is_not_a_slow_link(void)
{
  Sim *s = sim_new(1000, 20, 128 << 10, 300);

  sim_run_ms(s, 2000);
  s->start_us = s->now_us;
  s->busy_us = 10000;
  s->idle_us = 3000000;
  sim_run_ms(s, 30000);
  g_assert_cmpfloat(nc_flight_rate(s->flight), >, 0.8 * s->rate);
  g_assert_cmpuint(nc_flight_window(s->flight), >=, sim_bdp(s));
  sim_free(s);
}

static void
test_before_anything_is_known(void)
{
  g_autoptr(NcFlight) f = nc_flight_new(300);

  g_assert_cmpuint(nc_flight_window(f), ==, 1 << 20);
  g_assert_cmpuint(nc_flight_min_rtt_us(f), ==, 0);
  g_assert_cmpfloat(nc_flight_rate(f), ==, 0);
  nc_flight_rtt(f, 200, 1);
  g_assert_cmpuint(nc_flight_window(f), ==, 4 << 20);
}

/* Whatever the times and numbers: within its bounds, and no arithmetic that traps. */
static void
test_any_input(void)
{
  g_autoptr(NcFlight) f = nc_flight_new(0);
  uint64_t now_us = 0;

  for (unsigned i = 0; i < 200000; i++) {
    now_us += (uint64_t)g_test_rand_int_range(0, 3) * (uint64_t)g_test_rand_int_range(0, 100000);
    if (g_test_rand_bit())
      nc_flight_rtt(f, (uint64_t)g_test_rand_int() >> g_test_rand_int_range(0, 32), now_us);
    else
      nc_flight_acked(f, (uint64_t)(uint32_t)g_test_rand_int() >> g_test_rand_int_range(0, 32),
                      (uint64_t)g_test_rand_int_range(0, 64 << 20), (uint64_t)g_test_rand_int(), now_us);
    g_assert_cmpuint(nc_flight_window(f), >=, NC_FLIGHT_DRAIN_BYTES);
    g_assert_cmpuint(nc_flight_window(f), <=, NC_FLIGHT_MAX_BYTES);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/flight/gigabit_20ms", test_gigabit_20ms);
  g_test_add_func("/flight/100_megabit_50ms", test_100_megabit_50ms);
  g_test_add_func("/flight/10_gigabit_20ms", test_10_gigabit_20ms);
  g_test_add_func("/flight/gigabit_100ms", test_gigabit_100ms);
  g_test_add_func("/flight/short_paths", test_short_paths);
  g_test_add_func("/flight/loopback", test_loopback);
  g_test_add_func("/flight/small_pause_budget", test_small_pause_budget);
  g_test_add_func("/flight/own_queue_is_not_distance", test_own_queue_is_not_distance);
  g_test_add_func("/flight/held_acknowledgements", test_held_acknowledgements);
  g_test_add_func("/flight/slow_answers", test_slow_answers);
  g_test_add_func("/flight/slow_destination", test_slow_destination);
  g_test_add_func("/flight/link_becomes_slower", test_link_becomes_slower);
  g_test_add_func("/flight/link_becomes_faster", test_link_becomes_faster);
  g_test_add_func("/flight/path_becomes_longer", test_path_becomes_longer);
  g_test_add_func("/flight/silence_is_not_a_slow_link", test_silence_is_not_a_slow_link);
  g_test_add_func("/flight/before_anything_is_known", test_before_anything_is_known);
  g_test_add_func("/flight/any_input", test_any_input);
  return g_test_run();
}
