/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ident.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#define NC_ID_EPOCH_MS INT64_C(1767225600000) /* 2026-01-01T00:00:00Z */

static const char nc_id_digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's: no i, l, o, u */

void
nc_id_time(int64_t wall_us, char ret[NC_ID_TIME_DIGITS + 1])
{
  uint64_t time = (uint64_t)(wall_us / 1000 - NC_ID_EPOCH_MS);

  for (int i = 0; i < NC_ID_TIME_DIGITS; i++)
    ret[i] = nc_id_digits[time >> (35 - 5 * i) & 31];
  ret[NC_ID_TIME_DIGITS] = '\0';
}

char *
nc_id_new(const char *prefix)
{
  uint64_t random = 0;
  char time[NC_ID_TIME_DIGITS + 1], text[9];

  if (getrandom(&random, sizeof random, 0) != sizeof random)
    g_error("the kernel gives no random bytes");
  nc_id_time(nc_wall_us(), time);
  for (int i = 0; i < 8; i++)
    text[i] = nc_id_digits[random >> (5 * i) & 31];
  text[8] = '\0';
  return g_strdup_printf("%s-%s%s", prefix, time, text);
}

bool
nc_attempt_name_is_valid(const char *name)
{
  if (!name || !g_str_has_prefix(name, "mig-") || strspn(name + 4, nc_id_digits) != 16 || name[NC_ATTEMPT_ID_BYTES] != '.')
    return false;
  const char *number = name + NC_ATTEMPT_ID_BYTES + 1;
  size_t length = strspn(number, "0123456789");
  return length >= 1 && length <= 3 && number[0] != '0' && number[length] == '\0';
}

bool
nc_id_is_of_fleet(const char *id)
{
  return g_str_has_prefix(id, "mig-") && !strchr(id, '.');
}

bool
nc_name_is_valid(const char *name)
{
  size_t length = name ? strlen(name) : 0;

  if (length < 1 || length > 63 || !g_ascii_isalnum(name[0]))
    return false;
  return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

static int64_t
nc_clock_us(clockid_t clock)
{
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
nc_wall_us(void)
{
  return nc_clock_us(CLOCK_REALTIME);
}

int64_t
nc_mono_us(void)
{
  return nc_clock_us(CLOCK_MONOTONIC);
}

char *
nc_time_format(int64_t wall_us)
{
  g_autoptr(GDateTime) second = g_date_time_new_from_unix_utc(wall_us / 1000000);
  g_autofree char *text = second ? g_date_time_format(second, "%Y-%m-%dT%H:%M:%S") : g_strdup("?");
  return g_strdup_printf("%s.%03dZ", text, (int)(wall_us / 1000 % 1000));
}
