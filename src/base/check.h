/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of checks: what was looked at, what was seen, and what to do about it.
 * A JSON array of {"check", "verdict", "value", "remedy"}; the remedy is "" where
 * nothing need be done.
 */
#pragma once

#include "base/msg.h"

typedef enum {
  NC_CHECK_OK,
  NC_CHECK_WARNING, /* goes, but you should know */
  NC_CHECK_FAILED,  /* does not go */
  NC_CHECK_UNKNOWN, /* could not be looked at */
} NcVerdict;

/* "ok", "warning", "failed", "unknown". */
const char *nc_verdict_name(NcVerdict verdict);
/* The reverse; NC_CHECK_UNKNOWN for an unknown one. */
NcVerdict nc_verdict_from_name(const char *name);
/* Appends to ${list}; ${format}: the value seen, as people read it. ${remedy}: NULL if nothing need be done. */
void nc_check_add(json_t *list, const char *check, NcVerdict verdict, const char *remedy, const char *format, ...)
    G_GNUC_PRINTF(5, 6);
/* The worst of ${list}: failed, then unknown, then warning. */
NcVerdict nc_checks_worst(json_t *list);
/* The values of those that failed, and in parentheses their remedies, "; " between; NULL if none has. Caller frees. */
char *nc_checks_complaints(json_t *list);
