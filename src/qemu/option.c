/* SPDX-License-Identifier: Apache-2.0 */
/* Text options are kept as their raw pieces, so that those nobody touches are printed unchanged. */
#include "qemu/option.h"
#include "base/msg.h"

#include <string.h>

struct NcOption {
  json_t *json;      /* the JSON form; NULL for text */
  GPtrArray *pieces; /* text between single commas, still with doubled ones */
  char *implied_key;
};

/* --- text pieces --- */

static char *
nc_double_commas(const char *value)
{
  g_auto(GStrv) parts = g_strsplit(value, ",", -1);
  return g_strjoinv(",,", parts);
}

static char *
nc_undouble_commas(const char *raw)
{
  g_auto(GStrv) parts = g_strsplit(raw, ",,", -1);
  return g_strjoinv(",", parts);
}

static GPtrArray *
nc_split_pieces(const char *text)
{
  GPtrArray *pieces = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) piece = g_string_new(NULL);

  for (const char *c = text; *c; c++) {
    if (c[0] == ',' && c[1] == ',') {
      g_string_append(piece, ",,");
      c++;
    } else if (c[0] == ',') {
      g_ptr_array_add(pieces, g_strdup(piece->str));
      g_string_truncate(piece, 0);
    } else {
      g_string_append_c(piece, *c);
    }
  }
  g_ptr_array_add(pieces, g_strdup(piece->str));
  return pieces;
}

/* The value if piece ${index} is about ${key}, NULL otherwise. Caller frees. */
static char *
nc_piece_value(const NcOption *o, guint index, const char *key)
{
  const char *piece = o->pieces->pdata[index];
  const char *equals = strchr(piece, '=');
  size_t length = equals ? (size_t)(equals - piece) : strlen(piece);

  if (equals)
    return strncmp(piece, key, length) == 0 && key[length] == '\0' ? nc_undouble_commas(equals + 1) : NULL;
  if (index == 0 && o->implied_key)
    return g_str_equal(key, o->implied_key) ? nc_undouble_commas(piece) : NULL;
  if (g_str_equal(piece, key))
    return g_strdup("on");
  return g_str_has_prefix(piece, "no") && g_str_equal(piece + 2, key) ? g_strdup("off") : NULL;
}

/* --- both --- */

NcOption *
nc_option_parse(const char *text, const char *implied_key, GError **error)
{
  NcOption *o = g_new0(NcOption, 1);

  if (text[0] == '{') {
    g_autoptr(GError) problem = NULL;
    o->json = nc_msg_decode(text, strlen(text), &problem);
    if (o->json)
      return o;
    nc_fail(error, NC_ERROR_INVALID, "\"%.80s\" is %s", text, problem->message);
    nc_option_free(o);
    return NULL;
  }
  o->implied_key = g_strdup(implied_key);
  o->pieces = nc_split_pieces(text);
  return o;
}

void
nc_option_free(NcOption *o)
{
  if (!o)
    return;
  json_decref(o->json);
  if (o->pieces)
    g_ptr_array_unref(o->pieces);
  g_free(o->implied_key);
  g_free(o);
}

static char *
nc_json_as_text(json_t *value)
{
  if (json_is_string(value))
    return g_strdup(json_string_value(value));
  if (json_is_boolean(value))
    return g_strdup(json_is_true(value) ? "on" : "off");
  char *dumped = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
  char *text = g_strdup(dumped);
  free(dumped);
  return text;
}

char *
nc_option_get(const NcOption *o, const char *key)
{
  if (o->json) {
    json_t *value = json_object_get(o->json, key);
    return value ? nc_json_as_text(value) : NULL;
  }
  for (guint i = o->pieces->len; i > 0; i--) {
    char *value = nc_piece_value(o, i - 1, key);
    if (value)
      return value;
  }
  return NULL;
}

bool
nc_option_has(const NcOption *o, const char *key)
{
  g_autofree char *value = nc_option_get(o, key);
  return value != NULL;
}

bool
nc_option_is_on(const NcOption *o, const char *key, bool fallback)
{
  g_autofree char *value = nc_option_get(o, key);
  static const char *const yes[] = { "on", "yes", "true", "y", NULL };
  return value ? g_strv_contains(yes, value) : fallback;
}

static void
nc_option_set_text(NcOption *o, const char *key, const char *value)
{
  g_autofree char *raw = nc_double_commas(value);
  for (guint i = o->pieces->len; i > 0; i--) {
    g_autofree char *previous = nc_piece_value(o, i - 1, key);
    if (!previous)
      continue;
    bool implied = i == 1 && !strchr(o->pieces->pdata[0], '=') && o->implied_key;
    g_free(o->pieces->pdata[i - 1]);
    o->pieces->pdata[i - 1] = implied && !strchr(value, '=') ? g_strdup(raw) : g_strdup_printf("%s=%s", key, raw);
    return;
  }
  g_ptr_array_add(o->pieces, g_strdup_printf("%s=%s", key, raw));
}

void
nc_option_set(NcOption *o, const char *key, const char *value)
{
  if (o->json)
    json_object_set_new(o->json, key, json_string(value));
  else
    nc_option_set_text(o, key, value);
}

void
nc_option_set_bool(NcOption *o, const char *key, bool value)
{
  if (o->json)
    json_object_set_new(o->json, key, json_boolean(value));
  else
    nc_option_set_text(o, key, value ? "on" : "off");
}

void
nc_option_remove(NcOption *o, const char *key)
{
  if (o->json) {
    json_object_del(o->json, key);
    return;
  }
  for (guint i = o->pieces->len; i > 0; i--) {
    g_autofree char *value = nc_piece_value(o, i - 1, key);
    if (!value)
      continue;
    g_ptr_array_remove_index(o->pieces, i - 1);
    if (i == 1)
      g_clear_pointer(&o->implied_key, g_free); /* what moves to the front is no value of it */
  }
}

char *
nc_option_print(const NcOption *o)
{
  if (o->json)
    return nc_json_as_text(o->json);
  g_autoptr(GString) text = g_string_new(NULL);
  for (guint i = 0; i < o->pieces->len; i++)
    g_string_append_printf(text, "%s%s", i ? "," : "", (const char *)o->pieces->pdata[i]);
  return g_strdup(text->str);
}
