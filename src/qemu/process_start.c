/* SPDX-License-Identifier: Apache-2.0 */
/* How a QEMU comes to be: two forks, a lock that it holds, a socket that says that it is up. */
#include "base/ident.h"
#include "base/io.h"
#include "qemu/process.h"
#include "qemu/process_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NC_LOCK_FD 3             /* in QEMU: the first that is not standard input, output, error */
#define NC_UNIX_TABLE_BYTES (4 << 20)

/* In the child, between fork and exec: async-signal-safe calls only. */
static void G_GNUC_NORETURN
nc_exec_child(char *const *argv, int log, int lock)
{
  int null = open("/dev/null", O_RDONLY);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  setsid();
  dup2(null, 0);
  dup2(log, 1);
  dup2(log, 2);
  if (lock == NC_LOCK_FD)
    fcntl(lock, F_SETFD, 0);
  else
    dup2(lock, NC_LOCK_FD);
  syscall(SYS_close_range, NC_LOCK_FD + 1u, ~0u, 0u);
  /* Not execvp(): where coverage is measured the compiler puts the writing of counters before that one, which allocates, and may so wait for a
   * lock that another thread held when we forked. */
  execvpe(argv[0], argv, environ);
  static const char complaint[] = "can't execute the QEMU binary\n";
  if (write(2, complaint, sizeof complaint - 1) < 0)
    _exit(126);
  _exit(127);
}

/*
 * A grandchild, so that it belongs to init and leaves no zombie with us; its pid
 * comes back through a pipe. _Fork(), since what libraries have registered for fork() (pthread_atfork) may wait for locks of
 * threads that are not there in the child: it would never come to its exec.
 */
static pid_t
nc_fork_twice(char *const *argv, int log, int lock, GError **error)
{
  int pipes[2];
  pid_t pid = 0;

  if (pipe2(pipes, O_CLOEXEC) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "pipe");
    return 0;
  }
  nc_autofd int in = pipes[0];
  nc_autofd int out = pipes[1];
  pid_t middle = _Fork();
  if (middle < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "fork");
    return 0;
  }
  if (middle == 0) {
    pid_t child = _Fork();
    if (child == 0)
      nc_exec_child(argv, log, lock);
    _exit(child < 0 || write(out, &child, sizeof child) != sizeof child);
  }
  nc_fd_clear(&out);
  while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
    ;
  /* It has written before it ended, however long that took on a host that is at its end. */
  return nc_read_all(in, &pid, sizeof pid, 0, error) ? pid : 0;
}

static bool
nc_socket_exists(const char *path)
{
  struct stat st;
  return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* false: it is no more, or ${timeout_ms} have passed; which of both is in *ret_late. */
static bool
nc_await_socket(int pidfd, const char *path, int timeout_ms, bool *ret_late)
{
  int64_t deadline_us = nc_mono_us() + (int64_t)timeout_ms * 1000;

  *ret_late = false;
  while (!nc_socket_exists(path)) {
    if (nc_pidfd_await_exit(pidfd, 5))
      return false;
    if (nc_mono_us() >= deadline_us) {
      *ret_late = true;
      return false;
    }
  }
  return true;
}

/* What kept it: three things of which the log says nothing. */
static const char *
nc_why_late(pid_t pid, const char *qmp_path)
{
  g_autofree char *ours = nc_qemu_process_executable(getpid(), NULL);
  g_autofree char *its = nc_qemu_process_executable(pid, NULL);
  g_autofree char *bound = nc_file_read("/proc/net/unix", NC_UNIX_TABLE_BYTES, NULL, NULL);

  if (g_strcmp0(ours, its) == 0)
    return " (it was forked and never executed)";
  return bound && strstr(bound, qmp_path) ? " (its QMP socket was made, and removed by somebody)" : " (it has not made its QMP socket)";
}

static bool
nc_fail_start(const NcQemuStart *start, pid_t pid, bool late, GError **error)
{
  g_autofree char *tail = nc_qemu_log_tail(start->log_path);
  g_autofree char *what = late ? g_strdup_printf("did not come up in %d s%s", start->timeout_ms / 1000, nc_why_late(pid, start->qmp_path))
                               : g_strdup("ended at once");
  return nc_fail(error, NC_ERROR_QEMU, "%s %s: %s (log: %s)", start->argv[0], what, tail[0] ? tail : "it wrote nothing", start->log_path);
}

bool
nc_qemu_process_start(const NcQemuStart *start, NcQemuProcess *ret, GError **error)
{
  nc_autofd int log = open(start->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (log < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't open QEMU's log %s", start->log_path);
  unlink(start->qmp_path); /* of one that was killed: its appearance is the sign that this one is up */
  NcQemuProcess process = { .pid = nc_fork_twice(start->argv, log, start->lock, error) };
  if (process.pid == 0)
    return false;
  /* A descriptor can't be mistaken for a moment, as reading /proc can where the node is out of something. */
  nc_autofd int pidfd = nc_pidfd_open(process.pid);
  bool known = pidfd >= 0 && nc_qemu_process_start_time(process.pid, &process.start_time);
  bool late = false;
  if (known && nc_await_socket(pidfd, start->qmp_path, start->timeout_ms, &late)) {
    *ret = process;
    return true;
  }
  nc_fail_start(start, process.pid, late, error);
  if (pidfd >= 0)
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
  else
    kill(process.pid, SIGKILL); /* no descriptors are left; it was started a moment ago */
  return false;
}
