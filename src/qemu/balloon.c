/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/balloon.h"

#include <string.h>

#define NC_BALLOON_QUERY_MS 10000

/* The virtio device inside the balloon below the QOM path ${parent}; NULL: there is none. Caller frees. */
static char *
nc_balloon_find(NcQmp *qmp, const char *parent)
{
  nc_autojson json_t *children =
      nc_qmp_call(qmp, "qom-list", json_pack("{s:s}", "path", parent), -1, NC_BALLOON_QUERY_MS, NULL);
  size_t i;
  json_t *child;
  json_array_foreach(children, i, child)
  {
    if (g_str_has_prefix(nc_json_string_or(child, "type", ""), "child<virtio-balloon-"))
      return g_strdup_printf("%s/%s/virtio-backend", parent, nc_json_string_or(child, "name", ""));
  }
  return NULL;
}

/* A debugging command of QEMU's, from 7.2 on: the only one that knows what a guest's driver has agreed to. */
static NcBalloonHints
nc_balloon_ask(NcQmp *qmp, const char *path)
{
  nc_autojson json_t *status =
      nc_qmp_call(qmp, "x-query-virtio-status", json_pack("{s:s}", "path", path), -1, NC_BALLOON_QUERY_MS, NULL);
  json_t *features = json_object_get(json_object_get(status, "guest-features"), "dev-features");
  size_t i;
  json_t *feature;

  if (!json_is_array(features))
    return NC_BALLOON_UNKNOWN;
  json_array_foreach(features, i, feature)
  {
    const char *text = json_string_value(feature);
    if (text && g_str_has_prefix(text, "VIRTIO_BALLOON_F_FREE_PAGE_HINT"))
      return NC_BALLOON_HINTS_PAGES;
  }
  return NC_BALLOON_DOES_NOT_HINT;
}

NcBalloonHints
nc_qemu_balloon_hints(NcQmp *qmp)
{
  static const char *const parents[] = { "/machine/peripheral",
                                         "/machine/peripheral-anon" }; /* devices with an id, and without */

  for (size_t i = 0; i < G_N_ELEMENTS(parents); i++) {
    g_autofree char *path = nc_balloon_find(qmp, parents[i]);
    if (path)
      return nc_balloon_ask(qmp, path);
  }
  return NC_BALLOON_DOES_NOT_HINT;
}
