/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adaptive coding on simulated machines: encoders of known cost, a link of known
 * rate, content of known compressibility. The rung must be that of the best coding, soon
 * after whatever changes, and stay there.
 */
#include "wire/estimate.h"
#include "wire/tuner.h"

#include <math.h>

#define STEP_US 20
#define IDLE_US 500 /* the tuner is told what it waits for at least so often */
#define MAX_WORKERS 16
#define RING 1024

/* What an encoder makes of a kind of bytes. */
typedef struct {
  double codable, estimate;
  double share[NC_RUNGS];     /* of codable bytes */
  double us_per_mb[NC_RUNGS]; /* likewise */
} Content;

static const Content text = { 0.95,
                              0.36,
                              { 1, 0.42, 0.36, 0.355, 0.33, 0.29, 0.27, 0.245, 0.235, 0.225 },
                              { 0, 1500, 2000, 2150, 2300, 2700, 4000, 9000, 14000, 24000 } };
/* Compresses hardly, and costs as much. */
static const Content dull = { 1,
                              0.8,
                              { 1, 0.93, 0.86, 0.85, 0.81, 0.76, 0.75, 0.74, 0.735, 0.73 },
                              { 0, 2200, 3000, 3100, 3600, 4200, 6500, 15000, 22000, 33000 } };
/* The estimate has said so: nobody tries. */
static const Content noise = { 0.003,
                               0.6,
                               { 1, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7 },
                               { 0, 1500, 2000, 2100, 2300, 2700, 4000, 9000, 14000, 24000 } };
#define BASE_US_PER_MB 800.0

typedef enum { FREE, RAW, BUSY, READY, SENT } Stage;

typedef struct {
  Stage stage;
  uint64_t at_us; /* when the stage is over */
  NcRungBatch facts;
  double work;
} Slot;

typedef struct {
  NcTuner *tuner;
  const Content *content;
  unsigned fixed; /* always this rung; 0: the tuner's */
  double speed; /* of this machine's cores, against the numbers above */
  unsigned workers;
  double link;   /* bytes per second */
  double sink;   /* raw bytes per second that the destination takes; 0: any */
  double source; /* raw bytes per second that there are; 0: any */
  double jitter; /* of costs */
  uint64_t rtt_us;
  uint64_t hold_every_us, hold_us; /* once in so long, acknowledgements are held up for so long; 0: never */
  uint64_t now_us, random;

  Slot ring[RING];
  uint64_t acked, taken, submitted; /* as in the outbox */
  double in_flight, link_free_us, sink_free_us, source_bytes;
  double raw_acked;
} Sim;

static double
next_random(Sim *s)
{
  s->random ^= s->random << 13;
  s->random ^= s->random >> 7;
  s->random ^= s->random << 17;
  return (double)(s->random >> 11) / (double)(1ull << 53);
}

static Sim *
sim_new(const Content *content, double mbit, unsigned workers, double speed)
{
  Sim *s = g_new0(Sim, 1);
  s->content = content;
  s->workers = workers;
  s->link = mbit * 1e6 / 8;
  s->speed = speed;
  s->jitter = 0.2;
  s->rtt_us = 5000;
  s->random = 88172645463325252ull;
  s->now_us = 123456789; /* clocks don't begin at 0 */
  s->link_free_us = s->sink_free_us = (double)s->now_us;
  s->tuner = nc_tuner_new(workers, s->now_us);
  return s;
}

static void
sim_free(Sim *s)
{
  nc_tuner_free(s->tuner);
  g_free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sim, sim_free)

static Slot *
slot(Sim *s, uint64_t seq)
{
  return &s->ring[seq % RING];
}

/* As in the outbox: smaller on a slow link. */
static double
batch_bytes(const Sim *s)
{
  return CLAMP(s->link * 1.3 * 0.03 / 3, 43u << 10, 256u << 10);
}

static void
encode(Sim *s, Slot *b)
{
  const Content *c = s->content;
  unsigned rung = s->fixed > 0 ? s->fixed : nc_tuner_next(s->tuner, s->now_us);
  double raw = batch_bytes(s), mb = raw / 1e6, luck = 1 + s->jitter * (2 * next_random(s) - 1);
  double coding = c->us_per_mb[rung] * c->codable * mb * luck / s->speed;
  double codable = c->codable * raw, coded = codable * c->share[rung] * (1 + 0.1 * (2 * next_random(s) - 1));

  b->facts = (NcRungBatch){ .rung = rung,
                            .raw_bytes = (uint32_t)raw,
                            .wire_bytes = (uint32_t)(raw - codable) + (uint32_t)coded,
                            .codable_bytes = (uint32_t)codable,
                            .coded_bytes = (uint32_t)coded,
                            .estimate = c->estimate,
                            .encode_us = (uint32_t)(coding + BASE_US_PER_MB * mb / s->speed),
                            .coding_us = (uint32_t)coding };
  b->stage = BUSY;
  b->at_us = s->now_us + b->facts.encode_us;
}

static void
submit(Sim *s)
{
  uint64_t unsent = s->submitted - s->taken;

  s->source_bytes = MIN(s->source_bytes + s->source * STEP_US / 1e6, 4 * batch_bytes(s));
  for (; unsent < s->workers + 3 && s->submitted - s->acked < RING / 2; unsent++) {
    if (s->source > 0 && s->source_bytes < batch_bytes(s))
      break;
    s->source_bytes -= s->source > 0 ? batch_bytes(s) : 0;
    slot(s, s->submitted++)->stage = RAW;
  }
}

static void
run_encoders(Sim *s)
{
  unsigned busy = 0;

  for (uint64_t i = s->taken; i < s->submitted; i++) {
    Slot *b = slot(s, i);
    if (b->stage == BUSY && b->at_us <= s->now_us) {
      b->work = nc_tuner_encoded(s->tuner, &b->facts, s->now_us);
      b->stage = READY;
    }
    busy += b->stage == BUSY;
  }
  for (uint64_t i = s->taken; i < s->submitted && busy < s->workers; i++)
    if (slot(s, i)->stage == RAW) {
      encode(s, slot(s, i));
      busy++;
    }
}

static void
run_link(Sim *s)
{
  double window = s->link * (double)s->rtt_us / 1e6 * 2 + (256u << 10);

  while (s->taken < s->submitted && slot(s, s->taken)->stage == READY) {
    Slot *b = slot(s, s->taken);
    if (s->in_flight > 0 && s->in_flight + b->facts.wire_bytes > window)
      break;
    s->link_free_us = MAX(s->link_free_us, (double)s->now_us) + b->facts.wire_bytes / s->link * 1e6;
    s->sink_free_us = MAX(s->sink_free_us, s->link_free_us) + (s->sink > 0 ? b->facts.raw_bytes / s->sink * 1e6 : 0);
    b->stage = SENT;
    b->at_us = (uint64_t)s->sink_free_us + s->rtt_us;
    s->in_flight += b->facts.wire_bytes;
    s->taken++;
  }
  if (s->hold_every_us > 0 && s->now_us % s->hold_every_us < s->hold_us)
    return;
  for (; s->acked < s->taken && slot(s, s->acked)->at_us <= s->now_us; s->acked++) {
    Slot *b = slot(s, s->acked);
    s->in_flight -= b->facts.wire_bytes;
    s->raw_acked += b->facts.raw_bytes;
    nc_tuner_acked(s->tuner, b->facts.rung, b->facts.wire_bytes, b->work, s->now_us);
    b->stage = FREE;
  }
}

/* Whole steps to the next moment at which something is over. */
static uint64_t
nothing_until(Sim *s)
{
  uint64_t next = s->now_us + IDLE_US;

  if (s->source > 0)
    return s->now_us + STEP_US;
  for (uint64_t i = s->taken; i < s->submitted; i++)
    if (slot(s, i)->stage == BUSY)
      next = MIN(next, slot(s, i)->at_us);
  if (s->acked < s->taken)
    next = MIN(next, slot(s, s->acked)->at_us);
  return s->now_us + MAX((next - MIN(next, s->now_us) + STEP_US - 1) / STEP_US, 1) * STEP_US;
}

static void
run(Sim *s, double seconds)
{
  uint64_t end_us = s->now_us + (uint64_t)(seconds * 1e6), done;

  for (; s->now_us < end_us; s->now_us = s->taken + s->acked > done ? s->now_us + STEP_US : nothing_until(s)) {
    done = s->taken + s->acked;
    submit(s);
    run_encoders(s);
    run_link(s);
    bool ready = slot(s, s->taken)->stage == READY;
    nc_tuner_waits(s->tuner,
                   s->taken == s->submitted ? NC_TUNER_NOTHING
                   : ready                  ? NC_TUNER_LINK
                                            : NC_TUNER_ENCODERS,
                   s->now_us);
  }
}

/* A second beyond what is under way: on a slow link all that was coded before leaves first. */
static void
run_a_second(Sim *s)
{
  run(s, 1 + (s->workers + 3) * batch_bytes(s) / s->link);
}

/* Raw bytes per second of ${rung}, by the truth. */
static double
truth(const Sim *s, unsigned rung)
{
  const Content *c = s->content;
  double us = (BASE_US_PER_MB + c->codable * c->us_per_mb[rung]) / s->speed;
  return MIN(s->workers * 1e12 / us, s->link / (1 - c->codable + c->codable * c->share[rung]));
}

/* The lightest rung as good as the best. */
static unsigned
optimum(const Sim *s)
{
  double best = 0;
  unsigned rung = 0;

  for (unsigned i = 0; i < NC_RUNGS; i++)
    best = MAX(best, truth(s, i));
  while (truth(s, rung) < 0.97 * best)
    rung++;
  return rung;
}

/* Of the cases of one test. */
static unsigned cases, misses;

/* Within one rung of the best, or as good but for a few percent: by that much content and costs vary here from batch to
 * batch. */
static void
check_optimal(const Sim *s, const char *when)
{
  unsigned rung = nc_tuner_rung(s->tuner), best = optimum(s);
  bool ok = ABS((int)rung - (int)best) <= 1 || truth(s, rung) >= 0.92 * truth(s, best);

  if (g_test_verbose() || !ok)
    g_test_message(
        "%s: %.0f Mbit/s x %u, speed %.1f, estimate %.2f: at %s (%.0f MB/s), best %s (%.0f MB/s), %u switches", when,
        s->link * 8 / 1e6, s->workers, s->speed, s->content->estimate, nc_rung_name(rung), truth(s, rung) / 1e6,
        nc_rung_name(best), truth(s, best) / 1e6, (unsigned)nc_tuner_switches(s->tuner));
  cases++;
  misses += !ok;
}

/* A look may fall into a trial that will fail. */
static void
assert_rarely_missed(void)
{
  g_test_message("missed %u of %u", misses, cases);
  g_assert_cmpuint(cases, >, 0);
  g_assert_cmpuint(misses * 12, <=, cases);
  cases = misses = 0;
}

static const double links[] = { 10, 50, 100, 300, 1000, 2500, 10000 };
static const unsigned teams[] = { 1, 2, 4, 16 };

/* Sanitizers look for mistakes in the code, not in the choice: one team is enough for them, and takes a quarter of the time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEAMS 1u
#else
#define TEAMS G_N_ELEMENTS(teams)
#endif
static const double speeds[] = { 0.6, 1.0, 1.7 };

/* Each link, number of encoders and speed, from the beginning. */
static void
test_finds_the_best_rung_within_a_second(gconstpointer data)
{
  const Content *content = data;

  for (unsigned l = 0; l < G_N_ELEMENTS(links); l++)
    for (unsigned w = 0; w < TEAMS; w++)
      for (unsigned v = 0; v < G_N_ELEMENTS(speeds); v++) {
        g_autoptr(Sim) s = sim_new(content, links[l], teams[w], speeds[v]);
        run_a_second(s);
        check_optimal(s, "after a second");
        run(s, 3);
        check_optimal(s, "later");
      }
  assert_rarely_missed();
}

/* Nothing changes: neither does the rung, but for a few trials. */
static void
test_steady(void)
{
  for (unsigned l = 0; l < G_N_ELEMENTS(links); l++)
    for (unsigned w = 0; w < TEAMS; w++) {
      g_autoptr(Sim) s = sim_new(l % 2 ? &text : &dull, links[l], teams[w], 1);
      run(s, 3);
      uint64_t before = nc_tuner_switches(s->tuner);
      double raw = s->raw_acked;
      run(s, 60);
      g_test_message("%.0f Mbit/s x %u: %u switches a minute, %.0f of %.0f MB/s at %s", links[l], teams[w],
                     (unsigned)(nc_tuner_switches(s->tuner) - before), (s->raw_acked - raw) / 60e6,
                     truth(s, optimum(s)) / 1e6, nc_rung_name(nc_tuner_rung(s->tuner)));
      g_assert_cmpuint(nc_tuner_switches(s->tuner) - before, <=, 20);
      g_assert_cmpfloat((s->raw_acked - raw) / 60, >=, 0.9 * truth(s, optimum(s)));
    }
}

/* The link is shared, so what it does now says little about the next moment: no cause to go to and fro with it. */
static void
test_a_link_that_trembles(void)
{
  for (unsigned l = 2; l < 6; l++)
    for (unsigned w = 0; w < MIN(3, TEAMS); w++) {
      g_autoptr(Sim) s = sim_new(&text, links[l], teams[w], 1);
      double rate = s->link, raw = 0;
      uint64_t before = 0;
      for (int i = 0; i < 640; i++) {
        if (i == 40) {
          before = nc_tuner_switches(s->tuner);
          raw = s->raw_acked;
        }
        s->link = rate * (0.4 + 1.2 * next_random(s));
        run(s, 0.1);
      }
      s->link = rate;
      g_test_message("%.0f Mbit/s x %u: %u switches a minute, %.0f of %.0f MB/s at %s", links[l], teams[w],
                     (unsigned)(nc_tuner_switches(s->tuner) - before), (s->raw_acked - raw) / 60e6,
                     truth(s, optimum(s)) / 1e6, nc_rung_name(nc_tuner_rung(s->tuner)));
      g_assert_cmpuint(nc_tuner_switches(s->tuner) - before, <=, 60);
      g_assert_cmpfloat((s->raw_acked - raw) / 60, >=, 0.6 * truth(s, optimum(s)));
    }
}

/* Each link to each other one, in the middle of everything. */
static void
test_follows_the_link(void)
{
  for (unsigned from = 0; from < G_N_ELEMENTS(links); from++)
    for (unsigned to = 0; to < G_N_ELEMENTS(links); to++)
      for (unsigned w = 0; w < TEAMS; w++) {
        g_autoptr(Sim) s = sim_new(&text, links[from], teams[w], 1);
        run(s, 5);
        s->link = links[to] * 1e6 / 8;
        s->link_free_us = MIN(s->link_free_us, (double)s->now_us); /* what was queued is gone */
        run_a_second(s);
        check_optimal(s, "a second after the link has changed");
      }
  assert_rarely_missed();
}

/* Text, noise and text again. */
static void
test_follows_the_content(void)
{
  for (unsigned l = 0; l < G_N_ELEMENTS(links); l++)
    for (unsigned w = 0; w < TEAMS; w++) {
      g_autoptr(Sim) s = sim_new(&text, links[l], teams[w], 1);
      run(s, 4);
      s->content = &noise;
      run(s, 4);
      s->content = &text;
      run_a_second(s);
      check_optimal(s, "after noise");
      s->content = &dull;
      run_a_second(s);
      check_optimal(s, "after text");
    }
  assert_rarely_missed();
}

/* Untouched memory: next to nothing to code, and nothing to gain. */
static const Content zeros = { 0.002, 0.3, { 1, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4 },
                               { 0, 1500, 2000, 2100, 2300, 2700, 4000, 9000, 14000, 24000 } };

/* Raw bytes per second over a machine's memory: stretches of this and that, some short and some long. */
static double
pass_memory(double mbit, unsigned workers, uint64_t hold_us, unsigned fixed)
{
  static const Content *const kinds[] = { &text, &dull, &zeros, &text, &noise };
  g_autoptr(Sim) s = sim_new(&text, mbit, workers, 1);
  uint64_t random = 1234567;

  s->fixed = fixed;
  s->rtt_us = 50000;
  s->hold_every_us = 410000;
  s->hold_us = hold_us;
  for (int i = 0; i < 300; i++) {
    random = random * 6364136223846793005ull + 1442695040888963407ull;
    s->content = kinds[(random >> 33) % G_N_ELEMENTS(kinds)];
    double until = s->raw_acked + 0.3e6 * (double)(1u << ((random >> 50) % 6)); /* 0.3 to 10 MB */
    while (s->raw_acked < until)
      run(s, 0.005);
  }
  return s->raw_acked / (double)(s->now_us - 123456789) * 1e6;
}

/* As good as the best fixed coding, or nearly? */
static void
check_mixed_memory(uint64_t hold_us, double least)
{
  for (unsigned l = 1; l < 6; l++)
    for (unsigned w = 0; w < MIN(3, TEAMS); w++) {
      double best = 0;
      unsigned rung = 0;
      for (unsigned i = 1; i < NC_RUNGS; i++) {
        double rate = pass_memory(links[l], teams[w], hold_us, i);
        rung = rate > best ? i : rung;
        best = MAX(best, rate);
      }
      double rate = pass_memory(links[l], teams[w], hold_us, 0);
      g_test_message("%.0f Mbit/s x %u: %.1f MB/s, with %s %.1f: %.2f", links[l], teams[w], rate / 1e6, nc_rung_name(rung),
                     best / 1e6, rate / best);
      g_assert_cmpfloat(rate, >=, least * best);
    }
}

/* What a machine's memory is like. */
static void
test_mixed_memory(void)
{
  check_mixed_memory(0, 0.85);
}

/* What was held up, by a lost segment or a busy processor, comes all at once. */
static void
test_held_acknowledgements(void)
{
  check_mixed_memory(60000, 0.85);
}

/* The destination is what is slow: heavier does not help, and is given up. */
static void
test_nothing_is_gained_where_the_destination_is_slow(void)
{
  g_autoptr(Sim) s = sim_new(&text, 10000, 4, 1);
  s->sink = 200e6;
  run(s, 4);
  uint64_t before = nc_tuner_switches(s->tuner);
  unsigned heavy = 0;
  for (int i = 0; i < 600; i++) {
    run(s, 0.1);
    heavy += nc_tuner_rung(s->tuner) > 2;
  }
  g_test_message("%u switches a minute, heavy in %u of 600", (unsigned)(nc_tuner_switches(s->tuner) - before), heavy);
  g_assert_cmpuint(nc_tuner_switches(s->tuner) - before, <=, 24);
  g_assert_cmpuint(heavy, <=, 60);
}

/* QEMU has little to send: no reason to change anything. */
static void
test_an_idle_source_changes_nothing(void)
{
  g_autoptr(Sim) s = sim_new(&text, 1000, 4, 1);
  run(s, 3);
  s->source = 5e6;
  run(s, 1);
  uint64_t before = nc_tuner_switches(s->tuner);
  run(s, 30);
  g_assert_cmpuint(nc_tuner_switches(s->tuner), ==, before);
}

/* Only half a processor may be used. */
static void
test_cores_bound_the_choice(void)
{
  g_autoptr(Sim) s = sim_new(&text, 100, 1, 0.5); /* an encoder that is paced looks slow */
  nc_tuner_free(s->tuner);
  s->tuner = nc_tuner_new(0.5, s->now_us);
  run(s, 2);
  unsigned slow = nc_tuner_rung(s->tuner);
  g_autoptr(Sim) q = sim_new(&text, 100, 4, 1);
  run(q, 2);
  g_assert_cmpuint(slow, <, nc_tuner_rung(q->tuner));
}

/* A long way: heavier from the first batch on; but once something was delivered, that is what counts. */
static void
test_begins_heavier_far_away(void)
{
  g_autoptr(Sim) s = sim_new(&text, 10000, 2, 1);
  g_assert_cmpuint(nc_tuner_rung(s->tuner), ==, NC_RUNG_START);
  nc_tuner_begin_far(s->tuner);
  g_assert_cmpuint(nc_tuner_rung(s->tuner), ==, NC_RUNG_FAR);
  run_a_second(s);
  check_optimal(s, "a fast link that leads far");
  assert_rarely_missed();
  unsigned rung = nc_tuner_rung(s->tuner);
  nc_tuner_begin_far(s->tuner);
  g_assert_cmpuint(nc_tuner_rung(s->tuner), ==, rung);
}

/* Every rung has a name that means its policy. */
static void
test_rungs(void)
{
  for (unsigned i = 0; i < NC_RUNGS; i++) {
    NcBatchPolicy policy;
    g_assert_true(nc_compression_parse(nc_rung_name(i), &policy, NULL));
    g_assert_cmpint(policy.codec, ==, nc_rung_policy(i)->codec);
    g_assert_cmpint(policy.level, ==, nc_rung_policy(i)->level);
    g_assert_true(!policy.is_auto && nc_rung_policy(i)->is_auto);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tuner/rungs", test_rungs);
  g_test_add_data_func("/tuner/finds_the_best_rung_within_a_second/text", &text,
                       test_finds_the_best_rung_within_a_second);
  g_test_add_data_func("/tuner/finds_the_best_rung_within_a_second/dull", &dull,
                       test_finds_the_best_rung_within_a_second);
  g_test_add_func("/tuner/steady", test_steady);
  g_test_add_func("/tuner/mixed_memory", test_mixed_memory);
  g_test_add_func("/tuner/held_acknowledgements", test_held_acknowledgements);
  g_test_add_func("/tuner/a_link_that_trembles", test_a_link_that_trembles);
  g_test_add_func("/tuner/follows_the_link", test_follows_the_link);
  g_test_add_func("/tuner/follows_the_content", test_follows_the_content);
  g_test_add_func("/tuner/nothing_is_gained_where_the_destination_is_slow",
                  test_nothing_is_gained_where_the_destination_is_slow);
  g_test_add_func("/tuner/an_idle_source_changes_nothing", test_an_idle_source_changes_nothing);
  g_test_add_func("/tuner/cores_bound_the_choice", test_cores_bound_the_choice);
  g_test_add_func("/tuner/begins_heavier_far_away", test_begins_heavier_far_away);
  return g_test_run();
}
