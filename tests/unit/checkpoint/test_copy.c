/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint from one store to another, over a socket pair: what is missing goes over, once; what is damaged here,
 * there or on the way is refused, and then nothing has a name; what an honest sender would never say is refused, too.
 */
#include "base/bytes.h"
#include "base/io.h"
#include "checkpoint/copy.h"
#include "checkpoint/image.h"
#include "page_support.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE 4096u
#define PAGES 5000u /* more than two turns */
#define ID "c-0tnpya6pejb5gsgd"

static const gint go_on = 0;

/* --- stores --- */

static const uint8_t key_bytes[NC_SEAL_KEY_BYTES] = { 7 };
static const NcPageStoreOptions as_usual = { .pack_bytes = 4 << 20 }, small = { .pack_bytes = 4 << 20, .budget_bytes = 2 << 20 };

/* From one to the other; and what came of it. */
typedef struct {
  char *here, *there;
  NcSealKey *key; /* of what is there, at rest */
  NcPageStore *a, *b;
  GError *error; /* the receiver's */
  NcCopyTotals totals;
} Stores;

/* ${data}: the NcPageStoreOptions of the store that receives; NULL: as usual, with a key. */
static void
setup(Stores *t, gconstpointer data)
{
  t->key = nc_seal_key_new(key_bytes);
  const NcPageStoreOptions sealed = { .pack_bytes = 4 << 20, .key = t->key };
  t->here = test_directory();
  t->there = test_directory();
  t->a = test_open(t->here, &as_usual);
  t->b = test_open(t->there, data ? data : &sealed);
}

static void
teardown(Stores *t, gconstpointer data)
{
  nc_page_store_close(t->a);
  nc_page_store_close(t->b);
  nc_seal_key_free(t->key);
  test_remove(t->here);
  test_remove(t->there);
  g_free(t->here);
  g_free(t->there);
  g_clear_error(&t->error);
}

static void
fill_page(uint8_t *page, unsigned i, unsigned generation)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(i * 1000 + (i % 50 == 1 ? generation : 0));
  for (unsigned at = 0; at < PAGE; at += 4) {
    guint32 word = at < PAGE / 2 ? g_rand_int(rand) : 0x20202020; /* half of it can be compressed */
    memcpy(page + at, &word, 4);
  }
}

/* Every seventh page is a hole, every eleventh the same as page 1, every 50th differs by generation. */
static void
make_checkpoint(NcPageStore *store, const char *id, unsigned generation)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(store, &error);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, id, &error);
  g_assert_no_error(error);
  for (unsigned i = 0; i < PAGES; i++) {
    uint8_t page[PAGE];
    NcPageBlock block = { .data = page, .length = PAGE };
    if (i % 7 == 0) {
      g_assert_true(nc_manifest_add_hole(manifest, PAGE, &error));
      continue;
    }
    fill_page(page, i % 11 == 0 ? 1 : i, generation);
    g_assert_true(nc_page_store_put(writer, &block, 1, NC_PUT_COMPUTE, &error));
    g_assert_true(nc_manifest_add(manifest, block.hash, PAGE, &error));
  }
  nc_autojson json_t *meta = json_pack("{s:s, s:i}", "machine", "web1", "generation", (int)generation);
  g_autoptr(GByteArray) header = nc_image_header_encode(meta, 0, &error);
  nc_manifest_commit(manifest, header->data, header->len, &error);
  g_assert_no_error(error);
}

/* The SHA-256 of all entries and of all that they name. */
static char *
digest(NcPageStore *store, const char *id)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcManifestReader) reader = nc_manifest_open(store, id, &error);
  g_autoptr(NcSha256) sha = nc_sha256_new();
  NcManifestEntry entry;
  uint8_t hash[NC_SHA256_BYTES];

  g_assert_no_error(error);
  while (nc_manifest_next(reader, &entry, &error) == NC_MANIFEST_ENTRY) {
    uint8_t block[NC_PAGE_STORE_BLOCK_MAX];
    uint32_t length = 0;
    nc_sha256_update(sha, entry.hash, sizeof entry.hash);
    nc_sha256_update(sha, &entry.length, sizeof entry.length);
    if (!nc_manifest_entry_is_hole(&entry))
      g_assert_true(nc_page_store_get(store, entry.hash, block, sizeof block, &length, &error));
    nc_sha256_update(sha, block, length);
  }
  g_assert_no_error(error);
  nc_sha256_snapshot(sha, hash);
  return nc_hex_encode(hash, sizeof hash);
}

/* --- a link --- */

typedef struct {
  int fd;
  unsigned spoil; /* the content that is sent as so many-th has a bit wrong; 0: none */
  unsigned cut;   /* before the content that is sent as so many-th the link breaks; 0: never */
  unsigned sent;
  bool refused; /* it has said why not */
} End;

static bool
end_send(gpointer data, json_t *message, const void *bytes, size_t length, GError **error)
{
  End *end = data;
  g_autofree uint8_t *copy = g_memdup2(bytes, length);
  bool content = g_str_equal(nc_json_string_or(message, "type", ""), "cp_blocks");

  end->sent += content;
  end->refused |= g_str_equal(nc_json_string_or(message, "type", ""), "refused");
  if (content && end->sent == end->cut)
    shutdown(end->fd, SHUT_RDWR);
  if (content && end->sent == end->spoil)
    copy[length / 2] ^= 0x10;
  return nc_msg_send(end->fd, message, -1, error) && (!length || nc_write_all(end->fd, copy, length, error));
}

static json_t *
end_recv(gpointer data, int timeout_ms, GError **error)
{
  return nc_msg_recv(((End *)data)->fd, timeout_ms, NULL, error);
}

static bool
end_recv_bytes(gpointer data, void *bytes, size_t length, GError **error)
{
  return nc_read_all(((End *)data)->fd, bytes, length, 10000, error);
}

static NcCopyLink
link_of(End *end)
{
  return (NcCopyLink){ .data = end, .send = end_send, .recv = end_recv, .recv_bytes = end_recv_bytes };
}

/* --- both ends --- */

typedef struct {
  NcPageStore *store;
  End end;
  const char *id;
  NcCopyTotals totals;
  GError *error;
} Sender;

static gpointer
send_thread(gpointer data)
{
  Sender *s = data;
  uint64_t progress = 0;
  const NcCopyLink link = link_of(&s->end);
  const NcCopy copy = { .store = s->store, .link = &link, .cancelled = &go_on, .progress = &progress };
  bool ok = nc_copy_send(&copy, s->id, &s->totals, &s->error);
  g_assert_true(ok == !s->error);
  shutdown(s->end.fd, SHUT_RDWR);
  return NULL;
}

/* The receiver's side of one copy; false with its error. The sender hears how it ended when the receiver lets it hear, and not before. */
static bool
receive(NcPageStore *store, int fd, NcCopyTotals *totals, GError **error)
{
  End end = { .fd = fd };
  const NcCopyLink link = link_of(&end);
  uint64_t progress = 0;
  const NcCopy copy = { .store = store, .link = &link, .cancelled = &go_on, .progress = &progress };
  nc_autojson json_t *note = json_pack("{s:s}", "from", "host-a");
  NcCopyOffer offer;
  GError *problem = NULL;
  nc_autojson json_t *meta = NULL;
  nc_autojson json_t *message = nc_copy_expect(&link, "cp_offer", NULL, 5000, &problem);
  bool ok =
      message && nc_copy_offer_parse(message, &offer, &problem) && nc_copy_receive(&copy, &offer, note, totals, &meta, &problem);
  g_assert_false(end.refused);
  g_assert_true(ok == (meta != NULL));
  if (ok) {
    nc_copy_confirm(&link, offer.id);
  } else {
    nc_copy_reject(&link, problem);
    g_assert_true(end.refused);
    g_propagate_error(error, problem);
  }
  shutdown(fd, SHUT_RDWR);
  return ok;
}

/* Both sides of a copy of ${id}; what the sender has to say is in ${ret}, whose error the caller clears. */
static bool
copy_over(Stores *t, const char *id, const End *how, Sender *ret)
{
  int pair[2];
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  *ret = (Sender){ .store = t->a, .end = how ? *how : (End){ 0 }, .id = id };
  ret->end.fd = pair[0];
  GThread *thread = g_thread_new("sender", send_thread, ret);
  bool ok = receive(t->b, pair[1], &t->totals, &t->error);
  g_thread_join(thread);
  close(pair[0]);
  close(pair[1]);
  return ok;
}

static unsigned
manifests(NcPageStore *store)
{
  NcPageStoreStats stats;
  nc_page_store_stats(store, &stats);
  return (unsigned)stats.manifests;
}

/* It did not become one, and both say why: with ${code}. */
static void
assert_refused(Stores *t, const End *how, int code)
{
  Sender s;

  g_assert_false(copy_over(t, ID, how, &s));
  g_assert_error(t->error, NC_ERROR, code);
  g_assert_error(s.error, NC_ERROR, code); /* it was told */
  g_clear_error(&s.error);
  g_assert_cmpuint(manifests(t->b), ==, 0);
}

/* The same there as here. */
static void
assert_arrived(Stores *t, const char *id)
{
  g_autofree char *original = digest(t->a, id), *copied = digest(t->b, id);
  g_assert_no_error(t->error);
  g_assert_cmpstr(original, ==, copied);
}

/* --- tests --- */

static void
test_equal_and_once(Stores *t, gconstpointer data)
{
  Sender s;

  make_checkpoint(t->a, ID "1", 1);
  make_checkpoint(t->a, ID "2", 2);
  g_assert_true(copy_over(t, ID "1", NULL, &s));
  g_assert_no_error(s.error);
  assert_arrived(t, ID "1");
  nc_autojson json_t *meta = nc_image_read_meta(t->b, ID "1", NULL, NULL);
  g_assert_cmpstr(nc_json_string_or(json_object_get(meta, "copied"), "from", ""), ==, "host-a");
  g_assert_cmpuint(t->totals.sent_blocks, <, t->totals.blocks); /* what is there twice went once */
  g_assert_cmpuint(t->totals.sent_blocks, ==, s.totals.sent_blocks);
  g_assert_cmpuint(t->totals.wire_bytes, <, t->totals.sent_bytes * 3 / 4); /* compressed */

  /* The second one: what differs, and the names. */
  g_assert_true(copy_over(t, ID "2", NULL, &s));
  assert_arrived(t, ID "2");
  g_assert_cmpuint(t->totals.sent_blocks, >, 0);
  g_assert_cmpuint(t->totals.sent_blocks, <=, PAGES / 50 + 1);
}

static void
test_interrupted_and_resumed(Stores *t, gconstpointer data)
{
  const End cut = { .cut = 10 };
  Sender s;

  make_checkpoint(t->a, ID, 1);
  g_assert_false(copy_over(t, ID, &cut, &s));
  g_assert_nonnull(t->error);
  g_assert_nonnull(s.error);
  g_assert_cmpuint(manifests(t->b), ==, 0);
  const NcCopyTotals whole = t->totals;
  g_assert_cmpuint(whole.sent_blocks, >, 0);
  g_clear_error(&t->error);
  g_clear_error(&s.error);
  nc_page_store_close(t->b);
  t->b = test_open(t->there, &as_usual); /* it is on disk */
  g_assert_true(copy_over(t, ID, NULL, &s));
  g_assert_cmpuint(t->totals.sent_blocks, <=, t->totals.blocks - whole.sent_blocks);
  assert_arrived(t, ID);
}

static void
test_spoilt_on_the_way(Stores *t, gconstpointer data)
{
  const End spoil = { .spoil = 3 };

  make_checkpoint(t->a, ID, 1);
  assert_refused(t, &spoil, NC_ERROR_CORRUPT);
}

static void
test_damaged_at_rest(Stores *t, gconstpointer data)
{
  make_checkpoint(t->a, ID, 1);
  nc_page_store_close(t->a);
  test_hurt_pack(t->here, 0);
  t->a = test_open(t->here, &as_usual);
  assert_refused(t, NULL, NC_ERROR_CORRUPT); /* found by the sender, which says so */
}

/* It is told though it was still sending when the other had said so. */
static void
test_no_room(Stores *t, gconstpointer data)
{
  make_checkpoint(t->a, ID, 1);
  assert_refused(t, NULL, NC_ERROR_RESOURCE);
}

/* --- a hostile sender --- */

typedef struct {
  const char *message;
  const void *bytes;
  size_t length;
} Line;

typedef struct {
  const char *name;
  int code;
  Line lines[6];
} Script;

static uint8_t one_name[NC_COPY_NAME_BYTES], hole_name[NC_COPY_NAME_BYTES], huge_name[NC_COPY_NAME_BYTES];
static const uint8_t zeros[64];

#define OFFER                                                                                                          \
  "{\"type\":\"cp_offer\",\"id\":\"" ID "\",\"machine\":\"web1\",\"entries\":2,\"blocks\":1,\"block_bytes\":4}"
#define NAMES(n, bytes) "{\"type\":\"cp_names\",\"count\":" #n ",\"bytes\":" #bytes "}"

static const Script scripts[] = {
  { "no-offer", NC_ERROR_PROTOCOL, { { NAMES(1, 36), one_name, 36 } } },
  { "path-as-id",
    NC_ERROR_PROTOCOL,
    { { "{\"type\":\"cp_offer\",\"id\":\"../x\",\"machine\":\"web1\",\"entries\":1,\"blocks\":1,\"block_bytes\":1}",
        NULL, 0 } } },
  { "negative",
    NC_ERROR_PROTOCOL,
    { { "{\"type\":\"cp_offer\",\"id\":\"c-1\",\"machine\":\"web1\",\"entries\":-1,\"blocks\":0,\"block_bytes\":0}",
        NULL, 0 } } },
  { "more-blocks-than-entries",
    NC_ERROR_PROTOCOL,
    { { "{\"type\":\"cp_offer\",\"id\":\"c-1\",\"machine\":\"web1\",\"entries\":1,\"blocks\":2,\"block_bytes\":0}",
        NULL, 0 } } },
  { "names-and-bytes-differ", NC_ERROR_PROTOCOL, { { OFFER, NULL, 0 }, { NAMES(1, 72), one_name, 36 } } },
  { "too-many-names", NC_ERROR_PROTOCOL, { { OFFER, NULL, 0 }, { NAMES(100000, 3600000), one_name, 36 } } },
  { "huge-block", NC_ERROR_PROTOCOL, { { OFFER, NULL, 0 }, { NAMES(1, 36), huge_name, 36 } } },
  { "more-than-offered",
    NC_ERROR_PROTOCOL,
    { { OFFER, NULL, 0 },
      { NAMES(1, 36), hole_name, 36 },
      { NAMES(1, 36), hole_name, 36 },
      { NAMES(1, 36), hole_name, 36 } } },
  { "end-too-early",
    NC_ERROR_PROTOCOL,
    { { OFFER, NULL, 0 }, { NAMES(1, 36), hole_name, 36 }, { "{\"type\":\"cp_end\",\"bytes\":4}", zeros, 4 } } },
  { "wrong-content",
    NC_ERROR_CORRUPT,
    { { OFFER, NULL, 0 },
      { NAMES(1, 36), one_name, 36 },
      { "{\"type\":\"cp_blocks\",\"count\":1,\"raw\":4,\"bytes\":4}", zeros, 4 } } },
  { "too-much-content",
    NC_ERROR_PROTOCOL,
    { { OFFER, NULL, 0 },
      { NAMES(1, 36), one_name, 36 },
      { "{\"type\":\"cp_blocks\",\"count\":1,\"raw\":8,\"bytes\":8}", zeros, 8 } } },
  { "too-little-content",
    NC_ERROR_PROTOCOL,
    { { OFFER, NULL, 0 },
      { NAMES(1, 36), one_name, 36 },
      { "{\"type\":\"cp_blocks\",\"count\":1,\"raw\":2,\"bytes\":2}", zeros, 2 } } },
  { "more-blocks-than-lacking",
    NC_ERROR_PROTOCOL,
    { { OFFER, NULL, 0 },
      { NAMES(1, 36), one_name, 36 },
      { "{\"type\":\"cp_blocks\",\"count\":2,\"raw\":8,\"bytes\":8}", zeros, 8 } } },
  { "no-zstd",
    NC_ERROR_CORRUPT,
    { { OFFER, NULL, 0 },
      { NAMES(1, 36), one_name, 36 },
      { "{\"type\":\"cp_blocks\",\"count\":1,\"raw\":4,\"bytes\":3}", zeros, 3 } } },
  { "no-header",
    NC_ERROR_CORRUPT,
    { { "{\"type\":\"cp_offer\",\"id\":\"" ID "\",\"machine\":\"web1\",\"entries\":1,\"blocks\":0,\"block_bytes\":0}",
        NULL, 0 },
      { NAMES(1, 36), hole_name, 36 },
      { "{\"type\":\"cp_end\",\"bytes\":64}", zeros, 64 } } },
  { "another-word", NC_ERROR_PROTOCOL, { { OFFER, NULL, 0 }, { "{\"type\":\"hello\"}", NULL, 0 } } },
};

static void
test_hostile(Stores *t, gconstpointer data)
{
  const Script *script = data;
  int pair[2];

  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  for (size_t i = 0; i < G_N_ELEMENTS(script->lines) && script->lines[i].message; i++) {
    nc_autojson json_t *message = json_loads(script->lines[i].message, 0, NULL);
    g_assert_true(nc_msg_send(pair[0], message, -1, NULL));
    g_assert_true(!script->lines[i].length ||
                  nc_write_all(pair[0], script->lines[i].bytes, script->lines[i].length, NULL));
  }
  shutdown(pair[0], SHUT_WR);
  g_assert_false(receive(t->b, pair[1], &t->totals, &t->error));
  g_assert_error(t->error, NC_ERROR, script->code);
  g_assert_cmpuint(manifests(t->b), ==, 0);
  close(pair[0]);
  close(pair[1]);
}

static void
setup_as_usual(Stores *t, gconstpointer data)
{
  setup(t, &as_usual); /* ${data} is the test's own */
}

/* A receiver that lacks what it can't lack. */
static void
test_hostile_receiver(Stores *t, gconstpointer data)
{
  Sender s = { .store = t->a, .id = ID };
  int pair[2];
  uint8_t bits[NC_COPY_NAMES_MAX / 8], names[NC_COPY_NAMES_MAX * NC_COPY_NAME_BYTES];
  nc_autojson json_t *take = json_pack("{s:s}", "type", "cp_take");
  nc_autojson json_t *lack =
      json_pack("{s:s, s:i, s:i}", "type", "cp_lack", "count", (int)NC_COPY_NAMES_MAX, "bytes", (int)sizeof bits);

  memset(bits, 0xff, sizeof bits);
  make_checkpoint(t->a, ID, 1);
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  s.end.fd = pair[0];
  GThread *thread = g_thread_new("sender", send_thread, &s);
  nc_autojson json_t *offer = nc_msg_recv(pair[1], 5000, NULL, NULL);
  g_assert_nonnull(offer);
  nc_msg_send(pair[1], take, -1, NULL);
  nc_autojson json_t *told = nc_msg_recv(pair[1], 5000, NULL, NULL);
  g_assert_true(told && nc_read_all(pair[1], names, sizeof names, 10000, NULL));
  nc_msg_send(pair[1], lack, -1, NULL);
  nc_write_all(pair[1], bits, sizeof bits, NULL);
  g_thread_join(thread);
  g_assert_error(s.error, NC_ERROR, NC_ERROR_PROTOCOL);
  g_clear_error(&s.error);
  close(pair[0]);
  close(pair[1]);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  nc_sha256("abcd", 4, one_name);
  one_name[NC_COPY_NAME_BYTES - 1] = 4;
  memset(huge_name, 0xff, sizeof huge_name);
#define ADD(name, options, run) g_test_add("/copy/" name, Stores, options, setup, run, teardown)
  ADD("equal-and-once", NULL, test_equal_and_once);
  ADD("interrupted-and-resumed", &as_usual, test_interrupted_and_resumed);
  ADD("spoilt-on-the-way", &as_usual, test_spoilt_on_the_way);
  ADD("damaged-at-rest", &as_usual, test_damaged_at_rest);
  ADD("no-room", &small, test_no_room);
  ADD("hostile/receiver", &as_usual, test_hostile_receiver);
#undef ADD
  for (size_t i = 0; i < G_N_ELEMENTS(scripts); i++) {
    g_autofree char *path = g_strconcat("/copy/hostile/", scripts[i].name, NULL);
    g_test_add(path, Stores, &scripts[i], setup_as_usual, test_hostile, teardown);
  }
  return g_test_run();
}
