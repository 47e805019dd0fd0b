/* SPDX-License-Identifier: Apache-2.0 */
#include "base/program.h"

#include <glib.h>

const char *
nc_program_find(const char *name, const char *room)
{
  g_autofree char *built = g_build_filename("..", room, name, NULL);
  g_autofree char *installed = g_build_filename("../libexec/novacron", name, NULL);
  const char *const places[] = { name, built, installed };
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  g_autofree char *directory = g_path_get_dirname(self ? self : "/usr/sbin/novacrond");

  for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
    g_autofree char *path = g_canonicalize_filename(places[i], directory);
    if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE) && !g_file_test(path, G_FILE_TEST_IS_DIR))
      return g_intern_string(path);
  }
  return g_intern_string(name);
}

bool
nc_program_start(const char *binary, const char *const *options, int fd, pid_t *ret_pid, GError **error)
{
  const int from[] = { fd }, to[] = { NC_PROGRAM_FD };
  /* What is preloaded into us need not get along with its sandbox. */
  g_auto(GStrv) environment = g_environ_unsetenv(g_get_environ(), "LD_PRELOAD");
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  g_autoptr(GError) problem = NULL;

  g_ptr_array_add(argv, (gpointer)binary);
  for (; *options; options++)
    g_ptr_array_add(argv, (gpointer)*options);
  g_ptr_array_add(argv, NULL);
  return g_spawn_async_with_pipes_and_fds(NULL, (const char *const *)argv->pdata, (const char *const *)environment,
                                          G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH, NULL, NULL, -1, -1, -1, from, to, 1, ret_pid, NULL,
                                          NULL, NULL, &problem) ||
         nc_fail(error, NC_ERROR_INTERNAL, "can't start %s: %s", binary, problem->message);
}
