/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody may do: the gate and novacrond have the same idea of it. Each role may what the one before it may. */
#pragma once

#include <stdbool.h>

typedef enum {
  NC_ROLE_VIEWER,   /* looks */
  NC_ROLE_OPERATOR, /* begins, cancels, rolls back, cordons, takes checkpoints: what can be made good */
  NC_ROLE_ADMIN,    /* removes, lets in (nodes, tokens), says what runs here, decides for one who does not answer */
  NC_ROLE_COUNT
} NcRole;

const char *nc_role_name(NcRole role); /* "viewer", "operator", "admin" */
/* False: there is none of that name; NULL is none. */
bool nc_role_from_name(const char *name, NcRole *ret);
