/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/etag.h"

#include <glib.h>
#include <string.h>

#define NC_ETAGS_MOST 32 /* in one header; who sends more gets the content */

void
nc_etag_of(const void *data, size_t length_bytes, char ret[NC_ETAG_BYTES])
{
  g_autofree char *hex = g_compute_checksum_for_data(G_CHECKSUM_SHA256, data, length_bytes);
  g_snprintf(ret, NC_ETAG_BYTES, "\"%s\"", hex);
}

bool
nc_etag_is_known(const char *etag, const char *if_none_match)
{
  g_auto(GStrv) tags = g_strsplit(if_none_match ? if_none_match : "", ",", NC_ETAGS_MOST);

  for (size_t i = 0; tags[i]; i++) {
    const char *tag = g_strstrip(tags[i]);
    if (g_str_has_prefix(tag, "W/"))
      tag += strlen("W/");
    if (g_str_equal(tag, "*") || g_str_equal(tag, etag))
      return true;
  }
  return false;
}
