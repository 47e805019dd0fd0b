/* SPDX-License-Identifier: Apache-2.0 */
/* Taps and bridges, in a network namespace of the test's own; skipped where that is not allowed. */
#include "base/io.h"
#include "qemu/tap.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool
make_bridge(const char *name)
{
  nc_autofd int fd = socket(AF_INET, SOCK_DGRAM, 0);
  return ioctl(fd, SIOCBRADDBR, name) == 0;
}

static void
test_life_of_a_tap(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(nc_tap_create("nct1", "br9", &error));
  g_autofree char *master = nc_tap_master("nct1");
  g_assert_cmpstr(master, ==, "br9");
  g_assert_true(nc_tap_create("nct1", "br9", &error)); /* once more: used as it is */
  g_assert_true(nc_tap_delete("nct1", &error));
  g_assert_cmpuint(if_nametoindex("nct1"), ==, 0);
  g_assert_true(nc_tap_delete("nct1", &error)); /* gone already */
  g_assert_true(nc_tap_create("nct2", NULL, &error));
  g_assert_null(nc_tap_master("nct2"));
  g_assert_true(nc_tap_delete("nct2", &error));
  g_assert_no_error(error);
}

static void
test_refusals(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(nc_bridge_exists("br9"));
  g_assert_false(nc_bridge_exists("lo"));
  g_assert_false(nc_bridge_exists("nobody"));
  g_assert_false(nc_bridge_exists("a-name-of-sixteen"));
  g_assert_false(nc_tap_create("nct1", "nobody", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
  g_assert_cmpuint(if_nametoindex("nct1"), ==, 0); /* nothing is left of it */
  g_clear_error(&error);
  g_assert_false(nc_tap_create("a-name-of-sixteen", NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_clear_error(&error);
  g_assert_false(nc_tap_create("", NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
}

/* A tap of somebody else's that can't be bridged stays. */
static void
test_a_tap_that_was_there_is_not_removed(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(nc_tap_create("nct3", NULL, &error));
  g_assert_false(nc_tap_create("nct3", "nobody", &error));
  g_assert_cmpuint(if_nametoindex("nct3"), !=, 0);
  g_clear_error(&error);
  g_assert_true(nc_tap_delete("nct3", &error));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0 || !make_bridge("br9")) {
    g_print("1..0 # SKIP needs root, a network namespace, /dev/net/tun and bridges\n");
    return 0;
  }
  g_test_add_func("/tap/life-of-a-tap", test_life_of_a_tap);
  g_test_add_func("/tap/refusals", test_refusals);
  g_test_add_func("/tap/a-tap-that-was-there-is-not-removed", test_a_tap_that_was_there_is_not_removed);
  return g_test_run();
}
