/* SPDX-License-Identifier: Apache-2.0 */
/* Real-world command lines, and what becomes of them at a destination. */
#include "qemu/adopt.h"

static char *
rewritten(const char *line, GPtrArray *taps, GError **error)
{
  g_auto(GStrv) argv = g_strsplit(line, " ", -1);
  g_auto(GStrv) out = nc_adopt_rewrite(argv, "pc-i440fx-7.2", taps, error);
  return out ? g_strjoinv(" ", out) : NULL;
}

static void
test_what_becomes_of_it(void)
{
  static const struct {
    const char *from, *to;
  } lines[] = {
    { "qemu -M pc -m 512", "-M pc-i440fx-7.2 -m 512" },
    { "qemu -m 512", "-m 512 -machine pc-i440fx-7.2" },
    { "qemu -machine accel=tcg,type=pc,memory-backend=r", "-machine accel=tcg,pc-i440fx-7.2,memory-backend=r" },
    { "qemu -machine accel=tcg", "-machine pc-i440fx-7.2,accel=tcg" },
    { "qemu -M pc -daemonize -S -incoming tcp:0:4444 -pidfile /run/x.pid -qmp unix:/run/q,server=on -name a",
      "-M pc-i440fx-7.2 -name a" },
    { "qemu --machine q35 -serial unix:/run/s.sock,server=on,wait=off", "--machine pc-i440fx-7.2 -serial unix:@RUN@/s.sock,server=on,wait=off" },
    { "qemu -M pc -chardev socket,id=c0,path=/var/lib/x/m.sock,server=on -mon chardev=c0,mode=control",
      "-M pc-i440fx-7.2 -chardev socket,id=c0,path=@RUN@/m.sock,server=on -mon chardev=c0,mode=control" },
    /* as libvirt starts it */
    { "qemu -machine pc,usb=off -chardev socket,id=charmonitor,fd=22,server=on,wait=off -chardev pty,id=charserial0",
      "-machine pc-i440fx-7.2,usb=off -chardev socket,id=charmonitor,path=@RUN@/charmonitor.sock,server=on,wait=off -chardev "
      "pty,id=charserial0" },
    /* as Proxmox starts it */
    { "kvm -id 100 -M pc -vnc unix:/var/run/qemu-server/100.vnc,password=on -D /tmp/d.log -netdev "
      "type=tap,id=net0,ifname=tap100i0,script=/var/lib/qemu-server/pve-bridge,vhost=on",
      "-id 100 -M pc-i440fx-7.2 -vnc unix:@RUN@/100.vnc,password=on -D @RUN@/d.log -netdev "
      "type=tap,id=net0,ifname=tap100i0,script=/var/lib/qemu-server/pve-bridge,vhost=on" },
    { "qemu -M pc -vnc :1 -netdev user,id=n", "-M pc-i440fx-7.2 -vnc :1,to=99 -netdev user,id=n" },
    { "qemu -M pc -chardev file,id=f,path=/var/log/console -chardev socket,id=t,host=0.0.0.0,port=99,server=on",
      "-M pc-i440fx-7.2 -chardev file,id=f,path=@RUN@/console -chardev socket,id=t,host=0.0.0.0,port=99,server=on" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *out = rewritten(lines[i].from, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(out, ==, lines[i].to);
  }
}

static void
test_what_is_refused(void)
{
  static const struct {
    const char *line, *word;
  } lines[] = {
    { "qemu -M pc -netdev tap,fd=23,id=hostnet0", "fd=" },
    { "qemu -M pc -netdev tap,fds=23:24,id=hostnet0", "fds=" },
    { "qemu -M pc -netdev tap,ifname=t0,vhostfd=9,id=n", "vhostfd=" },
    { "qemu -M pc -chardev file,id=x,fd=4", "descriptor" },
    { "qemu -M pc -add-fd fd=3,set=1", "-add-fd" },
    { "qemu -M pc -snapshot", "-snapshot" },
    { "qemu -M", "-M" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *out = rewritten(lines[i].line, NULL, &error);
    g_assert_null(out);
    g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
    g_assert_nonnull(strstr(error->message, lines[i].word));
  }
}

static void
test_taps_of_others_are_noted(void)
{
  g_autoptr(GPtrArray) taps = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GError) error = NULL;
  g_autofree char *out = rewritten("qemu -M pc -netdev tap,id=a,ifname=t0,script=no -netdev tap,id=b,ifname=t1,script=/etc/up", taps, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(taps->len, ==, 1);
  g_assert_cmpstr(taps->pdata[0], ==, "t0");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/adopt/what-becomes-of-it", test_what_becomes_of_it);
  g_test_add_func("/adopt/what-is-refused", test_what_is_refused);
  g_test_add_func("/adopt/taps-of-others-are-noted", test_taps_of_others_are_noted);
  return g_test_run();
}
