/* SPDX-License-Identifier: Apache-2.0 */
/* Life, lease, and the step. */
#include "controller/controller_internal.h"
#include "base/ident.h"
#include "base/log.h"

#include <string.h>

/* Behind a holder's name: "-" and nc_id_new("c"). */
#define NC_HOLDER_RANDOM_BYTES 19

NcController *
nc_controller_new(NcFleetDb *db, const NcControllerOptions *options, const NcAgentPort *port, void *agents)
{
  NcController *c = g_new0(NcController, 1);
  g_autofree char *random = nc_id_new("c");

  c->db = db;
  c->options = *options;
  c->name = g_strdup(options->name);
  c->address = g_strdup(options->address);
  c->holder = g_strdup_printf("%s-%s", options->name, random);
  c->port = *port;
  c->agents = agents;
  c->heard = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  c->changes = g_ptr_array_new_with_free_func(nc_change_free);
  c->waits = g_array_new(FALSE, FALSE, sizeof(int64_t));
  return c;
}

void
nc_forget_model(NcController *c)
{
  g_ptr_array_set_size(c->changes, 0);
  /* In this order: flows are the traffic's, reservations the fleet's. */
  g_clear_pointer(&c->under_way, g_hash_table_unref);
  g_clear_pointer(&c->by_item, g_hash_table_unref);
  g_clear_pointer(&c->live, g_hash_table_unref);
  g_clear_pointer(&c->evacuations, g_hash_table_unref);
  g_clear_pointer(&c->groups, g_hash_table_unref);
  g_clear_pointer(&c->traffic, nc_traffic_free);
  g_clear_pointer(&c->queue, nc_queue_free);
  g_clear_pointer(&c->fleet, nc_fleet_free);
  c->is_loaded = false;
}

void
nc_controller_free(NcController *c)
{
  if (!c)
    return;
  nc_forget_model(c);
  g_ptr_array_unref(c->changes);
  g_array_unref(c->waits);
  g_hash_table_unref(c->heard);
  g_free(c->name);
  g_free(c->address);
  g_free(c->holder);
  g_free(c);
}

int64_t
nc_clock_follow(int64_t now_us, int64_t passed_us, int64_t wall_us)
{
  int64_t off_us = wall_us - (now_us + passed_us);
  return now_us + passed_us + CLAMP(off_us, -passed_us / 2, passed_us / 2);
}

int64_t
nc_controller_now(NcController *c)
{
  if (c->options.now_us) {
    c->now_us = MAX(c->now_us, c->options.now_us(c->options.clock));
    return c->now_us;
  }
  int64_t mono_us = nc_mono_us(), wall_us = nc_wall_us();
  c->now_us = c->now_us == 0 ? wall_us : nc_clock_follow(c->now_us, mono_us - c->mono_us, wall_us);
  c->mono_us = mono_us;
  return c->now_us;
}

bool
nc_controller_leads(const NcController *c)
{
  return c->epoch > 0;
}

char *
nc_controller_leader(const NcController *c)
{
  size_t length = strlen(c->lease.holder);
  bool was_mine = c->epoch == 0 && g_str_equal(c->lease.holder, c->holder); /* and somebody has taken it since */

  if (was_mine || length <= NC_HOLDER_RANDOM_BYTES || nc_mono_us() - c->renewed_us >= c->lease.left_us)
    return NULL;
  return g_strndup(c->lease.holder, length - NC_HOLDER_RANDOM_BYTES);
}

uint64_t
nc_controller_epoch(const NcController *c)
{
  return c->epoch;
}

bool
nc_controller_look_at_queue(const NcController *c, NcQueueView *ret)
{
  GHashTableIter iter;
  const NcLive *live;

  *ret = (NcQueueView){ 0 };
  if (c->epoch == 0 || !c->is_loaded)
    return false;
  ret->queued = nc_queue_length(c->queue);
  ret->running = nc_queue_running(c->queue);
  g_hash_table_iter_init(&iter, c->live);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&live)) {
    const NcItem *item = nc_queue_item(c->queue, live->item);
    if (item && item->state == NC_ITEM_QUEUED)
      ret->oldest_us = MAX(ret->oldest_us, c->now_us - item->submitted_us);
  }
  return true;
}

GArray *
nc_controller_take_waits(NcController *c)
{
  GArray *waits = c->waits;
  c->waits = g_array_new(FALSE, FALSE, sizeof(int64_t));
  return waits;
}

bool
nc_controller_is_ready(NcController *c, GError **error)
{
  nc_controller_now(c);
  if (c->epoch == 0)
    return nc_fail(error, NC_ERROR_UNAVAILABLE, "controller %s does not lead: ask %s%s%s", c->name,
                   c->lease.holder[0] ? c->lease.holder : "another one, or again in some seconds",
                   c->lease.address[0] ? " at " : "", c->lease.address);
  /* Another one may lead by now. What it writes is fenced; this is so that it does not refuse what the other one would
   * not. */
  if (nc_mono_us() - c->renewed_us >= c->options.lease_ms * 1000)
    return nc_fail(error, NC_ERROR_UNAVAILABLE,
                   "controller %s has to see first whether it still leads: ask again in a second", c->name);
  return c->is_loaded || nc_load_model(c, error);
}

/* --- who leads --- */

void
nc_step_down(NcController *c)
{
  if (c->epoch > 0)
    nc_log(NC_LOG_NOTICE, "controller", "%s does not lead any more (epoch %" G_GUINT64_FORMAT ")", c->name, c->epoch);
  c->epoch = 0;
  g_hash_table_remove_all(c->heard);
  nc_forget_model(c);
}

static bool
nc_take_lead(NcController *c, GError **error)
{
  int64_t mono_us = nc_mono_us();

  if (c->epoch > 0 && mono_us - c->renewed_us < c->options.lease_ms * 1000 / 3)
    return true;
  if (!nc_fleetdb_take_lease(c->db, c->holder, c->address, c->options.lease_ms, &c->lease, error))
    return false;
  bool is_mine = g_str_equal(c->lease.holder, c->holder);
  if (c->epoch > 0 && (!is_mine || c->lease.epoch != c->epoch))
    nc_step_down(c);
  if (is_mine && c->epoch == 0) {
    c->epoch = c->lease.epoch;
    nc_log(NC_LOG_NOTICE, "controller", "%s leads, epoch %" G_GUINT64_FORMAT, c->name, c->epoch);
  }
  c->renewed_us = mono_us;
  return true;
}

bool
nc_controller_resign(NcController *c, GError **error)
{
  uint64_t epoch = c->epoch;

  if (epoch == 0)
    return true;
  nc_step_down(c);
  return nc_fleetdb_release_lease(c->db, c->holder, epoch, error);
}

/* --- the step --- */

static bool
nc_decide(NcController *c, GError **error)
{
  if (!nc_look_for_silence(c, error) || !nc_advance_evacuations(c, error))
    return false;
  nc_queue_schedule(c->queue, c->now_us);
  return nc_flush(c, NULL, NULL, error) && nc_prune(c, error);
}

bool
nc_controller_step(NcController *c, GError **error)
{
  nc_controller_now(c);
  if (!nc_take_lead(c, error))
    return false;
  if (c->epoch == 0)
    return true;
  if ((!c->is_loaded && !nc_load_model(c, error)) || !nc_decide(c, error))
    return false;
  nc_send_orders(c);
  return true;
}
