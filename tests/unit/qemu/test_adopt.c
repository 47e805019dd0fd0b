/* SPDX-License-Identifier: Apache-2.0 */
/* Real-world command lines, and what becomes of them at a destination. */
#include "qemu/adopt.h"

#include <glib/gstdio.h>

static char *
fake_tap_of_fd(int fd, gpointer data)
{
  return fd == 33 ? g_strdup("vnet0") : NULL;
}

static char *
fake_bridge_of_tap(const char *tap, gpointer data)
{
  return g_str_equal(tap, "vnet0") ? g_strdup("virbr0") : g_str_equal(tap, "tap100i0") ? g_strdup("vmbr0") : NULL;
}

static NcMachineSpec *
adopted_in(const char *cwd, const char *line, GError **error)
{
  const NcAdoptFacts facts = { .machine_type = "pc-i440fx-7.2", .accel = "tcg", .cwd = cwd,
                               .tap_of_fd = fake_tap_of_fd, .bridge_of_tap = fake_bridge_of_tap };
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_new("m");
  g_auto(GStrv) argv = NULL;
  g_assert_true(g_shell_parse_argv(line, NULL, &argv, NULL));
  return nc_adopt_rewrite(argv, &facts, spec, error) ? g_steal_pointer(&spec) : NULL;
}

static NcMachineSpec *
adopted(const char *line, GError **error)
{
  return adopted_in("/nowhere", line, error);
}

static char *
rewritten(const char *line, GError **error)
{
  g_autoptr(NcMachineSpec) spec = adopted(line, error);
  return spec ? g_strjoinv(" ", spec->adopted_argv) : NULL;
}

/* ${line} after "qemu -M pc -accel tcg -display none" becomes what is in the row, after what that becomes. */
#define START "-machine pc-i440fx-7.2 -accel tcg -display none"

static void
test_what_becomes_of_it(void)
{
  static const struct {
    const char *from, *to;
  } lines[] = {
    /* kept as it is */
    { "-m 512 -smp 2,sockets=2 -uuid 6ba7b810-9dad-11d1-80b4-00c04fd430c8 -name a,process=b", NULL },
    { "-device '{\"driver\":\"virtio-rng-pci\",\"id\":\"rng0\",\"bus\":\"pci.0\"}'", "-device {\"driver\":\"virtio-rng-pci\",\"id\":\"rng0\",\"bus\":\"pci.0\"}" },
    { "-drive file=/d,,x.qcow2,if=none,id=d0", NULL },
    { "-netdev user,id=n,hostfwd=tcp::22-:22,hostfwd=tcp::80-:80", NULL },
    { "disk.img", NULL },
    /* this process's own affairs */
    { "-daemonize -S -incoming tcp:0:4444 -pidfile /run/x.pid -qmp unix:/run/q,server=on -monitor stdio -gdb tcp::1 -s -D /l -msg a -loadvm s", "" },
    { "-chardev socket,id=q,path=/run/q,server=on -mon chardev=q,mode=control -chardev socket,id=e,path=/e,reconnect=5 -mon e,mode=control", "" },
    { "-enable-kvm", "" },
    { "--pidfile /run/x.pid", "" },
    { "-object '{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\"file\":\"/x\"}'", "" },
    /* into the run directory */
    { "-serial unix:/run/s.sock,server,nowait", "-serial unix:@RUN@/s.sock,server=on,wait=off" },
    { "-serial stdio -serial mon:stdio", "-serial unix:@RUN@/serial0.sock,server=on,wait=off -serial unix:@RUN@/serial1.sock,server=on,wait=off" },
    { "-serial file:/var/log/console -debugcon file:/d/console", "-serial file:@RUN@/console -debugcon file:@RUN@/debugcon0.log" },
    { "-serial telnet:0.0.0.0:99,server=on", "-serial unix:@RUN@/serial0.sock,server=on,wait=off" },
    { "-serial tcp:log:99 -serial null -serial pty -parallel none", NULL },
    { "-chardev socket,id=c0,path=/x/qmp.sock,server=on -device isa-serial,chardev=c0",
      "-chardev socket,id=c0,path=@RUN@/c-c0.sock,server=on,wait=off -device isa-serial,chardev=c0" },
    { "-chardev socket,id=c0,host=0.0.0.0,port=99,server=on,wait=on -serial chardev:c0",
      "-chardev socket,id=c0,server=on,wait=off,path=@RUN@/c-c0.sock -serial chardev:c0" },
    { "-chardev file,id=f,path=/var/log/console,logfile=/l/f.log -serial chardev:f",
      "-chardev file,id=f,path=@RUN@/console,logfile=@RUN@/f.log -serial chardev:f" },
    { "-chardev stdio,id=s,signal=off,mux=on -serial chardev:s",
      "-chardev socket,id=s,mux=on,path=@RUN@/c-s.sock,server=on,wait=off -serial chardev:s" },
    { "-vnc 127.0.0.1:1,password=on,websocket=5701", "-vnc unix:@RUN@/vnc0.sock,password=on" },
    { "-vnc unix:/var/run/100.vnc -vnc none", "-vnc unix:@RUN@/100.vnc -vnc none" },
    { "-spice port=5900,tls-port=5901,addr=0.0.0.0,disable-ticketing=on", "-spice addr=@RUN@/spice.sock,disable-ticketing=on,unix=on" },
    /* windows and terminals */
    { "-display gtk,gl=on", "-display none" },
    { "-nographic", "-display none -machine graphics=off" },
    { "-audiodev pa,id=a0,server=/run/p", "-audiodev none,id=a0" },
    /* boards */
    { "-machine accel=kvm:tcg", "" },
    { "-accel kvm", "" },
    { "-machine type=pc+pve0,usb=off", "-machine type=pc-i440fx-7.2+pve0,usb=off" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *line = g_strconcat("qemu -M pc -accel tcg -display none ", lines[i].from, NULL);
    g_autofree char *out = rewritten(line, &error);
    const char *to = lines[i].to ? lines[i].to : lines[i].from;
    g_autofree char *expected = g_strconcat(START, *to ? " " : "", to, NULL);
    g_assert_no_error(error);
    g_assert_cmpstr(out, ==, expected);
  }
}

static void
test_what_was_implied_is_spelled_out(void)
{
  static const struct {
    const char *from, *to;
  } lines[] = {
    { "qemu", "-machine pc-i440fx-7.2 -accel tcg -display none" },
    { "qemu -machine accel=tcg,usb=off -vnc none", "-machine usb=off -vnc none -machine pc-i440fx-7.2 -accel tcg" },
    { "qemu --machine q35 -nographic", "-machine pc-i440fx-7.2 -display none -machine graphics=off -accel tcg" },
    { "qemu -accel kvm -accel tcg,thread=multi -curses -M pc", "-accel tcg,thread=multi -machine pc-i440fx-7.2 -display none" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *out = rewritten(lines[i].from, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(out, ==, lines[i].to);
  }
}

/* As libvirt 9 starts it: JSON, descriptors, a master key that nothing needs. */
static void
test_libvirt(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcMachineSpec) spec = adopted(
    "/usr/bin/qemu-system-x86_64 -name guest=web1,debug-threads=on -S "
    "-object '{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\"file\":\"/var/lib/libvirt/qemu/domain-1-web1/master-key.aes\"}' "
    "-machine pc-i440fx-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram -accel tcg -cpu Haswell-noTSX,vme=on -m 1024 "
    "-object '{\"qom-type\":\"memory-backend-ram\",\"id\":\"pc.ram\",\"size\":1073741824}' -overcommit mem-lock=off -smp 2 "
    "-uuid 6ba7b810-9dad-11d1-80b4-00c04fd430c8 -display none -no-user-config -nodefaults "
    "-chardev socket,id=charmonitor,fd=32,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control -rtc base=utc -no-shutdown "
    "-blockdev '{\"driver\":\"file\",\"filename\":\"/i/web1.qcow2\",\"node-name\":\"libvirt-1-storage\"}' "
    "-netdev '{\"type\":\"tap\",\"fd\":\"33\",\"vhost\":true,\"vhostfd\":\"35\",\"id\":\"hostnet0\"}' "
    "-device '{\"driver\":\"virtio-net-pci\",\"netdev\":\"hostnet0\",\"id\":\"net0\",\"mac\":\"52:54:00:11:22:33\",\"bus\":\"pci.0\"}' "
    "-add-fd set=0,fd=34,opaque=serial0-log -chardev pty,id=charserial0,logfile=/dev/fdset/0,logappend=on "
    "-device '{\"driver\":\"isa-serial\",\"chardev\":\"charserial0\",\"id\":\"serial0\"}' "
    "-chardev socket,id=charchannel0,fd=31,server=on,wait=off "
    "-device '{\"driver\":\"virtserialport\",\"chardev\":\"charchannel0\",\"id\":\"channel0\"}' "
    "-audiodev '{\"id\":\"audio1\",\"driver\":\"none\"}' -vnc 127.0.0.1:0,audiodev=audio1 "
    "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -msg timestamp=on",
    &error);
  g_assert_no_error(error);
  g_autofree char *out = g_strjoinv(" ", spec->adopted_argv);
  g_autofree char *tap = nc_machine_tap_name("m", "hostnet0");
  g_autofree char *netdev =
    g_strdup_printf("{\"type\":\"tap\",\"vhost\":true,\"id\":\"hostnet0\",\"ifname\":\"%s\",\"script\":\"no\",\"downscript\":\"no\"}", tap);
  static const char *const there[] = {
    "-name guest=web1,debug-threads=on -machine pc-i440fx-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram -accel tcg",
    "-chardev pty,id=charserial0,logfile=@RUN@/0,logappend=on",
    "-chardev socket,id=charchannel0,server=on,wait=off,path=@RUN@/c-charchannel0.sock",
    "-vnc unix:@RUN@/vnc0.sock,audiodev=audio1",
  };
  static const char *const gone[] = { "masterKey0", "charmonitor", "-S ", "-msg", "fdset", "fd=", "vhostfd" };
  for (size_t i = 0; i < G_N_ELEMENTS(there); i++)
    g_assert_nonnull(strstr(out, there[i]));
  for (size_t i = 0; i < G_N_ELEMENTS(gone); i++)
    g_assert_null(strstr(out, gone[i]));
  g_assert_nonnull(strstr(out, netdev));
  const NcNicSpec *nic = spec->nics->pdata[0];
  g_assert_cmpstr(nic->bridge, ==, "virbr0");
  g_assert_cmpstr(nic->mac, ==, "52:54:00:11:22:33");
  g_assert_cmpstr(spec->cpu, ==, "Haswell-noTSX,vme=on");
}

/* As Proxmox VE 7 starts it. */
static void
test_proxmox(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcMachineSpec) spec = adopted(
    "/usr/bin/kvm -id 100 -name web1,debug-threads=on -no-shutdown -chardev socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off "
    "-mon chardev=qmp,mode=control -chardev socket,id=qmp-event,path=/var/run/qmeventd.sock,reconnect=5 -mon chardev=qmp-event,mode=control "
    "-pidfile /var/run/qemu-server/100.pid -daemonize -smbios type=1,uuid=6ba7b810-9dad-11d1-80b4-00c04fd430c8 -smp 4,sockets=1,cores=4 "
    "-nodefaults -boot menu=on,strict=on,splash=/usr/share/qemu-server/bootsplash.jpg -vnc unix:/var/run/qemu-server/100.vnc,password=on "
    "-cpu kvm64,+lahf_lm -m 2048 -object iothread,id=iothread-virtioscsi0 -device pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e "
    "-chardev socket,path=/var/run/qemu-server/100.qga,server=on,wait=off,id=qga0 -device virtio-serial,id=qga0,bus=pci.0,addr=0x8 "
    "-device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0 -iscsi initiator-name=iqn.1993-08.org.debian:01:abc "
    "-drive file=/var/lib/vz/images/100/vm-100-disk-0.qcow2,if=none,id=drive-scsi0,format=qcow2,cache=none "
    "-device scsi-hd,bus=virtioscsi0.0,drive=drive-scsi0,id=scsi0,bootindex=100 "
    "-netdev type=tap,id=net0,ifname=tap100i0,script=/var/lib/qemu-server/pve-bridge,downscript=/var/lib/qemu-server/pve-bridgedown,vhost=on "
    "-device virtio-net-pci,mac=BE:EF:00:11:22:33,netdev=net0,bus=pci.0,addr=0x12,id=net0 -machine type=pc+pve0",
    &error);
  g_assert_no_error(error);
  g_autofree char *out = g_strjoinv(" ", spec->adopted_argv);
  g_autofree char *tap = nc_machine_tap_name("m", "net0");
  g_autofree char *netdev = g_strdup_printf("-netdev type=tap,id=net0,ifname=%s,script=no,downscript=no,vhost=on", tap);
  static const char *const there[] = {
    "-id 100 -name web1,debug-threads=on -no-shutdown -smbios type=1,", "-vnc unix:@RUN@/100.vnc,password=on",
    "-chardev socket,path=@RUN@/100.qga,server=on,wait=off,id=qga0", "-machine type=pc-i440fx-7.2+pve0",
  };
  for (size_t i = 0; i < G_N_ELEMENTS(there); i++)
    g_assert_nonnull(strstr(out, there[i]));
  g_assert_nonnull(strstr(out, netdev));
  g_assert_null(strstr(out, "qmeventd"));
  const NcNicSpec *nic = spec->nics->pdata[0];
  g_assert_cmpstr(nic->bridge, ==, "vmbr0");
  g_assert_cmpstr(nic->model, ==, "virtio-net-pci");
}

static void
test_taps(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcMachineSpec) spec = adopted("qemu -netdev tap,id=a,ifname=t0,script=no -netdev bridge,id=b -nic tap,ifname=vnet0,mac=52:54:00:00:00:09 "
                                          "-netdev tap,id=c,fd=33,vhost=on,vhostfd=9,queues=1", &error);
  g_assert_no_error(error);
  g_assert_cmpuint(spec->nics->len, ==, 4);
  static const struct {
    const char *name, *bridge;
  } nics[] = { { "a", NULL }, { "b", "br0" }, { "nic2", "virbr0" }, { "c", "virbr0" } };
  g_autofree char *out = g_strjoinv(" ", spec->adopted_argv);
  for (guint i = 0; i < 4; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    g_assert_cmpstr(nic->name, ==, nics[i].name);
    g_assert_cmpstr(nic->bridge, ==, nics[i].bridge);
    g_assert_nonnull(strstr(out, nic->tap));
  }
  g_assert_cmpstr(((NcNicSpec *)spec->nics->pdata[2])->mac, ==, "52:54:00:00:00:09");
  g_assert_null(strstr(out, "fd="));
}

static void
test_relative_paths_become_absolute(void)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *dir = g_dir_make_tmp("nc-adopt-XXXXXX", NULL);
  g_autofree char *image = g_build_filename(dir, "a.img", NULL);
  g_assert_true(g_file_set_contents(image, "", 0, NULL));
  g_autoptr(NcMachineSpec) spec = adopted_in(dir, "qemu -drive file=a.img,if=ide -hdb a.img -bios bios.bin a.img", &error);
  g_assert_no_error(error);
  g_autofree char *out = g_strjoinv(" ", spec->adopted_argv);
  g_autofree char *expected = g_strdup_printf("-drive file=%s,if=ide -hdb %s -bios bios.bin %s ", image, image, image);
  g_assert_true(g_str_has_prefix(out, expected));
  g_unlink(image);
  g_rmdir(dir);
}

static void
test_what_is_refused(void)
{
  static const struct {
    const char *line, *word;
  } lines[] = {
    { "qemu -netdev tap,fd=23,id=hostnet0", "fd=23" },
    { "qemu -netdev tap,fds=23:24,id=hostnet0", "queues" },
    { "qemu -netdev tap,ifname=t0,queues=4,id=n", "queues" },
    { "qemu -netdev tap,id=n", "ifname" },
    { "qemu -netdev socket,id=n,listen=:99", "on this host" },
    { "qemu -netdev vhost-user,id=n,chardev=c", "on this host" },
    { "qemu -chardev socket,id=x,fd=4 -device isa-serial,chardev=x", "descriptor" },
    { "qemu -chardev pipe,id=x,path=/p -device isa-serial,chardev=x", "on this host" },
    { "qemu -chardev tty,id=x,path=/dev/ttyS0 -device isa-serial,chardev=x", "on this host" },
    { "qemu -serial /dev/ttyS0", "/dev/ttyS0" },
    { "qemu -add-fd fd=3,set=1 -drive file=/dev/fdset/1", "fdset" },
    { "qemu -device vfio-pci,host=0000:01:00.0", "host" },
    { "qemu -device usb-host,hostbus=1", "host" },
    { "qemu -device virtio-net-pci,netdev=n,vhostfd=3", "descriptor" },
    { "qemu -object secret,id=s,file=/k -blockdev driver=luks,key-secret=s,node-name=x", "secret" },
    { "qemu -object sev-guest,id=sev0", "tied" },
    { "qemu -tpmdev emulator,id=t,chardev=c", "TPM" },
    { "qemu -snapshot", "-snapshot" },
    { "qemu -drive file=/d,snapshot=on", "snapshot" },
    { "qemu -chroot /x", "-chroot" },
    { "qemu -run-with chroot=/x", "chroot" },
    { "qemu -M pc,accel=xen", "accelerator" },
    { "qemu -accel nvmm", "accelerator" },
    { "qemu -frobnicate", "-frobnicate" },
    { "qemu -M", "-M" },
    { "qemu -device '{\"driver\":'", "driver" },
    { "qemu -name @RUN@", "characters" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *out = rewritten(lines[i].line, &error);
    g_assert_null(out);
    g_assert_true(g_error_matches(error, NC_ERROR, NC_ERROR_UNSUITABLE) || g_error_matches(error, NC_ERROR, NC_ERROR_INVALID));
    if (!strstr(error->message, lines[i].word))
      g_error("%s: \"%s\" does not say %s", lines[i].line, error->message, lines[i].word);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/adopt/what-becomes-of-it", test_what_becomes_of_it);
  g_test_add_func("/adopt/what-was-implied-is-spelled-out", test_what_was_implied_is_spelled_out);
  g_test_add_func("/adopt/libvirt", test_libvirt);
  g_test_add_func("/adopt/proxmox", test_proxmox);
  g_test_add_func("/adopt/taps", test_taps);
  g_test_add_func("/adopt/relative-paths-become-absolute", test_relative_paths_become_absolute);
  g_test_add_func("/adopt/what-is-refused", test_what_is_refused);
  return g_test_run();
}
