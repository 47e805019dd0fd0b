/* SPDX-License-Identifier: Apache-2.0 */
/* /proc and pidfds: everything about a QEMU that is a process and no QMP, but how it begins (process_start.c). */
#include "qemu/process.h"
#include "base/ident.h"
#include "base/io.h"
#include "qemu/dial.h"
#include "qemu/process_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NC_LOG_TAIL_BYTES 2048
#define NC_LOG_TAIL_LINES 4
#define NC_KILL_WAIT_MS 10000 /* for the kernel to take a killed process apart */

int
nc_pidfd_open(pid_t pid)
{
  return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* State letter and start time from /proc/PID/stat; the name in parentheses may hold anything. */
static bool
nc_read_stat(pid_t pid, char *ret_state, uint64_t *ret_start_time)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
  g_autofree char *text = nc_file_read(path, 4096, NULL, NULL);
  const char *rest = text ? strrchr(text, ')') : NULL;
  if (!rest)
    return false;
  g_auto(GStrv) fields = g_strsplit(rest + 2, " ", -1);
  if (g_strv_length(fields) < 20)
    return false;
  *ret_state = fields[0][0];
  *ret_start_time = g_ascii_strtoull(fields[19], NULL, 10);
  return true;
}

bool
nc_qemu_process_start_time(pid_t pid, uint64_t *ret_start_time)
{
  char state;
  return nc_read_stat(pid, &state, ret_start_time);
}

bool
nc_qemu_process_is_alive(pid_t pid, uint64_t start_time)
{
  char state;
  uint64_t start;
  return pid > 0 && nc_read_stat(pid, &state, &start) && start == start_time && state != 'Z' && state != 'X';
}

char *
nc_qemu_log_tail(const char *log_path)
{
  nc_autofd int fd = open(log_path, O_RDONLY | O_CLOEXEC);
  char text[NC_LOG_TAIL_BYTES + 1];
  off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
  ssize_t n = fd < 0 ? 0 : pread(fd, text, NC_LOG_TAIL_BYTES, MAX(size - NC_LOG_TAIL_BYTES, 0));

  text[MAX(n, 0)] = '\0';
  g_autofree char *valid = g_utf8_make_valid(text, -1);
  g_auto(GStrv) lines = g_strsplit(g_strstrip(valid), "\n", -1);
  guint count = g_strv_length(lines);
  return g_strjoinv("; ", lines + (count > NC_LOG_TAIL_LINES ? count - NC_LOG_TAIL_LINES : 0));
}

bool
nc_pidfd_await_exit(int pidfd, int timeout_ms)
{
  struct pollfd p = { .fd = pidfd, .events = POLLIN };
  int n;
  do
    n = poll(&p, 1, timeout_ms);
  while (n < 0 && errno == EINTR);
  return n > 0;
}

bool
nc_qemu_process_kill(pid_t pid, uint64_t start_time, int term_ms, GError **error)
{
  nc_autofd int pidfd = pid > 0 ? nc_pidfd_open(pid) : -1;
  /* After the descriptor is open the pid can't change its meaning: now ask whether it is the right one. */
  if (pidfd < 0 || !nc_qemu_process_is_alive(pid, start_time))
    return true;
  if (term_ms > 0) {
    syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    if (nc_pidfd_await_exit(pidfd, term_ms))
      return true;
  }
  if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
    return nc_fail_errno(error, NC_ERROR_QEMU, errno, "QEMU (process %d) can't be killed", (int)pid);
  return nc_pidfd_await_exit(pidfd, NC_KILL_WAIT_MS) ||
         nc_fail(error, NC_ERROR_QEMU, "QEMU (process %d) does not die (stuck in the kernel?)", (int)pid);
}

pid_t
nc_qemu_process_behind_socket(const char *path, GError **error)
{
  nc_autofd int fd = nc_qemu_dial(path, NC_DIAL_REFUSED_MS, error);
  struct ucred who;
  socklen_t length = sizeof who;
  if (fd < 0)
    return 0;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "%s", path);
    return 0;
  }
  return who.pid;
}

char **
nc_qemu_process_command_line(pid_t pid, GError **error)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
  size_t length;
  g_autofree char *text = nc_file_read(path, 1u << 20, &length, error);
  if (!text)
    return NULL;
  GPtrArray *words = g_ptr_array_new();
  for (size_t at = 0; at < length; at += strlen(text + at) + 1)
    g_ptr_array_add(words, g_strdup(text + at));
  g_ptr_array_add(words, NULL);
  return (char **)g_ptr_array_free(words, FALSE);
}

static char *
nc_read_link(pid_t pid, const char *name, GError **error)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, name);
  char target[4096];
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't read %s", path);
    return NULL;
  }
  target[n] = '\0';
  return g_strdup(target);
}

char *
nc_qemu_process_executable(pid_t pid, GError **error)
{
  char *path = nc_read_link(pid, "exe", error);
  if (path && g_str_has_suffix(path, " (deleted)"))
    path[strlen(path) - strlen(" (deleted)")] = '\0'; /* replaced by an upgrade */
  return path;
}

char *
nc_qemu_process_directory(pid_t pid, GError **error)
{
  return nc_read_link(pid, "cwd", error);
}

bool
nc_qemu_process_shares_network(pid_t pid)
{
  g_autofree char *theirs = nc_read_link(pid, "ns/net", NULL);
  g_autofree char *ours = nc_read_link(getpid(), "ns/net", NULL);
  return theirs && ours && g_str_equal(theirs, ours);
}

char *
nc_qemu_process_tap_of_fd(pid_t pid, int fd)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/fdinfo/%d", (int)pid, fd);
  g_autofree char *text = nc_file_read(path, 65536, NULL, NULL);
  g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
  for (char **line = lines; *line; line++)
    if (g_str_has_prefix(*line, "iff:")) /* tun_chr_show_fdinfo() in the kernel */
      return g_strdup(g_strstrip(*line + strlen("iff:")));
  return NULL;
}

int
nc_qemu_process_find_socket_fd(pid_t pid, uint64_t inode)
{
  g_autofree char *directory = g_strdup_printf("/proc/%d/fd", (int)pid);
  g_autofree char *wanted = g_strdup_printf("socket:[%" G_GUINT64_FORMAT "]", inode);
  DIR *dir = opendir(directory);
  int found = -1;
  struct dirent *entry;

  while (dir && found < 0 && (entry = readdir(dir)) != NULL) {
    char target[64];
    ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
    if (n > 0) {
      target[n] = '\0';
      if (g_str_equal(target, wanted))
        found = atoi(entry->d_name);
    }
  }
  if (dir)
    closedir(dir);
  return found;
}

int
nc_qemu_process_take_fd(pid_t pid, int fd, GError **error)
{
  nc_autofd int pidfd = nc_pidfd_open(pid);
  int taken = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
  if (taken < 0)
    nc_fail_errno(error, NC_ERROR_QEMU, errno, "can't take descriptor %d out of process %d", fd, (int)pid);
  return taken;
}
