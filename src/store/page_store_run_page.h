/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of a run, for its reader and its writer. */
#pragma once

#include "store/page_store_run.h"

#define NC_RUN_MAGIC "NCINDEX1"
#define NC_RUN_KIND_ENTRIES 1u
#define NC_RUN_KIND_PACKS 2u
#define NC_RUN_ENTRY_BYTES 44u
#define NC_RUN_PACK_BYTES 24u

uint64_t nc_run_page_sum(const uint8_t page[NC_RUN_PAGE_BYTES], uint64_t seed);
