/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: typed requests of novacron-gate (docs/protocols.md,
 * section 5).
 *
 * Who connects is known by the kernel's word (SO_PEERCRED): root, our own user
 * and config->control_uids. A request's identity is the gate's word, checked
 * here only for its role. What asks for a change is in the transaction
 * log before it is begun (kind "request"), and with its result afterwards ("request.result"); what can't be
 * recorded is not done. Requests run in a pool of
 * threads, so that several of one connection may be under way.
 */
#pragma once

#include "agent/config.h"
#include "base/role.h"
#include "store/journal.h"

/*
 * ${args} is an object, ${actor} who asks by the gate's word, as in the transaction log: "certificate:alice", "uid:0";
 * both borrowed. The result, a new reference, or NULL with ${error}.
 */
typedef json_t *(*NcControlFunc)(gpointer object, const char *actor, json_t *args, GError **error);

typedef struct {
  const char *op;
  NcControlFunc func;
  gpointer object;
  NcRole role;           /* the least that is needed; what a viewer may not do is recorded */
  const char *admin_keys; /* arguments that are for admins, where they are there and not false; separated by spaces; NULL: none */
} NcControlOp;

typedef struct NcControl NcControl;

/* Listens at config->control_socket. ${ops} ends with a row without op. All borrowed, all outlive it. */
NcControl *nc_control_new(const NcConfig *config, NcJournal *journal, const NcControlOp *ops, GError **error);
/* Waits for the requests under way. */
void nc_control_free(NcControl *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcControl, nc_control_free)
