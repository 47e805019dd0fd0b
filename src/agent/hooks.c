/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NC_HOOK_OUTPUT_MOST 512 /* of what it says, for the error; the rest is read and thrown away */
#define NC_HOOK_POLL_MS 20

extern char **environ;

typedef struct {
  pid_t pid;
  int input, output; /* our ends; -1 when closed */
  const char *text;  /* left for its stdin */
  size_t left;
  GString *said;
} NcHook;

static bool
nc_hook_name_is_valid(const char *name, const char *prefix)
{
  return g_str_has_prefix(name, prefix) && name[strlen(prefix)] &&
         !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")];
}

static int
nc_hooks_compare(gconstpointer a, gconstpointer b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names, in order. */
static GPtrArray *
nc_hooks_list(const char *directory, const char *prefix)
{
  GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir)))
    if (nc_hook_name_is_valid(name, prefix))
      g_ptr_array_add(names, g_strdup(name));
  g_ptr_array_sort(names, nc_hooks_compare);
  return names;
}

/* It runs with our rights: nobody else may have written it. */
static bool
nc_hook_check(const char *path, GError **error)
{
  struct stat st;

  if (stat(path, &st) < 0)
    return nc_fail_errno(error, NC_ERROR_CONFLICT, errno, "hook %s", path);
  if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXUSR))
    return nc_fail(error, NC_ERROR_CONFLICT, "hook %s is not an executable file: chmod +x it, or remove it", path);
  if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH)))
    return nc_fail(error, NC_ERROR_CONFLICT, "hook %s could have been written by others: chown root, chmod go-w", path);
  return true;
}

static bool
nc_hook_spawn(NcHook *h, const char *path, GError **error)
{
  char *argv[] = { (char *)path, NULL };
  int in[2], out[2], status;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, defaults;

  if (pipe2(in, O_CLOEXEC) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "a pipe for hook %s", path);
  if (pipe2(out, O_CLOEXEC) < 0) {
    status = errno;
    close(in[0]);
    close(in[1]);
    return nc_fail_errno(error, NC_ERROR_INTERNAL, status, "a pipe for hook %s", path);
  }
  sigemptyset(&none);
  sigfillset(&defaults);
  posix_spawnattr_init(&attributes); /* a group of its own, so that all it starts can be ended */
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  status = posix_spawn(&h->pid, path, &actions, &attributes, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(in[0]);
  close(out[1]);
  h->input = in[1];
  h->output = out[0];
  fcntl(h->input, F_SETFL, O_NONBLOCK);
  fcntl(h->output, F_SETFL, O_NONBLOCK);
  if (status == 0)
    return true;
  h->pid = 0;
  return nc_fail_errno(error, NC_ERROR_CONFLICT, status, "hook %s can't be started", path);
}

/* Some of its stdin, and what it says. */
static void
nc_hook_exchange(NcHook *h)
{
  struct pollfd p[] = { { .fd = h->input, .events = POLLOUT }, { .fd = h->output, .events = POLLIN } };
  char buffer[4096];

  if (h->input < 0 && h->output < 0) {
    g_usleep(NC_HOOK_POLL_MS * 1000);
    return;
  }
  poll(p, G_N_ELEMENTS(p), NC_HOOK_POLL_MS);
  if (h->input >= 0 && p[0].revents) {
    ssize_t n = write(h->input, h->text, h->left);
    if (n > 0) {
      h->text += n;
      h->left -= (size_t)n;
    }
    if (h->left == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) /* it need not read it */
      nc_fd_clear(&h->input);
  }
  if (h->output >= 0 && p[1].revents) {
    ssize_t n = read(h->output, buffer, sizeof buffer);
    if (n > 0)
      g_string_append_len(h->said, buffer, (gssize)MIN((size_t)n, NC_HOOK_OUTPUT_MOST - MIN(h->said->len, NC_HOOK_OUTPUT_MOST)));
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
      nc_fd_clear(&h->output);
  }
}

/* Has it ended in time? It is not reaped yet, so that its group's number is nobody else's. */
static bool
nc_hook_await(NcHook *h, const char *path, int timeout_ms, GError **error)
{
  int64_t deadline = g_get_monotonic_time() + timeout_ms * INT64_C(1000);

  for (;;) {
    siginfo_t ended = { 0 };
    waitid(P_PID, (id_t)h->pid, &ended, WEXITED | WNOHANG | WNOWAIT);
    if (ended.si_pid == h->pid) {
      nc_hook_exchange(h); /* its last words */
      return true;
    }
    if (g_get_monotonic_time() >= deadline)
      return nc_fail(error, NC_ERROR_CONFLICT, "hook %s did not end within %d ms and was killed", path, timeout_ms);
    nc_hook_exchange(h);
  }
}

static bool
nc_hook_judge(const NcHook *h, const char *path, int status, GError **error)
{
  g_autofree char *said = g_utf8_make_valid(h->said->str, -1);

  g_strstrip(said);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return true;
  if (WIFEXITED(status))
    return nc_fail(error, NC_ERROR_CONFLICT, "hook %s ended with status %d%s%s", path, WEXITSTATUS(status), said[0] ? ": " : "", said);
  return nc_fail(error, NC_ERROR_CONFLICT, "hook %s was ended by signal %d", path, WTERMSIG(status));
}

static bool
nc_hook_run(const char *path, const char *text, int timeout_ms, GError **error)
{
  NcHook h = { .input = -1, .output = -1, .text = text, .left = strlen(text) };
  int status = 0;

  if (!nc_hook_check(path, error))
    return false;
  h.said = g_string_new(NULL);
  bool ok = nc_hook_spawn(&h, path, error) && nc_hook_await(&h, path, timeout_ms, error);
  if (h.pid > 0) {
    kill(-h.pid, SIGKILL); /* and what it has left behind */
    while (waitpid(h.pid, &status, 0) < 0 && errno == EINTR)
      continue;
  }
  ok = ok && nc_hook_judge(&h, path, status, error);
  nc_fd_clear(&h.input);
  nc_fd_clear(&h.output);
  g_string_free(h.said, TRUE);
  return ok;
}

bool
nc_hooks_run(const char *directory, const char *prefix, json_t *what, int timeout_ms, unsigned *ret_ran, GError **error)
{
  g_autoptr(GPtrArray) names = nc_hooks_list(directory, prefix);
  char *dump = json_dumps(what, JSON_COMPACT);
  g_autofree char *text = g_strdup_printf("%s\n", dump);
  bool ok = true;

  free(dump);
  *ret_ran = 0;
  for (guint i = 0; ok && i < names->len; i++) {
    g_autofree char *path = g_build_filename(directory, names->pdata[i], NULL);
    ok = nc_hook_run(path, text, timeout_ms, error);
    *ret_ran += ok;
  }
  return ok;
}
