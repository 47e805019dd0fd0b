/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mover_process.h"
#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define NC_MOVER_CONTROL_FD 3

struct NcMoverProcess {
  pid_t pid;
  int control;
  GThread *reader;
  NcInbox *inbox;
  GMutex send_lock; /* one message at a time on ${control} */
};

static gpointer
nc_mover_reader(gpointer data)
{
  NcMoverProcess *mover = data;
  for (;;) {
    g_autoptr(GError) error = NULL;
    json_t *message = nc_msg_recv(mover->control, -1, NULL, &error);
    if (!message)
      break;
    nc_inbox_push(mover->inbox, NC_FROM_MOVER, message);
  }
  nc_inbox_push(mover->inbox, NC_FROM_MOVER, NULL);
  return NULL;
}

static bool
nc_mover_spawn(const NcConfig *config, int control, pid_t *ret_pid, GError **error)
{
  g_autofree char *uid = g_strdup_printf("--uid=%u", (unsigned)config->mover_uid);
  g_autofree char *gid = g_strdup_printf("--gid=%u", (unsigned)config->mover_gid);
  const char *argv[] = { config->mover_binary, uid, gid, NULL };
  const int from[] = { control };
  const int to[] = { NC_MOVER_CONTROL_FD };
  g_autoptr(GError) problem = NULL;

  if (!g_spawn_async_with_pipes_and_fds(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH, NULL, NULL, -1, -1,
                                        -1, from, to, 1, ret_pid, NULL, NULL, NULL, &problem))
    return nc_fail(error, NC_ERROR_INTERNAL, "can't start the mover %s: %s (set mover_binary)", config->mover_binary,
                   problem->message);
  return true;
}

static json_t *
nc_mover_start_message(const NcMoverSetup *setup)
{
  g_autofree char *psk = nc_hex_encode(setup->psk, 32);
  return json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:i, s:i, s:i, s:I, s:b}", "op", "start", "role",
                   setup->is_source ? "source" : "destination", "migration", setup->migration, "psk", psk, "streams",
                   setup->streams, "compression", setup->compression, "workers", (int)g_get_num_processors(),
                   "pause_budget_ms", setup->pause_budget_ms, "progress_ms", 250, "rate_bps", (json_int_t)setup->rate_bps,
                   "yield", setup->yield);
}

NcMoverProcess *
nc_mover_process_start(const NcConfig *config, const NcMoverSetup *setup, NcInbox *inbox, GError **error)
{
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't make the mover's socket");
    return NULL;
  }
  nc_autofd int ours = pair[0];
  nc_autofd int theirs = pair[1];
  pid_t pid;
  if (!nc_mover_spawn(config, theirs, &pid, error))
    return NULL;

  NcMoverProcess *mover = g_new0(NcMoverProcess, 1);
  mover->pid = pid;
  mover->control = nc_fd_steal(&ours);
  mover->inbox = nc_inbox_ref(inbox);
  g_mutex_init(&mover->send_lock);
  mover->reader = g_thread_new("mover-reader", nc_mover_reader, mover);
  if (!nc_mover_process_send(mover, nc_mover_start_message(setup), -1, error)) {
    nc_mover_process_free(mover);
    return NULL;
  }
  return mover;
}

void
nc_mover_process_free(NcMoverProcess *mover)
{
  if (!mover)
    return;
  shutdown(mover->control, SHUT_RDWR);
  g_thread_join(mover->reader);
  kill(mover->pid, SIGKILL);
  while (waitpid(mover->pid, NULL, 0) < 0 && errno == EINTR)
    ;
  close(mover->control);
  nc_inbox_unref(mover->inbox);
  g_mutex_clear(&mover->send_lock);
  g_free(mover);
}

bool
nc_mover_process_send(NcMoverProcess *mover, json_t *message, int fd, GError **error)
{
  nc_autojson json_t *owned = message;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&mover->send_lock);

  if (!nc_msg_send(mover->control, owned, fd, error)) {
    g_prefix_error(error, "the mover on this node: ");
    return false;
  }
  return true;
}

pid_t
nc_mover_process_pid(const NcMoverProcess *mover)
{
  return mover->pid;
}
