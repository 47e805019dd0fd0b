/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a migration was slow, had a long pause, did not come to its end, or failed: from its record alone, what is seen, the likely
 * cause, and what to do. Pure. Findings are checks (base/check.h) with one more key, "cause" ("" where there is nothing to explain).
 */
#pragma once

#include "base/check.h"
#include "cli/figures.h"

/* Of ${record}, whose figures are ${figures}. An array, never empty; new reference. */
json_t *nc_diagnose(json_t *record, const NcFigures *figures);
/* Appends one; ${cause} and ${remedy}: NULL for none; ${format}: what is seen. */
void nc_finding_add(json_t *list, const char *check, NcVerdict verdict, const char *cause, const char *remedy, const char *format, ...)
    G_GNUC_PRINTF(6, 7);
/* 0: all is well, 1: warnings, or something could not be seen, 2: problems. */
int nc_findings_exit_status(json_t *list);
