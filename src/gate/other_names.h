/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a migration is asked for by the names that the founding note gave its settings (max_downtime, bandwidth_limit, target_transfer_rate, type, and
 * priority where no queue is): other names, and units for people, of what our own names say (decision 104). For NcField.check and NcField.convert.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* "300ms", "1s", "1.5s", "1m30s": 1 ms to 2000 s, which is what QEMU takes. */
bool nc_pause_is_valid(const char *text);
/* Of one that is: milliseconds, an integer. New reference. */
json_t *nc_pause_to_ms(json_t *text);

/* "live", "pre-copy", "post-copy", "hybrid". */
bool nc_type_is_known(const char *text);
/* "live" is "auto". New reference. */
json_t *nc_type_to_algorithm(json_t *type);

/* Where migrations do not wait, the first is the one that gets most of the bandwidth: low is "background". New reference. */
json_t *nc_priority_to_qos(json_t *priority);
