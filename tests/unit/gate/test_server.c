/* SPDX-License-Identifier: Apache-2.0 */
/* A whole server on a UNIX socket, with a novacrond that only talks: the way of a request that becomes a WebSocket, and back. */
#include "base/bytes.h"
#include "base/io.h"
#include "base/msg.h"
#include "gate/server.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

typedef struct {
  char *dir, *control, *api;
  int listener;
  GThread *novacrond;
  NcBackend *backend;
  NcConnections *connections;
  NcWatchers *watchers;
  NcAccess access;
  NcServer *server;
  gint ended; /* atomic */
  gint held;  /* atomic: 1: the next question waits until it is 0; 2: it waits */
} Fixture;

static json_t *
answer_to(Fixture *f, json_t *request)
{
  json_t *id = json_object_get(request, "id"), *args = json_object_get(request, "args");
  int64_t since = nc_json_int_or(args, "since", 0);

  if (g_atomic_int_compare_and_exchange(&f->held, 1, 2))
    while (g_atomic_int_get(&f->held) != 0)
      g_usleep(1000);
  if (g_str_equal(nc_json_string_or(args, "id", ""), "m-none"))
    return json_pack("{s:O, s:b, s:{s:s, s:s}}", "id", id, "ok", 0, "error", "code", "not_found", "message", "there is none");
  json_t *events = json_array();
  for (int64_t i = since + 1; i <= 3; i++)
    json_array_append_new(events, json_pack("{s:I, s:s, s:{}}", "id", (json_int_t)i, "type", "event", "data"));
  return json_pack("{s:O, s:b, s:{s:o, s:{s:i}, s:b}}", "id", id, "ok", 1, "result", "events", events, "progress", "progress", 1, "ended",
                   g_atomic_int_get(&f->ended));
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
      nc_autojson json_t *answer = request ? answer_to(f, request) : NULL;
      if (!answer || !nc_msg_send(fd, answer, -1, NULL))
        break;
    }
  }
}

static void
set_up(Fixture *f, gconstpointer data)
{
  static const NcWatchLimits limits = { .watchers = 3, .things = 10, .ask_ms = 20, .ping_ms = 60000, .silence_ms = 60000 };
  static char *origins[] = { (char *)"https://ops.example", NULL };

  f->dir = g_dir_make_tmp("nc-gate-XXXXXX", NULL);
  f->control = g_build_filename(f->dir, "control.sock", NULL);
  f->api = g_build_filename(f->dir, "api.sock", NULL);
  f->listener = nc_unix_listen(f->control, 0600, NULL);
  f->novacrond = g_thread_new("novacrond", novacrond_main, f);
  f->backend = nc_backend_new(f->control, NULL);
  f->connections = nc_connections_new();
  f->watchers = nc_watchers_new(f->backend, &limits, NULL);
  f->access.own_uid = geteuid();
  const NcServerDeps deps = { f->backend, f->connections, &f->access, f->watchers, origins };
  f->server = nc_server_new(nc_unix_listen(f->api, 0600, NULL), NULL, &deps, NULL);
  g_assert_nonnull(f->server);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
  nc_backend_stop(f->backend);
  nc_watchers_stop(f->watchers);
  nc_server_free(f->server);
  nc_watchers_free(f->watchers);
  nc_backend_free(f->backend);
  nc_connections_free(f->connections);
  shutdown(f->listener, SHUT_RDWR);
  g_thread_join(f->novacrond);
  nc_fd_clear(&f->listener);
  g_unlink(f->control);
  g_unlink(f->api);
  g_rmdir(f->dir);
  g_free(f->control);
  g_free(f->api);
  g_free(f->dir);
}

/* Sends a handshake for ${path} with ${more} headers, reads the head of the answer: its status, and all of it as text. */
static unsigned
shake(Fixture *f, int *ret_fd, const char *path, const char *more, char **ret_text)
{
  g_autoptr(GString) head = g_string_new(NULL);
  g_autofree char *request = g_strdup_printf("GET /api/v2/migrations/%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n%s\r\n",
                                             path, more);
  char c;

  *ret_fd = nc_unix_connect(f->api, NULL);
  g_assert_cmpint(*ret_fd, >=, 0);
  g_assert_true(nc_write_all(*ret_fd, request, strlen(request), NULL));
  while (!g_str_has_suffix(head->str, "\r\n\r\n")) {
    g_assert_true(nc_read_all(*ret_fd, &c, 1, 10000, NULL));
    g_string_append_c(head, c);
  }
  unsigned status = (unsigned)g_ascii_strtoull(head->str + strlen("HTTP/1.1 "), NULL, 10);
  g_test_message("%s: %u", path, status);
  if (ret_text)
    *ret_text = g_string_free(g_steal_pointer(&head), FALSE);
  return status;
}

static unsigned
read_frame(int fd, unsigned *ret_code)
{
  uint8_t head[4], payload[70000];

  if (!nc_read_all(fd, head, 2, 10000, NULL))
    return 0;
  size_t length = head[1];
  if (length == 126) {
    g_assert_true(nc_read_all(fd, head + 2, 2, 10000, NULL));
    length = nc_be16(head + 2);
  }
  g_assert_true(length == 0 || nc_read_all(fd, payload, length, 10000, NULL));
  *ret_code = length >= 2 ? nc_be16(payload) : 0;
  return head[0] & 15;
}

static unsigned
read_close(int fd)
{
  unsigned opcode, code = 0;

  while ((opcode = read_frame(fd, &code)) != 8)
    g_assert_cmpuint(opcode, ==, 1);
  return code;
}

static void
test_from_request_to_watcher_and_back(Fixture *f, gconstpointer data)
{
  g_autofree char *text = NULL;
  nc_autofd int fd = -1;
  unsigned code;
  char c;

  g_assert_cmpuint(shake(f, &fd, "m-1/ws?since=1", "", &text), ==, 101);
  g_assert_nonnull(strstr(text, "Sec-WebSocket-Accept: " ACCEPT "\r\n"));
  for (int i = 0; i < 3; i++) /* two events and a sample */
    g_assert_cmpuint(read_frame(fd, &code), ==, 1);
  g_atomic_int_set(&f->ended, 1);
  g_assert_cmpuint(read_close(fd), ==, 1000);
  g_assert_true(nc_write_all(fd, "\x88\x82\0\0\0\0\x03\xe8", 8, NULL));
  g_assert_false(nc_read_all(fd, &c, 1, 10000, NULL)); /* the server closes */
}

static void
test_refusals(Fixture *f, gconstpointer data)
{
  static const struct {
    const char *path, *more;
    unsigned status;
  } cases[] = {
    { "m-none/ws", "", 404 },
    { "m-1/ws?since=x", "", 400 },
    { "m-1/ws?since=-1", "", 400 },
    { "m-1/ws", "Origin: https://evil.example\r\n", 403 },
    { "m-1/ws", "Origin: https://ops.example\r\n", 101 },
    { "m-1/ws", "Sec-WebSocket-Version: 13\r\n", 426 },
    { "m-1/ws", "Sec-WebSocket-Key: " KEY "\r\n", 400 },
    { "m-1/status", "", 200 }, /* who may become a WebSocket need not */
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    nc_autofd int fd = -1;
    g_assert_cmpuint(shake(f, &fd, cases[i].path, cases[i].more, NULL), ==, cases[i].status);
  }
}

static void
test_places(Fixture *f, gconstpointer data)
{
  int fds[3], fd;
  unsigned status = 0;

  for (int i = 0; i < 3; i++)
    g_assert_cmpuint(shake(f, &fds[i], "m-1/ws", "", NULL), ==, 101);
  g_assert_cmpuint(shake(f, &fd, "m-1/ws", "", NULL), ==, 503);
  close(fd);
  close(fds[0]);
  for (int i = 0; i < 1000 && status != 101; i++) { /* it takes a moment to be seen */
    g_usleep(10000);
    status = shake(f, &fd, "m-1/ws", "", NULL);
    close(fd);
  }
  g_assert_cmpuint(status, ==, 101);
  close(fds[1]);
  close(fds[2]);
}

/* With watchers, and with one whose client has gone, the server stops in order. */
static void
test_stopping(Fixture *f, gconstpointer data)
{
  int fds[2];

  for (int i = 0; i < 2; i++)
    g_assert_cmpuint(shake(f, &fds[i], "m-1/ws", "", NULL), ==, 101);
  close(fds[1]);
  nc_backend_stop(f->backend);
  nc_watchers_stop(f->watchers);
  g_assert_cmpuint(read_close(fds[0]), ==, 1001);
  close(fds[0]);
}

static gpointer
stop_watchers(gpointer data)
{
  Fixture *f = data;

  while (g_atomic_int_get(&f->held) != 2)
    g_usleep(1000);
  nc_watchers_stop(f->watchers);
  g_atomic_int_set(&f->held, 0);
  return NULL;
}

/* The place was reserved before watchers were stopped, the handshake goes through behind it. */
static void
test_stopping_overtakes_a_handshake(Fixture *f, gconstpointer data)
{
  nc_autofd int fd = -1;
  char c;

  g_atomic_int_set(&f->held, 1);
  GThread *stopper = g_thread_new("stopper", stop_watchers, f);
  g_assert_cmpuint(shake(f, &fd, "m-1/ws", "", NULL), ==, 101);
  g_assert_cmpuint(read_close(fd), ==, 1001);
  g_assert_false(nc_read_all(fd, &c, 1, 10000, NULL));
  g_thread_join(stopper);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add("/gate/server/watcher", Fixture, NULL, set_up, test_from_request_to_watcher_and_back, tear_down);
  g_test_add("/gate/server/refusals", Fixture, NULL, set_up, test_refusals, tear_down);
  g_test_add("/gate/server/places", Fixture, NULL, set_up, test_places, tear_down);
  g_test_add("/gate/server/stopping", Fixture, NULL, set_up, test_stopping, tear_down);
  g_test_add("/gate/server/stopping-overtakes-a-handshake", Fixture, NULL, set_up, test_stopping_overtakes_a_handshake, tear_down);
  return g_test_run();
}
