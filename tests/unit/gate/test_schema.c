/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies and query strings: what passes, and that every refusal names its key. */
#include "base/msg.h"
#include "gate/gate_limits.h"
#include "gate/routes.h"

#include <string.h>

typedef struct {
  const char *op;
  const char *body;
  const char *refusal; /* part of the message; NULL: accepted */
} Case;

static const Case cases[] = {
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\"}" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime_ms\":300,\"bandwidth_limit_bps\":0,\"compression\":"
                        "\"zstd:-5\",\"streams\":16}" },
  { "migration.create", "", "needs a JSON body" },
  { "migration.create", "[]", "must be a JSON object" },
  { "migration.create", "null", "not valid JSON" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\"} x", "not valid JSON" },
  { "migration.create", "{\"vm\":\"a\"}", "\"to\" is missing" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"vm\":\"c\"}", "duplicate" },
  { "migration.create", "{\"vm\":1,\"to\":\"b\"}", "\"vm\" must be a string" },
  { "migration.create", "{\"vm\":null,\"to\":\"b\"}", "\"vm\" must be a string" },
  { "migration.create", "{\"vm\":\"../x\",\"to\":\"b\"}", "\"vm\" must be a name" },
  { "migration.create", "{\"vm\":\"\",\"to\":\"b\"}", "\"vm\" must have 1 to 63 bytes" },
  { "migration.create", "{\"vm\":\"a\\u0000b\",\"to\":\"b\"}", "not valid JSON" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"colour\":\"red\"}", "unknown key \"colour\"" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"streams\":0}", "\"streams\" must be an integer from 1 to 16" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"streams\":17}", "\"streams\"" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"streams\":2.0}", "\"streams\"" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"streams\":\"2\"}", "\"streams\"" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"streams\":99999999999999999999}", "not valid JSON" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime_ms\":-1}", "\"max_downtime_ms\"" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"compression\":\"gzip\"}", "\"compression\" must be \"auto\"" },
  { "node.token", "" },
  { "node.token", "{}" },
  { "node.token", "{\"ttl_s\":59}", "\"ttl_s\" must be an integer from 60" },
  { "machine.stop", "{\"force\":true}" },
  { "machine.stop", "{\"force\":1}", "\"force\" must be true or false" },
  { "machine.start", "" },
  { "machine.start", "{}" },
  { "machine.start", "{\"a\":1}", "unknown key \"a\"; there are: take" },
  { "machine.start", "{\"take\":1}", "take" },
  { "checkpoint.verify", "{\"a\":1}", "takes no body" },
  { "machine.adopt", "{\"name\":\"a\",\"qmp\":\"/run/a\"}" },
  { "machine.adopt", "{\"name\":\"a\",\"qmp\":\"run/a\"}", "\"qmp\" must be the absolute path" },
  { "migration.resolve", "{\"action\":\"run_here\"}" },
  { "migration.resolve", "{\"action\":\"run_there\"}", "\"action\" must be \"run_here\"" },
  { "machine.define", "{\"name\":\"a\",\"disks\":[{\"path\":\"/x\"}]}" },
  { "machine.define", "{\"vcpus\":1}", "\"name\" is missing" },
  { "fleet.migrate", "{\"machine\":\"a\"}" },
  { "fleet.migrate", "{\"destination\":\"b\"}", "\"machine\" is missing" },
  { "fleet.migrate", "{\"machine\":\"a\",\"key\":\"k\"}", "unknown key \"key\"" }, /* a header */
  { "fleet.migrate", "{\"machine\":\"a\",\"priority\":\"urgent\"}", "\"priority\" must be \"critical\"" },
  { "fleet.evacuate", "{\"nodes\":[\"a\",\"b\"],\"allow_partial\":true,\"qos\":\"background\"}" },
  { "fleet.evacuate", "{}", "\"nodes\" is missing" },
  { "fleet.evacuate", "{\"nodes\":\"a\"}", "\"nodes\" must be an array of 1 to 100 items" },
  { "fleet.evacuate", "{\"nodes\":[]}", "\"nodes\" must be an array of 1 to 100 items" },
  { "fleet.evacuate", "{\"nodes\":[\"a\",1]}", "nodes[1]: \"node\" must be a string" },
  { "fleet.evacuate", "{\"nodes\":[\"a\",\"a b\"]}", "nodes[1]: \"node\" must be a name" },
  { "fleet.evacuate", "{\"nodes\":[\"a\"],\"destination\":\"b\"}", "unknown key \"destination\"" },
  { "fleet.plan", "{\"nodes\":[\"a\"]}" },
  { "fleet.batch", "{\"policy\":\"all\",\"migrations\":[{\"machine\":\"a\"},{\"machine\":\"b\",\"destination\":\"c\"}]}" },
  { "fleet.batch", "{\"policy\":\"some\",\"migrations\":[{\"machine\":\"a\"}]}", "\"policy\" must be \"all\" or \"any\"" },
  { "fleet.batch", "{\"migrations\":{\"machine\":\"a\"}}", "\"migrations\" must be an array" },
  { "fleet.batch", "{\"migrations\":[{\"machine\":\"a\"},[]]}", "migrations[1]: it must be an object" },
  { "fleet.batch", "{\"migrations\":[{}]}", "migrations[0]: \"machine\" is missing" },
  { "fleet.batch", "{\"migrations\":[{\"machine\":\"a\",\"streams\":17}]}", "migrations[0]: \"streams\" must be an integer" },
  { "fleet.batch", "{\"migrations\":[{\"machine\":\"a\",\"vm\":\"a\"}]}", "migrations[0]: unknown key \"vm\"" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"0ms\"}", "\"max_downtime\" must be a duration of 1ms to 2000s" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"2001s\"}", "\"max_downtime\" must be a duration" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"1e3s\"}", "\"max_downtime\" must be a duration" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"-1s\"}", "\"max_downtime\" must be a duration" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"300\"}", "\"max_downtime\" must be a duration" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"1s \"}", "\"max_downtime\" must be a duration" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":300}", "\"max_downtime\" must be a string" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"type\":\"auto\"}", "\"type\" must be \"live\"" },
  { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"type\":\"live\",\"algorithm\":\"auto\"}", "\"type\" and \"algorithm\" are two names" },
  { "fleet.batch", "{\"migrations\":[{\"machine\":\"a\",\"bandwidth_limit\":1,\"bandwidth_limit_bps\":1}]}", "migrations[0]: \"bandwidth_limit\" and" },
  { "fleet.cancel", "" },
  { "fleet.cancel", "{\"reason\":\"\"}", "\"reason\" must have 1 to 512 bytes" },
};

static const NcRoute *
route_of(const char *op)
{
  for (size_t i = 0; i < nc_n_routes; i++)
    if (nc_routes[i].op && g_str_equal(nc_routes[i].op, op))
      return &nc_routes[i];
  g_assert_not_reached();
}

static void
test_bodies(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    g_test_message("%s %s", cases[i].op, cases[i].body);
    nc_autojson json_t *args =
        nc_schema_read_body(route_of(cases[i].op)->body, cases[i].body, strlen(cases[i].body), &error);
    if (!cases[i].refusal) {
      g_assert_no_error(error);
      g_assert_true(json_is_object(args));
      continue;
    }
    g_assert_null(args);
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_test_message("  -> %s", error->message);
    g_assert_nonnull(strstr(error->message, cases[i].refusal));
  }
}

/* What novacrond gets has one name for each thing. */
static void
test_other_names(void)
{
  static const struct {
    const char *op, *body, *args;
  } names[] = {
    { "migration.create",
      "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"300ms\",\"bandwidth_limit\":7,\"target_transfer_rate\":333000000,\"type\":\"live\",\"priority\":\"low\"}",
      "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime_ms\":300,\"bandwidth_limit_bps\":7,\"target_rate_bps\":333000000,\"algorithm\":\"auto\",\"qos\":\"background\"}" },
    { "migration.create", "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime\":\"1m1.5s\",\"type\":\"hybrid\",\"priority\":\"low\",\"qos\":\"high\"}",
      "{\"vm\":\"a\",\"to\":\"b\",\"max_downtime_ms\":61500,\"algorithm\":\"hybrid\",\"qos\":\"high\"}" },
    { "fleet.batch", "{\"migrations\":[{\"machine\":\"a\",\"type\":\"post-copy\",\"priority\":\"low\"}]}",
      "{\"migrations\":[{\"machine\":\"a\",\"algorithm\":\"post-copy\",\"priority\":\"low\"}]}" },
    { "fleet.evacuate", "{\"nodes\":[\"a\"],\"max_downtime\":\"2s\"}", "{\"nodes\":[\"a\"],\"max_downtime_ms\":2000}" },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autoptr(GError) error = NULL;
    g_test_message("%s", names[i].body);
    nc_autojson json_t *args = nc_schema_read_body(route_of(names[i].op)->body, names[i].body, strlen(names[i].body), &error);
    nc_autojson json_t *expected = json_loads(names[i].args, 0, NULL);
    g_assert_no_error(error);
    g_assert_nonnull(expected);
    g_assert_true(json_equal(args, expected));
  }
}

static void
test_spec_is_wrapped(void)
{
  const char *body = "{\"name\":\"a\",\"vcpus\":2}";
  nc_autojson json_t *args = nc_schema_read_body(route_of("machine.define")->body, body, strlen(body), NULL);
  g_assert_cmpint(json_object_size(args), ==, 1);
  g_assert_cmpint(nc_json_int_or(json_object_get(args, "spec"), "vcpus", 0), ==, 2);
}

static json_t *
parse_nested(unsigned depth)
{
  g_autoptr(GString) text = g_string_new("{\"a\":");
  for (unsigned i = 1; i < depth; i++)
    g_string_append_c(text, '[');
  for (unsigned i = 1; i < depth; i++)
    g_string_append_c(text, ']');
  g_string_append_c(text, '}');
  if (depth == 1)
    g_string_assign(text, "{}");
  return nc_body_parse(text->str, text->len, NULL);
}

static void
test_depth(void)
{
  for (unsigned depth = NC_GATE_JSON_DEPTH - 1; depth <= NC_GATE_JSON_DEPTH + 1; depth++) {
    nc_autojson json_t *body = parse_nested(depth);
    g_assert_true((body != NULL) == (depth <= NC_GATE_JSON_DEPTH));
  }
  nc_autojson json_t *far_too_deep = parse_nested(100000);
  g_assert_null(far_too_deep);
  const char *strings = "{\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[\"}"; /* brackets in strings are text */
  nc_autojson json_t *text = nc_body_parse(strings, strlen(strings), NULL);
  g_assert_nonnull(text);
}

static void
test_number_of_values(void)
{
  g_autoptr(GString) text = g_string_new("{\"a\":[0");
  for (unsigned i = 0; i < NC_GATE_JSON_VALUES + 1; i++)
    g_string_append(text, ",0");
  g_string_append(text, "]}");
  g_autoptr(GError) error = NULL;
  g_assert_null(nc_body_parse(text->str, text->len, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
}

/* A batch of ${n} migrations with every key that there is: as much as one item can hold. */
static char *
full_batch(unsigned n)
{
  const char *item = "{\"machine\":\"a\",\"destination\":\"b\",\"destination_is_wish\":true,\"priority\":\"low\",\"qos\":\"high\","
                     "\"bandwidth_limit_bps\":1,\"retry_attempts\":1,\"max_downtime_ms\":1,\"algorithm\":\"auto\",\"compression\":\"lz4\","
                     "\"streams\":1,\"max_cpu\":1,\"max_throttle\":1,\"convergence_timeout_ms\":1,\"checkpoint\":true,"
                     "\"checkpoint_keep_s\":1,\"paths\":\"h:1\",\"disk_chain\":\"keep\"}";
  GString *text = g_string_new("{\"migrations\":[");

  for (unsigned i = 0; i < n; i++)
    g_string_append_printf(text, "%s%s", i ? "," : "", item);
  g_string_append(text, "]}");
  return g_string_free(text, FALSE);
}

static void
test_largest_batch(void)
{
  const NcSchema *schema = route_of("fleet.batch")->body;
  g_autofree char *most = full_batch(1000), *more = full_batch(1001);
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *args = nc_schema_read_body(schema, most, strlen(most), &error);

  g_assert_no_error(error);
  g_assert_cmpint(json_array_size(json_object_get(args, "migrations")), ==, 1000);
  g_assert_null(nc_schema_read_body(schema, more, strlen(more), &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_assert_nonnull(strstr(error->message, "1 to 1000 items"));
}

static void
test_key(void)
{
  g_autofree char *most = g_strnfill(NC_KEY_MOST, 'k'), *more = g_strnfill(NC_KEY_MOST + 1, 'k');
  const struct {
    unsigned count;
    const char *value;
    bool ok;
  } keys[] = {
    { 1, "k", true },     { 1, "a b/~!", true }, { 1, most, true },   { 1, more, false },  { 1, "", false },
    { 1, NULL, false },   { 1, "a\tb", false },  { 1, "\xc3\xa4", false }, { 2, "k", false },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
    nc_autojson json_t *args = json_object();
    g_autoptr(GError) error = NULL;
    g_assert_true(nc_schema_read_key(keys[i].count, keys[i].value, args, &error) == keys[i].ok);
    g_assert_true((error == NULL) == keys[i].ok);
    g_assert_cmpstr(nc_json_string_or(args, "key", NULL), ==, keys[i].ok ? keys[i].value : NULL);
  }
}

static void
test_compression(void)
{
  const char *good[] = { "auto", "none", "lz4", "zstd", "zstd:1", "zstd:9", "zstd:-5" };
  const char *bad[] = { "",       "zst",     "zstd:",  "zstd:0", "zstd:10", "zstd:-6",
                        "zstd:-", "zstd:1 ", "zstd:a", "lz4:1",  "auto:1",  "NONE" };
  for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
    g_assert_true(nc_compression_is_valid(good[i]));
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_false(nc_compression_is_valid(bad[i]));
}

static void
test_query(void)
{
  const struct {
    const char *key, *value;
    bool ok;
  } queries[] = {
    { "limit", "1", true },     { "limit", "1000", true },  { "limit", "0", false },
    { "limit", "1001", false }, { "limit", "-1", false },   { "limit", "", false },
    { "limit", NULL, false },   { "limit", "1x", false },   { "limit", "99999999999999999999999", false },
    { "cursor", "m", false },   { "cursor", "m1x", false }, { "cursor", "m4711", true },
    { "machine", "a/b", false }, { "machine", "web1", true }, { "node", "", false },
    { "state", "memory_copy", true }, { "state", "A", false }, { "since", "yesterday", false },
    { "since", "2026-01-02T03:04:05Z", true }, { "since", "2026-01-02T03:04:05.678Z", true },
    { "since", "2026-01-02T03:04:05.Z", false }, { "since", "2026-01-02T03:04:05+01", false },
    { "since", "2026-01-02T03:04:05ZZ", false }, { "since", "2026-01-02 03:04:05Z", false },
    { "cursor", "x", false },   { "limit", "\xff", false }, { "\xff", "1", false },
  };
  const NcSchema *schema = route_of("migration.list")->query;
  for (size_t i = 0; i < G_N_ELEMENTS(queries); i++) {
    nc_autojson json_t *args = json_object();
    g_autoptr(GError) error = NULL;
    g_assert_true(nc_schema_read_query(schema, queries[i].key, queries[i].value, args, &error) == queries[i].ok);
    g_assert_true((error == NULL) == queries[i].ok);
    if (queries[i].ok)
      g_assert_false(nc_schema_read_query(schema, queries[i].key, queries[i].value, args, NULL)); /* twice */
  }
  nc_autojson json_t *none = json_object();
  g_assert_false(nc_schema_read_query(NULL, "limit", "1", none, NULL));
  schema = route_of("fleet.list")->query;
  g_assert_true(nc_schema_read_query(schema, "cursor", "migration:4711", none, NULL));
  g_assert_true(nc_schema_read_query(schema, "unfinished", "true", none, NULL));
  g_assert_true(nc_json_bool_or(none, "unfinished", false));
  json_object_clear(none);
  g_assert_false(nc_schema_read_query(schema, "unfinished", "1", none, NULL));
  g_assert_false(nc_schema_read_query(schema, "cursor", "migration:", none, NULL));
  g_assert_false(nc_schema_read_query(schema, "cursor", ":1", none, NULL));
  g_assert_false(nc_schema_read_query(schema, "cursor", "node:a b", none, NULL));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/gate/schema/bodies", test_bodies);
  g_test_add_func("/gate/schema/other_names", test_other_names);
  g_test_add_func("/gate/schema/spec_is_wrapped", test_spec_is_wrapped);
  g_test_add_func("/gate/schema/depth", test_depth);
  g_test_add_func("/gate/schema/number_of_values", test_number_of_values);
  g_test_add_func("/gate/schema/largest_batch", test_largest_batch);
  g_test_add_func("/gate/schema/key", test_key);
  g_test_add_func("/gate/schema/compression", test_compression);
  g_test_add_func("/gate/schema/query", test_query);
  return g_test_run();
}
