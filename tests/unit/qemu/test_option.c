/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's option strings: what is read, what is changed, and that the rest stays as it was. */
#include "qemu/option.h"

static void
test_reading(void)
{
  static const struct {
    const char *text, *implied, *key, *value;
  } rows[] = {
    { "pc,usb=off", "type", "type", "pc" },
    { "pc,usb=off", "type", "usb", "off" },
    { "type=q35", "type", "type", "q35" },
    { "usb=off", "type", "type", NULL },
    { "server,nowait", NULL, "server", "on" },
    { "server,nowait", NULL, "wait", "off" },
    { "x,server", "backend", "server", "on" },
    { "x,server", "backend", "x", NULL },
    { "a=1,a=2", NULL, "a", "2" },
    { "file=/a,,b,c=d", "file", "file", "/a,b" },
    { "file=a=b", "file", "file", "a=b" },
    { "fileX=a", "file", "file", NULL },
    { "fil=a", "file", "file", NULL },
    { "", "type", "type", "" },
    { "{\"type\":\"tap\",\"vhost\":true,\"n\":3}", "type", "type", "tap" },
    { "{\"type\":\"tap\",\"vhost\":true,\"n\":3}", "type", "vhost", "on" },
    { "{\"type\":\"tap\",\"vhost\":true,\"n\":3}", "type", "n", "3" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(NcOption) o = nc_option_parse(rows[i].text, rows[i].implied, NULL);
    g_autofree char *value = nc_option_get(o, rows[i].key);
    g_autofree char *printed = nc_option_print(o);
    g_assert_cmpstr(value, ==, rows[i].value);
    g_assert_cmpstr(printed, ==, rows[i].text);
  }
}

static void
test_changing(void)
{
  static const struct {
    const char *text, *key, *value, *result; /* value NULL: removed */
  } rows[] = {
    { "pc,usb=off", "type", "q35", "q35,usb=off" },
    { "usb=off,type=pc", "type", "q35", "usb=off,type=q35" },
    { "pc", "path", "/a,b", "pc,path=/a,,b" },
    { "pc,nowait,x=1", "wait", "off", "pc,wait=off,x=1" },
    { "pc,a=1,b=2,a=3", "a", NULL, "pc,b=2" },
    { "accel=kvm", "accel", NULL, "" },
    { "{\"type\":\"tap\",\"fd\":\"3\"}", "fd", NULL, "{\"type\":\"tap\"}" },
    { "{\"type\":\"tap\"}", "ifname", "t\"0", "{\"type\":\"tap\",\"ifname\":\"t\\\"0\"}" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(NcOption) o = nc_option_parse(rows[i].text, "type", NULL);
    if (rows[i].value)
      nc_option_set(o, rows[i].key, rows[i].value);
    else
      nc_option_remove(o, rows[i].key);
    g_autofree char *printed = nc_option_print(o);
    g_assert_cmpstr(printed, ==, rows[i].result);
  }
}

static void
test_booleans(void)
{
  g_autoptr(NcOption) text = nc_option_parse("x,server,quiet=yes,loud=no", "backend", NULL);
  g_autoptr(NcOption) json = nc_option_parse("{\"a\":1}", NULL, NULL);
  g_assert_true(nc_option_is_on(text, "server", false));
  g_assert_true(nc_option_is_on(text, "quiet", false));
  g_assert_false(nc_option_is_on(text, "loud", true));
  g_assert_true(nc_option_is_on(text, "missing", true));
  nc_option_set_bool(json, "on", true);
  g_autofree char *printed = nc_option_print(json);
  g_assert_cmpstr(printed, ==, "{\"a\":1,\"on\":true}");
}

static void
test_what_is_no_json_is_refused(void)
{
  static const char *const bad[] = { "{", "{\"a\":}", "{\"a\":1,\"a\":2}", "{}x" };
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(nc_option_parse(bad[i], NULL, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/option/reading", test_reading);
  g_test_add_func("/option/changing", test_changing);
  g_test_add_func("/option/booleans", test_booleans);
  g_test_add_func("/option/what-is-no-json-is-refused", test_what_is_no_json_is_refused);
  return g_test_run();
}
