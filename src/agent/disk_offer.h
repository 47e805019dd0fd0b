/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a source says of the disks that a machine takes along, and what a destination makes of it (decision 034).
 *
 * Offered are the disks that the guest may write and the machine's file does not call shared. If the destination proves to see the same
 * file, there is nothing to do: the source has put a file with a random name and random content beside the image, and the destination
 * finds it there, and the image under the same inode number. Else the disk is to be copied into a file that must not exist yet.
 *
 * In JSON (mig_prepare, mig_check: "disks"): name, path, format, size, used, cluster, mode, uid, gid, inode, marker, token, problem;
 * of a disk that keeps its backing chain (disk_chain.h) also chain and backing.
 */
#pragma once

#include "agent/disk_chain.h"
#include "base/check.h"
#include "qemu/block_qmp.h"
#include "qemu/machine_spec.h"

#include <sys/types.h>

typedef struct {
  unsigned index; /* of the disk in the machine's file: its channel on the wire, its names in QEMU */
  char *name, *path, *format;
  uint64_t size_bytes, used_bytes;
  uint32_t cluster_bytes; /* of qcow2; 0: QEMU's default */
  mode_t mode;            /* permissions and owner of the file, for its like */
  uid_t uid;
  gid_t gid;
  uint64_t inode;
  char *marker, *token; /* a file's name in the image's directory, and what is in it; "": could not be made */
  char *problem;        /* why it can't be copied; NULL: it can */
  char *node;           /* QEMU's, the source's; NULL if it is not known, and at the destination */
  char *device;         /* likewise */
  bool has_backing, is_limited;
  NcDiskChain chain;  /* what becomes of what is below it; FLATTEN if nothing is */
  GPtrArray *backing; /* of NcBackingFile; empty if it does not stay a chain */
  bool copy; /* the destination's decision */
} NcDiskOffer;

/* How to look at a machine's disks. */
typedef struct {
  NcDiskChain chain;
  uint64_t compare_bytes; /* of a chain that takes more than this no digest is made (then the destination compares later) */
  const gint *cancelled;  /* atomic; not 0 ends making digests. May be NULL */
} NcDiskLook;

/*
 * Of ${spec}'s disks, those to be offered, of NcDiskOffer; asks ${qmp}, and makes a marker for each. Never fails: what is wrong with
 * a disk is in it. To be ended by nc_disk_offers_end_proof() when the destination has answered. Free with g_ptr_array_unref().
 * Reads all of a backing chain that is to be kept and compared.
 */
GPtrArray *nc_disk_offers_new(const NcMachineSpec *spec, NcQmp *qmp, const NcDiskLook *look);
/* Bytes that the destination reads to compare chains: it takes its time before it answers. */
uint64_t nc_disk_offers_compared_bytes(GPtrArray *offers);
/* Removes the markers. Again: does nothing. */
void nc_disk_offers_end_proof(GPtrArray *offers);
/* New reference. */
json_t *nc_disk_offers_to_json(GPtrArray *offers);

/* Checked against ${spec}. NULL json: an empty list, of a source that does not offer. NC_ERROR_PROTOCOL. */
GPtrArray *nc_disk_offers_from_json(json_t *json, const NcMachineSpec *spec, GError **error);
/* Decides about each (`copy`), and says in ${checks} what it found. Changes nothing; reads backing files that are to be compared. */
void nc_disk_offers_judge(GPtrArray *offers, json_t *checks);
/* Takes the offered disks out of ${spec}, for those who would look for their files. */
void nc_disk_offers_strip(GPtrArray *offers, NcMachineSpec *spec);
