/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests from inside: names and leases. Private to src/store/page_store_*.c. */
#pragma once

#include "store/page_store_internal.h"
#include "store/page_store_sections.h"
#include "store/page_store_shared.h"

#define NC_MANIFEST_DIRECTORY "manifests"

/* Who reads a manifest. Protected by naming. */
typedef struct {
  char *file;       /* its present name; owned */
  unsigned readers;
  bool deleted;     /* the file goes with the last reader */
} NcManifestLease;

/* "manifests/NAME.manifest". Caller frees. */
char *nc_manifest_file(const char *name);
/* Checks the name. */
bool nc_manifest_check_name(const NcPageStore *store, const char *name, GError **error);
/* NAME of the file "NAME.manifest"; NULL: not a manifest's file. Caller frees. */
char *nc_manifest_name_of(const char *file);
/* The files of all manifests that count, deleted ones that are still read included. */
GPtrArray *nc_manifest_files(NcPageStore *store, GError **error);
/* How far in the file the reader is: where damage that it reports is. */
uint64_t nc_manifest_reader_offset(const NcManifestReader *reader);
/* From now on ${func} (NULL: nothing) is called for each block that holds a part of the manifest itself, before it is read. */
void nc_manifest_reader_on_part(NcManifestReader *reader, NcSharedPartFunc func, gpointer data);
/* The name the manifest has, or had. */
const char *nc_manifest_reader_file(const NcManifestReader *reader);
