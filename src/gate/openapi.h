/* SPDX-License-Identifier: Apache-2.0 */
/* docs/api/openapi.json, embedded at build time by embed_openapi.py. */
#pragma once

extern const char nc_openapi_json[];
extern const unsigned long nc_openapi_json_bytes;
