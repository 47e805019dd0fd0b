/* SPDX-License-Identifier: Apache-2.0 */
/* Two agents that may talk: messages, threads, ends, and a roster that changes under them. */
#include "support.h"
#include "base/io.h"
#include "crypto/digest.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
  TPair pair;
  int listener;
  char *address;
} Lab;

static void
lab_open(Lab *lab)
{
  t_pair_open(&lab->pair);
  lab->listener = nc_tcp_listen("127.0.0.1:0", NULL);
  lab->address = g_strdup_printf("127.0.0.1:%u", nc_tcp_local_port(lab->listener));
}

static void
lab_close(Lab *lab)
{
  t_pair_close(&lab->pair);
  nc_fd_clear(&lab->listener);
  g_free(lab->address);
}

typedef struct {
  Lab *lab;
  NcPeer *peer;
  GError *error;
} Accepted;

static gpointer
accept_one(gpointer data)
{
  Accepted *accepted = data;
  int fd = nc_tcp_accept(accepted->lab->listener, NULL);

  accepted->peer = nc_peer_accept(accepted->lab->pair.a, fd, T_LIMIT_MS, &accepted->error);
  return NULL;
}

/* node-b connects to node-a. */
static void
meet(Lab *lab, NcPeer **ret_client, NcPeer **ret_server)
{
  g_autoptr(GError) error = NULL;
  Accepted accepted = { .lab = lab };
  GThread *thread = g_thread_new("accept", accept_one, &accepted);

  *ret_client = nc_peer_connect(lab->pair.b, lab->address, "node-a", T_LIMIT_MS, &error);
  g_assert_no_error(error);
  g_thread_join(thread);
  g_assert_no_error(accepted.error);
  *ret_server = accepted.peer;
}

static void
members_talk(void)
{
  Lab lab;
  NcPeer *client, *server;
  g_autoptr(GError) error = NULL;

  lab_open(&lab);
  meet(&lab, &client, &server);
  g_assert_cmpstr(nc_peer_node(client), ==, "node-a");
  g_assert_cmpstr(nc_peer_node(server), ==, "node-b");
  g_assert_cmpstr(nc_peer_address(client), ==, lab.address);
  nc_autojson json_t *hello = json_pack("{s:s, s:s}", "type", "hello", "node", "node-b");
  g_assert_true(nc_peer_send(client, hello, &error));
  g_assert_true(nc_peer_send(client, hello, &error));
  for (int i = 0; i < 2; i++) {
    nc_autojson json_t *got = nc_peer_recv(server, T_LIMIT_MS, &error);
    g_assert_no_error(error);
    g_assert_true(json_equal(got, hello));
  }
  g_assert_null(nc_peer_recv(server, 50, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TIMEOUT);
  g_clear_error(&error);
  g_assert_true(nc_peer_send(server, hello, &error)); /* still of use */
  nc_autojson json_t *answer = nc_peer_recv(client, T_LIMIT_MS, &error);
  g_assert_nonnull(answer);
  nc_peer_free(client);
  g_assert_null(nc_peer_recv(server, T_LIMIT_MS, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_assert_cmpstr(error->message, ==, "closed");
  nc_peer_free(server);
  lab_close(&lab);
}

static void
last_words_arrive_although_nobody_reads_ours(void)
{
  Lab lab;
  NcPeer *client, *server;
  g_autoptr(GError) error = NULL;
  g_autofree char *text = g_strnfill(8000, 'x');
  nc_autojson json_t *message = json_pack("{s:s}", "text", text);

  lab_open(&lab);
  meet(&lab, &client, &server);
  g_assert_true(nc_peer_send(client, message, &error));
  g_assert_true(nc_peer_send(server, message, &error));
  g_usleep(20000);
  nc_peer_free(server);
  nc_autojson json_t *got = nc_peer_recv(client, T_LIMIT_MS, &error);
  g_assert_no_error(error);
  g_assert_true(json_equal(got, message));
  nc_peer_free(client);
  lab_close(&lab);
}

/* --- bytes behind messages --- */

#define BULK (5u << 20) /* more than sockets hold */

typedef struct {
  NcPeer *peer;
  const uint8_t *bytes;
} Bulk;

static gpointer
send_bulk(gpointer data)
{
  Bulk *bulk = data;
  nc_autojson json_t *message = json_pack("{s:s, s:I}", "type", "bulk", "bytes", (json_int_t)BULK);
  g_autoptr(GError) error = NULL;

  for (int i = 0; i < 2; i++)
    g_assert_true(nc_peer_send_with(bulk->peer, message, bulk->bytes, BULK, &error));
  g_assert_true(nc_peer_send_with(bulk->peer, message, bulk->bytes, BULK / 2, &error)); /* and no more */
  nc_peer_shutdown(bulk->peer);
  return NULL;
}

static void
bytes_come_behind_their_message(void)
{
  Lab lab;
  NcPeer *client, *server;
  g_autofree uint8_t *sent = g_malloc(BULK), *got = g_malloc(BULK);
  g_autoptr(GError) error = NULL;

  nc_random_bytes(sent, BULK);
  lab_open(&lab);
  meet(&lab, &client, &server);
  Bulk bulk = { client, sent };
  GThread *thread = g_thread_new("bulk", send_bulk, &bulk);
  for (int i = 0; i < 3; i++) {
    nc_autojson json_t *message = nc_peer_recv(server, T_LIMIT_MS, &error);
    g_assert_no_error(error);
    g_assert_cmpint(nc_json_int_or(message, "bytes", 0), ==, BULK);
    bool whole = nc_peer_recv_bytes(server, got, BULK, &error);
    g_assert_true(whole == (i < 2));
    g_assert_cmpmem(got, whole ? BULK : BULK / 2, sent, whole ? BULK : BULK / 2);
  }
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_thread_join(thread);
  nc_peer_free(client);
  nc_peer_free(server);
  lab_close(&lab);
}

/* --- many threads --- */

enum { SENDERS = 3, MESSAGES = 60 };

typedef struct {
  NcPeer *peer;
  int sender;
} Sender;

static gpointer
send_many(gpointer data)
{
  Sender *sender = data;

  for (int i = 0; i < MESSAGES; i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *padding = g_strnfill((gsize)(i % 7 == 0 ? 200000 : i * 13), 'p');
    nc_autojson json_t *message = json_pack("{s:i, s:i, s:s}", "sender", sender->sender, "n", i, "padding", padding);
    nc_peer_send(sender->peer, message, &error);
    g_assert_no_error(error);
  }
  return NULL;
}

static gpointer
receive_many(gpointer peer)
{
  int next[SENDERS] = { 0 };

  for (int i = 0; i < SENDERS * MESSAGES; i++) {
    g_autoptr(GError) error = NULL;
    int64_t sender = 0;
    nc_autojson json_t *message = nc_peer_recv(peer, T_LIMIT_MS * 4, &error);
    g_assert_no_error(error);
    g_assert_true(nc_json_int(message, "sender", 0, SENDERS - 1, &sender, NULL));
    g_assert_cmpint(nc_json_int_or(message, "n", -1), ==, next[sender]);
    next[sender]++;
  }
  return NULL;
}

static void
all_threads_at_once_both_ways(void)
{
  Lab lab;
  NcPeer *end[2];
  GThread *thread[2][SENDERS + 1];
  Sender sender[2][SENDERS];

  lab_open(&lab);
  meet(&lab, &end[0], &end[1]);
  for (int e = 0; e < 2; e++) {
    thread[e][SENDERS] = g_thread_new("receive", receive_many, end[e]);
    for (int s = 0; s < SENDERS; s++) {
      sender[e][s] = (Sender){ .peer = end[e], .sender = s };
      thread[e][s] = g_thread_new("send", send_many, &sender[e][s]);
    }
  }
  for (int e = 0; e < 2; e++)
    for (int s = 0; s <= SENDERS; s++)
      g_thread_join(thread[e][s]);
  nc_peer_free(end[0]);
  nc_peer_free(end[1]);
  lab_close(&lab);
}

/* --- ends --- */

static gpointer
shut_soon(gpointer peer)
{
  g_usleep(50000);
  nc_peer_shutdown(peer);
  return NULL;
}

static void
shutdown_wakes_the_receiver(void)
{
  Lab lab;
  NcPeer *client, *server;
  g_autoptr(GError) error = NULL;

  lab_open(&lab);
  meet(&lab, &client, &server);
  GThread *thread = g_thread_new("shut", shut_soon, client);
  g_assert_null(nc_peer_recv(client, -1, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CANCELLED);
  g_clear_error(&error);
  g_thread_join(thread);
  nc_autojson json_t *message = json_object();
  g_assert_false(nc_peer_send(client, message, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CANCELLED);
  g_clear_error(&error);
  g_assert_null(nc_peer_recv(server, T_LIMIT_MS, &error));
  g_assert_cmpstr(error->message, ==, "closed");
  nc_peer_free(client);
  nc_peer_free(server);
  lab_close(&lab);
}

static gpointer
send_until_it_fails(gpointer peer)
{
  g_autofree char *text = g_strnfill(1 << 20, 'x');
  nc_autojson json_t *message = json_pack("{s:s}", "text", text);
  GError *error = NULL;

  for (int i = 0; i < 64 && nc_peer_send(peer, message, &error); i++)
    ;
  return error;
}

static void
shutdown_wakes_a_sender(void)
{
  Lab lab;
  NcPeer *client, *server;

  lab_open(&lab);
  meet(&lab, &client, &server);
  GThread *thread = g_thread_new("send", send_until_it_fails, client); /* nobody reads */
  g_usleep(100000);
  nc_peer_shutdown(client);
  g_autoptr(GError) error = g_thread_join(thread);
  g_assert_error(error, NC_ERROR, NC_ERROR_CANCELLED);
  nc_peer_free(client);
  nc_peer_free(server);
  lab_close(&lab);
}

/* --- the roster changes --- */

static void
removed_node_is_refused_and_told(void)
{
  Lab lab;
  NcPeer *client, *server;
  g_autoptr(GError) error = NULL;

  lab_open(&lab);
  meet(&lab, &client, &server);
  g_assert_true(nc_peer_check_trusted(server, &error));
  g_assert_true(nc_trust_remove_node(lab.pair.a, "node-b", &error));
  g_assert_false(nc_peer_check_trusted(server, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "node node-b was removed from the cluster");
  g_clear_error(&error);
  nc_peer_free(client);
  nc_peer_free(server);

  Accepted accepted = { .lab = &lab };
  GThread *thread = g_thread_new("accept", accept_one, &accepted);
  client = nc_peer_connect(lab.pair.b, lab.address, "node-a", T_LIMIT_MS, &error);
  g_assert_no_error(error); /* TLS 1.3: the client is done first */
  g_assert_null(nc_peer_recv(client, T_LIMIT_MS, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "node-a (127.0.0.1:");
  t_assert_contains(error->message, "the peer refused our certificate: certificate revoked (this node was removed");
  g_thread_join(thread);
  g_assert_null(accepted.peer);
  g_assert_error(accepted.error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(accepted.error->message, "node node-b was removed from the cluster");
  g_error_free(accepted.error);
  nc_peer_free(client);
  lab_close(&lab);
}

/* A client that only sends must learn the reason, too, and not "broken pipe". */
static void
removed_node_hears_it_while_sending(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab);
  g_assert_true(nc_trust_remove_node(lab.pair.a, "node-b", NULL));
  Accepted accepted = { .lab = &lab };
  GThread *thread = g_thread_new("accept", accept_one, &accepted);
  NcPeer *client = nc_peer_connect(lab.pair.b, lab.address, "node-a", T_LIMIT_MS, &error);
  g_assert_no_error(error);
  nc_autojson json_t *message = json_pack("{s:s}", "type", "hello");
  for (int i = 0; i < 200 && nc_peer_send(client, message, &error); i++)
    g_usleep(20000);
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "the peer refused our certificate: certificate revoked");
  nc_peer_free(client);
  g_thread_join(thread);
  g_clear_error(&accepted.error);
  lab_close(&lab);
}

static void
removed_node_joins_again_with_a_new_certificate(void)
{
  Lab lab;
  NcPeer *client, *server;

  lab_open(&lab);
  g_assert_true(nc_trust_remove_node(lab.pair.a, "node-b", NULL));
  char *dir = t_member(lab.pair.a, "node-b");
  nc_trust_free(lab.pair.b);
  lab.pair.b = t_load(dir);
  meet(&lab, &client, &server);
  g_assert_true(nc_peer_check_trusted(server, NULL));
  nc_peer_free(client);
  nc_peer_free(server);
  t_remove_dir(dir);
  lab_close(&lab);
}

static gpointer
reload_often(gpointer trust)
{
  for (int i = 0; i < 20; i++)
    g_assert_true(nc_trust_reload(trust, NULL));
  return NULL;
}

static void
trust_is_reloaded_under_connections(void)
{
  Lab lab;

  lab_open(&lab);
  GThread *a = g_thread_new("reload", reload_often, lab.pair.a), *b = g_thread_new("reload", reload_often, lab.pair.b);
  for (int i = 0; i < 5; i++) {
    NcPeer *client, *server;
    meet(&lab, &client, &server);
    nc_peer_free(client);
    nc_peer_free(server);
  }
  g_thread_join(a);
  g_thread_join(b);
  lab_close(&lab);
}

/* --- addresses --- */

static void
nobody_listens(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab);
  nc_fd_clear(&lab.listener);
  g_assert_null(nc_peer_connect(lab.pair.b, lab.address, "node-a", T_LIMIT_MS, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNREACHABLE);
  t_assert_contains(error->message, lab.address);
  lab_close(&lab);
}

static void
taken_port_says_so(void)
{
  Lab lab;
  g_autoptr(GError) error = NULL;

  lab_open(&lab);
  g_assert_cmpint(nc_tcp_listen(lab.address, &error), ==, -1);
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  g_autofree char *text = g_strdup_printf("port %u on 127.0.0.1 is taken by another program: ", nc_tcp_local_port(lab.listener));
  t_assert_contains(error->message, text);
  lab_close(&lab);
}

static void
shapes_of_addresses(void)
{
  static const char *const good[] = { "a:1", "10.0.0.1:7450", "[::1]:65535", "host_b.example.org:7450", "[fe80::1%eth0]:1" };
  static const char *const bad[] = { "", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a: 1", "a:1x", "::1:7450", "[::1]", "[]:1",
                                     "[::1:1", "a b:1", "a/b:1", "a\n:1", "a:1\n" };

  for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
    g_assert_true(nc_tcp_address_is_valid(good[i]));
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(nc_tcp_address_is_valid(bad[i]));
    g_assert_cmpint(nc_tcp_connect(bad[i], 100, &error), ==, -1);
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  }
  g_assert_false(nc_tcp_address_is_valid(NULL));
}

int
main(int argc, char **argv)
{
  t_init(&argc, &argv);
  g_test_add_func("/peer/members_talk", members_talk);
  g_test_add_func("/peer/last_words_arrive_although_nobody_reads_ours", last_words_arrive_although_nobody_reads_ours);
  g_test_add_func("/peer/bytes_come_behind_their_message", bytes_come_behind_their_message);
  g_test_add_func("/peer/all_threads_at_once_both_ways", all_threads_at_once_both_ways);
  g_test_add_func("/peer/shutdown_wakes_the_receiver", shutdown_wakes_the_receiver);
  g_test_add_func("/peer/shutdown_wakes_a_sender", shutdown_wakes_a_sender);
  g_test_add_func("/peer/removed_node_is_refused_and_told", removed_node_is_refused_and_told);
  g_test_add_func("/peer/removed_node_hears_it_while_sending", removed_node_hears_it_while_sending);
  g_test_add_func("/peer/removed_node_joins_again_with_a_new_certificate", removed_node_joins_again_with_a_new_certificate);
  g_test_add_func("/peer/trust_is_reloaded_under_connections", trust_is_reloaded_under_connections);
  g_test_add_func("/peer/nobody_listens", nobody_listens);
  g_test_add_func("/peer/taken_port_says_so", taken_port_says_so);
  g_test_add_func("/peer/shapes_of_addresses", shapes_of_addresses);
  return g_test_run();
}
