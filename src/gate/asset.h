/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dashboard's files, as they were built into this program: a generated
 * table (make_dashboard.py), or one page that says that there is none. They
 * are no operations of novacrond, so they are not in openapi.json.
 */
#pragma once

#include <stddef.h>

typedef struct {
  const char *path; /* "/", "/assets/dashboard.js" */
  const char *type; /* for Content-Type */
  const char *etag; /* in its quotes: SHA-256 of the content */
  const char *data;
  size_t data_bytes;
} NcAsset;

extern const NcAsset nc_assets[];
extern const size_t nc_n_assets;

/* NULL: there is none at ${path}. */
const NcAsset *nc_asset_find(const char *path);
