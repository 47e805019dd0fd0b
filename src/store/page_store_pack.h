/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading packs: one record, or all of them in order, also of a pack that is
 * damaged, cut short, or was being written when the power went.
 */
#pragma once

#include "store/page_store_files.h"
#include "store/page_store_frame.h"

#define NC_PACK_NAME_BYTES 24
/* "packs/0000002a.pack" */
void nc_pack_name(uint32_t id, char ret[NC_PACK_NAME_BYTES]);
/* The id of the file ${name} (without directory); 0: not a pack's name. */
uint32_t nc_pack_id_of(const char *name);

typedef struct {
  const NcStoreDir *dir; /* borrowed */
  char name[NC_PACK_NAME_BYTES];
  int fd;
  uint64_t length;       /* as far as is to be read; the file may grow on */
  NcPackHeader header;
  bool header_damaged;   /* taken from its copy at the end */
  NcOpener *opener;      /* NULL: not encrypted */
} NcPackFile;

/*
 * Opens pack ${id} of the store ${store_id}. ${length}: how much of it is to be read;
 * UINT64_MAX: all. NC_ERROR_CORRUPT if neither header nor its copy can be used. ${key}: NULL if not encrypted.
 */
NcPackFile *nc_pack_file_open(const NcStoreDir *dir, uint32_t id, uint64_t length, const uint8_t store_id[NC_STORE_ID_BYTES],
                              const NcSealKey *key, GError **error);
/* In two steps, for who must open the file under a lock: takes ${fd}, also on error. */
NcPackFile *nc_pack_file_take(const NcStoreDir *dir, int fd, uint32_t id, uint64_t length,
                              const uint8_t store_id[NC_STORE_ID_BYTES], const NcSealKey *key, GError **error);
void nc_pack_file_free(NcPackFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPackFile, nc_pack_file_free)

/* The whole record at ${offset}, sums checked. Caller frees; NULL: NC_ERROR_CORRUPT (text without the pack's name). */
uint8_t *nc_pack_read_record(const NcPackFile *file, uint32_t offset, NcRecordHead *ret_head, GError **error);
/* The same, decoded; NC_ERROR_CORRUPT also if it holds no blocks. */
NcDecoded *nc_pack_read_blocks(const NcPackFile *file, uint32_t offset, GError **error);

typedef struct {
  uint32_t offset, length;
  const char *damage;    /* NULL: a good record; else what is wrong with these bytes */
  NcRecordHead head;     /* if front */
  const uint8_t *front;  /* head and table; NULL if they can't be read. Borrowed */
} NcPackItem;

/* One piece of a pack, SEAL excluded; false stops the scan. */
typedef bool (*NcPackItemFunc)(const NcPackItem *item, gpointer data);

typedef struct {
  bool sealed;      /* the SEAL record is there, whole, at the end */
  uint32_t end;     /* sealed: of the SEAL record's offset; else after the last good record */
  NcPackTail tail;  /* if sealed */
} NcPackScan;

/*
 * All records in order. ${deep}: what follows their fronts is read and checked, too. After
 * damage the scan goes on at the next record that can be found. False only if ${func} said so.
 */
bool nc_pack_scan(const NcPackFile *file, bool deep, NcPackItemFunc func, gpointer data, NcPackScan *ret);
