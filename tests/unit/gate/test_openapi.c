/* SPDX-License-Identifier: Apache-2.0 */
/* docs/api/openapi.json and the route table say the same: paths, methods, roles, statuses, bodies, bounds. */
#include "base/msg.h"
#include "gate/openapi.h"
#include "gate/routes.h"

#include <string.h>

static json_t *document;

static json_t *
at(json_t *object, const char *key)
{
  json_t *value = json_object_get(object, key);
  if (!value)
    g_test_message("no \"%s\"", key);
  g_assert_nonnull(value);
  return value;
}

static json_t *
operation_of(const NcRoute *route)
{
  g_autofree char *method = g_ascii_strdown(route->method, -1);
  g_test_message("%s %s", route->method, route->pattern);
  return at(at(at(document, "paths"), route->pattern), method);
}

static void
check_operation(const NcRoute *route)
{
  json_t *operation = operation_of(route);
  g_autofree char *status = g_strdup_printf("%u", route->status);
  json_t *success = at(at(operation, "responses"), status);

  const char *name = route->operation ? route->operation : route->op;
  g_assert_true((route->by == NC_BY_NOVACROND) == (route->op != NULL));
  g_assert_cmpstr(nc_json_string_or(operation, "operationId", ""), ==, name);
  g_assert_cmpstr(nc_json_string_or(operation, "x-novacron-role", ""), ==, nc_role_name(route->role));
  g_assert_true((json_object_get(json_object_get(success, "headers"), "Location") != NULL) ==
                (route->location != NULL));
  g_assert_true((json_object_get(operation, "requestBody") != NULL) == (route->body != NULL));
  g_assert_true((json_object_get(json_object_get(success, "headers"), "ETag") != NULL) == route->list);
  g_assert_true((json_object_get(at(operation, "responses"), "304") != NULL) == route->list);
}

static void
test_every_route_is_documented(void)
{
  for (size_t i = 0; i < nc_n_routes; i++)
    check_operation(&nc_routes[i]);
}

static void
test_nothing_else_is_documented(void)
{
  const char *path;
  json_t *item;
  size_t n = 0;
  json_object_foreach(at(document, "paths"), path, item) n += json_object_size(item);
  g_assert_cmpint(n, ==, nc_n_routes);
}

static void check_field(const NcField *field, json_t *property);
static void check_described(const NcSchema *schema);

static void
check_items(const NcField *field, json_t *items)
{
  g_assert_true((field->item != NULL) != (field->object != NULL));
  if (field->item) {
    check_field(field->item, items);
    return;
  }
  g_autofree char *reference = g_strconcat("#/components/schemas/", field->object->name, NULL);
  g_assert_cmpstr(nc_json_string_or(items, "$ref", ""), ==, reference);
  check_described(field->object);
}

static void
check_field(const NcField *field, json_t *property)
{
  static const char *const types[] = {
    [NC_FIELD_STRING] = "string", [NC_FIELD_INTEGER] = "integer", [NC_FIELD_BOOLEAN] = "boolean", [NC_FIELD_ARRAY] = "array"
  };
  g_test_message("  %s", field->key);
  g_assert_cmpstr(nc_json_string_or(property, "type", ""), ==, types[field->type]);
  g_assert_true(json_is_string(json_object_get(property, "description")));
  if (field->type == NC_FIELD_INTEGER) {
    g_assert_cmpint(nc_json_int_or(property, "minimum", G_MININT64), ==, field->minimum);
    g_assert_cmpint(nc_json_int_or(property, "maximum", G_MININT64), ==, field->maximum);
  } else if (field->type == NC_FIELD_STRING) {
    g_assert_cmpint(nc_json_int_or(property, "minLength", -1), ==, field->minimum);
    g_assert_cmpint(nc_json_int_or(property, "maxLength", -1), ==, field->maximum);
  } else if (field->type == NC_FIELD_ARRAY) {
    g_assert_cmpint(nc_json_int_or(property, "minItems", -1), ==, field->minimum);
    g_assert_cmpint(nc_json_int_or(property, "maxItems", -1), ==, field->maximum);
    check_items(field, at(property, "items"));
  }
}

static bool
lists(json_t *array, const char *text)
{
  size_t i;
  json_t *item;
  json_array_foreach(array, i, item) if (g_str_equal(json_string_value(item), text)) return true;
  return false;
}

static void
check_described(const NcSchema *schema)
{
  json_t *described = at(at(at(document, "components"), "schemas"), schema->name);

  g_assert_true(nc_json_bool_or(described, "additionalProperties", true) == schema->open);
  for (size_t i = 0; i < schema->n_fields; i++) {
    check_field(&schema->fields[i], at(at(described, "properties"), schema->fields[i].key));
    g_assert_true(lists(json_object_get(described, "required"), schema->fields[i].key) == schema->fields[i].required);
  }
  if (!schema->open)
    g_assert_cmpint(json_object_size(at(described, "properties")), ==, schema->n_fields);
}

static void
check_schema(const NcSchema *schema, json_t *operation)
{
  g_autofree char *reference = g_strconcat("#/components/schemas/", schema->name, NULL);
  json_t *body = at(operation, "requestBody");
  json_t *media = at(at(body, "content"), "application/json");

  g_assert_cmpstr(nc_json_string_or(at(media, "schema"), "$ref", ""), ==, reference);
  g_assert_true(nc_json_bool_or(body, "required", false) == !schema->optional);
  check_described(schema);
}

static void
test_bodies_match(void)
{
  for (size_t i = 0; i < nc_n_routes; i++)
    if (nc_routes[i].body)
      check_schema(nc_routes[i].body, operation_of(&nc_routes[i]));
}

static void
check_query_field(const NcField *field, json_t *parameter)
{
  json_t *described = at(parameter, "schema");

  g_assert_cmpstr(nc_json_string_or(parameter, "name", ""), ==, field->key);
  if (field->type == NC_FIELD_BOOLEAN)
    g_assert_cmpstr(nc_json_string_or(described, "type", ""), ==, "boolean");
  else
    g_assert_cmpint(nc_json_int_or(described, field->type == NC_FIELD_STRING ? "maxLength" : "maximum", -1), ==, field->maximum);
}

/* In this order: the path's parameter, the query's, the header: a change's key, or what of a list is known already. */
static void
test_parameters_match(void)
{
  for (size_t i = 0; i < nc_n_routes; i++) {
    const NcSchema *query = nc_routes[i].query;
    size_t path = strchr(nc_routes[i].pattern, '{') != NULL, n = path + (query ? query->n_fields : 0);
    json_t *parameters = json_object_get(operation_of(&nc_routes[i]), "parameters");
    g_assert_cmpint(json_array_size(parameters), ==, n + (nc_routes[i].is_keyed || nc_routes[i].list));
    if (nc_routes[i].list)
      g_assert_cmpstr(nc_json_string_or(json_array_get(parameters, n), "$ref", ""), ==, "#/components/parameters/ifNoneMatch");
    for (size_t f = 0; query && f < query->n_fields; f++)
      check_query_field(&query->fields[f], json_array_get(parameters, path + f));
    if (nc_routes[i].is_keyed)
      g_assert_cmpstr(nc_json_string_or(json_array_get(parameters, n), "$ref", ""), ==, "#/components/parameters/idempotencyKey");
  }
  json_t *key = at(at(at(document, "components"), "parameters"), "idempotencyKey");
  g_assert_cmpstr(nc_json_string_or(key, "name", ""), ==, NC_KEY_HEADER);
  g_assert_cmpint(nc_json_int_or(at(key, "schema"), "maxLength", 0), ==, NC_KEY_MOST);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  document = json_loadb(nc_openapi_json, nc_openapi_json_bytes, JSON_REJECT_DUPLICATES, NULL);
  g_assert_nonnull(document);
  g_test_add_func("/gate/openapi/every_route_is_documented", test_every_route_is_documented);
  g_test_add_func("/gate/openapi/nothing_else_is_documented", test_nothing_else_is_documented);
  g_test_add_func("/gate/openapi/bodies_match", test_bodies_match);
  g_test_add_func("/gate/openapi/parameters_match", test_parameters_match);
  int failed = g_test_run();
  json_decref(document);
  return failed;
}
