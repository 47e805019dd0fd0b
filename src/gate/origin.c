/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/origin.h"

#include <arpa/inet.h>
#include <glib.h>
#include <string.h>

bool
nc_origin_is_allowed(const char *origin, const char *host, bool tls, char *const *origins)
{
  const char *scheme = tls ? "https://" : "http://";

  if (!origin[0])
    return false;
  if (origins && g_strv_contains((const char *const *)origins, origin))
    return true;
  return host && host[0] && g_str_has_prefix(origin, scheme) && g_ascii_strcasecmp(origin + strlen(scheme), host) == 0;
}

static bool
nc_host_is_listed(const char *host, char *const *origins)
{
  for (; origins && *origins; origins++) {
    const char *end = strstr(*origins, "://");
    if (end && g_ascii_strcasecmp(end + strlen("://"), host) == 0)
      return true;
  }
  return false;
}

bool
nc_host_is_ours(const char *host, char *const *origins)
{
  g_autofree char *name = g_strndup(host, strcspn(host, ":"));
  struct in_addr address;

  /* "[::1]:8080"; four numbers; or a name. */
  return host[0] == '[' || !strchr(name, '.') || inet_pton(AF_INET, name, &address) == 1 || nc_host_is_listed(host, origins);
}
