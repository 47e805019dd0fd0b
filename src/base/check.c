/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

static const char *const nc_verdict_names[] = { "ok", "warning", "failed", "unknown" };

const char *
nc_verdict_name(NcVerdict verdict)
{
  return nc_verdict_names[verdict];
}

NcVerdict
nc_verdict_from_name(const char *name)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_verdict_names); i++)
    if (g_str_equal(nc_verdict_names[i], name))
      return (NcVerdict)i;
  return NC_CHECK_UNKNOWN;
}

void
nc_check_add(json_t *list, const char *check, NcVerdict verdict, const char *remedy, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *raw = g_strdup_vprintf(format, args);
  va_end(args);
  g_autofree char *value = g_utf8_make_valid(raw, -1); /* paths may be anything */
  json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "check", check, "verdict", nc_verdict_name(verdict), "value", value,
                                        "remedy", remedy ? remedy : ""));
}

static bool
nc_checks_have(json_t *list, NcVerdict verdict)
{
  size_t i;
  json_t *check;

  json_array_foreach(list, i, check)
  {
    if (g_str_equal(nc_json_string_or(check, "verdict", ""), nc_verdict_name(verdict)))
      return true;
  }
  return false;
}

NcVerdict
nc_checks_worst(json_t *list)
{
  static const NcVerdict order[] = { NC_CHECK_FAILED, NC_CHECK_UNKNOWN, NC_CHECK_WARNING };
  for (size_t i = 0; i < G_N_ELEMENTS(order); i++)
    if (nc_checks_have(list, order[i]))
      return order[i];
  return NC_CHECK_OK;
}

char *
nc_checks_complaints(json_t *list)
{
  g_autoptr(GString) text = g_string_new(NULL);
  size_t i;
  json_t *check;

  json_array_foreach(list, i, check)
  {
    const char *remedy = nc_json_string_or(check, "remedy", "");
    if (!g_str_equal(nc_json_string_or(check, "verdict", ""), "failed"))
      continue;
    g_string_append_printf(text, "%s%s", text->len ? "; " : "", nc_json_string_or(check, "value", ""));
    if (remedy[0])
      g_string_append_printf(text, " (%s)", remedy);
  }
  return text->len ? g_strdup(text->str) : NULL;
}
