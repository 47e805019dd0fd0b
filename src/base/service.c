/* SPDX-License-Identifier: Apache-2.0 */
#include "base/service.h"
#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* When descriptors are used up: how long to leave those who knock waiting. */
#define NC_SERVICE_PAUSE_US 100000

struct NcService {
  const char *name;
  int listener;
  int stop; /* eventfd */
  unsigned max_connections;
  NcServiceFunc func;
  gpointer user_data;
  GThread *acceptor;
  bool was_full; /* of the acceptor: said once per flood */

  GMutex lock; /* protects live */
  GCond ended;
  GHashTable *live; /* NcConnection* */
};

typedef struct {
  NcService *service;
  int fd;
  int handle; /* a duplicate: the function may close its own at any time, and numbers are used again */
} NcConnection;

static gpointer
nc_service_serve(gpointer data)
{
  NcConnection *c = data;
  NcService *service = c->service;

  service->func(c->fd, service->user_data);
  g_mutex_lock(&service->lock);
  g_hash_table_remove(service->live, c);
  close(c->handle);
  g_cond_signal(&service->ended);
  g_mutex_unlock(&service->lock);
  g_free(c);
  return NULL;
}

static bool
nc_service_has_room(NcService *service)
{
  g_mutex_lock(&service->lock);
  bool room = g_hash_table_size(service->live) < service->max_connections;
  g_mutex_unlock(&service->lock);
  if (!room && !service->was_full)
    nc_log(NC_LOG_WARNING, "base", "%s: %u connections are open, further ones are closed at once", service->name,
           service->max_connections);
  service->was_full = !room;
  return room;
}

static void
nc_service_start(NcService *service, int fd)
{
  nc_autofd int handle = nc_service_has_room(service) ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
  if (handle < 0) {
    close(fd);
    return;
  }
  NcConnection *c = g_new(NcConnection, 1);
  *c = (NcConnection){ .service = service, .fd = fd, .handle = nc_fd_steal(&handle) };
  g_mutex_lock(&service->lock);
  g_hash_table_add(service->live, c);
  g_mutex_unlock(&service->lock);

  g_autoptr(GError) error = NULL;
  GThread *thread = g_thread_try_new(service->name, nc_service_serve, c, &error);
  if (thread) {
    g_thread_unref(thread); /* its end is waited for by means of ${live} */
    return;
  }
  nc_log(NC_LOG_ERR, "base", "%s: no thread for a connection: %s", service->name, error->message);
  g_mutex_lock(&service->lock);
  g_hash_table_remove(service->live, c);
  g_mutex_unlock(&service->lock);
  close(c->fd);
  close(c->handle);
  g_free(c);
}

static gpointer
nc_service_accept(gpointer data)
{
  NcService *service = data;

  for (;;) {
    struct pollfd p[] = { { .fd = service->stop, .events = POLLIN }, { .fd = service->listener, .events = POLLIN } };
    if (poll(p, 2, -1) < 0 && errno != EINTR)
      g_usleep(NC_SERVICE_PAUSE_US);
    if (p[0].revents)
      return NULL;
    if (!(p[1].revents & POLLIN))
      continue;
    int fd = accept4(service->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
      nc_service_start(service, fd);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
      g_usleep(NC_SERVICE_PAUSE_US);
  }
}

NcService *
nc_service_new(const char *name, int listener, unsigned max_connections, NcServiceFunc func, gpointer user_data)
{
  NcService *service = g_new0(NcService, 1);
  service->name = name;
  service->listener = listener;
  service->stop = eventfd(0, EFD_CLOEXEC);
  service->max_connections = max_connections;
  service->func = func;
  service->user_data = user_data;
  g_mutex_init(&service->lock);
  g_cond_init(&service->ended);
  service->live = g_hash_table_new(NULL, NULL);
  fcntl(listener, F_SETFL, O_NONBLOCK); /* one who knocked may be gone when we open */
  service->acceptor = g_thread_new(name, nc_service_accept, service);
  return service;
}

void
nc_service_free(NcService *service)
{
  static const uint64_t one = 1;
  GHashTableIter iter;
  gpointer key;

  if (!service)
    return;
  nc_write_all(service->stop, &one, sizeof one, NULL);
  g_thread_join(service->acceptor);
  close(service->listener);
  g_mutex_lock(&service->lock);
  g_hash_table_iter_init(&iter, service->live);
  while (g_hash_table_iter_next(&iter, &key, NULL))
    shutdown(((NcConnection *)key)->handle, SHUT_RDWR);
  while (g_hash_table_size(service->live) > 0)
    g_cond_wait(&service->ended, &service->lock);
  g_mutex_unlock(&service->lock);
  g_hash_table_unref(service->live);
  close(service->stop);
  g_cond_clear(&service->ended);
  g_mutex_clear(&service->lock);
  g_free(service);
}
