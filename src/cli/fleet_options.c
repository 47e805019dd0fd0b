/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fleet_options.h"

void
nc_fleet_options_clear(NcFleetOptions *o)
{
  nc_move_options_clear(&o->move);
  nc_move_tuning_clear(&o->tuning);
  g_free(o->priority);
}

bool
nc_fleet_options_put(json_t *body, const NcFleetOptions *o, GError **error)
{
  if (o->priority)
    json_object_set_new(body, "priority", json_string(o->priority));
  return nc_move_options_put(body, &o->move, error) && nc_move_tuning_put(body, &o->tuning, error);
}
