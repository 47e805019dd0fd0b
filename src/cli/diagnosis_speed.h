/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a diagnosis that weighs numbers: was the transfer of memory or disks slow, did it converge, was the pause long, and why. Pure. */
#pragma once

#include "cli/figures.h"

/* Each appends its findings (cli/diagnosis.h) to ${list}; nothing where the record has nothing to say. */
void nc_diagnose_transfer(json_t *list, json_t *record, const NcFigures *figures);
void nc_diagnose_disks(json_t *list, json_t *record, const NcFigures *figures);
void nc_diagnose_convergence(json_t *list, json_t *record, const NcFigures *figures);
void nc_diagnose_pause(json_t *list, json_t *record, const NcFigures *figures);
