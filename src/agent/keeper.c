/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/keeper.h"
#include "base/io.h"
#include "qemu/process.h"
#include "qemu/return_path.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct NcKeeper {
  int fd;
  int wake; /* eventfd: the drain must end. The socket is not shut down for that: QEMU would notice. */
  uint64_t inode;
  GThread *drain;
  uint64_t drained_bytes; /* atomic */
  bool said_arrived;
};

/* ${fd} is taken. */
static NcKeeper *
nc_keeper_wrap(int fd, GError **error)
{
  nc_autofd int owned = fd;
  nc_autofd int wake = eventfd(0, EFD_CLOEXEC);
  struct stat st;

  if (wake < 0 || fstat(owned, &st) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "QEMU's migration socket");
    return NULL;
  }
  NcKeeper *keeper = g_new0(NcKeeper, 1);
  keeper->fd = nc_fd_steal(&owned);
  keeper->wake = nc_fd_steal(&wake);
  keeper->inode = st.st_ino;
  return keeper;
}

NcKeeper *
nc_keeper_new(int fd, GError **error)
{
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "QEMU's migration socket");
    return NULL;
  }
  return nc_keeper_wrap(copy, error);
}

NcKeeper *
nc_keeper_take(pid_t qemu, uint64_t inode, GError **error)
{
  int theirs = nc_qemu_process_find_socket_fd(qemu, inode);
  if (theirs < 0) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "QEMU (process %d) does not hold the other end of its migration socket", (int)qemu);
    return NULL;
  }
  int ours = nc_qemu_process_take_fd(qemu, theirs, error);
  return ours < 0 ? NULL : nc_keeper_wrap(ours, error);
}

uint64_t
nc_keeper_inode(const NcKeeper *keeper)
{
  return keeper->inode;
}

int
nc_keeper_fd(const NcKeeper *keeper)
{
  return keeper->fd;
}

static gpointer
nc_keeper_thread(gpointer data)
{
  NcKeeper *keeper = data;
  char discarded[65536];

  for (;;) {
    struct pollfd p[] = { { .fd = keeper->fd, .events = POLLIN }, { .fd = keeper->wake, .events = POLLIN } };
    if (poll(p, 2, -1) < 0 && errno != EINTR)
      return NULL;
    if (p[1].revents)
      return NULL;
    ssize_t n = recv(keeper->fd, discarded, sizeof discarded, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
      return NULL; /* QEMU closed its end: there is nothing left to unblock */
    if (n > 0)
      __atomic_add_fetch(&keeper->drained_bytes, (uint64_t)n, __ATOMIC_RELAXED);
  }
}

void
nc_keeper_drain(NcKeeper *keeper)
{
  if (!keeper->drain)
    keeper->drain = g_thread_new("keeper-drain", nc_keeper_thread, keeper);
}

uint64_t
nc_keeper_drained_bytes(NcKeeper *keeper)
{
  return __atomic_load_n(&keeper->drained_bytes, __ATOMIC_RELAXED);
}

void
nc_keeper_say_arrived(NcKeeper *keeper)
{
  if (keeper->said_arrived)
    return;
  keeper->said_arrived = true;
  /* If it is closed meanwhile, QEMU has found another end. */
  (void)!send(keeper->fd, nc_return_shut_ok, sizeof nc_return_shut_ok, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
nc_keeper_break(NcKeeper *keeper)
{
  shutdown(keeper->fd, SHUT_RDWR);
}

void
nc_keeper_free(NcKeeper *keeper)
{
  static const uint64_t one = 1;
  if (!keeper)
    return;
  if (keeper->drain) {
    if (write(keeper->wake, &one, sizeof one) < 0)
      g_error("an eventfd can't be written"); /* it can: the counter is 0 */
    g_thread_join(keeper->drain);
  }
  close(keeper->fd);
  close(keeper->wake);
  g_free(keeper);
}
