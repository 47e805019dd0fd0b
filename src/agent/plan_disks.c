/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/plan_disks.h"
#include "agent/way.h"
#include "base/ident.h"

/* A disk of the machine's. */
typedef struct {
  const NcDiskOffer *offer; /* borrowed */
  uint64_t written_bytes;   /* at the beginning; by QEMU's count */
  bool is_counted;
  NcPlanDisk plan;
} NcPlannedDisk;

struct NcPlanDisks {
  json_t *spec; /* owned */
  GPtrArray *offers;
  GArray *copied; /* of NcPlannedDisk */
  int64_t looked_us;
};

NcPlanDisks *
nc_plan_disks_new(json_t *spec_json, NcDiskChain chain, NcQmp *qmp)
{
  const NcDiskLook look = { .chain = chain }; /* nothing is compared */
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(spec_json, NULL);

  if (!spec || spec->disks->len == 0)
    return NULL;
  NcPlanDisks *d = g_new0(NcPlanDisks, 1);
  d->spec = json_incref(spec_json);
  d->offers = nc_disk_offers_new(spec, qmp, &look);
  d->copied = g_array_new(FALSE, TRUE, sizeof(NcPlannedDisk));
  d->looked_us = nc_mono_us();
  for (guint i = 0; i < d->offers->len; i++) {
    NcPlannedDisk disk = { .offer = d->offers->pdata[i] };
    disk.plan.bytes = disk.offer->used_bytes;
    disk.is_counted = disk.offer->node && nc_qemu_disk_written(qmp, disk.offer->node, &disk.written_bytes);
    g_array_append_val(d->copied, disk);
  }
  return d;
}

static bool
nc_plan_disk_is_copied(json_t *answer, const char *name)
{
  return nc_json_bool_or(nc_json_find(json_object_get(answer, "disks"), "name", name), "copied", false);
}

bool
nc_plan_disks_ask(NcPlanDisks *d, NcPeer *peer, const char *vm, GError **error)
{
  nc_autojson json_t *answer = nc_way_ask(peer,
                                          json_pack("{s:s, s:s, s:O, s:o}", "type", "mig_check", "vm", vm, "spec", d->spec, "disks",
                                                    nc_disk_offers_to_json(d->offers)),
                                          "mig_checked", error);

  nc_disk_offers_end_proof(d->offers);
  if (!answer)
    return false;
  for (guint i = d->copied->len; i > 0; i--)
    if (!nc_plan_disk_is_copied(answer, g_array_index(d->copied, NcPlannedDisk, i - 1).offer->name))
      g_array_remove_index(d->copied, i - 1);
  return true;
}

void
nc_plan_disks_look_again(NcPlanDisks *d, NcQmp *qmp)
{
  double seconds = (double)(nc_mono_us() - d->looked_us) / 1e6;

  for (guint i = 0; i < d->copied->len; i++) {
    NcPlannedDisk *disk = &g_array_index(d->copied, NcPlannedDisk, i);
    uint64_t now = 0;
    if (disk->is_counted && seconds > 0 && nc_qemu_disk_written(qmp, disk->offer->node, &now) && now > disk->written_bytes)
      disk->plan.write_bps = (double)(now - disk->written_bytes) / seconds;
  }
}

void
nc_plan_disks_work_out(NcPlanDisks *d, const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms,
                       NcPlanResult *ret)
{
  g_autofree NcPlanDisk *plans = g_new0(NcPlanDisk, MAX(d->copied->len, 1));

  for (guint i = 0; i < d->copied->len; i++)
    plans[i] = g_array_index(d->copied, NcPlannedDisk, i).plan;
  nc_plan_add_disks(facts, history, terms, plans, d->copied->len, ret);
  for (guint i = 0; i < d->copied->len; i++)
    g_array_index(d->copied, NcPlannedDisk, i).plan = plans[i];
}

json_t *
nc_plan_disks_to_json(const NcPlanDisks *d)
{
  json_t *list = json_array();

  for (guint i = 0; d && i < d->copied->len; i++) {
    const NcPlannedDisk *disk = &g_array_index(d->copied, NcPlannedDisk, i);
    const NcDiskOffer *o = disk->offer;
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:b, s:b, s:I, s:I, s:I, s:b}", "name", o->name, "path", o->path, "format",
                                          o->format, "bytes", (json_int_t)disk->plan.bytes, "flattened",
                                          (int)(o->has_backing && o->chain == NC_CHAIN_FLATTEN), "chain_kept",
                                          (int)(o->chain != NC_CHAIN_FLATTEN), "write_rate_bps", (json_int_t)disk->plan.write_bps, "wire_bytes",
                                          (json_int_t)disk->plan.wire_bytes, "eta_ms", (json_int_t)disk->plan.ms, "slowed",
                                          (int)disk->plan.is_slowed));
  }
  return list;
}

void
nc_plan_disks_free(NcPlanDisks *d)
{
  if (!d)
    return;
  nc_disk_offers_end_proof(d->offers);
  g_ptr_array_unref(d->offers);
  g_array_unref(d->copied);
  json_decref(d->spec);
  g_free(d);
}
