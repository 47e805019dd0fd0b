/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which line of a JSON text a value is, for complaints about what it means: the parser only tells where the text is no JSON.
 *
 * Pure; any thread.
 */
#pragma once

#include <stddef.h>

/*
 * ${path}: "nodes[3].memory_mib"; keys are taken as they are written, without escapes. ${text} must have been parsed as JSON before. The line,
 * from 1, of the value, or of as much of the path as there is.
 */
unsigned nc_json_line_of(const char *text, size_t length_bytes, const char *path);
