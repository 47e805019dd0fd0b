/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/help.h"
#include "base/ident.h"
#include "base/io.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NC_HELP_MS INT64_C(10000) /* a tenth of a second is usual; a cold disk takes longer */
#define NC_HELP_BYTES (1u << 20)  /* QEMU's longest list has some 20 KiB */

/* An answer and the file that gave it: a package upgrade makes another file of the same name. */
typedef struct {
  dev_t device;
  ino_t inode;
  off_t size;
  struct timespec modified;
  char *text;
} NcHelpAnswer;

static GMutex nc_help_lock;         /* protects nc_help_answers */
static GHashTable *nc_help_answers; /* "PATH OPTION" -> NcHelpAnswer; as many as the node has QEMUs, twice */

/* All that ${fd} gives until its end; NULL if it takes too long or is too much. Caller frees. */
static char *
nc_read_help(int fd, int64_t deadline_us)
{
  g_autoptr(GString) text = g_string_new(NULL);
  char chunk[4096];

  for (;;) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int left_ms = (int)((deadline_us - nc_mono_us()) / 1000);
    int ready = left_ms > 0 ? poll(&p, 1, left_ms) : 0;
    ssize_t n = ready > 0 ? read(fd, chunk, sizeof chunk) : -1;
    if (ready > 0 && n == 0)
      return g_strdup(text->str);
    if (n > 0)
      g_string_append_len(text, chunk, n);
    else if (ready == 0 || errno != EINTR)
      return NULL;
    if (text->len > NC_HELP_BYTES)
      return NULL;
  }
}

/* Waits for our child ${pid}, kills it if it does not end in time. Did it succeed? */
static bool
nc_reap(pid_t pid, int64_t deadline_us)
{
  int status = 0;
  pid_t got;

  while ((got = waitpid(pid, &status, WNOHANG)) == 0 && nc_mono_us() < deadline_us)
    g_usleep(2000);
  if (got == 0)
    kill(pid, SIGKILL); /* not reaped yet: the pid is still its own */
  while (got == 0 || (got < 0 && errno == EINTR))
    got = waitpid(pid, &status, 0);
  return got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* What `${binary} ${option} help` prints; NULL if it can't be run, hangs or is no QEMU. Caller frees. */
static char *
nc_help_ask(const char *binary, const char *option)
{
  const char *argv[] = { binary, option, "help", NULL };
  int64_t deadline_us = nc_mono_us() + NC_HELP_MS * 1000;
  nc_autofd int out = -1;
  GPid pid;

  if (!g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &pid,
                                NULL, &out, NULL, NULL))
    return NULL;
  g_autofree char *text = nc_read_help(out, deadline_us);
  nc_fd_clear(&out);
  return nc_reap(pid, text ? deadline_us : 0) ? g_steal_pointer(&text) : NULL;
}

static bool
nc_help_is_of(const NcHelpAnswer *answer, const struct stat *file)
{
  return answer->device == file->st_dev && answer->inode == file->st_ino && answer->size == file->st_size &&
         answer->modified.tv_sec == file->st_mtim.tv_sec && answer->modified.tv_nsec == file->st_mtim.tv_nsec;
}

static char *
nc_help_recall(const char *key, const struct stat *file)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&nc_help_lock);
  const NcHelpAnswer *answer = nc_help_answers ? g_hash_table_lookup(nc_help_answers, key) : NULL;
  return answer && nc_help_is_of(answer, file) ? g_strdup(answer->text) : NULL;
}

static void
nc_help_answer_free(gpointer data)
{
  NcHelpAnswer *answer = data;
  g_free(answer->text);
  g_free(answer);
}

static void
nc_help_keep(const char *key, const struct stat *file, const char *text)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&nc_help_lock);
  NcHelpAnswer *answer = g_new(NcHelpAnswer, 1);

  *answer = (NcHelpAnswer){ .device = file->st_dev, .inode = file->st_ino, .size = file->st_size, .modified = file->st_mtim,
                            .text = g_strdup(text) };
  if (!nc_help_answers)
    nc_help_answers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, nc_help_answer_free);
  g_hash_table_replace(nc_help_answers, g_strdup(key), answer);
}

char *
nc_qemu_help(const char *binary, const char *option)
{
  g_autofree char *path = g_find_program_in_path(binary);
  struct stat file;
  if (!path || stat(path, &file) < 0)
    return NULL;
  g_autofree char *key = g_strdup_printf("%s %s", path, option);
  char *text = nc_help_recall(key, &file);
  if (!text && (text = nc_help_ask(path, option)) != NULL) /* a failure may pass: it is asked again */
    nc_help_keep(key, &file, text);
  return text;
}
