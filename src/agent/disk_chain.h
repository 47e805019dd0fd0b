/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to the backing chain of a disk that is copied (decision 053): it becomes part of the copy, or it stays a chain, and then
 * the destination must have the same files under the same paths.
 *
 * "Same" is what the files hold, by size and a digest of their content; or it is the word of whoever asks ("trust").
 */
#pragma once

#include "base/msg.h"

typedef enum {
  NC_CHAIN_FLATTEN, /* one file arrives */
  NC_CHAIN_KEEP,    /* an overlay arrives; what is below it was compared */
  NC_CHAIN_TRUST,   /* an overlay arrives; what is below it is there, and not compared */
  NC_CHAIN_COUNT
} NcDiskChain;

#define NC_DISK_CHAIN_NAMES "flatten, keep or trust"
#define NC_DISK_CHAIN_MAX 16 /* files below an image */

const char *nc_disk_chain_name(NcDiskChain chain);
/* False for any other name and NULL. */
bool nc_disk_chain_from_name(const char *name, NcDiskChain *ret);

/* A file below an image. */
typedef struct {
  char *path, *format;
  uint64_t size_bytes; /* of the file */
  char *digest;        /* nc_disk_file_digest(); "": not computed */
} NcBackingFile;

/* An empty array of NcBackingFile*, which it owns. */
GPtrArray *nc_backing_files_new(void);
void nc_backing_files_add(GPtrArray *files, const char *path, const char *format);
/*
 * The source: sizes and, with ${digest}, digests. NC_ERROR_UNSUITABLE: one is no file that could be compared. ${cancelled}: atomic, not
 * 0 ends it with NC_ERROR_CANCELLED; may be NULL.
 */
bool nc_backing_files_look(GPtrArray *files, bool digest, const gint *cancelled, GError **error);
/* Bytes that they take on disk together, as far as they are there. */
uint64_t nc_backing_files_used(const GPtrArray *files);
/* [{path, format, size, digest}], top first. New reference. */
json_t *nc_backing_files_to_json(const GPtrArray *files);
/* Foreign. NULL json: none. NC_ERROR_PROTOCOL. */
GPtrArray *nc_backing_files_from_json(json_t *json, GError **error);
/* Have all of them digests? */
bool nc_backing_files_have_digests(const GPtrArray *files);
/* The destination: are they here, and the same? Says in ${checks} what it found for ${disk}; reads them. True: none is missing or another. */
bool nc_backing_files_judge(const GPtrArray *files, NcDiskChain chain, const char *disk, json_t *checks);

/*
 * SHA-256, in lower-case hexadecimal, over what is not zero in the file ${path}: of each piece of 64 KiB that holds anything else,
 * its number (8 bytes, little-endian) and content, then the file's length. Holes are not read, and two files with the same bytes have the
 * same digest wherever they have holes. NULL on error. Caller frees.
 */
char *nc_disk_file_digest(const char *path, const gint *cancelled, GError **error);
/* novacrond stops: digests under way end with NC_ERROR_CANCELLED, and no more are made. Any thread. */
void nc_disk_digests_stop(void);
