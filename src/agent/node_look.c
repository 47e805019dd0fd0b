/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node_look.h"
#include "agent/destination.h"
#include "agent/node_checks.h"
#include "agent/way.h"
#include "base/ident.h"
#include "base/meminfo.h"

#include <stdio.h>
#include <sys/statvfs.h>

#define NC_PEERS_AT_ONCE 16
#define NC_PEERS_MOST 256 /* in 48 s at the worst */

int64_t
nc_directory_free_bytes(const char *directory)
{
  struct statvfs fs;
  return statvfs(directory, &fs) < 0 ? -1 : (int64_t)MIN((uint64_t)fs.f_bavail * fs.f_frsize, (uint64_t)INT64_MAX);
}

/* A setting of the kernel without its line's end; NULL: there is none. Caller frees. */
static char *
nc_kernel_setting(const char *path)
{
  char *text = NULL;
  return g_file_get_contents(path, &text, NULL, NULL) ? g_strstrip(text) : NULL;
}

/* The third of "least default most". */
static int64_t
nc_most_send_buffer(void)
{
  g_autofree char *text = nc_kernel_setting("/proc/sys/net/ipv4/tcp_wmem");
  long long most = -1;
  return text && sscanf(text, "%*d %*d %lld", &most) == 1 ? most : -1;
}

/* --- the others --- */

static void
nc_look_at_peer(gpointer data, gpointer user_data)
{
  NcPeerFacts *facts = data;
  NcNodeLook *look = user_data;
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPeer) peer = nc_nodes_connect(look->nodes, facts->name, MIN(look->config->connect_timeout_ms, NC_PEER_LOOK_MS), &error);

  if (!peer || !nc_way_measure_clock(peer, &facts->rtt_us, &facts->offset_us, &error))
    facts->problem = g_strdup(error->message);
}

/* The joined others, not looked at yet. */
static GPtrArray *
nc_look_list_peers(NcNodeLook *look, unsigned *ret_left_out)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nc_nodes_trust(look->nodes));
  GPtrArray *peers = g_ptr_array_new_with_free_func(nc_peer_facts_free);

  *ret_left_out = 0;
  for (size_t i = 0; i < nc_roster_count(roster); i++) {
    const NcRosterNode *node = nc_roster_at(roster, i);
    if (node->state != NC_NODE_JOINED || g_str_equal(node->name, nc_nodes_self(look->nodes)))
      continue;
    if (peers->len == NC_PEERS_MOST) {
      ++*ret_left_out;
      continue;
    }
    NcPeerFacts *facts = g_new0(NcPeerFacts, 1);
    facts->name = g_strdup(node->name);
    facts->address = g_strdup(node->address);
    facts->expires_us = node->expires_us;
    g_ptr_array_add(peers, facts);
  }
  return peers;
}

static GPtrArray *
nc_look_at_peers(NcNodeLook *look, unsigned *ret_left_out)
{
  GPtrArray *peers = nc_look_list_peers(look, ret_left_out);
  GThreadPool *pool = g_thread_pool_new(nc_look_at_peer, look, NC_PEERS_AT_ONCE, FALSE, NULL);

  for (guint i = 0; i < peers->len; i++)
    g_thread_pool_push(pool, peers->pdata[i], NULL);
  g_thread_pool_free(pool, FALSE, TRUE);
  return peers;
}

/* Records of those that run, with their histories, which tell how long nothing has happened. */
static json_t *
nc_look_at_migrations(NcNodeLook *look)
{
  nc_autojson json_t *running = nc_migrations_running(look->migrations);
  json_t *records = json_array(), *record;
  size_t i;

  json_array_foreach(running, i, record)
  {
    nc_autojson json_t *args = json_pack("{s:s}", "id", nc_json_string_or(record, "id", ""));
    json_t *whole = nc_migrations_get(look->migrations, args, NULL);
    if (whole)
      json_array_append_new(records, whole);
  }
  return records;
}

static json_t *
nc_node_look_now(NcNodeLook *look)
{
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *node = nc_nodes_info(look->nodes, NULL, NULL);
  nc_autojson json_t *store = nc_store_work_status(look->store_work, NULL, &problem);
  nc_autojson json_t *migrations = nc_look_at_migrations(look);
  g_autofree char *controls = nc_kernel_setting("/proc/sys/net/ipv4/tcp_available_congestion_control");
  g_autofree char *control = nc_kernel_setting("/proc/sys/net/ipv4/tcp_congestion_control");
  NcNodeFacts facts = { .now_us = nc_wall_us(),
                        .certificate_expires_us = nc_trust_expires_us(nc_nodes_trust(look->nodes)),
                        .has_ca_key = nc_trust_has_ca_key(nc_nodes_trust(look->nodes)),
                        .data_dir = look->config->data_dir,
                        .data_free_bytes = nc_directory_free_bytes(look->config->data_dir),
                        .store = store,
                        .store_problem = problem ? problem->message : NULL,
                        .qemu_binary = look->config->qemu_binary,
                        .qemu_version = nc_json_string_or(node, "qemu_version", ""),
                        .congestion_controls = controls,
                        .congestion_control = control,
                        .send_buffer_bytes = nc_most_send_buffer(),
                        .memory_bytes = nc_json_int_or(node, "memory_bytes", -1),
                        .memory_available_bytes = nc_json_int_or(node, "memory_available_bytes", -1),
                        .migrations = migrations };

  if (nc_postcopy_is_possible(&facts.userfaultfd_problem))
    facts.userfaultfd_problem = 0;
  g_autoptr(GPtrArray) peers = nc_look_at_peers(look, &facts.peers_left_out);
  facts.peers = peers;
  json_t *checks = nc_node_checks(&facts);
  return json_pack("{s:s, s:s, s:o}", "node", nc_nodes_self(look->nodes), "verdict", nc_verdict_name(nc_checks_worst(checks)), "checks",
                   checks);
}

json_t *
nc_node_look(NcNodeLook *look, json_t *args, GError **error)
{
  if (!g_atomic_int_compare_and_exchange(&look->is_looking, 0, 1)) {
    nc_fail(error, NC_ERROR_RESOURCE, "somebody is looking at node %s just now: try again in a moment", nc_nodes_self(look->nodes));
    return NULL;
  }
  json_t *result = nc_node_look_now(look);
  g_atomic_int_set(&look->is_looking, 0);
  return result;
}
