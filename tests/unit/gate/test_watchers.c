/* SPDX-License-Identifier: Apache-2.0 */
/* Many who watch one migration, over real sockets, of a novacrond that only talks. */
#include "base/bytes.h"
#include "base/io.h"
#include "base/msg.h"
#include "gate/watchers.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
  char *dir, *path;
  int listener;
  GThread *novacrond;
  NcBackend *backend;
  NcWatchers *watchers;
  gint asked;  /* atomic: how often novacrond was */
  gint events; /* atomic: how many there are */
  gint ended, missing, over; /* atomic */
  gint first_since; /* atomic: that the first question about the fleet gave; -1: none */
} Fixture;

static const NcWatched m1 = { "migration.watch", "m-1" }, m3 = { "migration.watch", "m-3" }, fleet = { "fleet.watch", "" };

/* Of the fleet there are events 5001 and so on; without `since` it begins with the last two. */
static json_t *
answer_of_fleet(Fixture *f, json_t *request)
{
  json_t *args = json_object_get(request, "args"), *events = json_array();
  int64_t newest = 5000 + g_atomic_int_get(&f->events), since = nc_json_int_or(args, "since", newest - 2);

  g_assert_null(json_object_get(args, "id"));
  if (g_atomic_int_add(&f->asked, 1) == 0)
    g_atomic_int_set(&f->first_since, (gint)nc_json_int_or(args, "since", -1));
  for (int64_t i = MAX(since, 5000) + 1; i <= newest; i++)
    json_array_append_new(events, json_pack("{s:I, s:s, s:{s:s}}", "id", (json_int_t)i, "type", "event", "data", "event", "x"));
  return json_pack("{s:O, s:b, s:{s:o, s:I}}", "id", json_object_get(request, "id"), "ok", 1, "result", "events", events, "from",
                   (json_int_t)MAX(since, 5000));
}

static json_t *
answer_to(Fixture *f, json_t *request)
{
  if (g_str_equal(nc_json_string_or(request, "op", ""), "fleet.watch"))
    return answer_of_fleet(f, request);
  int64_t since = nc_json_int_or(json_object_get(request, "args"), "since", -1);
  int have = g_atomic_int_get(&f->events), asked = g_atomic_int_add(&f->asked, 1);

  g_assert_cmpstr(nc_json_string_or(request, "op", ""), ==, "migration.watch");
  if (g_atomic_int_get(&f->missing))
    return json_pack("{s:O, s:b, s:{s:s, s:s}}", "id", json_object_get(request, "id"), "ok", 0, "error", "code", "not_found", "message",
                     "there is no such migration");
  json_t *events = json_array();
  for (int64_t i = since + 1; i <= have; i++)
    json_array_append_new(events, json_pack("{s:I, s:s, s:{s:s}}", "id", (json_int_t)i, "type", "event", "data", "event", "x"));
  return json_pack("{s:O, s:b, s:{s:o, s:{s:i}, s:b}}", "id", json_object_get(request, "id"), "ok", 1, "result", "events", events,
                   "progress", "progress", asked, "ended", g_atomic_int_get(&f->ended));
}

static gpointer
novacrond_main(gpointer data)
{
  Fixture *f = data;

  for (;;) {
    nc_autofd int fd = accept(f->listener, NULL, NULL);
    if (fd < 0)
      return NULL;
    for (;;) {
      nc_autojson json_t *request = nc_msg_recv(fd, -1, NULL, NULL);
      if (!request)
        break;
      nc_autojson json_t *answer = answer_to(f, request);
      if (!nc_msg_send(fd, answer, -1, NULL))
        break;
    }
  }
}

static void
set_up(Fixture *f, gconstpointer data)
{
  static const NcWatchLimits usual = { .watchers = 300, .things = 2, .fleet_things = 1, .ask_ms = 20, .fleet_ask_ms = 20, .ping_ms = 60000, .silence_ms = 60000 };

  f->dir = g_dir_make_tmp("nc-gate-XXXXXX", NULL);
  f->path = g_build_filename(f->dir, "control.sock", NULL);
  f->listener = nc_unix_listen(f->path, 0600, NULL);
  g_assert_cmpint(f->listener, >=, 0);
  f->novacrond = g_thread_new("novacrond", novacrond_main, f);
  f->backend = nc_backend_new(f->path, NULL);
  f->watchers = nc_watchers_new(f->backend, data ? data : &usual, NULL);
  g_assert_nonnull(f->watchers);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
  nc_backend_stop(f->backend);
  nc_watchers_free(f->watchers);
  nc_backend_free(f->backend);
  shutdown(f->listener, SHUT_RDWR);
  g_thread_join(f->novacrond);
  nc_fd_clear(&f->listener);
  g_unlink(f->path);
  g_rmdir(f->dir);
  g_free(f->path);
  g_free(f->dir);
}

/* A watcher's own end of its socket; what it reads is cut into messages. */
typedef struct {
  Fixture *fixture;
  int ours, theirs;
} Client;

static void
on_over(void *data)
{
  Client *client = data;
  close(client->theirs);
  g_atomic_int_inc(&client->fixture->over);
}

static void
watch_what(Fixture *f, Client *client, NcWatched what, int64_t since, const char *early, size_t early_bytes)
{
  int pair[2];
  bool known;
  g_autoptr(GError) error = NULL;

  g_assert_true(nc_watchers_reserve(f->watchers, NULL, &what, &known, &error));
  g_assert_no_error(error);
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  *client = (Client){ f, pair[0], pair[1] };
  const NcWatcherOrder order = { .what = what, .since = since, .fd = pair[1], .over = on_over, .data = client };
  nc_watchers_add(f->watchers, &order, early, early_bytes);
}

static void
watch_with(Fixture *f, Client *client, const char *id, int64_t since, const char *early, size_t early_bytes)
{
  watch_what(f, client, (NcWatched){ "migration.watch", id }, since, early, early_bytes);
}

static void
watch(Fixture *f, Client *client, int64_t since)
{
  watch_with(f, client, "m-1", since, NULL, 0);
}

/* One frame; its opcode, 0: closed. *ret_id: of a message; of a close its code. */
static unsigned
read_frame(Client *client, int *ret_id)
{
  uint8_t head[4], payload[70000];
  g_autoptr(GError) error = NULL;

  *ret_id = -1;
  if (!nc_read_all(client->ours, head, 2, 10000, &error)) {
    g_assert_cmpint(error->code, ==, NC_ERROR_IO);
    return 0;
  }
  size_t length = head[1];
  if (length == 126) {
    g_assert_true(nc_read_all(client->ours, head + 2, 2, 10000, NULL));
    length = nc_be16(head + 2);
  }
  g_assert_true(length == 0 || nc_read_all(client->ours, payload, length, 10000, NULL));
  if ((head[0] & 15) == 8 && length >= 2)
    *ret_id = nc_be16(payload);
  if ((head[0] & 15) == 1) {
    nc_autojson json_t *message = json_loadb((const char *)payload, length, 0, NULL);
    g_assert_nonnull(message);
    if (!g_str_equal(nc_json_string_or(message, "type", ""), "progress"))
      *ret_id = (int)nc_json_int_or(message, "id", -1);
  }
  return head[0] & 15;
}

/* Reads past samples and pings. */
static void
expect_event(Client *client, int id)
{
  int got = -1;
  while (got < 0)
    g_assert_cmpuint(read_frame(client, &got), !=, 0);
  g_assert_cmpint(got, ==, id);
}

static void
expect_close(Client *client, int code)
{
  int got = -1;
  while (read_frame(client, &got) != 8)
    ;
  g_assert_cmpint(got, ==, code);
}

static void
await_over(Fixture *f, int count)
{
  for (int i = 0; g_atomic_int_get(&f->over) < count; i++) {
    g_assert_cmpint(i, <, 2000);
    g_usleep(5000);
  }
  g_assert_cmpint(g_atomic_int_get(&f->over), ==, count);
}

static void
test_what_is_told(Fixture *f, gconstpointer data)
{
  Client a, b;

  g_atomic_int_set(&f->events, 3);
  watch(f, &a, 0);
  for (int i = 1; i <= 3; i++)
    expect_event(&a, i);
  watch(f, &b, 2);
  expect_event(&b, 3);
  g_atomic_int_set(&f->events, 5);
  for (int i = 4; i <= 5; i++) {
    expect_event(&a, i);
    expect_event(&b, i);
  }
  close(a.ours);
  await_over(f, 1);
  g_atomic_int_set(&f->ended, 1);
  expect_close(&b, 1000);
  close(b.ours);
  await_over(f, 2);
}

static const NcWatchLimits lazy = { .watchers = 300, .things = 2, .ask_ms = 3600000, .ping_ms = 60000, .silence_ms = 60000 };

/* 200 watchers, and novacrond is asked as often as for one. */
static void
test_many_cost_no_more_questions(Fixture *f, gconstpointer data)
{
  enum { N = 200 };
  g_autofree Client *clients = g_new0(Client, N);

  g_atomic_int_set(&f->events, 5);
  for (int i = 0; i < N; i++)
    watch(f, &clients[i], i % 5);
  for (int i = 0; i < N; i++)
    for (int id = i % 5 + 1; id <= 5; id++)
      expect_event(&clients[i], id);
  g_assert_cmpint(g_atomic_int_get(&f->asked), ==, 1);
  for (int i = 0; i < N; i++)
    close(clients[i].ours);
  await_over(f, N);
}

static void
test_slow_reader(Fixture *f, gconstpointer data)
{
  Client slow, quick;
  int small = 4096, samples = 0, got = 0;

  watch(f, &quick, 0);
  watch(f, &slow, 0);
  setsockopt(slow.theirs, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  for (int i = 1; i <= 400; i++) {
    if (i % 8 == 1)
      g_atomic_int_set(&f->events, i + 7);
    expect_event(&quick, i); /* the quick one is not held up */
  }
  /* The slow one gets every event, and fewer samples than there were. */
  for (int i = 1; i <= 400;) {
    unsigned opcode = read_frame(&slow, &got);
    g_assert_cmpuint(opcode, !=, 0);
    if (opcode == 1 && got >= 0)
      g_assert_cmpint(got, ==, i++);
    else
      samples++;
  }
  g_assert_cmpint(samples, <=, g_atomic_int_get(&f->asked));
  close(slow.ours);
  close(quick.ours);
  await_over(f, 2);
}

static void
test_what_clients_say(Fixture *f, gconstpointer data)
{
  static const char ping[] = "\x89\x85\0\0\0\0hello";
  Client polite, leaving, talking, early, flooding;
  int got;

  watch(f, &polite, 0);
  g_assert_true(nc_write_all(polite.ours, ping, sizeof ping - 1, NULL));
  while (read_frame(&polite, &got) != 10)
    ;
  watch(f, &leaving, 0);
  g_assert_true(nc_write_all(leaving.ours, "\x88\x82\0\0\0\0\x03\xe8", 8, NULL));
  expect_close(&leaving, 1000);
  watch(f, &talking, 0);
  g_assert_true(nc_write_all(talking.ours, "\x81\x82\0\0\0\0hi", 8, NULL));
  expect_close(&talking, 1003);
  watch_with(f, &early, "m-1", 0, "\x89\x00", 2); /* came behind the handshake */
  expect_close(&early, 1002);
  watch(f, &flooding, 0);
  for (int i = 0; i < 1000; i++)
    if (!nc_write_all(flooding.ours, ping, sizeof ping - 1, NULL))
      break;
  expect_close(&flooding, 1008);
  close(polite.ours);
  close(leaving.ours);
  close(talking.ours);
  close(early.ours);
  close(flooding.ours);
  await_over(f, 5);
}

static void
test_places_are_bounded(Fixture *f, gconstpointer data)
{
  g_autofree Client *clients = g_new0(Client, 300);
  g_autoptr(GError) error = NULL, other = NULL;
  bool known;

  for (int i = 0; i < 299; i++)
    watch_with(f, &clients[i], i % 2 ? "m-1" : "m-2", 0, NULL, 0);
  g_assert_false(nc_watchers_reserve(f->watchers, NULL, &m3, &known, &error)); /* a third migration */
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  watch(f, &clients[299], 0);
  g_assert_false(nc_watchers_reserve(f->watchers, NULL, &m1, &known, &other));
  g_assert_error(other, NC_ERROR, NC_ERROR_RESOURCE);
  close(clients[0].ours);
  await_over(f, 1);
  watch(f, &clients[0], 0);
  g_assert_false(nc_watchers_reserve(f->watchers, NULL, &m1, &known, NULL));
  for (int i = 0; i < 300; i++)
    close(clients[i].ours);
  await_over(f, 301);
  g_assert_true(nc_watchers_reserve(f->watchers, NULL, &m1, &known, NULL));
  nc_watchers_release(f->watchers, NULL);
}

static const NcWatchLimits few = { .watchers = 300, .per_client = 2, .things = 2, .fleet_things = 1, .ask_ms = 20, .fleet_ask_ms = 20, .ping_ms = 60000, .silence_ms = 60000 };

static void
test_places_of_one_client(Fixture *f, gconstpointer data)
{
  Client client;
  bool known;
  int pair[2];
  g_autoptr(GError) error = NULL;

  g_assert_true(nc_watchers_reserve(f->watchers, "192.0.2.1", &m1, &known, NULL));
  g_assert_true(nc_watchers_reserve(f->watchers, "192.0.2.1", &m1, &known, NULL));
  g_assert_false(nc_watchers_reserve(f->watchers, "192.0.2.1", &m1, &known, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  g_assert_true(nc_watchers_reserve(f->watchers, "192.0.2.2", &m1, &known, NULL)); /* others may, and local users */
  g_assert_true(nc_watchers_reserve(f->watchers, NULL, &m1, &known, NULL));
  nc_watchers_release(f->watchers, "192.0.2.1");
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  client = (Client){ f, pair[0], pair[1] };
  const NcWatcherOrder order = { .what = m1, .client = "192.0.2.1", .fd = pair[1], .over = on_over, .data = &client };
  nc_watchers_add(f->watchers, &order, NULL, 0);
  g_assert_true(nc_watchers_reserve(f->watchers, "192.0.2.1", &m1, &known, NULL));
  g_assert_false(nc_watchers_reserve(f->watchers, "192.0.2.1", &m1, &known, NULL));
  close(client.ours);
  await_over(f, 1); /* with the watcher goes its place */
  g_assert_true(nc_watchers_reserve(f->watchers, "192.0.2.1", &m1, &known, NULL));
  g_assert_false(nc_watchers_reserve(f->watchers, "192.0.2.1", &m1, &known, NULL));
}

/* One who reads nothing: what is queued in the kernel is bounded, and of what it sends nothing is read once it is to be closed. */
static void
test_who_reads_nothing_and_floods(Fixture *f, gconstpointer data)
{
  static const char pongs[4096 / 6 * 6] = { 0 };
  Client client;
  int queued = 0;
  socklen_t length = sizeof queued;
  ssize_t n, sent = 0;
  struct pollfd p;

  watch(f, &client, 0);
  g_assert_cmpint(getsockopt(client.theirs, SOL_SOCKET, SO_SNDBUF, &queued, &length), ==, 0);
  g_assert_cmpint(queued, <=, 2 * (64 << 10)); /* the kernel doubles it for its own */
  g_atomic_int_set(&f->events, 20000);
  while (g_atomic_int_get(&f->asked) < 3) /* there is more than it takes: the next frame waits */
    g_usleep(1000);
  p = (struct pollfd){ .fd = client.ours, .events = POLLOUT };
  g_autofree char *flood = g_memdup2(pongs, sizeof pongs);
  for (size_t i = 0; i < sizeof pongs; i += 6)
    memcpy(flood + i, "\x8a\x80\0\0\0\0", 6);
  while (poll(&p, 1, 2000) > 0 && (n = send(client.ours, flood, sizeof pongs, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
    sent += n;
    g_assert_cmpint(sent, <, 64 << 20); /* nobody may read all of that */
  }
  g_assert_cmpint(g_atomic_int_get(&f->over), ==, 0);
  expect_close(&client, 1008); /* it is told all the same, once it reads */
  close(client.ours);
  await_over(f, 1);
}

static void
test_a_migration_that_is_not_there(Fixture *f, gconstpointer data)
{
  Client client;

  g_atomic_int_set(&f->missing, 1);
  watch(f, &client, 0);
  expect_close(&client, 1011);
  close(client.ours);
  await_over(f, 1);
}

static const NcWatchLimits impatient = { .watchers = 10, .things = 2, .fleet_things = 1, .ask_ms = 20, .fleet_ask_ms = 20, .ping_ms = 50, .silence_ms = 400 };

/* Who answers pings stays; who does not, or does not read, is let go. */
static void
test_silence(Fixture *f, gconstpointer data)
{
  Client client;
  bool pinged = false;
  unsigned opcode;
  int got;

  watch(f, &client, 0);
  while ((opcode = read_frame(&client, &got)) != 0)
    pinged |= opcode == 9;
  g_assert_true(pinged);
  await_over(f, 1);
  close(client.ours);
}

static void
test_stopping(Fixture *f, gconstpointer data)
{
  Client client, late;
  bool known;

  watch(f, &client, 0);
  g_assert_true(nc_watchers_reserve(f->watchers, NULL, &m1, &known, NULL)); /* its handshake is under way */
  nc_backend_stop(f->backend);
  nc_watchers_stop(f->watchers);
  expect_close(&client, 1001);
  int pair[2];
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  late = (Client){ f, pair[0], pair[1] };
  const NcWatcherOrder order = { .what = m1, .fd = pair[1], .over = on_over, .data = &late };
  nc_watchers_add(f->watchers, &order, NULL, 0);
  expect_close(&late, 1001);
  await_over(f, 2);
  g_assert_false(nc_watchers_reserve(f->watchers, NULL, &m1, &known, NULL));
  close(client.ours);
  close(late.ours);
}

/* Everything that happens in the fleet: from where its first watcher was, or the last of it; a sample there is none of. */
static void
test_the_fleet(Fixture *f, gconstpointer data)
{
  Client newcomer, back, third;
  bool known;
  g_autoptr(GError) error = NULL;

  g_atomic_int_set(&f->events, 4);
  watch_what(f, &newcomer, fleet, -1, NULL, 0);
  expect_event(&newcomer, 5003);
  expect_event(&newcomer, 5004);
  g_assert_cmpint(g_atomic_int_get(&f->first_since), ==, -1);
  watch_what(f, &back, fleet, 5003, NULL, 0);
  expect_event(&back, 5004);
  watch_what(f, &third, fleet, 5000, NULL, 0); /* the feed began behind that */
  int id;
  g_assert_cmpuint(read_frame(&third, &id), ==, 1);
  g_assert_cmpint(id, ==, 5002); /* a gap up to there */
  expect_event(&third, 5003);
  g_atomic_int_set(&f->events, 5);
  expect_event(&newcomer, 5005);
  expect_event(&back, 5005);
  g_assert_false(nc_watchers_reserve(f->watchers, NULL, &(const NcWatched){ "fleet.watch", "eva-1" }, &known, &error)); /* a second thing of the fleet */
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  g_assert_true(nc_watchers_reserve(f->watchers, NULL, &m1, &known, NULL));
  close(newcomer.ours);
  close(back.ours);
  close(third.ours);
  await_over(f, 3);
}

/* The gate was away: who comes back is told what came meanwhile, also the second one, who knows a little less. */
static void
test_the_fleet_taken_up_again(Fixture *f, gconstpointer data)
{
  Client a, b;

  g_atomic_int_set(&f->events, 3);
  watch_what(f, &a, fleet, 5002, NULL, 0);
  expect_event(&a, 5003);
  g_assert_cmpint(g_atomic_int_get(&f->first_since), ==, 4002);
  watch_what(f, &b, fleet, 5001, NULL, 0);
  expect_event(&b, 5002);
  expect_event(&b, 5003);
  close(a.ours);
  close(b.ours);
  await_over(f, 2);
}

#define ADD(name_, func_, data_) g_test_add("/gate/watchers/" name_, Fixture, data_, set_up, func_, tear_down)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD("what-is-told", test_what_is_told, NULL);
  ADD("many-cost-no-more-questions", test_many_cost_no_more_questions, &lazy);
  ADD("slow-reader", test_slow_reader, NULL);
  ADD("what-clients-say", test_what_clients_say, NULL);
  ADD("places-are-bounded", test_places_are_bounded, NULL);
  ADD("places-of-one-client", test_places_of_one_client, &few);
  ADD("who-reads-nothing-and-floods", test_who_reads_nothing_and_floods, NULL);
  ADD("the-fleet", test_the_fleet, NULL);
  ADD("the-fleet-taken-up-again", test_the_fleet_taken_up_again, NULL);
  ADD("not-there", test_a_migration_that_is_not_there, NULL);
  ADD("silence", test_silence, &impatient);
  ADD("stopping", test_stopping, NULL);
  return g_test_run();
}
