/* SPDX-License-Identifier: Apache-2.0 */
#include "base/exposition.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

struct NcExposition {
  NcExpositionFormat format;
  GString *text;
  char *name; /* of the last family's samples */
};

NcExposition *
nc_exposition_new(NcExpositionFormat format)
{
  NcExposition *e = g_new0(NcExposition, 1);
  e->format = format;
  e->text = g_string_new(NULL);
  return e;
}

void
nc_exposition_free(NcExposition *e)
{
  if (!e)
    return;
  g_string_free(e->text, TRUE);
  g_free(e->name);
  g_free(e);
}

/* Line breaks, backslashes and, in labels, quotes. */
static void
nc_exposition_escape(GString *out, const char *text, bool quotes)
{
  for (; *text; text++)
    if (*text == '\n')
      g_string_append(out, "\\n");
    else if (*text == '\\' || (quotes && *text == '"'))
      g_string_append_printf(out, "\\%c", *text);
    else
      g_string_append_c(out, *text);
}

/* The classic format knows no info, and has a counter's whole name in its head. */
static const char *
nc_exposition_type_name(NcExpositionFormat format, NcFamilyType type)
{
  static const char *const names[] = { [NC_FAMILY_GAUGE] = "gauge", [NC_FAMILY_COUNTER] = "counter", [NC_FAMILY_HISTOGRAM] = "histogram",
                                       [NC_FAMILY_INFO] = "info" };
  return names[type == NC_FAMILY_INFO && format == NC_EXPOSITION_TEXT ? NC_FAMILY_GAUGE : type];
}

void
nc_exposition_family(NcExposition *e, const char *name, NcFamilyType type, const char *unit, const char *help)
{
  static const char *const ends[] = { [NC_FAMILY_GAUGE] = "", [NC_FAMILY_COUNTER] = "_total", [NC_FAMILY_HISTOGRAM] = "",
                                      [NC_FAMILY_INFO] = "_info" };

  g_free(e->name);
  e->name = g_strconcat(name, ends[type], NULL);
  const char *head = e->format == NC_EXPOSITION_OPENMETRICS ? name : e->name;
  g_string_append_printf(e->text, "# TYPE %s %s\n", head, nc_exposition_type_name(e->format, type));
  if (unit && e->format == NC_EXPOSITION_OPENMETRICS)
    g_string_append_printf(e->text, "# UNIT %s %s\n", head, unit);
  g_string_append_printf(e->text, "# HELP %s ", head);
  nc_exposition_escape(e->text, help, e->format == NC_EXPOSITION_OPENMETRICS);
  g_string_append_c(e->text, '\n');
}

/* Whole numbers as such: bytes must not be rounded. */
static void
nc_exposition_number(GString *out, double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  bool is_whole = isfinite(value) && floor(value) == value && fabs(value) < 9007199254740992.0; /* 2^53 */

  if (isinf(value))
    g_string_append(out, value > 0 ? "+Inf" : "-Inf");
  else
    g_string_append(out, g_ascii_formatd(text, sizeof text, is_whole ? "%.0f" : "%.10g", value));
}

static void
nc_exposition_write(NcExposition *e, const char *end, const char *labels, const char *more, double value)
{
  bool both = labels && labels[0] && more;

  if (isnan(value))
    return;
  g_string_append_printf(e->text, "%s%s", e->name, end);
  if ((labels && labels[0]) || more)
    g_string_append_printf(e->text, "{%s%s%s}", labels ? labels : "", both ? "," : "", more ? more : "");
  g_string_append_c(e->text, ' ');
  nc_exposition_number(e->text, value);
  g_string_append_c(e->text, '\n');
}

void
nc_exposition_sample(NcExposition *e, const char *labels, double value)
{
  nc_exposition_write(e, "", labels, NULL, value);
}

char *
nc_exposition_labels(const char *name, ...)
{
  GString *out = g_string_new(NULL);
  va_list args;

  va_start(args, name);
  for (; name; name = va_arg(args, const char *)) {
    const char *value = va_arg(args, const char *);
    if (!value)
      continue;
    g_string_append_printf(out, "%s%s=\"", out->len ? "," : "", name);
    nc_exposition_escape(out, value, true);
    g_string_append_c(out, '"');
  }
  va_end(args);
  return g_string_free(out, FALSE);
}

const char *
nc_exposition_end(NcExposition *e)
{
  if (e->format == NC_EXPOSITION_OPENMETRICS && !g_str_has_suffix(e->text->str, "# EOF\n"))
    g_string_append(e->text, "# EOF\n");
  return e->text->str;
}

const char *
nc_exposition_media_type(NcExpositionFormat format)
{
  return format == NC_EXPOSITION_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                             : "text/plain; version=0.0.4; charset=utf-8";
}

/* --- histograms --- */

void
nc_histogram_observe(NcHistogram *h, double value)
{
  size_t i = 0;

  if (isnan(value) || value < 0)
    return;
  while (i < h->n_bounds && value > h->bounds[i])
    i++;
  h->counts[i]++;
  h->sum += value;
}

/* "0.25", "1.0": as OpenMetrics wants bounds to be written. */
static char *
nc_exposition_bound(double bound)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];

  if (isinf(bound))
    return g_strdup("le=\"+Inf\"");
  g_ascii_formatd(text, sizeof text, "%.10g", bound);
  return g_strdup_printf("le=\"%s%s\"", text, strpbrk(text, ".e") ? "" : ".0");
}

void
nc_exposition_histogram(NcExposition *e, const char *labels, const NcHistogram *h)
{
  uint64_t count = 0;

  for (size_t i = 0; i <= h->n_bounds; i++) {
    g_autofree char *le = nc_exposition_bound(i < h->n_bounds ? h->bounds[i] : INFINITY);
    count += h->counts[i];
    nc_exposition_write(e, "_bucket", labels, le, (double)count);
  }
  nc_exposition_write(e, "_sum", labels, NULL, h->sum);
  nc_exposition_write(e, "_count", labels, NULL, (double)count);
}
