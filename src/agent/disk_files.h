/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files for disks that arrive: made empty, and removed again if their machine does not stay.
 *
 * What this makes it can tell from everything else, also after a crash: a file begins under a name that only its migration
 * has, and gets its own name, which nobody else may have, when its device and inode numbers are on disk. Removed
 * is what has that name, or those numbers, and nothing else.
 */
#pragma once

#include "agent/disk_offer.h"

/* A note {"path", "temporary", "device", "inode"} of a file that ${migration} is about to make for ${o}; new reference. */
json_t *nc_disk_file_note(const NcDiskOffer *o, const char *migration);
/*
 * The note is on disk. Makes the file under its temporary name, with format, size, permissions and owner of the
 * source's, and completes the note. NC_ERROR_RESOURCE, NC_ERROR_IO; what was made is for nc_disk_file_remove().
 */
bool nc_disk_file_make(const NcDiskOffer *o, json_t *note, GError **error);
/* The completed note is on disk: the file gets its name, durably. NC_ERROR_EXISTS if there is one. */
bool nc_disk_file_publish(json_t *note, GError **error);
/* Removes what the note is about, if it is there. No QEMU must use it. */
void nc_disk_file_remove(json_t *note);
/* The file ${path} with inode number ${inode} becomes ${path}.${suffix}, unless that exists. */
bool nc_disk_file_set_aside(const char *path, uint64_t inode, const char *suffix, GError **error);
