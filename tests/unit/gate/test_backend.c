/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation with novacrond: out of order, silent, broken, gone and back. */
#include "base/io.h"
#include "base/msg.h"
#include "gate/backend.h"
#include "gate/gate_limits.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
  char *dir, *path;
  int listener;
  NcBackend *backend;
} Fixture;

typedef struct {
  GMutex lock;
  GCond cond;
  bool done;
  json_t *result;
  GError *error;
} Call;

static void
on_end(json_t *result, const GError *error, void *data)
{
  Call *call = data;
  g_mutex_lock(&call->lock);
  g_assert_false(call->done); /* exactly once */
  call->done = true;
  call->result = json_incref(result);
  call->error = error ? g_error_copy(error) : NULL;
  g_cond_signal(&call->cond);
  g_mutex_unlock(&call->lock);
}

static void
await(Call *call)
{
  gint64 limit = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
  g_mutex_lock(&call->lock);
  while (!call->done)
    g_assert_true(g_cond_wait_until(&call->cond, &call->lock, limit));
  g_mutex_unlock(&call->lock);
}

static void
call_clear(Call *call)
{
  json_decref(call->result);
  g_clear_error(&call->error);
}

static bool
start(Fixture *f, Call *call, const char *op, unsigned answer_ms, GError **error)
{
  nc_autojson json_t *identity = json_object(), *args = json_object();
  return nc_backend_call(f->backend, op, identity, args, answer_ms, on_end, call, error);
}

static void
set_up(Fixture *f, gconstpointer data)
{
  f->dir = g_dir_make_tmp("nc-gate-XXXXXX", NULL);
  f->path = g_build_filename(f->dir, "control.sock", NULL);
  f->listener = nc_unix_listen(f->path, 0600, NULL);
  g_assert_cmpint(f->listener, >=, 0);
  f->backend = nc_backend_new(f->path, NULL);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
  nc_backend_free(f->backend);
  nc_fd_clear(&f->listener);
  g_unlink(f->path);
  g_rmdir(f->dir);
  g_free(f->path);
  g_free(f->dir);
}

static int64_t
take_request(int fd, const char *op)
{
  nc_autojson json_t *request = nc_msg_recv(fd, 10000, NULL, NULL);
  g_assert_nonnull(request);
  g_assert_cmpstr(nc_json_string_or(request, "op", ""), ==, op);
  return nc_json_int_or(request, "id", 0);
}

static void
answer(int fd, int64_t id, const char *text)
{
  nc_autojson json_t *message = json_pack("{s:I, s:b, s:{s:s}}", "id", (json_int_t)id, "ok", 1, "result", "text", text);
  g_assert_true(nc_msg_send(fd, message, -1, NULL));
}

static void
test_answers_find_their_requests(Fixture *f, gconstpointer data)
{
  Call a = { 0 }, b = { 0 };
  g_assert_true(start(f, &a, "op.a", 10000, NULL));
  nc_autofd int fd = accept(f->listener, NULL, NULL);
  int64_t id_a = take_request(fd, "op.a");
  g_assert_true(start(f, &b, "op.b", 10000, NULL));
  int64_t id_b = take_request(fd, "op.b");
  answer(fd, 4711, "nobody asked");
  answer(fd, id_b, "b");
  answer(fd, id_a, "a");
  await(&a);
  await(&b);
  g_assert_cmpstr(nc_json_string_or(a.result, "text", ""), ==, "a");
  g_assert_cmpstr(nc_json_string_or(b.result, "text", ""), ==, "b");
  call_clear(&a);
  call_clear(&b);
}

static void
test_refusal_keeps_its_code(Fixture *f, gconstpointer data)
{
  Call call = { 0 };
  g_assert_true(start(f, &call, "op", 10000, NULL));
  nc_autofd int fd = accept(f->listener, NULL, NULL);
  int64_t id = take_request(fd, "op");
  nc_autojson json_t *refusal = json_pack("{s:I, s:b, s:{s:s, s:s}}", "id", (json_int_t)id, "ok", 0, "error", "code",
                                          "unsuitable", "message", "no such CPU");
  g_assert_true(nc_msg_send(fd, refusal, -1, NULL));
  await(&call);
  g_assert_error(call.error, NC_ERROR, NC_ERROR_UNSUITABLE);
  g_assert_cmpstr(call.error->message, ==, "no such CPU");
  call_clear(&call);
}

static void
test_silence_ends_in_a_timeout(Fixture *f, gconstpointer data)
{
  Call late = { 0 }, next = { 0 };
  g_assert_true(start(f, &late, "op", 200, NULL));
  nc_autofd int fd = accept(f->listener, NULL, NULL);
  int64_t id_late = take_request(fd, "op");
  await(&late);
  g_assert_error(late.error, NC_ERROR, NC_ERROR_TIMEOUT);
  g_assert_true(start(f, &next, "op", 10000, NULL));
  int64_t id_next = take_request(fd, "op");
  answer(fd, id_late, "too late"); /* nobody waits: dropped */
  answer(fd, id_next, "in time");
  await(&next);
  g_assert_cmpstr(nc_json_string_or(next.result, "text", ""), ==, "in time");
  call_clear(&late);
  call_clear(&next);
}

static void
test_lost_connection_fails_what_was_sent(Fixture *f, gconstpointer data)
{
  Call lost = { 0 }, again = { 0 };
  g_assert_true(start(f, &lost, "op", 10000, NULL));
  nc_autofd int fd = accept(f->listener, NULL, NULL);
  take_request(fd, "op");
  nc_fd_clear(&fd);
  await(&lost);
  g_assert_error(lost.error, NC_ERROR, NC_ERROR_UNREACHABLE);
  g_assert_true(start(f, &again, "op", 10000, NULL));
  fd = accept(f->listener, NULL, NULL);
  int64_t id = take_request(fd, "op");
  answer(fd, id, "back");
  await(&again);
  g_assert_cmpstr(nc_json_string_or(again.result, "text", ""), ==, "back");
  call_clear(&lost);
  call_clear(&again);
}

/* novacrond restarts while nobody asks: the next request must not pay for it. */
static void
test_restart_between_requests_goes_unnoticed(Fixture *f, gconstpointer data)
{
  for (int i = 0; i < 5; i++) {
    Call call = { 0 };
    g_assert_true(start(f, &call, "op", 10000, NULL));
    nc_autofd int fd = accept(f->listener, NULL, NULL);
    int64_t id = take_request(fd, "op");
    answer(fd, id, "x");
    await(&call);
    g_assert_no_error(call.error);
    call_clear(&call);
  }
}

static void
test_nonsense_ends_the_connection(Fixture *f, gconstpointer data)
{
  static const struct {
    const char *bytes;
    size_t length;
  } nonsense[] = {
    { "\xff\xff\xff\xff", 4 }, { "\0\0\0\0", 4 },   { "\0\0\0\2[]", 6 },
    { "\0\0\0\2{x", 6 },       { "\0\0\0\2{}", 6 }, { "\0\0\0\x0a{\"id\":\"x\"}", 14 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(nonsense); i++) {
    Call call = { 0 };
    g_assert_true(start(f, &call, "op", 10000, NULL));
    nc_autofd int fd = accept(f->listener, NULL, NULL);
    take_request(fd, "op");
    g_assert_true(nc_write_all(fd, nonsense[i].bytes, nonsense[i].length, NULL));
    await(&call);
    g_assert_error(call.error, NC_ERROR, NC_ERROR_UNREACHABLE);
    call_clear(&call);
  }
}

static void
test_nobody_there(Fixture *f, gconstpointer data)
{
  Call call = { 0 };
  nc_fd_clear(&f->listener);
  g_assert_true(start(f, &call, "op", 10000, NULL));
  await(&call);
  g_assert_error(call.error, NC_ERROR, NC_ERROR_UNREACHABLE);
  g_assert_nonnull(strstr(call.error->message, "is it running?"));
  call_clear(&call);
}

static void
test_too_many_under_way(Fixture *f, gconstpointer data)
{
  static Call calls[NC_GATE_PENDING + 1];
  g_autoptr(GError) error = NULL;
  for (size_t i = 0; i < NC_GATE_PENDING; i++)
    g_assert_true(start(f, &calls[i], "op", 60000, NULL));
  g_assert_false(start(f, &calls[NC_GATE_PENDING], "op", 60000, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  nc_backend_stop(f->backend);
  for (size_t i = 0; i < NC_GATE_PENDING; i++) {
    g_assert_error(calls[i].error, NC_ERROR, NC_ERROR_UNREACHABLE);
    call_clear(&calls[i]);
  }
  g_assert_false(start(f, &calls[NC_GATE_PENDING], "op", 60000, NULL)); /* stopped */
}

#define ADD(name) g_test_add("/gate/backend/" #name, Fixture, NULL, set_up, test_##name, tear_down)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD(answers_find_their_requests);
  ADD(refusal_keeps_its_code);
  ADD(silence_ends_in_a_timeout);
  ADD(lost_connection_fails_what_was_sent);
  ADD(restart_between_requests_goes_unnoticed);
  ADD(nonsense_ends_the_connection);
  ADD(nobody_there);
  ADD(too_many_under_way);
  return g_test_run();
}
