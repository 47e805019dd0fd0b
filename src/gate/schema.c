/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing strangers' JSON within bounds, and checking it against tables of fields. */
#include "gate/schema.h"
#include "base/msg.h"
#include "gate/gate_limits.h"

#include <string.h>

bool
nc_compression_is_valid(const char *text)
{
  if (g_str_equal(text, "auto") || g_str_equal(text, "none") || g_str_equal(text, "lz4") || g_str_equal(text, "zstd"))
    return true;
  if (!g_str_has_prefix(text, "zstd:"))
    return false;
  const char *level = text + strlen("zstd:");
  bool fast = level[0] == '-';
  char digit = level[fast];
  return digit >= '1' && digit <= (fast ? '5' : '9') &&
         level[fast + 1] == '\0'; /* NC_ZSTD_LEVEL_MIN and _MAX of the wire */
}

/*
 * Depth and number of values are bounded before the parser sees a byte: it
 * recurses and allocates per value. Counting brackets and separators outside
 * of strings is exact for valid JSON; the rest is the parser's to refuse.
 */
static bool
nc_body_check_size(const char *text, size_t length_bytes, GError **error)
{
  unsigned depth = 0, values = 0;
  bool in_string = false;

  for (size_t i = 0; i < length_bytes; i++) {
    char c = text[i];
    if (in_string) {
      if (c == '\\')
        i++;
      else if (c == '"')
        in_string = false;
      continue;
    }
    if (c == '"')
      in_string = true;
    else if ((c == '{' || c == '[') && ++depth > NC_GATE_JSON_DEPTH)
      return nc_fail(error, NC_ERROR_INVALID, "the body is nested more than %d levels deep", NC_GATE_JSON_DEPTH);
    else if ((c == '}' || c == ']') && depth > 0)
      depth--;
    if ((c == ',' || c == '{' || c == '[') && ++values > NC_GATE_JSON_VALUES)
      return nc_fail(error, NC_ERROR_INVALID, "the body has more than %d values", NC_GATE_JSON_VALUES);
  }
  return true;
}

json_t *
nc_body_parse(const void *data, size_t length_bytes, GError **error)
{
  json_error_t problem;

  if (length_bytes > NC_GATE_BODY_MAX_BYTES) {
    nc_fail(error, NC_ERROR_INVALID, "the body is larger than %u bytes", NC_GATE_BODY_MAX_BYTES);
    return NULL;
  }
  if (!nc_body_check_size(data, length_bytes, error))
    return NULL;
  json_t *object = json_loadb(data, length_bytes, JSON_REJECT_DUPLICATES, &problem);
  if (!object) {
    g_autofree char *text = g_utf8_make_valid(problem.text, -1);
    nc_fail(error, NC_ERROR_INVALID, "the body is not valid JSON: %s (line %d, column %d)", text, problem.line,
            problem.column);
    return NULL;
  }
  if (!json_is_object(object)) {
    json_decref(object);
    nc_fail(error, NC_ERROR_INVALID, "the body must be a JSON object");
    return NULL;
  }
  return object;
}

static const NcField *
nc_schema_find(const NcSchema *schema, const char *key)
{
  for (size_t i = 0; i < schema->n_fields; i++)
    if (g_str_equal(schema->fields[i].key, key))
      return &schema->fields[i];
  return NULL;
}

static bool nc_field_check(const NcField *field, json_t *value, GError **error);

static bool
nc_field_check_string(const NcField *field, json_t *value, GError **error)
{
  size_t length = json_string_length(value);

  if (!json_is_string(value))
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" must be a string", field->key);
  if ((int64_t)length < field->minimum || (int64_t)length > field->maximum)
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" must have %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT " bytes",
                   field->key, field->minimum, field->maximum);
  if (field->check && !field->check(json_string_value(value)))
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" must be %s", field->key, field->rule);
  return true;
}

static bool
nc_field_check_integer(const NcField *field, json_t *value, GError **error)
{
  int64_t n = json_integer_value(value);

  if (!json_is_integer(value) || n < field->minimum || n > field->maximum)
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" must be an integer from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT,
                   field->key, field->minimum, field->maximum);
  return true;
}

static bool
nc_field_check_array(const NcField *field, json_t *value, GError **error)
{
  size_t n = json_array_size(value);

  if (!json_is_array(value) || (int64_t)n < field->minimum || (int64_t)n > field->maximum)
    return nc_fail(error, NC_ERROR_INVALID,
                   "\"%s\" must be an array of %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT " items", field->key,
                   field->minimum, field->maximum);
  for (size_t i = 0; i < n; i++) {
    json_t *item = json_array_get(value, i);
    bool ok = field->item            ? nc_field_check(field->item, item, error)
              : json_is_object(item) ? nc_schema_check(field->object, item, error)
                                     : nc_fail(error, NC_ERROR_INVALID, "it must be an object");
    if (!ok) {
      g_prefix_error(error, "%s[%zu]: ", field->key, i);
      return false;
    }
  }
  return true;
}

static bool
nc_field_check(const NcField *field, json_t *value, GError **error)
{
  switch (field->type) {
  case NC_FIELD_STRING:
    return nc_field_check_string(field, value, error);
  case NC_FIELD_INTEGER:
    return nc_field_check_integer(field, value, error);
  case NC_FIELD_BOOLEAN:
    return json_is_boolean(value) || nc_fail(error, NC_ERROR_INVALID, "\"%s\" must be true or false", field->key);
  case NC_FIELD_ARRAY:
    return nc_field_check_array(field, value, error);
  }
  return nc_fail(error, NC_ERROR_INTERNAL, "field \"%s\" has no type", field->key);
}

/* A stranger's key in an error message: cut to a length that fits one line. */
static bool
nc_schema_refuse_key(const NcSchema *schema, const char *key, GError **error)
{
  g_autofree char *shown = g_utf8_substring(key, 0, MIN(g_utf8_strlen(key, -1), 64));
  g_autoptr(GString) known = g_string_new(NULL);

  for (size_t i = 0; i < schema->n_fields; i++)
    g_string_append_printf(known, "%s%s", i ? ", " : "", schema->fields[i].key);
  return nc_fail(error, NC_ERROR_INVALID, "unknown key \"%s\"; there are: %s", shown, known->str);
}

bool
nc_schema_check(const NcSchema *schema, json_t *object, GError **error)
{
  const char *key;
  json_t *value;

  json_object_foreach(object, key, value)
  {
    const NcField *field = nc_schema_find(schema, key);
    if (!field && !schema->open)
      return nc_schema_refuse_key(schema, key, error);
    if (field && !nc_field_check(field, value, error))
      return false;
  }
  for (size_t i = 0; i < schema->n_fields; i++)
    if (schema->fields[i].required && !json_object_get(object, schema->fields[i].key))
      return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is missing", schema->fields[i].key);
  return true;
}

static bool
nc_field_translate(const NcField *field, json_t *object, GError **error)
{
  nc_autojson json_t *value = json_incref(json_object_get(object, field->key));

  if (!value || !field->as)
    return true;
  bool is_given = json_object_get(object, field->as) != NULL;
  if (is_given && !field->yields)
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" and \"%s\" are two names of one setting: give one of them", field->key, field->as);
  json_object_del(object, field->key);
  if (!is_given)
    json_object_set_new(object, field->as, field->convert ? field->convert(value) : json_incref(value));
  return true;
}

/* ${object} has passed nc_schema_check(): from here on it has the fields' own names only. */
static bool
nc_schema_translate(const NcSchema *schema, json_t *object, GError **error)
{
  for (size_t i = 0; i < schema->n_fields; i++) {
    const NcField *field = &schema->fields[i];
    json_t *item;
    size_t n;
    if (field->object)
      json_array_foreach(json_object_get(object, field->key), n, item)
      {
        if (!nc_schema_translate(field->object, item, error)) {
          g_prefix_error(error, "%s[%zu]: ", field->key, n);
          return false;
        }
      }
    if (!nc_field_translate(field, object, error))
      return false;
  }
  return true;
}

json_t *
nc_schema_read_body(const NcSchema *schema, const void *data, size_t length_bytes, GError **error)
{
  nc_autojson json_t *body = NULL;

  if (length_bytes > 0) {
    body = nc_body_parse(data, length_bytes, error);
    if (!body)
      return NULL;
  } else if (schema && !schema->optional) {
    nc_fail(error, NC_ERROR_INVALID, "this request needs a JSON body");
    return NULL;
  }
  if (!body)
    return json_object();
  if (!schema && json_object_size(body) > 0) {
    nc_fail(error, NC_ERROR_INVALID, "this request takes no body");
    return NULL;
  }
  if (schema && (!nc_schema_check(schema, body, error) || !nc_schema_translate(schema, body, error)))
    return NULL;
  return schema && schema->wrap ? json_pack("{s:O}", schema->wrap, body) : json_incref(body);
}

/* Query values are text: turn them into the JSON type the field has, then apply the same check. */
static json_t *
nc_query_value(const NcField *field, const char *text)
{
  gint64 n;

  if (field->type == NC_FIELD_BOOLEAN && (g_str_equal(text, "true") || g_str_equal(text, "false")))
    return json_boolean(g_str_equal(text, "true"));
  if (field->type == NC_FIELD_INTEGER && g_ascii_isdigit(text[0]) && g_ascii_string_to_signed(text, 10, 0, G_MAXINT64, &n, NULL))
    return json_integer(n);
  return field->type == NC_FIELD_STRING ? json_string(text) : json_null();
}

bool
nc_schema_read_query(const NcSchema *schema, const char *key, const char *value, json_t *args, GError **error)
{
  const NcField *field = schema ? nc_schema_find(schema, key) : NULL;

  if (!field) {
    g_autofree char *shown = g_utf8_make_valid(key, MIN((gssize)strlen(key), 64));
    return nc_fail(error, NC_ERROR_INVALID, "unknown query parameter \"%s\"", shown);
  }
  if (json_object_get(args, key))
    return nc_fail(error, NC_ERROR_INVALID, "query parameter \"%s\" is given twice", key);
  nc_autojson json_t *typed = nc_query_value(field, value ? value : "");
  if (!typed)
    return nc_fail(error, NC_ERROR_INVALID, "query parameter \"%s\" is not UTF-8", key);
  if (!nc_field_check(field, typed, error))
    return false;
  json_object_set(args, key, typed);
  return true;
}

bool
nc_schema_read_key(unsigned count, const char *value, json_t *args, GError **error)
{
  size_t length = value ? strlen(value) : 0;
  bool ok = count == 1 && length > 0 && length <= NC_KEY_MOST;

  for (size_t i = 0; ok && i < length; i++)
    ok = g_ascii_isprint(value[i]);
  if (!ok)
    return nc_fail(error, NC_ERROR_INVALID,
                   "the header " NC_KEY_HEADER " must be given once, with 1 to %d printable ASCII characters",
                   NC_KEY_MOST);
  json_object_set_new(args, "key", json_string(value));
  return true;
}
