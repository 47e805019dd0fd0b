/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU processes: started so that they outlive us, recognised again, ended.
 *
 * A process is named by its pid and its start time (field 22 of
 * /proc/PID/stat, proc(5)): a pid alone may belong to somebody else by now.
 */
#pragma once

#include "base/error.h"
#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
  pid_t pid;
  uint64_t start_time; /* clock ticks since boot */
} NcQemuProcess;

typedef struct {
  char *const *argv;
  int lock; /* borrowed; of qemu/start_lock.h: the process holds it, too, and is alone */
  const char *qmp_path;
  const char *log_path;
  int timeout_ms;
} NcQemuStart;

/*
 * Starts ${start->argv} in a session of its own, with none of our descriptors but the lock, its
 * output appended to the log. Returns when a socket exists at qmp_path; if the process ends before, or after timeout_ms (it is killed
 * then), the error says what kept it and what it last wrote.
 */
bool nc_qemu_process_start(const NcQemuStart *start, NcQemuProcess *ret, GError **error);

/* Start time of ${pid}; false if there is no such process. */
bool nc_qemu_process_start_time(pid_t pid, uint64_t *ret_start_time);
/* A zombie is not alive. */
bool nc_qemu_process_is_alive(pid_t pid, uint64_t start_time);

/*
 * Ends the process: SIGTERM, after ${term_ms} SIGKILL, and waits until it is
 * gone. True if it was gone already. ${term_ms} 0: SIGKILL at once.
 */
bool nc_qemu_process_kill(pid_t pid, uint64_t start_time, int term_ms, GError **error);

/* The process at the other end of the connected UNIX socket at ${path}; 0 on error. */
pid_t nc_qemu_process_behind_socket(const char *path, GError **error);

/* The command line of ${pid} (/proc/PID/cmdline). Caller frees with g_strfreev(). */
char **nc_qemu_process_command_line(pid_t pid, GError **error);

/* The executable of ${pid}, also if it was replaced since; NULL on error. Caller frees. */
char *nc_qemu_process_executable(pid_t pid, GError **error);
/* The working directory of ${pid}; NULL on error. Caller frees. */
char *nc_qemu_process_directory(pid_t pid, GError **error);
/* The tap behind descriptor ${fd} of ${pid}; NULL if it is none. Caller frees. */
char *nc_qemu_process_tap_of_fd(pid_t pid, int fd);
/* Is ${pid} in our network namespace? */
bool nc_qemu_process_shares_network(pid_t pid);

/* A descriptor of ${pid} that is the socket with inode ${inode}; -1 if it has none. */
int nc_qemu_process_find_socket_fd(pid_t pid, uint64_t inode);
/* A duplicate of descriptor ${fd} of ${pid} in this process (pidfd_getfd(2)); -1 on error. */
int nc_qemu_process_take_fd(pid_t pid, int fd, GError **error);

/* The last lines of a log file in one line; "" if there are none. Caller frees. */
char *nc_qemu_log_tail(const char *log_path);
