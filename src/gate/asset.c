/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/asset.h"

#include <glib.h>
#include <string.h>

const NcAsset *
nc_asset_find(const char *path)
{
  for (size_t i = 0; i < nc_n_assets; i++)
    if (g_str_equal(nc_assets[i].path, path))
      return &nc_assets[i];
  return NULL;
}

bool
nc_asset_is_known(const NcAsset *asset, const char *if_none_match)
{
  g_auto(GStrv) tags = g_strsplit(if_none_match ? if_none_match : "", ",", 32);

  for (size_t i = 0; tags[i]; i++) {
    const char *tag = g_strstrip(tags[i]);
    if (g_str_has_prefix(tag, "W/"))
      tag += strlen("W/");
    if (g_str_equal(tag, "*") || g_str_equal(tag, asset->etag))
      return true;
  }
  return false;
}
