/* SPDX-License-Identifier: Apache-2.0 */
/* novacrond's configuration file: what is refused, and that everybody is told where. */
#include "agent/config.h"
#include "agent/uplinks.h"
#include "base/msg.h"
#include "base/log.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static void
defaults_are_a_configuration(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcConfig) config = nc_config_parse("empty", "", &error);
  g_assert_no_error(error);
  g_assert_cmpstr(config->listen, ==, "0.0.0.0:7450");
  g_assert_cmpstr(config->control_socket, ==, "/run/novacron/control.sock");
  g_assert_cmpstr(config->database, ==, "/var/lib/novacron/fleet.db");
  g_assert_cmpint(config->max_downtime_ms, ==, 300);
  g_assert_cmpint(config->streams, ==, 0);
  g_assert_cmpstr(config->compression, ==, "auto");
  g_assert_cmpint(config->max_cpu, ==, 100);
  g_assert_cmpint(config->log_level, ==, NC_LOG_INFO);
  g_assert_cmpint(config->mover_uid, >, 0);
  g_assert_cmpstr(config->mover_binary, !=, "");
}

static void
values_are_taken(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcConfig) config = nc_config_parse("f",
                                               "# comment\r\n\n  node = host-a  \nstreams=16\ncompression = lz4\nrun_dir = /tmp/x\n"
                                               "log_level = debug\ncontrol_users = root, 1234,\nmover_uid = 99\nmax_downtime_ms = 1",
                                               &error);
  g_assert_no_error(error);
  g_assert_cmpstr(config->node, ==, "host-a");
  g_assert_cmpint(config->streams, ==, 16);
  g_assert_cmpstr(config->compression, ==, "lz4");
  g_assert_cmpstr(config->control_socket, ==, "/tmp/x/control.sock");
  g_assert_cmpint(config->log_level, ==, NC_LOG_DEBUG);
  g_assert_cmpint(config->control_uid_count, ==, 2);
  g_assert_cmpint(config->control_uids[1], ==, 1234);
  g_assert_cmpint(config->mover_uid, ==, 99);
}

static void
refusals_name_file_line_and_key(void)
{
  static const struct {
    const char *text, *expected;
  } bad[] = {
    { "nonsense\n", "f:1: \"nonsense\" is not of the form" },
    { "\n\nnode = a\nstream = 2\n", "f:4: unknown key \"stream\"" },
    { "streams = -1", "f:1: streams: \"-1\" is not a whole number from 0 to 16" },
    { "streams = 17", "f:1: streams: " },
    { "streams = 2x", "f:1: streams: " },
    { "streams =", "f:1: streams: " },
    { "streams = 99999999999999999999", "f:1: streams: " },
    { "max_downtime_ms = -1", "f:1: max_downtime_ms: " },
    { "node = a b", "f:1: node: " },
    { "node = -a", "f:1: node: " },
    { "listen = 7450", "f:1: listen: " },
    { "listen =", "f:1: listen: " },
    { "listen = host:0", "f:1: listen: " },
    { "listen = host:65536", "f:1: listen: " },
    { "data_dir = var", "f:1: data_dir: " },
    { "database = fleet.db", "f:1: database: \"...\" is not a value" },
    { "database = postgresql://u:secret@h/x?no=such", "f:1: database: \"...\" is not a value" }, /* it may hold a password */
    { "compression = gzip", "f:1: compression: " },
    { "compression = auto:1", "f:1: compression: " },
    { "max_cpu = 0", "f:1: max_cpu: " },
    { "max_cpu = 101", "f:1: max_cpu: " },
    { "compression = zstd:0", "f:1: compression: " },
    { "compression = zstd:20", "f:1: compression: " },
    { "compression = zstd:", "f:1: compression: " },
    { "compression = zstd:1x", "f:1: compression: " },
    { "log_format = xml", "f:1: log_format: " },
    { "log_level = loud", "f:1: log_level: " },
    { "mover_uid = no-such-user", "f:1: mover_uid: there is no user \"no-such-user\"" },
    { "mover_gid = no-such-group", "f:1: mover_gid: " },
    { "control_users = root,no-such-user", "f:1: control_users: " },
    { "control_users = 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "f:1: control_users: more than" },
    { "streams = 2\nstreams = 2", "f:2: streams: stands there twice" },
    { "= 2", "f:1: unknown key \"\"" },
    { "alert_high_latency = 100ms", "f:1: alert_high_latency: " },
    { "alert_needs_attention = 1", "f:1: alert_needs_attention: " },
    { "alert_webhook_url = http://alerts.example/x", "f:1: alert_webhook_url: \"...\" is not a value" }, /* not without TLS over the network */
    { "alert_webhook_url = http://localhost@alerts.example/", "f:1: alert_webhook_url: " },
    { "alert_webhook_url = http://localhost.example/", "f:1: alert_webhook_url: " },
    { "alert_webhook_url = https://", "f:1: alert_webhook_url: " },
    { "alert_webhook_url = https://alerts.example/hook", "f: alert_webhook_url needs alert_webhook_key_file" },
    { "node = \xff", "not UTF-8" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_test_message("%s", bad[i].expected);
    g_assert_null(nc_config_parse("f", bad[i].text, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, bad[i].expected));
  }
}

static void
dump_reads_back_the_same(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcConfig) config = nc_config_parse("", "node = a\nstreams = 5\nadvertise = [::1]:7450\nlog_format = json\n", &error);
  g_assert_no_error(error);
  g_autofree char *dump = nc_config_dump(config);
  g_autoptr(NcConfig) again = nc_config_parse("", dump, &error);
  g_assert_no_error(error);
  g_autofree char *second = nc_config_dump(again);
  g_assert_cmpstr(dump, ==, second);
  g_assert_cmpint(again->streams, ==, 5);
}

static void
sample_is_the_documented_one(void)
{
  g_autofree char *path = g_test_build_filename(G_TEST_DIST, "docs", "novacrond.conf.sample", NULL);
  g_autofree char *documented = NULL;
  g_autofree char *sample = nc_config_sample();
  g_autoptr(GError) error = NULL;

  g_assert_true(g_file_get_contents(path, &documented, NULL, &error));
  g_assert_cmpstr(documented, ==, sample); /* else: novacrond --sample-config > docs/novacrond.conf.sample */
  g_autoptr(NcConfig) config = nc_config_parse("sample", sample, &error);
  g_assert_no_error(error);
}

/* Every key of the sample has its entry in the manual, with its default. */
static void
manual_knows_every_key(void)
{
  g_autofree char *path = g_test_build_filename(G_TEST_DIST, "docs", "man", "novacrond.conf.5.scd", NULL);
  g_autofree char *manual = NULL;
  g_autofree char *sample = nc_config_sample();
  g_auto(GStrv) lines = g_strsplit(sample, "\n", -1);

  g_assert_true(g_file_get_contents(path, &manual, NULL, NULL));
  for (char **line = lines; *line; line++) {
    char *equals = strchr(*line, '=');
    if ((*line)[0] != '#' || (*line)[1] == ' ' || !equals)
      continue;
    g_autofree char *key = g_strstrip(g_strndup(*line + 1, (gsize)(equals - *line - 1)));
    g_autofree char *heading = g_strdup_printf("*%s* = ", key);
    g_autofree char *fallback = g_strdup_printf("(default *%s*)", g_strstrip(equals + 1));
    char *entry = strstr(manual, heading);
    g_test_message("%s", key);
    g_assert_nonnull(entry);
    if (equals[1])
      g_assert_true(strstr(entry, fallback) && strstr(entry, fallback) < strchr(entry, '\n'));
  }
}

static void
reload_takes_what_it_can(void)
{
  g_autofree char *dir = g_dir_make_tmp("nc-config-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(dir, "novacrond.conf", NULL);
  g_autoptr(GError) error = NULL;
  g_autofree char *waiting = NULL;

  g_assert_true(g_file_set_contents(path, "streams = 3\n", -1, NULL));
  g_autoptr(NcConfig) config = nc_config_load(path, &error);
  g_assert_no_error(error);
  config->node = "from-certificate";
  g_assert_true(g_file_set_contents(path, "streams = 4\ncompression = lz4\n", -1, NULL));
  g_assert_true(nc_config_reload(config, &waiting, &error));
  g_assert_null(waiting);
  g_assert_cmpint(config->streams, ==, 4);
  g_assert_cmpstr(config->compression, ==, "lz4");

  g_assert_true(g_file_set_contents(path, "streams = 5\ndata_dir = /elsewhere\nlisten = 0.0.0.0:1\n", -1, NULL));
  g_assert_true(nc_config_reload(config, &waiting, &error));
  g_assert_cmpstr(waiting, ==, "listen, data_dir, database, store_dir");
  g_assert_cmpint(config->streams, ==, 5);
  g_assert_cmpstr(config->data_dir, ==, "/var/lib/novacron");
  g_assert_cmpstr(config->node, ==, "from-certificate");

  g_assert_true(g_file_set_contents(path, "streams = 6\nbroken\n", -1, NULL));
  g_assert_false(nc_config_reload(config, NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_assert_cmpint(config->streams, ==, 5);
  g_unlink(path);
  g_rmdir(dir);
}

static void
missing_file_is_not_found(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_null(nc_config_load("/nonexistent/novacrond.conf", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
}

static void
test_uplinks(void)
{
  static const char *const wrong[] = { "rack-1", "rack-1:0", "rack-1:-5", "rack-1:10Gbit", ":5", "a/b:5", "x:5,x:6", "x:5,", "a:1,b:1,c:1,d:1,e:1,f:1,g:1", "x:1000000000001" };
  nc_autojson json_t *two = nc_uplinks_parse(" rack-3 : 1250000000, site-a:125000000"), *none = nc_uplinks_parse("");

  for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
    g_assert_null(nc_uplinks_parse(wrong[i]));
  g_assert_cmpuint(json_array_size(none), ==, 0);
  g_assert_cmpuint(json_array_size(two), ==, 2);
  g_assert_cmpstr(nc_json_string_or(json_array_get(two, 0), "name", ""), ==, "rack-3");
  g_assert_cmpint(nc_json_int_or(json_array_get(two, 1), "rate_bps", 0), ==, 125000000);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/config/defaults_are_a_configuration", defaults_are_a_configuration);
  g_test_add_func("/config/values_are_taken", values_are_taken);
  g_test_add_func("/config/refusals_name_file_line_and_key", refusals_name_file_line_and_key);
  g_test_add_func("/config/dump_reads_back_the_same", dump_reads_back_the_same);
  g_test_add_func("/config/sample_is_the_documented_one", sample_is_the_documented_one);
  g_test_add_func("/config/manual_knows_every_key", manual_knows_every_key);
  g_test_add_func("/config/reload_takes_what_it_can", reload_takes_what_it_can);
  g_test_add_func("/config/missing_file_is_not_found", missing_file_is_not_found);
  g_test_add_func("/config/uplinks", test_uplinks);
  return g_test_run();
}
