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
