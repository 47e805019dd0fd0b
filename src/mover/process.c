/* SPDX-License-Identifier: Apache-2.0 */
#include "mover/process.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/program.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NC_MOVER_NOBODY 65534 /* where even that name is missing */

struct NcMoverProcess {
  pid_t pid;
  int control;
  GThread *reader;
  NcMoverFunc func;
  gpointer user_data;
  GMutex send_lock; /* one message at a time on ${control} */
};

const char *
nc_mover_find_binary(void)
{
  return nc_program_find("novacron-mover", "mover");
}

uid_t
nc_mover_default_uid(void)
{
  struct passwd *user = getpwnam("novacron");

  user = user ? user : getpwnam("nobody");
  return user ? user->pw_uid : NC_MOVER_NOBODY;
}

gid_t
nc_mover_default_gid(uid_t uid)
{
  struct passwd *user = getpwuid(uid);
  return user ? user->pw_gid : NC_MOVER_NOBODY;
}

static gpointer
nc_mover_reader(gpointer data)
{
  NcMoverProcess *mover = data;
  for (;;) {
    g_autoptr(GError) error = NULL;
    json_t *message = nc_msg_recv(mover->control, -1, NULL, &error);
    if (!message)
      break;
    mover->func(message, mover->user_data);
  }
  mover->func(NULL, mover->user_data);
  return NULL;
}

static bool
nc_mover_spawn(const NcMoverProgram *program, int control, pid_t *ret_pid, GError **error)
{
  g_autofree char *uid = g_strdup_printf("--uid=%u", (unsigned)program->uid);
  g_autofree char *gid = g_strdup_printf("--gid=%u", (unsigned)program->gid);
  g_autofree char *level = program->log_level ? g_strconcat("--log-level=", program->log_level, NULL) : NULL;
  const char *const options[] = { uid, gid, level, NULL };

  if (nc_program_start(program->binary, options, control, ret_pid, error))
    return true;
  g_prefix_error(error, "the mover (say where it is: mover_binary, or --mover of a relay): ");
  return false;
}

static json_t *
nc_mover_start_message(const NcMoverOrder *order)
{
  g_autofree char *psk = nc_hex_encode(order->psk, 32);
  return json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:i, s:i, s:i, s:i, s:I, s:b}", "op", "start", "role",
                   order->is_source ? "source" : "destination", "migration", order->migration, "psk", psk, "streams",
                   order->streams, "compression", order->compression, "workers", (int)g_get_num_processors(), "max_cpu",
                   order->max_cpu > 0 ? order->max_cpu : 100, "pause_budget_ms", order->pause_budget_ms, "progress_ms",
                   250, "rate_bps", (json_int_t)order->rate_bps, "yield", order->yield);
}

NcMoverProcess *
nc_mover_process_start(const NcMoverProgram *program, const NcMoverOrder *order, NcMoverFunc func, gpointer user_data,
                       GError **error)
{
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't make the mover's socket");
    return NULL;
  }
  nc_autofd int ours = pair[0];
  nc_autofd int theirs = pair[1];
  pid_t pid;
  if (!nc_mover_spawn(program, theirs, &pid, error))
    return NULL;

  NcMoverProcess *mover = g_new0(NcMoverProcess, 1);
  mover->pid = pid;
  mover->control = nc_fd_steal(&ours);
  mover->func = func;
  mover->user_data = user_data;
  g_mutex_init(&mover->send_lock);
  mover->reader = g_thread_new("mover-reader", nc_mover_reader, mover);
  if (!nc_mover_process_send(mover, nc_mover_start_message(order), -1, error)) {
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

bool
nc_mover_process_send_shadow(NcMoverProcess *mover, NcShadowSize size, int fd, uint32_t kept, GError **error)
{
  json_t *message = json_pack("{s:s, s:I, s:I, s:I}", "op", "shadow", "frames", (json_int_t)size.frames, "kept", (json_int_t)kept, "blocks",
                              (json_int_t)size.blocks);
  if (size.frames > 0)
    return nc_mover_process_send(mover, message, fd, error);
  json_decref(message);
  return true;
}

pid_t
nc_mover_process_pid(const NcMoverProcess *mover)
{
  return mover->pid;
}
