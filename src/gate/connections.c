/* SPDX-License-Identifier: Apache-2.0 */
/* The set of open connections, each with the time at which it ends. */
#include "gate/connections.h"
#include "base/ident.h"

#include <sys/socket.h>

struct NcConnection {
  int fd;
  int64_t deadline_us; /* 0: none */
};

struct NcConnections {
  GMutex lock; /* guards the set and what is in it */
  GHashTable *set;
};

NcConnections *
nc_connections_new(void)
{
  NcConnections *connections = g_new0(NcConnections, 1);
  g_mutex_init(&connections->lock);
  connections->set = g_hash_table_new_full(NULL, NULL, g_free, NULL);
  return connections;
}

void
nc_connections_free(NcConnections *connections)
{
  if (!connections)
    return;
  g_hash_table_unref(connections->set);
  g_mutex_clear(&connections->lock);
  g_free(connections);
}

static int64_t
nc_deadline(unsigned deadline_ms)
{
  return deadline_ms ? nc_mono_us() + (int64_t)deadline_ms * 1000 : 0;
}

NcConnection *
nc_connections_add(NcConnections *connections, int fd, unsigned deadline_ms)
{
  NcConnection *connection = g_new0(NcConnection, 1);

  connection->fd = fd;
  connection->deadline_us = nc_deadline(deadline_ms);
  g_mutex_lock(&connections->lock);
  g_hash_table_add(connections->set, connection);
  g_mutex_unlock(&connections->lock);
  return connection;
}

void
nc_connections_remove(NcConnections *connections, NcConnection *connection)
{
  g_mutex_lock(&connections->lock);
  g_hash_table_remove(connections->set, connection);
  g_mutex_unlock(&connections->lock);
}

void
nc_connections_set_deadline(NcConnections *connections, NcConnection *connection, unsigned deadline_ms)
{
  g_mutex_lock(&connections->lock);
  connection->deadline_us = nc_deadline(deadline_ms);
  g_mutex_unlock(&connections->lock);
}

unsigned
nc_connections_sweep(NcConnections *connections, int64_t now_us)
{
  GHashTableIter iter;
  gpointer key;
  unsigned ended = 0;

  g_mutex_lock(&connections->lock);
  g_hash_table_iter_init(&iter, connections->set);
  while (g_hash_table_iter_next(&iter, &key, NULL)) {
    NcConnection *connection = key;
    if (connection->deadline_us == 0 || connection->deadline_us > now_us)
      continue;
    connection->deadline_us = 0;
    shutdown(connection->fd, SHUT_RDWR);
    ended++;
  }
  g_mutex_unlock(&connections->lock);
  return ended;
}
