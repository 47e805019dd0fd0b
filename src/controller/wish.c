/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/wish.h"
#include "base/ident.h"
#include "base/msg.h"

#include <string.h>

/* --- the agent's settings --- */

typedef struct {
  const char *name;
  json_type type;      /* JSON_INTEGER, JSON_STRING, JSON_TRUE (either truth) */
  int64_t least, most; /* of a number; of a text its bytes */
  const char *words;   /* one of these, with a space before and after each; NULL: any text */
} NcSetting;

static const NcSetting nc_settings[] = {
  { "max_downtime_ms", JSON_INTEGER, 1, 2000000, NULL },
  { "algorithm", JSON_STRING, 1, 16, " auto pre-copy post-copy hybrid " },
  { "compression", JSON_STRING, 3, 16, NULL },
  { "streams", JSON_INTEGER, 1, 16, NULL },
  { "max_cpu", JSON_INTEGER, 1, 100, NULL },
  { "max_throttle", JSON_INTEGER, 0, 99, NULL },
  { "convergence_timeout_ms", JSON_INTEGER, 0, 86400000, NULL },
  { "checkpoint", JSON_TRUE, 0, 0, NULL },
  { "checkpoint_keep_s", JSON_INTEGER, 0, 31622400, NULL },
  { "paths", JSON_STRING, 3, 2048, NULL },
  { "disk_chain", JSON_STRING, 1, 16, " flatten keep trust " },
  { "target_rate_bps", JSON_INTEGER, 0, 1000000000000, NULL },
};

static const NcSetting *
nc_find_setting(const char *name)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_settings); i++)
    if (g_str_equal(nc_settings[i].name, name))
      return &nc_settings[i];
  return NULL;
}

static bool
nc_setting_fits(const NcSetting *setting, json_t *value)
{
  if (setting->type == JSON_TRUE)
    return json_is_boolean(value);
  if (setting->type == JSON_INTEGER)
    return json_is_integer(value) && json_integer_value(value) >= setting->least &&
           json_integer_value(value) <= setting->most;
  const char *text = json_string_value(value);
  size_t length = json_string_length(value);
  if (!text || strlen(text) != length || length < (size_t)setting->least || length > (size_t)setting->most)
    return false;
  g_autofree char *word = g_strdup_printf(" %s ", text);
  return !setting->words || (!strchr(text, ' ') && strstr(setting->words, word));
}

static bool
nc_take_setting(json_t *settings, const char *name, json_t *value, GError **error)
{
  const NcSetting *setting = nc_find_setting(name);

  if (!setting)
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is nothing that can be asked for here", name);
  if (setting->words && !nc_setting_fits(setting, value))
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is to be one of:%s", name, setting->words);
  if (setting->type == JSON_TRUE && !nc_setting_fits(setting, value))
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is to be true or false", name);
  if (!nc_setting_fits(setting, value))
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is to be a %s from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT "%s",
                   name, setting->type == JSON_INTEGER ? "whole number" : "text of", setting->least, setting->most,
                   setting->type == JSON_INTEGER ? "" : " bytes");
  json_object_set(settings, name, value);
  return true;
}

/* --- the controller's own --- */

static bool
nc_take_name(json_t *value, const char *member, char **ret, GError **error)
{
  const char *name = json_string_value(value);

  if (!name || !nc_name_is_valid(name))
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is to be a name: " NC_NAME_RULE, member);
  g_free(*ret);
  *ret = g_strdup(name);
  return true;
}

static bool
nc_take_number(json_t *value, const char *member, int64_t most, int64_t *ret, GError **error)
{
  *ret = json_integer_value(value);
  return (json_is_integer(value) && *ret >= 0 && *ret <= most) ||
         nc_fail(error, NC_ERROR_INVALID, "\"%s\" is to be a whole number from 0 to %" G_GINT64_FORMAT, member, most);
}

/* *ret_taken: it was one of these. */
static bool
nc_take_own(NcWish *wish, const char *member, json_t *value, bool *ret_taken, GError **error)
{
  int64_t number = 0;
  *ret_taken = true;

  if (g_str_equal(member, "machine"))
    return nc_take_name(value, member, &wish->machine, error);
  if (g_str_equal(member, "destination"))
    return nc_take_name(value, member, &wish->destination, error);
  if (g_str_equal(member, "destination_is_wish")) {
    wish->is_wish = json_is_true(value);
    return json_is_boolean(value) || nc_fail(error, NC_ERROR_INVALID, "\"%s\" is to be true or false", member);
  }
  if (g_str_equal(member, "priority")) {
    wish->has_priority = true;
    return nc_priority_from_name(json_string_value(value), &wish->priority) ||
           nc_fail(error, NC_ERROR_INVALID, "\"priority\" is to be \"critical\", \"high\", \"normal\" or \"low\"");
  }
  if (g_str_equal(member, "qos"))
    return nc_qos_from_name(json_string_value(value), &wish->qos) ||
           nc_fail(error, NC_ERROR_INVALID, "\"qos\" is to be " NC_QOS_NAMES);
  if (g_str_equal(member, "bandwidth_limit_bps")) {
    bool ok = nc_take_number(value, member, 1000000000000, &number, error);
    wish->limit_bps = (uint64_t)number;
    return ok;
  }
  if (g_str_equal(member, "retry_attempts")) {
    bool ok = nc_take_number(value, member, 100, &number, error);
    wish->retry_attempts = (int)number;
    return ok;
  }
  *ret_taken = false;
  return true;
}

/* --- all of it --- */

static void
nc_wish_init(NcWish *wish)
{
  *wish =
      (NcWish){ .priority = NC_PRIORITY_NORMAL, .qos = NC_QOS_NORMAL, .retry_attempts = -1, .settings = json_object() };
}

void
nc_wish_clear(NcWish *wish)
{
  g_free(wish->machine);
  g_free(wish->destination);
  json_decref(wish->settings);
  *wish = (NcWish){ 0 };
}

bool
nc_wish_read(json_t *body, const char *const *others, NcWish *ret, GError **error)
{
  const char *member;
  json_t *value;

  nc_wish_init(ret);
  if (!json_is_object(body)) {
    nc_wish_clear(ret);
    return nc_fail(error, NC_ERROR_INVALID, "what is asked for is to be a JSON object");
  }
  json_object_foreach(body, member, value)
  {
    bool is_taken = others && g_strv_contains(others, member);
    if (!is_taken && (!nc_take_own(ret, member, value, &is_taken, error) ||
                      (!is_taken && !nc_take_setting(ret->settings, member, value, error)))) {
      nc_wish_clear(ret);
      return false;
    }
  }
  return true;
}

json_t *
nc_wish_save(const NcWish *wish)
{
  json_t *saved =
      json_pack("{s:b, s:b, s:b, s:s, s:I, s:i, s:O}", "is_wish", wish->is_wish, "reserve", wish->reserve, "is_bound",
                wish->is_bound, "qos", nc_qos_name(wish->qos), "bandwidth_limit_bps", (json_int_t)wish->limit_bps,
                "retry_attempts", wish->retry_attempts, "settings", wish->settings);
  if (saved && wish->destination)
    json_object_set_new(saved, "destination", json_string(wish->destination));
  if (saved && wish->has_priority)
    json_object_set_new(saved, "priority", json_string(nc_priority_name(wish->priority)));
  return saved;
}

void
nc_wish_load(json_t *saved, NcWish *ret)
{
  json_t *settings = json_object_get(saved, "settings"), *value;
  const char *destination = nc_json_string_or(saved, "destination", NULL), *member;

  nc_wish_init(ret);
  ret->is_wish = nc_json_bool_or(saved, "is_wish", false);
  ret->reserve = nc_json_bool_or(saved, "reserve", false);
  ret->is_bound = nc_json_bool_or(saved, "is_bound", false);
  if (!nc_qos_from_name(nc_json_string_or(saved, "qos", NULL), &ret->qos))
    ret->qos = NC_QOS_NORMAL;
  ret->limit_bps = (uint64_t)CLAMP(nc_json_int_or(saved, "bandwidth_limit_bps", 0), 0, 1000000000000);
  ret->retry_attempts = (int)CLAMP(nc_json_int_or(saved, "retry_attempts", -1), -1, 100);
  ret->has_priority = nc_priority_from_name(nc_json_string_or(saved, "priority", NULL), &ret->priority);
  if (destination && nc_name_is_valid(destination))
    ret->destination = g_strdup(destination);
  json_object_foreach(settings, member, value) nc_take_setting(ret->settings, member, value, NULL);
}
