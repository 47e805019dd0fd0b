/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"
#include "base/ident.h"

#include <string.h>

const NcAsker somebody = { .actor = "uid:0" };

json_t *
json_of(const char *json)
{
  g_autofree char *text = g_strdelimit(g_strdup(json), "'", '"');
  json_t *value = json_loads(text, 0, NULL);
  g_assert_nonnull(value);
  return value;
}

/* --- mail --- */

typedef enum { MAIL_START, MAIL_CANCEL, MAIL_ASK, MAIL_RATE, MAIL_REPORT } MailKind;

typedef struct {
  MailKind kind;
  int64_t at_us;
  char *node, *name, *machine, *destination;
  uint64_t rate_bps;
  bool has_endgame;
  NcReportState state;
  bool may_pass;
} Mail;

static void
mail_free(gpointer data)
{
  Mail *mail = data;
  g_free(mail->node);
  g_free(mail->name);
  g_free(mail->machine);
  g_free(mail->destination);
  g_free(mail);
}

static Mail *
mail_copy(const Mail *mail)
{
  Mail *copy = g_memdup2(mail, sizeof *mail);
  copy->node = g_strdup(mail->node);
  copy->name = g_strdup(mail->name);
  copy->machine = g_strdup(mail->machine);
  copy->destination = g_strdup(mail->destination);
  return copy;
}

static void
post(World *w, const Mail *mail)
{
  do {
    if (g_rand_double(w->random) < w->loss)
      continue;
    Mail *copy = mail_copy(mail);
    copy->at_us =
        w->now_us + (w->most_delay_us > 0 ? (int64_t)(g_rand_double(w->random) * (double)w->most_delay_us) : 0);
    g_ptr_array_add(w->mail, copy);
  } while (g_rand_double(w->random) < w->doubling);
}

/* From the controller, unless it has just been killed. */
static void
send_mail(World *w, const Mail *mail)
{
  if (w->sends_left == 0)
    return;
  if (w->sends_left > 0)
    w->sends_left--;
  post(w, mail);
}

static void
port_start(void *agents, const NcAttemptOrder *order)
{
  World *w = agents;
  const Mail mail = { .kind = MAIL_START,
                      .node = (char *)order->source,
                      .name = (char *)order->name,
                      .machine = (char *)order->machine,
                      .destination = (char *)order->destination,
                      .rate_bps = order->rate_bps };
  g_assert_cmpint(json_integer_value(json_object_get(order->settings, "retry_attempts")), ==, 0);
  w->starts_sent++;
  send_mail(w, &mail);
}

static void
port_cancel(void *agents, const char *source, const char *name, const char *reason)
{
  World *w = agents;
  const Mail mail = { .kind = MAIL_CANCEL, .node = (char *)source, .name = (char *)name };
  g_assert_cmpuint(strlen(reason), >, 0);
  w->cancels_sent++;
  send_mail(w, &mail);
}

static void
port_ask(void *agents, const char *source, const char *name)
{
  World *w = agents;
  const Mail mail = { .kind = MAIL_ASK, .node = (char *)source, .name = (char *)name };
  w->asks_sent++;
  send_mail(w, &mail);
}

static void
port_set_rate(void *agents, const char *source, const char *name, uint64_t rate_bps, bool has_endgame)
{
  const Mail mail = {
    .kind = MAIL_RATE, .node = (char *)source, .name = (char *)name, .rate_bps = rate_bps, .has_endgame = has_endgame
  };
  send_mail(agents, &mail);
}

const NcAgentPort world_port = { port_start, port_cancel, port_ask, port_set_rate };

/* --- agents --- */

static bool
is_dead(World *w, const char *node)
{
  int64_t *until_us = g_hash_table_lookup(w->dead, node);
  return until_us && *until_us > w->now_us;
}

static void
attempt_free(gpointer data)
{
  Attempt *a = data;
  g_free(a->name);
  g_free(a->machine);
  g_free(a->source);
  g_free(a->destination);
  g_free(a);
}

Attempt *
world_attempt(World *w, const char *name)
{
  return g_hash_table_lookup(w->attempts, name);
}

static bool
is_running(const Attempt *a)
{
  return a->machine && !a->is_over;
}

/* How ${a} stands, to the controller. */
static void
tell(World *w, const Attempt *a)
{
  const Mail mail = { .kind = MAIL_REPORT,
                      .node = a->source,
                      .name = a->name,
                      .state = a->is_over ? a->end : NC_REPORT_RUNNING,
                      .may_pass = a->may_pass };
  if (!is_dead(w, a->source))
    post(w, &mail);
}

static uint64_t
memory_of(World *w, const char *machine)
{
  return *(uint64_t *)g_hash_table_lookup(w->needs, machine);
}

/* What must hold when ${a} begins, besides all others. */
static void
check_begin(World *w, const Attempt *a)
{
  unsigned cluster = 1, out = 1, in = 1;
  uint64_t used = memory_of(w, a->machine);
  GHashTableIter iter;
  gpointer machine, node;

  g_assert_cmpstr(world_place(w, a->machine), ==, a->source);
  g_assert_cmpstr(a->source, !=, a->destination);
  for (guint i = 0; i < w->order->len; i++) {
    const Attempt *other = w->order->pdata[i];
    if (other == a || !is_running(other))
      continue;
    g_assert_cmpstr(other->machine, !=, a->machine);
    cluster++;
    out += g_str_equal(other->source, a->source);
    in += g_str_equal(other->destination, a->destination);
    if (g_str_equal(other->destination, a->destination))
      used += memory_of(w, other->machine);
  }
  g_assert_cmpuint(cluster, <=, w->cluster);
  g_assert_cmpuint(out, <=, w->node_out);
  g_assert_cmpuint(in, <=, w->node_in);
  g_hash_table_iter_init(&iter, w->places);
  while (g_hash_table_iter_next(&iter, &machine, &node))
    if (g_str_equal(node, a->destination))
      used += memory_of(w, machine);
  g_assert_cmpuint(used, <=, *(uint64_t *)g_hash_table_lookup(w->rooms, a->destination));
}

static Attempt *
keep_name(World *w, const Mail *mail)
{
  Attempt *a = g_new0(Attempt, 1);

  a->name = g_strdup(mail->name);
  a->source = g_strdup(mail->node);
  g_hash_table_insert(w->attempts, a->name, a);
  return a;
}

static void
begin(World *w, const Mail *mail)
{
  Attempt *a = keep_name(w, mail);
  double fate = g_rand_double(w->random);

  a->machine = g_strdup(mail->machine);
  a->destination = g_strdup(mail->destination);
  a->rate_bps = mail->rate_bps;
  a->ends_us =
      w->now_us + w->least_run_us + (int64_t)(g_rand_double(w->random) * (double)(w->most_run_us - w->least_run_us));
  a->end = fate < w->fails + w->fails_for_good ? NC_REPORT_FAILED : NC_REPORT_COMPLETED;
  a->may_pass = fate < w->fails;
  g_ptr_array_add(w->order, a);
  a->begun = w->order->len;
  check_begin(w, a);
}

static void
agent_hear(World *w, const Mail *mail)
{
  Attempt *a = world_attempt(w, mail->name);
  const Mail unknown = { .kind = MAIL_REPORT, .node = mail->node, .name = mail->name, .state = NC_REPORT_UNKNOWN };

  if (is_dead(w, mail->node))
    return;
  if (!a && mail->kind == MAIL_START) {
    begin(w, mail);
    a = world_attempt(w, mail->name);
  } else if (a && a->machine && mail->kind == MAIL_START) { /* once more: the same */
    g_assert_cmpstr(a->machine, ==, mail->machine);
    g_assert_cmpstr(a->destination, ==, mail->destination);
    g_assert_cmpstr(a->source, ==, mail->node);
  } else if (mail->kind == MAIL_CANCEL && (!a || !a->is_over)) {
    a = a ? a : keep_name(w, mail);
    a->is_over = true;
    a->end = NC_REPORT_CANCELLED;
  } else if (a && mail->kind == MAIL_RATE) {
    a->rate_bps = mail->rate_bps;
    a->has_endgame = mail->has_endgame;
    return;
  }
  if (a)
    tell(w, a);
  else if (mail->kind == MAIL_ASK)
    post(w, &unknown);
}

static void
end_attempts(World *w)
{
  for (guint i = 0; i < w->order->len; i++) {
    Attempt *a = w->order->pdata[i];
    if (!is_running(a) || a->is_silenced)
      continue;
    if (a->ends_us > w->now_us) {
      if (g_rand_double(w->random) < w->tells)
        tell(w, a);
      continue;
    }
    a->is_over = true;
    if (a->end == NC_REPORT_COMPLETED) {
      guint moves = GPOINTER_TO_UINT(g_hash_table_lookup(w->moves, a->machine));
      g_hash_table_insert(w->places, g_strdup(a->machine), g_strdup(a->destination));
      g_hash_table_insert(w->moves, g_strdup(a->machine), GUINT_TO_POINTER(moves + 1));
    }
    tell(w, a);
  }
}

/* --- time --- */

/* What the controller does not take it may forget: agents are asked again. */
static void
deliver_report(World *w, NcController *c, const Mail *mail)
{
  static const char *const phases[] = { "prepare", "memory_copy", "switchover" };
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *result = json_pack("{s:i}", "pause_ms", 12);
  const NcAttemptReport report = { .node = mail->node,
                                   .name = mail->name,
                                   .state = mail->state,
                                   .phase = phases[g_rand_int_range(w->random, 0, 3)],
                                   .percent = 100 * g_rand_double(w->random),
                                   .wants_endgame = g_rand_double(w->random) < w->endgames,
                                   .reason = mail->state == NC_REPORT_FAILED ? "the link was cut" : NULL,
                                   .may_pass = mail->may_pass,
                                   .run_epoch = w->run_epoch,
                                   .result = result };

  if (c && !nc_controller_report(c, &report, &error) && !g_error_matches(error, NC_ERROR, NC_ERROR_CONFLICT) &&
      !g_error_matches(error, NC_ERROR, NC_ERROR_UNAVAILABLE))
    g_error("%s", error->message);
}

void
world_pass(World *w, NcController *c, int64_t us)
{
  GHashTableIter iter;
  gpointer node;

  w->now_us += us;
  end_attempts(w);
  for (guint i = 0; i < w->mail->len;) { /* it may get longer meanwhile */
    Mail *mail = w->mail->pdata[i];
    if (mail->at_us > w->now_us) {
      i++;
      continue;
    }
    g_ptr_array_steal_index(w->mail, i);
    if (mail->kind == MAIL_REPORT)
      deliver_report(w, c, mail);
    else
      agent_hear(w, mail);
    mail_free(mail);
  }
  g_hash_table_iter_init(&iter, w->rooms);
  while (c && g_hash_table_iter_next(&iter, &node, NULL))
    if (!is_dead(w, node))
      nc_controller_heard(c, node);
}

void
world_turn(World *w, int64_t us, unsigned times)
{
  g_autoptr(GError) error = NULL;

  for (; times > 0; times--) {
    world_pass(w, w->controller, us);
    assert_works(nc_controller_step(w->controller, &error), error);
  }
}

void
world_delay_mail(World *w, int64_t us)
{
  for (guint i = 0; i < w->mail->len; i++)
    ((Mail *)w->mail->pdata[i])->at_us += us;
}

bool
world_report(World *w, NcController *c, const char *node, const char *name, NcReportState state, GError **error)
{
  const NcAttemptReport report = { .node = node, .name = name, .state = state };
  return nc_controller_report(c, &report, error);
}

/* --- life --- */

static int64_t
world_now(void *clock)
{
  return ((World *)clock)->now_us;
}

World *
world_new(uint32_t seed)
{
  World *w = g_new0(World, 1);

  w->now_us = nc_wall_us();
  w->random = g_rand_new_with_seed(seed);
  w->least_run_us = 2 * SECOND;
  w->most_run_us = 20 * SECOND;
  w->attempts = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, attempt_free);
  w->order = g_ptr_array_new();
  w->places = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  w->moves = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  w->needs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  w->rooms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  w->dead = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  w->mail = g_ptr_array_new_with_free_func(mail_free);
  w->tells = 0.2;
  w->cluster = 5;
  w->node_in = w->node_out = 2;
  w->sends_left = -1;
  db_make(&w->bed);
  w->bed.db = db_open(&w->bed);
  w->options = (NcControllerOptions)NC_CONTROLLER_OPTIONS_DEFAULT;
  w->options.now_us = world_now;
  w->options.clock = w;
  return w;
}

void
world_free(World *w)
{
  nc_controller_free(w->controller);
  db_teardown(&w->bed, NULL);
  g_ptr_array_unref(w->mail);
  g_ptr_array_unref(w->order);
  g_hash_table_unref(w->attempts);
  g_hash_table_unref(w->places);
  g_hash_table_unref(w->moves);
  g_hash_table_unref(w->needs);
  g_hash_table_unref(w->rooms);
  g_hash_table_unref(w->dead);
  g_rand_free(w->random);
  g_free(w);
}

NcController *
world_controller(World *w, NcFleetDb *db, const char *name)
{
  w->options.name = name;
  w->options.limits.cluster = w->cluster;
  w->options.limits.node_in = w->node_in;
  w->options.limits.node_out = w->node_out;
  return nc_controller_new(db, &w->options, &world_port, w);
}

void
world_lead(World *w)
{
  g_autoptr(GError) error = NULL;

  w->controller = world_controller(w, w->bed.db, "c");
  assert_works(nc_controller_step(w->controller, &error), error);
  g_assert_true(nc_controller_leads(w->controller));
}

void
world_end_lease(NcFleetDb *db)
{
  g_autoptr(GError) error = NULL;
  NcFleetLease lease;

  assert_works(nc_fleetdb_look_at_lease(db, &lease, &error), error);
  assert_works(nc_fleetdb_release_lease(db, lease.holder, lease.epoch, &error), error);
}

void
world_kill(World *w)
{
  nc_controller_free(w->controller);
  w->controller = NULL;
  nc_fleetdb_close(w->bed.db);
  w->bed.db = db_open(&w->bed);
  world_end_lease(w->bed.db);
}

void
world_add_node(World *w, const char *name, uint64_t memory_gib)
{
  g_autoptr(GError) error = NULL;
  const uint64_t memory = memory_gib * GIB;
  const NcNodeRecord node = { .name = name,
                              .address = "198.51.100.1:7420",
                              .capacity = { .memory_bytes = memory, .disk_bytes = 1000 * GIB, .cpus = 1000 },
                              .rate_bps = 125000000 };

  assert_works(nc_controller_put_node(w->controller, &node, &error), error);
  g_hash_table_insert(w->rooms, g_strdup(name), g_memdup2(&memory, sizeof memory));
}

void
world_add_machine(World *w, const char *name, const char *node, uint64_t memory_gib, NcPriority priority)
{
  g_autoptr(GError) error = NULL;
  const uint64_t memory = memory_gib * GIB;
  const NcMachineRecord machine = { .name = name,
                                    .node = node,
                                    .epoch = 1,
                                    .state = "running",
                                    .need = { .memory_bytes = memory, .disk_bytes = GIB, .cpus = 1 },
                                    .priority = priority };

  assert_works(nc_controller_see_machines(w->controller, &machine, 1, &error), error);
  g_hash_table_insert(w->needs, g_strdup(name), g_memdup2(&memory, sizeof memory));
  g_hash_table_insert(w->places, g_strdup(name), g_strdup(node));
}

const char *
world_place(World *w, const char *machine)
{
  return g_hash_table_lookup(w->places, machine);
}

unsigned
world_running(World *w)
{
  unsigned count = 0;
  for (guint i = 0; i < w->order->len; i++)
    count += is_running(w->order->pdata[i]);
  return count;
}

void
world_kill_agent(World *w, const char *node, int64_t for_us)
{
  int64_t until_us = w->now_us + for_us;
  g_hash_table_insert(w->dead, g_strdup(node), g_memdup2(&until_us, sizeof until_us));
}
