/* SPDX-License-Identifier: Apache-2.0 */
/* Where keys are: people name the directory pki, crypto/pki.h wants the one above it. */
#include "cli/cli.h"

char *
nc_cli_pki_data_dir(const char *directory)
{
  g_autofree char *last = g_path_get_basename(directory);
  return g_str_equal(last, "pki") ? g_path_get_dirname(directory) : g_strdup(directory);
}
