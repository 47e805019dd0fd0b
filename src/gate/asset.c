/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/asset.h"

#include <glib.h>

const NcAsset *
nc_asset_find(const char *path)
{
  for (size_t i = 0; i < nc_n_assets; i++)
    if (g_str_equal(nc_assets[i].path, path))
      return &nc_assets[i];
  return NULL;
}
