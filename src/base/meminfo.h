/* SPDX-License-Identifier: Apache-2.0 */
/* The node's memory, as the kernel tells it (proc(5), /proc/meminfo). Any thread. */
#pragma once

#include <stdint.h>

uint64_t nc_memory_total_bytes(void); /* 0 if unknown */
/* What can be had without swapping. UINT64_MAX if the kernel does not say. */
uint64_t nc_memory_available_bytes(void);
