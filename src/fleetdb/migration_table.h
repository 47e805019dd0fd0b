/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of migrations, for migrations.c and migration_lists.c. */
#pragma once

#include "fleetdb/rows.h"

extern const NcRows nc_migration_table;
