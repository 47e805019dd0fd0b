/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a QMP connection into JSON objects: one object per line, bounded.
 * Pure; the fuzz target's entry.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"

typedef struct NcQmpParser NcQmpParser;

NcQmpParser *nc_qmp_parser_new(void);
void nc_qmp_parser_free(NcQmpParser *parser);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcQmpParser, nc_qmp_parser_free)

/* Adds what was read. False if a line exceeds NC_QMP_LINE_MAX: the connection is of no more use. */
bool nc_qmp_parser_feed(NcQmpParser *parser, const void *data, size_t length_bytes, GError **error);

/*
 * The next whole object, a new reference. NULL without error: more bytes are
 * needed. NULL with NC_ERROR_PROTOCOL: a line that is no JSON object.
 */
json_t *nc_qmp_parser_next(NcQmpParser *parser, GError **error);
