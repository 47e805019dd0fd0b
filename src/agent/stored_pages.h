/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of an arriving machine that this node's page store holds already (wire/stored.h, decision 071).
 *
 * The scope is the machine: only pages of its own newest checkpoint here are told of, and only where both nodes say so
 * (`store_dedup`). The destination sends the source a list of hashes with mig_accepted, and its own mover gets the
 * pages from novacrond (stored_giver.h).
 */
#pragma once

#include "agent/migration.h"

/* --- the source --- */

/* Asks in ${request} (mig_prepare), if this node may. */
void nc_stored_pages_ask(NcMigration *m, json_t *request);
/*
 * The destination's ${list}, of NC_STORED_PREFIX_BYTES for each of ${pages} (1 to NC_STORED_PAGES_MAX), borrowed, to
 * the migration's mover, before its first connection. What fails costs bytes, and is only noted.
 */
void nc_stored_pages_give(NcMigration *m, const uint8_t *list, uint32_t pages);

/* --- the destination --- */

/*
 * If ${request} (mig_prepare) asks and this node may: has the migration's mover get pages, and returns the list for the
 * source; the caller unrefs. NULL: there is nothing; what fails costs bytes, and is only noted.
 */
GByteArray *nc_stored_pages_answer(NcMigration *m, json_t *request);
