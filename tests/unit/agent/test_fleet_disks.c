/* SPDX-License-Identifier: Apache-2.0 */
/* What a node tells a controller of disks: what they need elsewhere, and what it has room for. */
#include "agent/fleet_disk_look.h"
#include "agent/fleet_disks.h"
#include "agent/disk_space.h"
#include "fleet/inventory.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB 1024

typedef struct {
  char *dir;
  json_t *spec;
} Bed;

static void
set_up(Bed *b, gconstpointer unused)
{
  b->dir = g_dir_make_tmp("nc-fleet-disks-XXXXXX", NULL);
  g_assert_nonnull(b->dir);
  b->spec = json_pack("{s:[]}", "disks");
}

static void
tear_down(Bed *b, gconstpointer unused)
{
  g_autoptr(GDir) dir = g_dir_open(b->dir, 0, NULL);

  for (const char *name; (name = g_dir_read_name(dir));) {
    g_autofree char *path = g_build_filename(b->dir, name, NULL);
    g_remove(path);
  }
  g_rmdir(b->dir);
  g_free(b->dir);
  json_decref(b->spec);
}

/* A file with ${data_kib} KiB of something behind ${head}. */
static char *
make_file(Bed *b, const char *name, const void *head, size_t head_bytes, unsigned data_kib)
{
  char *path = g_build_filename(b->dir, name, NULL);
  g_autofree char *data = g_malloc0(4 * KIB + (gsize)data_kib * KIB);

  memset(data, 1, 4 * KIB + (gsize)data_kib * KIB);
  if (head_bytes > 0)
    memcpy(data, head, head_bytes);
  g_assert_true(g_file_set_contents(path, data, (gssize)(4 * KIB + (gsize)data_kib * KIB), NULL));
  return path;
}

static uint64_t
used_bytes(const char *path)
{
  struct stat st;
  g_assert_cmpint(stat(path, &st), ==, 0);
  return (uint64_t)st.st_blocks * 512;
}

static void
add_disk(Bed *b, const char *path, const char *format, bool shared, bool readonly)
{
  json_array_append_new(json_object_get(b->spec, "disks"), json_pack("{s:s, s:s, s:b, s:b}", "path", path, "format",
                                                                     format, "shared", shared, "readonly", readonly));
}

static uint64_t
need_of(Bed *b, NcDiskChain chain)
{
  nc_autojson json_t *needs = nc_fleet_disks_of_machine(b->spec, chain);
  json_t *need = json_array_get(needs, 0);

  g_assert_cmpuint(json_array_size(needs), ==, 1);
  g_assert_cmpstr(json_string_value(json_object_get(need, "directory")), ==, b->dir);
  return (uint64_t)json_integer_value(json_object_get(need, "bytes"));
}

static void
test_what_is_copied(Bed *b, gconstpointer unused)
{
  g_autofree char *one = make_file(b, "one", NULL, 0, 100), *two = make_file(b, "two", NULL, 0, 200);

  add_disk(b, one, "raw", true, false);
  add_disk(b, one, "raw", false, true);
  add_disk(b, "/nowhere/at/all", "raw", false, false);
  add_disk(b, "/dev/null", "raw", false, false);
  nc_autojson json_t *none = nc_fleet_disks_of_machine(b->spec, NC_CHAIN_FLATTEN);
  g_assert_cmpuint(json_array_size(none), ==, 0);
  add_disk(b, one, "raw", false, false);
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), ==, nc_disk_needed_bytes(used_bytes(one)));
  add_disk(b, two, "raw", false, false); /* in the same directory */
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), ==,
                   nc_disk_needed_bytes(used_bytes(one)) + nc_disk_needed_bytes(used_bytes(two)));
  nc_autojson json_t *without = json_object();
  nc_autojson json_t *nothing = nc_fleet_disks_of_machine(without, NC_CHAIN_FLATTEN);
  g_assert_cmpuint(json_array_size(nothing), ==, 0);
}

/* A controller would refuse to hear of it, and of all else that this node tells with it. */
static void
test_odd_directories(Bed *b, gconstpointer unused)
{
  g_autofree char *name = g_strnfill(NC_FLEET_MOST_DIRECTORY_BYTES - 1, 'd'), *deep = g_build_filename(b->dir, name, NULL);
  g_autofree char *file = g_build_filename(deep, "disk", NULL), *one = make_file(b, "one", NULL, 0, 100);

  g_assert_cmpint(g_mkdir(deep, 0700), ==, 0);
  g_assert_true(g_file_set_contents(file, "disk", 4, NULL));
  add_disk(b, file, "raw", false, false);
  nc_autojson json_t *none = nc_fleet_disks_of_machine(b->spec, NC_CHAIN_FLATTEN);
  g_assert_cmpuint(json_array_size(none), ==, 0);
  add_disk(b, one, "raw", false, false);
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), ==, nc_disk_needed_bytes(used_bytes(one)));
  g_remove(file);
}

/* The first bytes of a qcow2 image of ${size} bytes over ${below}, whose format is said to be ${format}; NULL: it is
 * not said. */
static void
fill_head(char head[512], uint64_t size, const char *below, const char *format)
{
  const uint32_t magic = GUINT32_TO_BE(0x514649fb), version = GUINT32_TO_BE(3),
                 length = GUINT32_TO_BE((uint32_t)strlen(below)), header = GUINT32_TO_BE(104),
                 type = GUINT32_TO_BE(0xe2792aca), features = GUINT32_TO_BE(0x6803f857),
                 format_length = GUINT32_TO_BE(format ? (uint32_t)strlen(format) : 0),
                 features_length = GUINT32_TO_BE(5);
  const uint64_t at = GUINT64_TO_BE((uint64_t)256), size_be = GUINT64_TO_BE(size);

  memset(head, 0, 512);
  memcpy(head, &magic, 4);
  memcpy(head + 4, &version, 4);
  memcpy(head + 8, &at, 8);
  memcpy(head + 16, &length, 4);
  memcpy(head + 24, &size_be, 8);
  memcpy(head + 100, &header, 4);
  memcpy(head + 104, &features, 4); /* an extension of another kind, 5 bytes and 3 of padding */
  memcpy(head + 108, &features_length, 4);
  if (format) {
    memcpy(head + 120, &type, 4);
    memcpy(head + 124, &format_length, 4);
    memcpy(head + 128, format, strlen(format));
  }
  memcpy(head + 256, below, strlen(below));
}

/* A chain becomes part of the copy; what is below raw images is nobody's business, whatever they contain. */
static void
test_backing_chains(Bed *b, gconstpointer unused)
{
  char head[512];
  g_autofree char *ground = make_file(b, "ground", NULL, 0, 400);
  fill_head(head, 100 << 20, "ground", "raw");
  g_autofree char *base = make_file(b, "base", head, sizeof head, 200);
  g_autofree char *base_path = g_build_filename(b->dir, "base", NULL);
  fill_head(head, 100 << 20, base_path, "qcow2");
  g_autofree char *top = make_file(b, "top", head, sizeof head, 100);

  add_disk(b, top, "qcow2", false, false);
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), ==,
                   nc_disk_needed_bytes(used_bytes(top) + used_bytes(base) + used_bytes(ground)));
  g_assert_cmpuint(need_of(b, NC_CHAIN_KEEP), ==, nc_disk_needed_bytes(used_bytes(top)));
  g_assert_cmpuint(need_of(b, NC_CHAIN_TRUST), ==, nc_disk_needed_bytes(used_bytes(top)));
  fill_head(head, 100 << 20, base_path, NULL); /* not said what base is */
  g_autofree char *again = make_file(b, "top", head, sizeof head, 100);
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), ==, nc_disk_needed_bytes(used_bytes(top) + used_bytes(base)));
  fill_head(head, 500 << 10, base_path, "qcow2"); /* all of it is no more than the disk is large */
  g_autofree char *small = make_file(b, "top", head, sizeof head, 100);
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), ==, nc_disk_needed_bytes(500 << 10));
  json_array_clear(json_object_get(b->spec, "disks"));
  add_disk(b, top, "raw", false, false); /* what looks like a head is the guest's */
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), ==, nc_disk_needed_bytes(used_bytes(top)));
  fill_head(head, 100 << 20, "top", "qcow2"); /* a circle ends */
  g_autofree char *circle = make_file(b, "top", head, sizeof head, 100);
  json_array_clear(json_object_get(b->spec, "disks"));
  add_disk(b, top, "qcow2", false, false);
  g_assert_cmpuint(need_of(b, NC_CHAIN_FLATTEN), >=, nc_disk_needed_bytes(used_bytes(top)));
}

static json_t *
told(Bed *b, json_t *machines, const char *one, const char *two, const char *three)
{
  nc_autojson json_t *directories = json_pack("[s, s, s, i]", one, two, three, 5);
  return nc_fleet_disks_of_node(directories, machines);
}

/* Two directories of one file system are told of together; one that is not there has no room. */
static void
test_file_systems(Bed *b, gconstpointer unused)
{
  NcDiskSpace space;
  g_autofree char *file = make_file(b, "root.img", NULL, 0, 300), *missing = g_build_filename(b->dir, "missing", NULL);
  g_autofree char *other = g_build_filename(b->dir, "..", NULL);
  nc_autojson json_t *machines = json_pack("[{s:s, s:{s:[{s:s}, {s:s, s:b}, {s:s}]}}, {s:s, s:{s:[{s:s}]}}]", "right",
                                           "incoming", "spec", "disks", "path", file, "path", file, "shared", 1, "path",
                                           "/nowhere/at/all", "right", "held", "spec", "disks", "path", file);
  nc_autojson json_t *list = told(b, machines, b->dir, missing, other);

  g_assert_true(nc_disk_space_look(b->dir, &space));
  g_assert_cmpuint(json_array_size(list), ==, 2);
  json_t *here = json_array_get(list, 0), *nowhere = json_array_get(list, 1);
  g_assert_cmpuint(json_array_size(json_object_get(here, "directories")), ==, 2);
  g_assert_cmpstr(json_string_value(json_array_get(json_object_get(here, "directories"), 1)), ==, other);
  g_assert_cmpint(json_integer_value(json_object_get(here, "free_bytes")), >, 0);
  g_assert_cmpint(json_integer_value(json_object_get(here, "arriving_bytes")), ==,
                  (gint64)used_bytes(file)); /* once, of the one that comes */
  g_assert_true(json_is_false(json_object_get(here, "is_missing")));
  g_assert_true(json_is_true(json_object_get(nowhere, "is_missing")));
  g_assert_cmpint(json_integer_value(json_object_get(nowhere, "free_bytes")), ==, 0);
  nc_autojson json_t *odd = told(b, NULL, "relative", file, "");
  g_assert_cmpuint(json_array_size(odd), ==, 1); /* a file is no directory */
  g_assert_true(json_is_true(json_object_get(json_array_get(odd, 0), "is_missing")));
  nc_autojson json_t *none = nc_fleet_disks_of_node(NULL, machines);
  g_assert_cmpuint(json_array_size(none), ==, 0);
}

static gpointer
look_often(gpointer data)
{
  void **of = data;
  nc_autojson json_t *directories = json_pack("[s]", ((Bed *)of[1])->dir),
                     *views =
                         json_pack("[{s:s, s:s, s:O}]", "name", "web1", "right", "held", "spec", ((Bed *)of[1])->spec);
  for (unsigned i = 0; i < 50; i++) {
    nc_autojson json_t *seen = nc_fleet_disk_look(of[0], directories, views, NC_CHAIN_FLATTEN);
    json_t *need = json_array_get(json_object_get(json_object_get(seen, "machines"), "web1"), 0);
    g_assert_cmpint(json_integer_value(json_object_get(need, "bytes")), ==, (gint64)(intptr_t)of[2]);
    g_assert_cmpuint(json_array_size(json_object_get(seen, "file_systems")), ==, 1);
  }
  return NULL;
}

/* Several controllers look at the same time. */
static void
test_looks_in_its_thread(Bed *b, gconstpointer unused)
{
  g_autofree char *one = make_file(b, "one", NULL, 0, 100);
  NcFleetDiskLook *look = nc_fleet_disk_look_new();
  GThread *threads[3];

  add_disk(b, one, "raw", false, false);
  void *of[] = { look, b, (void *)(intptr_t)nc_disk_needed_bytes(used_bytes(one)) };
  for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("look", look_often, of);
  for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
    g_thread_join(threads[i]);
  nc_fleet_disk_look_free(look);
}

/* --- a file system that does not answer --- */

static struct {
  GMutex lock;
  GCond changed;
  bool hangs;
  int begun;
} server;

static json_t *
look_at_server(json_t *directories, json_t *machines, NcDiskChain chain)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&server.lock);

  int number = ++server.begun;
  while (server.hangs)
    g_cond_wait(&server.changed, &server.lock);
  return json_pack("{s:[i], s:{s:[i]}}", "file_systems", number, "machines", "web1", number);
}

static void
set_server(bool hangs)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&server.lock);
  server.hangs = hangs;
  g_cond_broadcast(&server.changed);
}

static int
looks_begun(void)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&server.lock);
  return server.begun;
}

/* What the looks ${file_systems} and ${machines} saw; 0: nothing. */
static void
assert_told(NcFleetDiskLook *look, int file_systems, int machines)
{
  nc_autojson json_t *told = nc_fleet_disk_look(look, NULL, NULL, NC_CHAIN_FLATTEN);
  json_t *spaces = json_object_get(told, "file_systems"), *needs = json_object_get(told, "machines");

  g_assert_true(json_is_array(spaces) && json_is_object(needs));
  g_assert_cmpuint(json_array_size(spaces), ==, file_systems > 0);
  g_assert_cmpint(json_integer_value(json_array_get(spaces, 0)), ==, file_systems);
  g_assert_cmpuint(json_object_size(needs), ==, machines > 0);
  g_assert_cmpint(json_integer_value(json_array_get(json_object_get(needs, "web1"), 0)), ==, machines);
}

/* What was seen of file systems before is not told again as if it were new. A look that hangs is waited for once: a
 * thousand times, this would not end. */
static void
test_one_hangs(void)
{
  NcFleetDiskLook *look = nc_fleet_disk_look_new_with(look_at_server), *new = nc_fleet_disk_look_new_with(look_at_server);

  server.begun = 0;
  assert_told(look, 1, 1);
  set_server(true);
  for (unsigned i = 0; i < 1000; i++)
    assert_told(look, 0, 1);
  g_assert_cmpint(looks_begun(), ==, 2);
  assert_told(new, 0, 0); /* novacrond began while it hung */
  g_assert_cmpint(looks_begun(), ==, 3);
  set_server(false);
  for (int told = 0; told == 0; g_usleep(1000)) { /* until the one that hung has ended */
    nc_autojson json_t *seen = nc_fleet_disk_look(look, NULL, NULL, NC_CHAIN_FLATTEN);
    told = (int)json_integer_value(json_array_get(json_object_get(seen, "file_systems"), 0));
    g_assert_true(told == 0 || told == looks_begun());
  }
  nc_fleet_disk_look_free(look);
  nc_fleet_disk_look_free(new);
}

/* The process has as many threads as it may have, as far as it can be told from here. */
static void
set_threads(bool may_begin)
{
  static size_t usual;
  pthread_attr_t attr;

  g_assert_cmpint(pthread_getattr_default_np(&attr), ==, 0);
  if (usual == 0)
    g_assert_cmpint(pthread_attr_getstacksize(&attr, &usual), ==, 0);
  g_assert_cmpint(pthread_attr_setstacksize(&attr, may_begin ? usual : (size_t)1 << 60), ==, 0);
  g_assert_cmpint(pthread_setattr_default_np(&attr), ==, 0);
  pthread_attr_destroy(&attr);
}

static void
test_no_thread_is_left(void)
{
  NcFleetDiskLook *look = nc_fleet_disk_look_new_with(look_at_server);

  server.begun = 0;
  assert_told(look, 1, 1);
  set_threads(false);
  assert_told(look, 0, 1);
  assert_told(look, 0, 1);
  set_threads(true);
  assert_told(look, 2, 2);
  nc_fleet_disk_look_free(look);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add("/fleet-disks/what_is_copied", Bed, NULL, set_up, test_what_is_copied, tear_down);
  g_test_add("/fleet-disks/odd_directories", Bed, NULL, set_up, test_odd_directories, tear_down);
  g_test_add("/fleet-disks/backing_chains", Bed, NULL, set_up, test_backing_chains, tear_down);
  g_test_add("/fleet-disks/file_systems", Bed, NULL, set_up, test_file_systems, tear_down);
  g_test_add("/fleet-disks/looks_in_its_thread", Bed, NULL, set_up, test_looks_in_its_thread, tear_down);
  g_test_add_func("/fleet-disks/one_hangs", test_one_hangs);
  g_test_add_func("/fleet-disks/no_thread_is_left", test_no_thread_is_left);
  return g_test_run();
}
