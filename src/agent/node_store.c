/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node_store.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Is it there and can only be read? */
static bool
nc_directory_is_read_only(const char *path)
{
  return access(path, R_OK | X_OK) == 0 && access(path, W_OK) < 0 && (errno == EROFS || errno == EACCES);
}

NcPageStore *
nc_node_store_open(const NcConfig *config, GError **error)
{
  g_autoptr(NcSealKey) key = NULL;
  NcPageStoreOptions options = { .budget_bytes = (uint64_t)config->store_budget_mib << 20 };

  if (config->store_key_file[0] && !(key = nc_seal_key_load(config->store_key_file, error)))
    return NULL;
  options.key = key;
  options.read_only = nc_directory_is_read_only(config->store_dir);
  NcPageStore *store = nc_page_store_open(config->store_dir, &options, error);
  if (store && options.read_only)
    nc_log(NC_LOG_WARNING, "agent", "the page store in %s can only be read: checkpoints can be restored, none can be made",
           config->store_dir);
  return store;
}
