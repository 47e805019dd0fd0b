/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/bearer.h"

#include <glib.h>
#include <string.h>

#define NC_BEARER_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

bool
nc_bearer_read(const char *value, const char **ret_token)
{
  static const char scheme[] = "Bearer";

  *ret_token = "";
  if (!value || g_ascii_strncasecmp(value, scheme, strlen(scheme)) != 0)
    return false;
  const char *token = value + strlen(scheme);
  if (*token && *token != ' ')
    return false;
  token += strspn(token, " ");
  size_t length = strlen(token);
  if (length <= NC_BEARER_MOST_BYTES && strspn(token, NC_BEARER_CHARACTERS) == length)
    *ret_token = token;
  return true;
}
