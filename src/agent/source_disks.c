/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source_disks.h"
#include "agent/disk_files.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NC_NBD_SOCKET "nbd.sock" /* machine_check.c keeps the name for us */
#define NC_DISKS_ACCEPT_MS 10000
#define NC_DISKS_POLL_US 100000 /* how long memory may wait for nothing */
#define NC_DISKS_END_US 10000000 /* the guest stands still: what is left is a part of the pause, or too much */
#define NC_DISKS_END_POLL_US 2000
/* A mirror that does not come nearer in so long needs help, if what is left would be more than a part of the pause. */
#define NC_DISKS_STALE_US 5000000
#define NC_DISKS_NEAR_SHARE 4
#define NC_DISKS_BUSY_BYTES (1u << 20) /* so much to do at both ends of an interval: what was done in it is the rate */
#define NC_DISKS_LEAST_LIMIT (256u << 10) /* bytes per second that the guest may always write */

typedef struct {
  NcDiskOffer *offer; /* borrowed */
  NcQemuMirrorStatus status;
  uint64_t first_bytes; /* of the first pass */
  uint64_t done_bytes, total_bytes, wire_bytes;
  double rate_bps;
  uint64_t operations;
  double iops;
  uint64_t least_left_bytes; /* so far, and when */
  int64_t least_us;
  uint64_t write_limit_bps; /* 0: none */
  bool blocks_writes;
} NcSourceDisk;

struct NcSourceDisks {
  NcMigration *m;
  GPtrArray *offers;
  GArray *copied; /* of NcSourceDisk */
  unsigned highest; /* index of these */
  int max_downtime_ms;
  bool begun;
  int64_t begun_us, polled_us;
};

NcSourceDisks *
nc_source_disks_new(NcMigration *m, NcQmp *qmp)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(nc_machine_lease_spec(m->lease), NULL);

  if (!spec || spec->disks->len == 0)
    return NULL;
  nc_qemu_mirror_clean_up(qmp);
  NcSourceDisks *d = g_new0(NcSourceDisks, 1);
  d->m = m;
  const NcDiskLook look = { .chain = nc_migration_disk_chain(m), .compare_bytes = UINT64_MAX, .cancelled = &m->cancel_requested };
  d->offers = nc_disk_offers_new(spec, qmp, &look);
  d->copied = g_array_new(FALSE, TRUE, sizeof(NcSourceDisk));
  if (d->offers->len == 0)
    g_clear_pointer(&d, nc_source_disks_free);
  return d;
}

void
nc_source_disks_free(NcSourceDisks *d)
{
  if (!d)
    return;
  nc_disk_offers_end_proof(d->offers);
  g_ptr_array_unref(d->offers);
  g_array_unref(d->copied);
  g_free(d);
}

json_t *
nc_source_disks_offer(NcSourceDisks *d)
{
  return nc_disk_offers_to_json(d->offers);
}

uint64_t
nc_source_disks_compared_bytes(const NcSourceDisks *d)
{
  return nc_disk_offers_compared_bytes(d->offers);
}

static NcSourceDisk *
nc_source_disk(const NcSourceDisks *d, guint i)
{
  return &g_array_index(d->copied, NcSourceDisk, i);
}

static uint64_t
nc_source_disk_left(const NcSourceDisk *k)
{
  return k->total_bytes > k->done_bytes ? k->total_bytes - k->done_bytes : 0;
}

static const char *
nc_source_disk_state(const NcSourceDisks *d, const NcSourceDisk *k)
{
  if (!d->begun)
    return "waiting";
  return k->status == NC_QEMU_MIRROR_ENDED ? "copied" : k->status == NC_QEMU_MIRROR_READY ? "in step" : "copying";
}

static bool
nc_source_disk_flattens(const NcDiskOffer *o)
{
  return o->has_backing && o->chain == NC_CHAIN_FLATTEN;
}

/* What the record says of the disks: people read it, and so does a novacrond that was restarted. */
static void
nc_source_disks_record(NcSourceDisks *d)
{
  json_t *list = json_array();

  for (guint i = 0; i < d->copied->len; i++) {
    const NcSourceDisk *k = nc_source_disk(d, i);
    const NcDiskOffer *o = k->offer;
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:f, s:I, s:b, s:I, s:s}", "name", o->name,
                                          "path", o->path, "format", o->format, "size_bytes", (json_int_t)o->size_bytes, "used_bytes",
                                          (json_int_t)o->used_bytes, "state",
                                          nc_source_disk_state(d, k), "flattened", (int)nc_source_disk_flattens(o), "chain_kept",
                                          (int)(o->chain != NC_CHAIN_FLATTEN), "copied_bytes",
                                          (json_int_t)k->done_bytes, "total_bytes", (json_int_t)k->total_bytes, "wire_bytes",
                                          (json_int_t)k->wire_bytes, "rate_bps", (json_int_t)k->rate_bps, "iops", k->iops, "write_limit_bps",
                                          (json_int_t)k->write_limit_bps, "write_blocking", (int)k->blocks_writes, "inode",
                                          (json_int_t)o->inode, "device", o->device ? o->device : ""));
  }
  nc_migration_set(d->m, "disks", list);
}

static NcDiskOffer *
nc_source_disks_find(NcSourceDisks *d, const char *name)
{
  for (guint i = 0; i < d->offers->len; i++)
    if (g_str_equal(((NcDiskOffer *)d->offers->pdata[i])->name, name))
      return d->offers->pdata[i];
  return NULL;
}

bool
nc_source_disks_take_verdict(NcSourceDisks *d, json_t *answer)
{
  size_t i;
  json_t *entry;

  nc_disk_offers_end_proof(d->offers);
  json_array_foreach(json_object_get(answer, "disks"), i, entry)
  {
    NcDiskOffer *o = nc_source_disks_find(d, nc_json_string_or(entry, "name", ""));
    NcSourceDisk k = { .offer = o };
    if (!o || o->copy || !nc_json_bool_or(entry, "copied", false))
      continue;
    o->copy = true;
    d->highest = MAX(d->highest, o->index);
    g_array_append_val(d->copied, k);
    nc_migration_note(d->m, "disk", "%s (%s, %" G_GUINT64_FORMAT " MiB used) is to be copied%s", o->name, o->path, o->used_bytes >> 20,
                      nc_source_disk_flattens(o)         ? ", without its backing chain: what is in that goes into the copy"
                      : o->chain == NC_CHAIN_KEEP  ? ", on the backing chain that the destination has, which is the same"
                      : o->chain == NC_CHAIN_TRUST ? ", on the backing chain that the destination has, by your word the same"
                                                   : "");
  }
  nc_source_disks_record(d);
  return d->copied->len > 0;
}

/* --- attaching --- */

typedef struct {
  NcMigration *m;
  int listener;
  unsigned index;
  GError *error;
} NcSourceDiskAccept;

static bool
nc_source_disk_hand_over(NcSourceDiskAccept *a, GError **error)
{
  struct pollfd p = { .fd = a->listener, .events = POLLIN };
  struct ucred who;
  socklen_t length = sizeof who;

  if (poll(&p, 1, NC_DISKS_ACCEPT_MS) != 1)
    return nc_fail(error, NC_ERROR_TIMEOUT, "the source's QEMU did not connect to its mover within %d ms", NC_DISKS_ACCEPT_MS);
  nc_autofd int fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "accepting QEMU's connection for a disk");
  if (who.pid != nc_machine_lease_pid(a->m->lease))
    return nc_fail(error, NC_ERROR_FORBIDDEN, "process %d connected in place of the machine's QEMU", (int)who.pid);
  return nc_mover_process_send(a->m->mover, json_pack("{s:s, s:i}", "op", "disk", "index", (int)a->index), fd, error);
}

static gpointer
nc_source_disk_accept(gpointer data)
{
  NcSourceDiskAccept *a = data;
  nc_source_disk_hand_over(a, &a->error);
  return NULL;
}

/* QEMU speaks with the destination's before it answers us: its connection is handed to the mover meanwhile. */
static bool
nc_source_disk_attach(NcSourceDisks *d, NcQmp *qmp, const NcDiskOffer *o, GError **error)
{
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(d->m->lease), NC_NBD_SOCKET, NULL);
  const NcQemuMirror mirror = { .node = o->node, .socket = path, .name = o->name, .flatten = nc_source_disk_flattens(o), .size_bytes = o->size_bytes };

  nc_autofd int listener = nc_unix_listen(path, 0666, error);
  if (listener < 0)
    return false;
  NcSourceDiskAccept accept = { .m = d->m, .listener = listener, .index = o->index };
  GThread *thread = g_thread_new("disk-accept", nc_source_disk_accept, &accept);
  bool ok = nc_qemu_mirror_attach(qmp, o->index, &mirror, error);
  g_thread_join(thread);
  unlink(path);
  if (accept.error) {
    if (ok)
      g_propagate_error(error, accept.error);
    else
      g_error_free(accept.error);
    return false;
  }
  return ok && nc_qemu_mirror_start(qmp, o->index, &mirror, error);
}

bool
nc_source_disks_begin(NcSourceDisks *d, NcQmp *qmp, int max_downtime_ms, GError **error)
{
  d->max_downtime_ms = max_downtime_ms;
  d->begun_us = nc_mono_us();
  for (guint i = 0; i < d->copied->len; i++) {
    NcSourceDisk *k = nc_source_disk(d, i);
    k->least_left_bytes = UINT64_MAX;
    k->least_us = d->begun_us;
    if (!nc_source_disk_attach(d, qmp, k->offer, error)) {
      g_prefix_error(error, "the copy of disk %s could not begin: ", k->offer->name);
      return false;
    }
  }
  d->begun = true;
  nc_fault_point("source-disks-begun");
  nc_migration_note(d->m, "disks-copying", "%u", d->copied->len);
  return true;
}

/* --- while it is under way --- */

bool
nc_source_disks_have_begun(const NcSourceDisks *d)
{
  return d->begun;
}

static int64_t
nc_source_disk_pause_ms(const NcSourceDisk *k)
{
  uint64_t left = nc_source_disk_left(k);
  return left == 0 ? 0 : k->rate_bps <= 0 ? G_MAXINT32 : (int64_t)((double)left * 1000 / k->rate_bps);
}

int64_t
nc_source_disks_pause_ms(const NcSourceDisks *d)
{
  int64_t sum_ms = 0; /* they share the link, and the rate of each is what it has of that */

  for (guint i = 0; i < d->copied->len; i++)
    sum_ms = MAX(sum_ms, nc_source_disk_pause_ms(nc_source_disk(d, i)));
  return sum_ms;
}

/* Once through, and what is left is a small part of the pause. */
static bool
nc_source_disk_is_near(const NcSourceDisks *d, const NcSourceDisk *k)
{
  bool once = k->status == NC_QEMU_MIRROR_READY || (k->first_bytes > 0 && k->done_bytes >= k->first_bytes);
  return once && nc_source_disk_pause_ms(k) <= d->max_downtime_ms / NC_DISKS_NEAR_SHARE;
}

bool
nc_source_disks_are_near(const NcSourceDisks *d)
{
  bool near = d->begun && d->polled_us > 0;

  for (guint i = 0; i < d->copied->len; i++)
    near = near && nc_source_disk_is_near(d, nc_source_disk(d, i));
  return near;
}

void
nc_source_disks_bytes(const NcSourceDisks *d, uint64_t *ret_total, uint64_t *ret_left)
{
  *ret_total = *ret_left = 0;
  for (guint i = 0; i < d->copied->len; i++) {
    const NcSourceDisk *k = nc_source_disk(d, i);
    *ret_total += k->total_bytes;
    *ret_left += nc_source_disk_left(k);
  }
}

void
nc_source_disks_on_progress(NcSourceDisks *d, json_t *progress)
{
  size_t i;
  json_t *entry;

  json_array_foreach(json_object_get(progress, "disks"), i, entry)
  {
    for (guint n = 0; n < d->copied->len; n++)
      if ((int64_t)nc_source_disk(d, n)->offer->index == nc_json_int_or(entry, "index", -1))
        nc_source_disk(d, n)->wire_bytes = (uint64_t)MAX(nc_json_int_or(entry, "wire_bytes", 0), 0);
  }
  nc_source_disks_record(d);
}

uint64_t
nc_source_disks_wire_bytes(const NcSourceDisks *d)
{
  uint64_t sum = 0;

  for (guint n = 0; n < d->copied->len; n++)
    sum += nc_source_disk(d, n)->wire_bytes;
  return sum;
}

/* The guest must wait for its disk: by QEMU, if it can, else by half of what the mirror does. */
static void
nc_source_disk_press(NcSourceDisks *d, NcQmp *qmp, NcSourceDisk *k)
{
  g_autoptr(GError) error = NULL;
  uint64_t limit_bps = MAX((uint64_t)(k->rate_bps / 2), NC_DISKS_LEAST_LIMIT);

  if (k->blocks_writes)
    return;
  if (nc_qemu_mirror_block_writes(qmp, k->offer->index, NULL)) {
    k->blocks_writes = true;
    nc_migration_note(d->m, "disk-write-blocking", "%s: the guest's writes wait for the copy, which did not catch up", k->offer->name);
    return;
  }
  if (k->offer->is_limited || (k->write_limit_bps && k->write_limit_bps <= NC_DISKS_LEAST_LIMIT))
    return; /* not ours to change; or as little as it may be */
  if (k->write_limit_bps)
    limit_bps = MIN(limit_bps, MAX(k->write_limit_bps / 2, NC_DISKS_LEAST_LIMIT));
  uint64_t before_bps = k->write_limit_bps;
  k->write_limit_bps = limit_bps; /* on disk first, so that a novacrond that comes after this one lets it go again */
  nc_source_disks_record(d);
  if (!nc_migration_persist(d->m, true, &error)) {
    k->write_limit_bps = before_bps;
    nc_migration_note(d->m, "warning", "the guest's writes to disk %s are not slowed down: %s", k->offer->name, error->message);
    return;
  }
  if (!nc_qemu_disk_limit_writes(qmp, k->offer->device, limit_bps, &error)) {
    nc_migration_note(d->m, "warning", "the guest's writes to disk %s can't be slowed down: %s", k->offer->name, error->message);
    if (error->code != NC_ERROR_TIMEOUT) /* then it may be in force all the same, and stays on record */
      k->write_limit_bps = before_bps;
    return;
  }
  nc_migration_note(d->m, "disk-slowed", "%s: the guest may write %.1f MB/s, since the copy did not catch up", k->offer->name,
                    (double)limit_bps / 1e6);
}

/* Does it come nearer? Only after the first pass: before, it is just long. */
static void
nc_source_disk_watch(NcSourceDisks *d, NcQmp *qmp, NcSourceDisk *k, int64_t now_us)
{
  uint64_t left = nc_source_disk_left(k);

  if (k->first_bytes == 0 || k->done_bytes < k->first_bytes || nc_source_disk_is_near(d, k) || left < k->least_left_bytes / 10 * 9) {
    k->least_left_bytes = left;
    k->least_us = now_us;
  } else if (now_us - k->least_us > NC_DISKS_STALE_US) {
    nc_source_disk_press(d, qmp, k);
    k->least_left_bytes = left;
    k->least_us = now_us;
  }
}

static void
nc_source_disk_measure(NcSourceDisk *k, NcQmp *qmp, const NcQemuMirrorState *state, int64_t elapsed_us)
{
  uint64_t operations = k->operations;
  double seconds = (double)elapsed_us / 1e6;
  uint64_t left_before = nc_source_disk_left(k), left_now = state->total_bytes - MIN(state->done_bytes, state->total_bytes);

  bool known = nc_qemu_disk_operations(qmp, k->offer->node, &operations);
  if (elapsed_us > 0) {
    double now_bps = (double)(state->done_bytes - MIN(k->done_bytes, state->done_bytes)) / seconds;
    bool busy = MIN(left_before, left_now) >= NC_DISKS_BUSY_BYTES; /* little to do is not slow */
    if (busy || now_bps > k->rate_bps)
      k->rate_bps = k->rate_bps > 0 ? k->rate_bps * 0.7 + now_bps * 0.3 : now_bps;
    if (known && k->operations > 0) { /* a guest writes in bursts: of single looks, many see none */
      double now_iops = (double)(operations - MIN(k->operations, operations)) / seconds;
      k->iops = k->iops > 0 ? k->iops * 0.7 + now_iops * 0.3 : now_iops;
    }
  }
  k->operations = operations;
  k->status = state->status;
  k->done_bytes = state->done_bytes;
  k->total_bytes = state->total_bytes;
  if (k->first_bytes == 0)
    k->first_bytes = state->total_bytes;
}

/* A full disk there stays full: that is not tried again. */
static bool
nc_source_disk_failed(NcSourceDisks *d, const NcSourceDisk *k, const char *problem, GError **error)
{
  bool full = strstr(problem, g_strerror(ENOSPC)) != NULL;

  if (full)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "disk %s could not be copied: the file system of %s on the destination (%s) is full; the machine "
                   "runs on at the source: free some space there", k->offer->name, k->offer->path, d->m->peer);
  return nc_fail(error, NC_ERROR_QEMU, "disk %s could not be copied to the destination (%s): %s", k->offer->name, d->m->peer, problem);
}

/* None is looked for until the first is there: QEMU fills its total in the beginning. */
static bool
nc_source_disks_check(NcSourceDisks *d, const NcSourceDisk *k, const NcQemuMirrorState *state, GError **error)
{
  if (state->status == NC_QEMU_MIRROR_GONE)
    return nc_source_disk_failed(d, k, "QEMU knows nothing of the copy any more", error);
  if (state->status == NC_QEMU_MIRROR_ENDED)
    return nc_source_disk_failed(d, k, state->problem ? state->problem : "the copy ended before it was told to", error);
  return true;
}

static void
nc_source_disks_clear_states(NcQemuMirrorState *states, unsigned count)
{
  for (unsigned i = 0; i < count; i++)
    nc_qemu_mirror_state_clear(&states[i]);
}

bool
nc_source_disks_tick(NcSourceDisks *d, NcQmp *qmp, GError **error)
{
  NcQemuMirrorState states[NC_SPEC_DEVICES_MAX];
  int64_t now_us = nc_mono_us();

  if (now_us - d->polled_us < NC_DISKS_POLL_US)
    return true;
  bool ok = nc_qemu_mirror_query(qmp, states, d->highest + 1, error);
  for (guint i = 0; ok && i < d->copied->len; i++) {
    NcSourceDisk *k = nc_source_disk(d, i);
    const NcQemuMirrorState *state = &states[k->offer->index];
    ok = nc_source_disks_check(d, k, state, error);
    if (!ok)
      break;
    nc_source_disk_measure(k, qmp, state, d->polled_us ? now_us - d->polled_us : 0);
    nc_source_disk_watch(d, qmp, k, now_us);
  }
  nc_source_disks_clear_states(states, d->highest + 1);
  d->polled_us = now_us;
  nc_source_disks_record(d);
  return ok;
}

/* --- the end --- */

/* One look at all that have not ended: READY ones are told to. Returns how many are left; UINT_MAX with *error. */
static unsigned
nc_source_disks_end_step(NcSourceDisks *d, NcQmp *qmp, GHashTable *told, GError **error)
{
  NcQemuMirrorState states[NC_SPEC_DEVICES_MAX];
  unsigned left = 0;

  bool ok = nc_qemu_mirror_query(qmp, states, d->highest + 1, error);
  for (guint i = 0; ok && i < d->copied->len; i++) {
    NcSourceDisk *k = nc_source_disk(d, i);
    const NcQemuMirrorState *state = &states[k->offer->index];
    bool is_told = g_hash_table_contains(told, k);
    k->done_bytes = state->done_bytes;
    k->total_bytes = state->total_bytes;
    if (state->status == NC_QEMU_MIRROR_ENDED && is_told && !state->problem && state->done_bytes == state->total_bytes) {
      k->status = NC_QEMU_MIRROR_ENDED;
      continue;
    }
    left++;
    ok = nc_source_disks_check(d, k, state, error);
    if (ok && state->status == NC_QEMU_MIRROR_READY && !is_told) {
      ok = nc_qemu_mirror_end(qmp, k->offer->index, error);
      g_hash_table_add(told, k);
    }
  }
  nc_source_disks_clear_states(states, d->highest + 1);
  return ok ? left : UINT_MAX;
}

static bool
nc_source_disks_end_all(NcSourceDisks *d, NcQmp *qmp, bool (*must_stop)(gpointer data), gpointer data, GError **error)
{
  g_autoptr(GHashTable) told = g_hash_table_new(g_direct_hash, g_direct_equal);
  int64_t deadline_us = nc_mono_us() + NC_DISKS_END_US;
  unsigned left;

  while ((left = nc_source_disks_end_step(d, qmp, told, error)) > 0 && left != UINT_MAX) {
    if (must_stop(data))
      return nc_fail(error, NC_ERROR_CANCELLED, "cancelled at the switchover");
    if (nc_mono_us() > deadline_us)
      return nc_fail(error, NC_ERROR_TIMEOUT, "%u of the machine's disks were not copied within %d s after the guest was stopped", left,
                     (int)(NC_DISKS_END_US / G_USEC_PER_SEC));
    g_usleep(NC_DISKS_END_POLL_US);
  }
  return left == 0;
}

bool
nc_source_disks_end(NcSourceDisks *d, NcQmp *qmp, bool (*must_stop)(gpointer data), gpointer data, GError **error)
{
  int64_t start_us = nc_mono_us();

  if (!nc_source_disks_end_all(d, qmp, must_stop, data, error))
    return false;
  for (guint i = 0; i < d->copied->len; i++)
    if (!nc_qemu_mirror_detach(qmp, nc_source_disk(d, i)->offer->index, error))
      return false;
  nc_source_disks_record(d);
  nc_migration_set(d->m, "disk_pause_ms", json_real((double)(nc_mono_us() - start_us) / 1000));
  nc_migration_note(d->m, "disks-equal", "the copies are complete and are the destination's now");
  nc_fault_point("source-disks-ended");
  return true;
}

void
nc_source_disks_undo(NcMigration *m, NcQmp *qmp)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  json_t *disks = json_object_get(record, "disks");
  size_t i;
  json_t *disk;

  if (json_array_size(disks) == 0)
    return;
  nc_qemu_mirror_clean_up(qmp);
  json_array_foreach(disks, i, disk)
  {
    g_autoptr(GError) error = NULL;
    if (nc_json_int_or(disk, "write_limit_bps", 0) > 0 && !nc_qemu_disk_limit_writes(qmp, nc_json_string_or(disk, "device", ""), 0, &error))
      nc_migration_note(m, "warning", "the guest's writes to disk %s could not be let go again: %s", nc_json_string_or(disk, "name", ""),
                        error->message);
  }
}

void
nc_source_disks_set_aside(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  g_autofree char *suffix = g_strdup_printf("moved-%s", m->id);
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(record, "disks"), i, disk)
  {
    g_autoptr(GError) error = NULL;
    const char *path = nc_json_string_or(disk, "path", "");
    if (nc_disk_file_set_aside(path, (uint64_t)nc_json_int_or(disk, "inode", 0), suffix, &error))
      nc_migration_note(m, "disk-set-aside", "%s.%s: remove it when it is not needed any more", path, suffix);
    else if (access(path, F_OK) == 0)
      nc_migration_note(m, "warning", "the source's copy of a disk stays where it is: %s", error->message);
  }
}
