/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds: one machine in the hands of a checkpoint or a restore.
 *
 * While it lasts other operations wait and are then refused, as for each other. Nothing of a hold is in the journal: who needs to
 * find its way back after a crash records that itself. A hold is used by one thread at a time.
 */
#pragma once

#include "agent/machines.h"

typedef struct NcMachineHold NcMachineHold;

/* The machine must have a QEMU that answers, and its right be HELD. ${what} (static): "checkpoint". */
NcMachineHold *nc_machines_hold(NcMachines *machines, const char *name, const char *what, GError **error);
/* After a restart of novacrond: the machine as it is, with or without QEMU, whoever has the right. */
NcMachineHold *nc_machines_hold_any(NcMachines *machines, const char *name, const char *what, GError **error);
/*
 * The machine that ${spec} (borrowed) describes, in order to give it another state: the one of its name, or, if there is none, a
 * new one with the right to run it. Refused if the right is not ours to take (it moved), with NC_ERROR_CONFLICT, unless an operator
 * says that nobody else has it any more (${take}, as for nc_machines_define()). ${must_be_new}: NC_ERROR_EXISTS if there is one.
 * A new one has ${maker} in its record until nc_machine_hold_keep().
 */
NcMachineHold *nc_machines_hold_for_restore(NcMachines *machines, json_t *spec, bool must_be_new, bool take, const char *maker, GError **error);
/* One that ${maker} has put into the list and has no hold of; NULL: there is none. */
NcMachineHold *nc_machines_hold_made_by(NcMachines *machines, const char *name, const char *maker);
/* Ends and frees it; what QEMU's guest does is looked at, and the record written. NULL is fine. */
void nc_machine_hold_end(NcMachineHold *hold);
/*
 * The same, and takes the machine out of the list, durably; its QEMU must be dead. For one that the hold has made. False: it is in the
 * list, and the hold is as it was.
 */
bool nc_machine_hold_discard(NcMachineHold *hold, GError **error);
/* What has made the machine is decided: whoever comes later must not take it away. On disk with the hold's end. */
void nc_machine_hold_keep(NcMachineHold *hold);
/*
 * What was taken (hold_for_restore) has come to nothing: this node must not run ${name} unless somebody takes it again. Durable. Without
 * effect where the right is not held, or not at ${epoch}: then it is another's by now.
 */
bool nc_machines_refuse_right(NcMachines *machines, const char *name, uint64_t epoch, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMachineHold, nc_machine_hold_end)

const char *nc_machine_hold_name(const NcMachineHold *hold);
bool nc_machine_hold_is_new(const NcMachineHold *hold); /* it was not in the list before */
NcQmp *nc_machine_hold_qmp(NcMachineHold *hold);        /* borrowed; NULL: QEMU is gone or does not answer */
bool nc_machine_hold_has_moved(NcMachineHold *hold);    /* it is in the list only to say where it is */
/* ${maker} (NULL: nobody) has put it into the list, and whether it stays there is not decided. */
bool nc_machine_hold_made_by(NcMachineHold *hold, const char *maker);
bool nc_machine_hold_lives(NcMachineHold *hold);        /* it has a QEMU process */
pid_t nc_machine_hold_pid(NcMachineHold *hold);
bool nc_machine_hold_is_adopted(NcMachineHold *hold);
uint64_t nc_machine_hold_epoch(NcMachineHold *hold);      /* of the right */
json_t *nc_machine_hold_spec(NcMachineHold *hold);        /* a new reference */
const char *nc_machine_hold_run_dir(NcMachineHold *hold); /* made if it is not there */
char *nc_machine_hold_log_tail(NcMachineHold *hold);      /* caller frees */
/* As nc_machine_lease_set_event_func(). */
void nc_machine_hold_set_event_func(NcMachineHold *hold, NcQmpEventFunc func, gpointer user_data);

/* --- for a restore --- */

bool nc_machine_hold_set_spec(NcMachineHold *hold, json_t *spec, GError **error); /* recorded */
/* Starts QEMU with -incoming defer -S. On error none is left. */
bool nc_machine_hold_launch_incoming(NcMachineHold *hold, GError **error);
/* Ends its QEMU without asking the guest. True if there was none. */
bool nc_machine_hold_kill_qemu(NcMachineHold *hold, GError **error);
