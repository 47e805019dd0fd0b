/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page store's way to its directory: every change on disk goes through
 * these functions, one system call each, so that a test can stand before each of them
 * (copy the directory: "the power goes here"; or have it fail: "the disk is full").
 *
 * Names are relative to the store's directory. Any thread.
 */
#pragma once

#include "base/error.h"
#include "base/io.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
  NC_STORE_CREATE,
  NC_STORE_WRITE,
  NC_STORE_TRUNCATE,
  NC_STORE_SYNC,     /* of a file */
  NC_STORE_SYNC_DIR, /* of the names in a directory */
  NC_STORE_RENAME,
  NC_STORE_UNLINK,
} NcStoreOp;

/* Called before ${op}; returns 0, or the errno to fail with (a write that fails has written half). */
typedef int (*NcStoreHook)(NcStoreOp op, const char *name, uint64_t offset, uint64_t length, gpointer data);

typedef struct {
  char *path;
  int fd; /* of the directory */
  gint *refused;    /* atomic, borrowed: set when the disk refuses a change (EIO, EROFS and the like); NULL: nobody asks */
  NcStoreHook hook; /* NULL, except in tests */
  gpointer hook_data;
} NcStoreDir;

/* ${create}: with its subdirectories, durably. */
bool nc_store_dir_open(NcStoreDir *dir, const char *path, bool create, GError **error);
void nc_store_dir_clear(NcStoreDir *dir);

/* A new file, 0600, for writing and reading; -1 on error, also if it is there. */
int nc_store_create(const NcStoreDir *dir, const char *name, GError **error);
/* For reading, or also for writing; -1 on error: NC_ERROR_NOT_FOUND if it is not there. */
int nc_store_open(const NcStoreDir *dir, const char *name, bool writing, GError **error);
/* All of ${data} at ${offset}. A full disk is NC_ERROR_RESOURCE with the remedy. Some of it may have been written on error. */
bool nc_store_write(const NcStoreDir *dir, const char *name, int fd, const void *data, size_t length, uint64_t offset,
                    GError **error);
bool nc_store_truncate(const NcStoreDir *dir, const char *name, int fd, uint64_t length, GError **error);
bool nc_store_sync(const NcStoreDir *dir, const char *name, int fd, GError **error);
/* ${name}: of a subdirectory. */
bool nc_store_sync_dir(const NcStoreDir *dir, const char *name, GError **error);
bool nc_store_rename(const NcStoreDir *dir, const char *from, const char *to, bool replace, GError **error);
/* One that is not there is gone already: true. */
bool nc_store_unlink(const NcStoreDir *dir, const char *name, GError **error);

/* Exactly ${length} bytes from ${offset}; NC_ERROR_CORRUPT if the file ends before. */
bool nc_store_read(const NcStoreDir *dir, const char *name, int fd, void *data, size_t length, uint64_t offset, GError **error);
bool nc_store_length(const NcStoreDir *dir, const char *name, int fd, uint64_t *ret, GError **error);

/* The names in the subdirectory ${name}, sorted; NULL on error. Array of strings, owned by it. */
GPtrArray *nc_store_names(const NcStoreDir *dir, const char *name, GError **error);
