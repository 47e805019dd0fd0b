/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Could this machine go there now? Looked at from both sides, without starting or
 * changing anything: the operation migration.check, and the destination's answers.
 *
 *   source -> destination
 *   mig_check    {vm, spec, disks}  (disk_offer.h) what speaks against it on your side?
 *   mig_load     {data}       no answer; to be thrown away
 *   mig_measure  {}           has all of that arrived?
 *
 *   destination -> source
 *   mig_checked  {checks, version, qemu_version, disks: [{name, copied}] of those offered}
 *   mig_measured {bytes, at_us}  of `data`; when, by its CLOCK_MONOTONIC
 */
#pragma once

#include "agent/migrations.h"

/* args: vm, to. {"vm", "from", "to", "verdict", "checks"}; takes up to two seconds and round trips. New reference. */
json_t *nc_preflight_check(const NcMigrationsDeps *deps, json_t *args, GError **error);

/* What the destination counts of one session. */
typedef struct {
  uint64_t loaded_bytes;
} NcPreflightSession;

/* Answers one of the messages above; false if ${message} is none of them. */
bool nc_preflight_serve(const NcMigrationsDeps *deps, NcPreflightSession *session, NcPeer *peer, json_t *message);
