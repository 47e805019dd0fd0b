/* SPDX-License-Identifier: Apache-2.0 */
/* Machine files, their JSON, and the command line that comes of them. */
#include "qemu/command_line.h"
#include "qemu/machine_spec.h"

static const char full[] = "# a machine\n"
                           "name = web1\n"
                           "vcpus = 2\n"
                           "memory_mib = 256\n"
                           "memory_extra_kib = 8\n"
                           "machine = q35\n"
                           "cpu = qemu64,+ssse3\n"
                           "accel = tcg\n"
                           "kernel = /k\n"
                           "cmdline = a=1,b=2 c\n"
                           "observer_qmp = yes\n"
                           "priority = high\n"
                           "requires = ssd rack-1\n"
                           "qemu_args = -device 'virtio-rng-pci,id=rng0'\n"
                           "[disk root]\n"
                           "path = /d.raw\n"
                           "format = raw\n"
                           "[nic net0]\n"
                           "bridge = br0\n"
                           "[serial console]\n"
                           "kind = file\n"
                           "[serial s1]\n";

static void
test_file_json_and_back(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_parse("f", full, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(nc_machine_spec_memory_bytes(spec), ==, (256u << 20) + 8192);
  nc_autojson json_t *json = nc_machine_spec_to_json(spec);
  g_autoptr(NcMachineSpec) again = nc_machine_spec_from_json(json, &error);
  g_assert_no_error(error);
  nc_autojson json_t *json2 = nc_machine_spec_to_json(again);
  g_assert_true(json_equal(json, json2));
  g_assert_cmpstr(again->priority, ==, "high");
  g_assert_cmpstr(again->requires[1], ==, "rack-1");
  g_assert_null(again->requires[2]);
  NcNicSpec *nic = again->nics->pdata[0];
  g_assert_true(g_str_has_prefix(nic->mac, "52:54:00:"));
  g_assert_cmpuint(strlen(nic->tap), <=, 15);
}

static void
test_refusals_name_line_and_key(void)
{
  static const struct {
    const char *text, *words[3];
  } files[] = {
    { "vcpus = 1\n", { "name" } },
    { "name = a\nvcpus = 0\n", { "f:2", "vcpus", "1 to 512" } },
    { "name = a\nvcpus = 513\n", { "f:2", "vcpus" } },
    { "name = a\nvcpus = two\n", { "f:2", "vcpus" } },
    { "name = a\nmemory_mib = 0\n", { "f:2", "memory_mib" } },
    { "name = a\nmemory_mib = 16777217\n", { "f:2", "memory_mib" } },
    { "name = a\nmemory_extra_kib = 3\n", { "memory_extra_kib" } },
    { "name = a/b\n", { "f:1", "name" } },
    { "name = a\ncolour = blue\n", { "f:2", "colour" } },
    { "name = a\nnonsense\n", { "f:2", "nonsense" } },
    { "name = a\n[usb x]\n", { "f:2", "usb" } },
    { "name = a\n[disk d]\npath = relative\n", { "f:3", "path" } },
    { "name = a\n[disk d]\npath = /a,b\n", { "f:3", "comma" } },
    { "name = a\n[disk d]\nformat = vmdk\n", { "f:3", "format", "raw|qcow2" } },
    { "name = a\n[disk d]\n", { "path", "d" } },
    { "name = a\n[disk d]\npath = /x\n[disk d]\npath = /y\n", { "two are named d" } },
    { "name = a\n[nic n]\nmac = 52:54:00:12:34:5g\n", { "mac" } },
    { "name = a\n[nic n]\nbridge = abcdefghijklmnop\n", { "f:3", "bridge" } },
    { "name = a\ninitrd = /i\n", { "kernel" } },
    { "name = a\nuuid = 6ba7b810-9dad-11d1-80b4-00c04fd430cX\n", { "uuid" } },
    { "name = a\n[serial qmp]\n", { "qmp", "reserved" } },
    { "name = a\n[serial in]\n", { "in", "reserved" } },
    { "name = a\n[disk d23456789012345678901234567890]\npath = /x\n", { "29" } }, /* QEMU's node names */
    { "name = a\n[disk d]\npath = /x\n[nic d]\n", { "d", "disk" } }, /* one id, two devices */
    { "name = a\nobserver_qmp = maybe\n", { "f:2", "observer_qmp" } },
    { "name = a\npriority = urgent\n", { "f:2", "priority", "critical|high|normal|low" } },
    { "name = a\nrequires = ssd a/b\n", { "requires", "a/b" } },
    { "name = a\nrequires = a b c d e f g h i j k l m n o p q\n", { "f:2", "requires", "16" } },
    { "name = a\nballoon = yes\n", { "f:2", "balloon", "none|free-page-hint" } },
    { "name = a\nballoon = free-page-hint\nqemu_args = -device virtio-balloon-pci\n", { "balloon", "qemu_args" } },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(nc_machine_spec_parse("f", files[i].text, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    for (size_t w = 0; w < 3 && files[i].words[w]; w++)
      g_assert_nonnull(strstr(error->message, files[i].words[w]));
  }
}

/* Both nodes derive the same identities, and no two machines have the same. */
static void
test_identities_are_stable(void)
{
  static const char *const names[] = { "a", "a", "b" };
  g_autoptr(GPtrArray) uuids = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GPtrArray) macs = g_ptr_array_new_with_free_func(g_free);
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *text = g_strdup_printf("name = %s\n[nic n]\n", names[i]);
    g_autoptr(NcMachineSpec) spec = nc_machine_spec_parse("f", text, NULL);
    g_assert_true(g_uuid_string_is_valid(spec->uuid));
    g_ptr_array_add(uuids, g_strdup(spec->uuid));
    g_ptr_array_add(macs, g_strdup(((NcNicSpec *)spec->nics->pdata[0])->mac));
  }
  g_assert_cmpstr(uuids->pdata[0], ==, uuids->pdata[1]);
  g_assert_cmpstr(uuids->pdata[0], !=, uuids->pdata[2]);
  g_assert_cmpstr(macs->pdata[0], ==, macs->pdata[1]);
  g_assert_cmpstr(macs->pdata[0], !=, macs->pdata[2]);
}

static void
test_json_refusals(void)
{
  static const char *const bad[] = {
    "[]", "{}", "{\"name\":5}", "{\"name\":\"a\",\"disks\":{}}", "{\"name\":\"a\",\"disks\":[1]}",
    "{\"name\":\"a\",\"disks\":[{\"name\":\"d\"}]}", "{\"name\":\"a\",\"nics\":[{\"bridge\":\"br0\"}]}",
    "{\"name\":\"a\",\"qemu_args\":\"-S\"}", "{\"name\":\"a\",\"qemu_args\":[1]}", "{\"name\":\"a\",\"adopted_argv\":[null]}",
    "{\"name\":\"a\",\"vcpus\":1.5}", "{\"name\":\"a\",\"machine\":\"pc\\n-S\"}",
  };
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *json = json_loads(bad[i], 0, NULL);
    g_assert_null(nc_machine_spec_from_json(json, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  }
}

static void
test_command_line(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_parse("f", full, &error);
  for (int incoming = 0; incoming < 2; incoming++) {
    NcQemuLaunch launch = { .run_dir = "/run/m", .qemu_binary = "qemu-system-x86_64", .incoming = incoming };
    g_auto(GStrv) argv = nc_qemu_command_line(spec, &launch, &error);
    g_assert_no_error(error);
    g_autofree char *line = g_strjoinv(" ", argv);
    g_assert_nonnull(strstr(line, "-m size=262152K"));
    g_assert_nonnull(strstr(line, "-machine q35,memory-backend=ram0"));
    g_assert_nonnull(strstr(line, "-qmp unix:/run/m/qmp.sock,server=on,wait=off"));
    g_assert_nonnull(strstr(line, "unix:/run/m/observer.sock"));
    g_assert_nonnull(strstr(line, "-device virtio-rng-pci,id=rng0"));
    g_assert_nonnull(strstr(line, "filename=/d.raw"));
    g_assert_nonnull(strstr(line, "script=no,downscript=no"));
    g_assert_true((strstr(line, "-incoming defer -S") != NULL) == incoming);
    g_assert_true(g_strv_contains((const char *const *)argv, "-S") == incoming); /* never without -incoming */
  }
  NcQemuLaunch bad = { .run_dir = "relative", .qemu_binary = "q" };
  g_assert_null(nc_qemu_command_line(spec, &bad, &error));
}

static int
word_at(char **argv, const char *begin)
{
  for (int i = 0; argv[i]; i++)
    if (g_str_has_prefix(argv[i], begin))
      return i;
  return -1;
}

/* A new machine has the balloon behind all else, so that no other device's address depends on it. */
static void
test_balloon_of_a_new_machine(void)
{
  static const struct {
    const char *lines;
    bool has;
  } files[] = {
    { "", true },
    { "machine = q35\n", true },
    { "machine = pc-i440fx-7.2,usb=off\n", true },
    { "machine = microvm\n", false },
    { "machine = isapc\n", false },
    { "balloon = none\n", false },
    { "machine = microvm\nballoon = free-page-hint\n", true }, /* whoever says so knows */
    { "qemu_args = -device virtio-balloon-pci,deflate-on-oom=on\n", false },
    { "qemu_args = -device virtio-rng-pci\n[disk d]\npath = /d\n[nic n]\nbridge = br0\n", true },
  };
  NcQemuLaunch launch = { .run_dir = "/run/m", .qemu_binary = "q" };
  for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strconcat("name = a\n", files[i].lines, NULL);
    g_autoptr(NcMachineSpec) spec = nc_machine_spec_parse("f", text, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(spec->balloon, ==, files[i].has ? "free-page-hint" : "none");
    g_auto(GStrv) argv = nc_qemu_command_line(spec, &launch, &error);
    int at = word_at(argv, "virtio-balloon-pci,id=balloon0,free-page-hint=on,iothread=balloon-io");
    g_assert_true((at >= 0) == files[i].has);
    g_assert_true((word_at(argv, "iothread,id=balloon-io") >= 0) == files[i].has);
    for (int n = at + 1; at >= 0 && argv[n]; n++)
      g_assert_cmpstr(argv[n], !=, "-device");
  }
}

/* What was stored before there was the key stays without the device, also after it was stored anew. */
static void
test_no_balloon_in_old_json(void)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *old = json_pack("{s:s, s:s}", "name", "a", "machine", "pc-i440fx-7.2");
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(old, &error);
  g_assert_no_error(error);
  nc_autojson json_t *json = nc_machine_spec_to_json(spec);
  g_assert_cmpstr(nc_json_string_or(json, "balloon", ""), ==, "none");
  g_autoptr(NcMachineSpec) again = nc_machine_spec_from_json(json, &error);
  NcQemuLaunch launch = { .run_dir = "/run/m", .qemu_binary = "q" };
  g_auto(GStrv) argv = nc_qemu_command_line(again, &launch, &error);
  g_autofree char *line = g_strjoinv(" ", argv);
  g_assert_null(strstr(line, "balloon"));
  g_assert_null(strstr(line, "iothread"));
}

static void
test_adopted_marks(void)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *json = json_pack("{s:s, s:[s,s,s,s]}", "name", "a", "adopted_argv", "-M", "pc-i440fx-7.2", "-serial",
                                       "unix:@RUN@/s.sock,server=on");
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json, &error);
  g_assert_no_error(error);
  NcQemuLaunch launch = { .run_dir = "/run/m", .qemu_binary = "q", .incoming = true };
  g_auto(GStrv) argv = nc_qemu_command_line(spec, &launch, &error);
  g_autofree char *line = g_strjoinv(" ", argv);
  g_assert_true(g_str_has_prefix(line, "q -M pc-i440fx-7.2 -serial unix:/run/m/s.sock,server=on -qmp unix:/run/m/qmp.sock"));
}

static void
test_sample_file(void)
{
  g_autofree char *path = g_build_filename(g_getenv("NC_SOURCE_ROOT"), "docs", "sample-machine.conf", NULL);
  g_autoptr(GError) error = NULL;
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_load(path, &error);
  g_assert_no_error(error);
  g_assert_cmpstr(spec->name, ==, "web1");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/machine-spec/file-json-and-back", test_file_json_and_back);
  g_test_add_func("/machine-spec/refusals-name-line-and-key", test_refusals_name_line_and_key);
  g_test_add_func("/machine-spec/identities-are-stable", test_identities_are_stable);
  g_test_add_func("/machine-spec/json-refusals", test_json_refusals);
  g_test_add_func("/machine-spec/command-line", test_command_line);
  g_test_add_func("/machine-spec/balloon-of-a-new-machine", test_balloon_of_a_new_machine);
  g_test_add_func("/machine-spec/no-balloon-in-old-json", test_no_balloon_in_old_json);
  g_test_add_func("/machine-spec/adopted-marks", test_adopted_marks);
  g_test_add_func("/machine-spec/sample-file", test_sample_file);
  return g_test_run();
}
