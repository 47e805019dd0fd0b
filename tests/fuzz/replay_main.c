/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over files instead of inventions: every argument is a
 * file, or a directory whose files are taken. This makes each corpus an
 * ordinary test, without clang. A target fails by aborting.
 */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *path)
{
  g_autofree char *data = NULL;
  g_autofree uint8_t *exact = NULL;
  g_autoptr(GError) error = NULL;
  gsize length;

  if (!g_file_get_contents(path, &data, &length, &error)) {
    fprintf(stderr, "%s\n", error->message);
    return -1;
  }
  exact = g_memdup2(data, length); /* without GLib's extra NUL, so that a read past the end is one */
  printf("%s\n", path);
  fflush(stdout); /* the last line names the culprit */
  LLVMFuzzerTestOneInput(exact, length);
  return 1;
}

/* Number of files run, or -1. */
static int
replay(const char *path)
{
  g_autoptr(GDir) directory = NULL;
  const char *name;
  int count = 0;

  if (!g_file_test(path, G_FILE_TEST_IS_DIR))
    return replay_file(path);
  if (!(directory = g_dir_open(path, 0, NULL)))
    return -1;
  while ((name = g_dir_read_name(directory))) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    if (replay_file(child) < 0)
      return -1;
    count++;
  }
  return count;
}

int
main(int argc, char **argv)
{
  int total = 0;

  for (int i = 1; i < argc; i++) {
    int count = replay(argv[i]);
    if (count < 0)
      return 1;
    total += count;
  }
  printf("%d inputs\n", total);
  return total > 0 ? 0 : 77; /* meson: skipped, for a target that has no corpus yet */
}
