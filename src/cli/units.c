/* SPDX-License-Identifier: Apache-2.0 */
/* Scales, suffixes and their factors. */
#include "cli/units.h"

#include <math.h>
#include <string.h>

static char *
nc_format_scaled(double value, double step, const char *const *units, size_t n_units)
{
  size_t i = 0;

  while (i + 1 < n_units && value >= step * 0.9995) {
    value /= step;
    i++;
  }
  return g_strdup_printf(i == 0 ? "%.0f %s" : "%.1f %s", value, units[i]);
}

char *
nc_format_bytes(int64_t bytes)
{
  static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
  return nc_format_scaled((double)bytes, 1024, units, G_N_ELEMENTS(units));
}

char *
nc_format_rate(double bytes_per_s)
{
  static const char *const units[] = { "B/s", "kB/s", "MB/s", "GB/s" };
  return nc_format_scaled(bytes_per_s, 1000, units, G_N_ELEMENTS(units));
}

char *
nc_format_ms(double ms)
{
  ms = fmin(ms, 1e15); /* nobody waits so long; beyond it int64_t ends */
  if (ms < 999.5)
    return g_strdup_printf("%.0f ms", ms);
  if (ms < 59950)
    return g_strdup_printf("%.1f s", ms / 1000);
  int64_t s = (int64_t)(ms / 1000 + 0.5);
  if (s < 3600)
    return g_strdup_printf("%d min %02d s", (int)(s / 60), (int)(s % 60));
  return g_strdup_printf("%" G_GINT64_FORMAT " h %02d min", s / 3600, (int)(s % 3600 / 60));
}

typedef struct {
  const char *suffix;
  double factor;
} NcUnit;

/* Finds ${suffix} without regard to case; NAN if it is none. */
static double
nc_unit_factor(const NcUnit *units, size_t n_units, const char *suffix)
{
  for (size_t i = 0; i < n_units; i++)
    if (g_ascii_strcasecmp(units[i].suffix, suffix) == 0)
      return units[i].factor;
  return NAN;
}

/* A number, perhaps a blank, a unit. NAN if it is anything else. */
static double
nc_parse_with_unit(const char *text, const NcUnit *units, size_t n_units)
{
  char *end;

  if (!g_ascii_isdigit(text[0]))
    return NAN;
  size_t digits = strspn(text, "0123456789.");
  double value = g_ascii_strtod(text, &end);
  if (end != text + digits) /* "1e5", "0x10": not what anybody means */
    return NAN;
  while (*end == ' ')
    end++;
  return value * nc_unit_factor(units, n_units, end);
}

bool
nc_parse_rate(const char *text, int64_t *ret_bytes_per_s, GError **error)
{
  static const NcUnit units[] = {
    { "", 1 },           { "B/s", 1 },         { "k", 1e3 },         { "kB/s", 1e3 },         { "M", 1e6 },
    { "MB/s", 1e6 },     { "G", 1e9 },         { "GB/s", 1e9 },      { "Ki", 1024 },          { "KiB/s", 1024 },
    { "Mi", 1048576 },   { "MiB/s", 1048576 }, { "Gi", 1073741824 }, { "GiB/s", 1073741824 }, { "bit", 0.125 },
    { "kbit", 125 },     { "Mbit", 125e3 },    { "Gbit", 125e6 },    { "bit/s", 0.125 },      { "kbit/s", 125 },
    { "Mbit/s", 125e3 }, { "Gbit/s", 125e6 },
  };
  double rate = nc_parse_with_unit(text, units, G_N_ELEMENTS(units));

  if (isnan(rate) || rate > 1e12)
    return nc_fail(error, NC_ERROR_INVALID,
                   "\"%s\" is not a rate: write 0 (no limit), 50M or 50MB/s (bytes per second) or 800Mbit (bits)",
                   text);
  *ret_bytes_per_s = (int64_t)(rate + 0.5);
  return true;
}

bool
nc_parse_duration(const char *text, int64_t *ret_s, GError **error)
{
  static const NcUnit units[] = { { "", 1 }, { "s", 1 }, { "min", 60 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 } };
  double s = nc_parse_with_unit(text, units, G_N_ELEMENTS(units));

  if (isnan(s) || s > 366.0 * 86400)
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is not a duration: write 90s, 15min, 2h or 1d", text);
  *ret_s = (int64_t)(s + 0.5);
  return true;
}
