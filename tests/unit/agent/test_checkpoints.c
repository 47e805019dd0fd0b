/* SPDX-License-Identifier: Apache-2.0 */
/* What the list says of a checkpoint that was committed, whether the disk gives it back or not; and what of its work is recorded. */
#include "agent/checkpoint.h"
#include "agent/checkpoint_steps.h"
#include "base/log.h"
#include "checkpoint/image.h"
#include "page_support.h"

#include <string.h>

#define ID "c-0tnpya6pejb5gsgd"

typedef struct {
  char *dir;
  NcConfig config;
  NcPageStore *store;
  NcJournal *journal;
  NcCheckpoints *checkpoints;
  NcCheckpoint *cp; /* making, and committed to the store */
  json_t *meta;
} Bed;

/* A machine without memory: a layout of no steps in a block, and a description. */
static void
commit(Bed *b)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(b->store, &error);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, ID, &error);
  g_autoptr(NcLayoutBuilder) layout = nc_layout_builder_new();
  const NcStep step = { .kind = NC_STEP_INLINE, .count = 4, .bytes = (const uint8_t *)"QEVM" };

  nc_layout_builder_add(layout, &step);
  const GByteArray *bytes = nc_layout_builder_bytes(layout);
  NcPageBlock block = { .data = bytes->data, .length = bytes->len };
  g_autoptr(GByteArray) header = nc_image_header_encode(b->meta, bytes->len, &error);
  g_assert_true(nc_page_store_put(writer, &block, 1, NC_PUT_COMPUTE, &error));
  g_assert_true(nc_manifest_add(manifest, block.hash, block.length, &error));
  g_assert_true(nc_manifest_commit(manifest, header->data, header->len, &error));
  g_assert_no_error(error);
}

static void
setup(Bed *b, gconstpointer data)
{
  b->dir = test_directory();
  g_autofree char *path = g_build_filename(b->dir, "journal.db", NULL);
  b->journal = nc_journal_open(path, NULL);
  g_assert_nonnull(b->journal);
  b->config = (NcConfig){ .node = "host-a", .store_dir = b->dir };
  b->store = test_open(b->dir, &(NcPageStoreOptions){ 0 });
  const NcCheckpointsDeps deps = { .config = &b->config, .journal = b->journal, .store = b->store };
  b->checkpoints = nc_checkpoints_new(&deps);
  b->meta = json_pack("{s:s, s:s}", "machine", "web1", "label", "before the update");
  b->cp = nc_checkpoints_add(b->checkpoints, ID, "web1", json_object());
  commit(b);
}

static void
teardown(Bed *b, gconstpointer data)
{
  nc_checkpoint_unref(b->cp);
  nc_checkpoints_free(b->checkpoints);
  nc_page_store_close(b->store);
  nc_journal_close(b->journal);
  json_decref(b->meta);
  test_remove(b->dir);
  g_free(b->dir);
}

/* As people see it. New reference. */
static json_t *
view(Bed *b)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *args = json_pack("{s:s}", "id", ID);
  json_t *seen = nc_checkpoints_get(b->checkpoints, args, &error);
  g_assert_no_error(error);
  return seen;
}

/* It is verified; how that ended. New reference. */
static json_t *
verified(Bed *b)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *args = json_pack("{s:s}", "id", ID);
  nc_autojson json_t *begun = nc_checkpoints_verify(b->checkpoints, args, &error);

  g_assert_no_error(error);
  g_assert_nonnull(begun);
  for (;;) {
    json_t *seen = view(b);
    if (!g_str_equal(nc_json_string_or(json_object_get(seen, "activity"), "state", ""), "running"))
      return seen;
    json_decref(seen);
    g_usleep(1000);
  }
}

static void
committed_is_ready(Bed *b, gconstpointer data)
{
  nc_checkpoint_committed(b->cp, json_incref(b->meta));
  nc_autojson json_t *seen = view(b);
  g_assert_cmpstr(nc_json_string_or(seen, "state", ""), ==, "ready");
  g_assert_cmpstr(nc_json_string_or(seen, "label", ""), ==, "before the update");
  g_assert_true(json_is_null(json_object_get(seen, "warning")));
  g_assert_cmpuint(b->cp->file_bytes, >, 0);
}

static void
what_can_not_be_read_back_is_ready_with_a_warning(Bed *b, gconstpointer data)
{
  g_autofree char *file = test_only_file(b->dir, "manifests");

  test_flip(file, test_length(file) / 2, 0x40);
  nc_checkpoint_committed(b->cp, json_incref(b->meta));
  nc_autojson json_t *seen = view(b);
  const char *warning = nc_json_string_or(seen, "warning", "");
  g_assert_cmpstr(nc_json_string_or(seen, "state", ""), ==, "ready");
  g_assert_true(json_is_null(json_object_get(seen, "error")));
  g_assert_cmpstr(nc_json_string_or(seen, "label", ""), ==, "before the update"); /* known all the same */
  g_assert_nonnull(strstr(warning, "host-a"));
  g_assert_nonnull(strstr(warning, "novacron checkpoint verify " ID));

  /* While it stays so, verifying says it; when the disk gives it back, there is nothing to warn of. */
  nc_autojson json_t *bad = verified(b);
  g_assert_cmpstr(nc_json_string_or(json_object_get(bad, "activity"), "state", ""), ==, "failed");
  g_assert_true(json_is_string(json_object_get(bad, "warning")));
  test_flip(file, test_length(file) / 2, 0x40);
  nc_autojson json_t *good = verified(b);
  g_assert_cmpstr(nc_json_string_or(json_object_get(good, "activity"), "state", ""), ==, "done");
  g_assert_true(json_is_null(json_object_get(good, "warning")));
}

/* What is under way is in the journal as it was written, whatever else is written after a write that failed. */
static void
what_could_not_be_recorded_does_not_come_later(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  g_assert_true(nc_checkpoints_set_work(b->checkpoints, "c-1", json_pack("{s:s}", "phase", "exchange"), NULL));
  nc_journal_refuse_next(b->journal);
  g_assert_false(nc_checkpoints_set_work(b->checkpoints, "c-1", json_pack("{s:s}", "phase", "done"), &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_assert_true(nc_checkpoints_set_work(b->checkpoints, "c-2", json_pack("{s:s}", "phase", "files"), NULL));
  g_autofree char *text = nc_journal_get_value(b->journal, "checkpoint.work", NULL);
  nc_autojson json_t *work = json_loads(text, 0, NULL);
  g_assert_cmpstr(nc_json_string_or(json_object_get(work, "c-1"), "phase", ""), ==, "exchange");
  g_assert_cmpstr(nc_json_string_or(json_object_get(work, "c-2"), "phase", ""), ==, "files");

  /* That it is over does come later: a restore of the same machine must not find it. */
  nc_journal_refuse_next(b->journal);
  g_assert_false(nc_checkpoints_set_work(b->checkpoints, "c-1", NULL, NULL));
  g_assert_true(nc_checkpoints_set_work(b->checkpoints, "c-2", NULL, NULL));
  g_autofree char *last = nc_journal_get_value(b->journal, "checkpoint.work", NULL);
  g_assert_cmpstr(last, ==, "{}");
}

/* An activity that ends when it is asked to. */
static gpointer
end_when_asked(gpointer data)
{
  Bed *b = data;
  g_autoptr(GError) cancelled = g_error_new_literal(NC_ERROR, NC_ERROR_CANCELLED, "cancelled");

  for (int i = 0; i < 5000 && !g_atomic_int_get(&b->cp->cancelled); i++)
    g_usleep(1000);
  nc_checkpoint_activity_ends(b->cp, json_pack("{s:b}", "was_asked", g_atomic_int_get(&b->cp->cancelled)), cancelled);
  return NULL;
}

/* Of hours, which no signal could shorten: systemd would kill novacrond in the middle. */
static void
a_step_that_waits_for_a_checkpoint_ends_with_novacrond(Bed *b, gconstpointer data)
{
  const NcRollbackSteps steps = nc_checkpoint_steps(b->checkpoints);
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *args = json_pack("{s:s}", "id", ID);
  g_autofree char *detail = NULL;
  gint quitting = 1;

  nc_checkpoint_committed(b->cp, json_incref(b->meta));
  g_autoptr(NcCheckpoint) cp = nc_checkpoints_begin_activity(b->checkpoints, args, "verify", &error);
  g_assert_true(cp == b->cp);
  GThread *thread = g_thread_new("activity", end_when_asked, b);
  g_assert_false(steps.verify(steps.data, ID, &quitting, &detail, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CANCELLED);
  g_thread_join(thread);
  nc_autojson json_t *seen = view(b);
  g_assert_true(nc_json_bool_or(json_object_get(seen, "activity"), "was_asked", false));
}

/* A copy that begins while the sender of the one that has arrived is answered can be cancelled. */
static void
the_link_of_one_that_has_arrived_is_not_anothers(Bed *b, gconstpointer data)
{
  int ends[2]; /* never used as what they are not */
  NcPeer *arrival = (NcPeer *)&ends[0], *copy = (NcPeer *)&ends[1];

  g_assert_true(nc_checkpoint_set_link(b->cp, arrival));
  g_assert_true(nc_checkpoint_set_link(b->cp, copy));
  nc_checkpoint_clear_link(b->cp, arrival);
  g_assert_true(b->cp->link == copy);
  nc_checkpoint_clear_link(b->cp, copy);
  g_assert_null(b->cp->link);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
#define TEST(function) g_test_add("/agent/checkpoints/" #function, Bed, NULL, setup, function, teardown)
  TEST(committed_is_ready);
  TEST(what_can_not_be_read_back_is_ready_with_a_warning);
  TEST(what_could_not_be_recorded_does_not_come_later);
  TEST(the_link_of_one_that_has_arrived_is_not_anothers);
  TEST(a_step_that_waits_for_a_checkpoint_ends_with_novacrond);
  return g_test_run();
}
