/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page store from inside: what its parts share. Private to src/store/page_store_*.c
 * and its tests.
 *
 * How it works. A put hashes, looks up, and compresses what is new without any
 * lock, then appends all its records to the open pack in one write and makes
 * their places known in the table. A pack that is full is sealed: its last record
 * lists the others, and it is made durable. When the table has grown large,
 * it is written out as a run (always of sealed packs only), and runs are merged so that
 * there are few. Opening reads the runs' lists of packs and looks through those packs that no run covers.
 * If a block is there twice, the newest copy counts, in memory, in runs, and when
 * the index is made again.
 *
 * Locks, in the order in which they may be taken together:
 *   collecting  gc, verify, rebuild: one at a time
 *   maintaining writing out and merging the table
 *   appending   the open pack, ids to come, and the check against the budget
 *   naming      names of manifests, and who reads them
 *   map         (reader-writer) which packs, tables and runs there are
 *   small       short things: who holds which packs, known damage, counters
 * Files are read under `map` held for reading (the index) or without any lock (packs).
 */
#pragma once

#include "base/lock.h"
#include "store/page_store.h"
#include "store/page_store_pack.h"
#include "store/page_store_run.h"

#include <pthread.h>

/* So many entries, the table is written out when a pack is sealed; 4 times so many, puts wait for it. */
#define NC_STORE_TABLE_ENTRIES (256u << 10)
/* Kept for what is still to be written to the open pack: its SEAL record. */
#define NC_STORE_SEAL_RESERVE(records) \
  (NC_RECORD_HEAD_BYTES + NC_PACK_HEADER_BYTES + NC_PACK_TAIL_BYTES + 32 + 4 * (uint64_t)(records))
/* Decoded records kept: 64 times 128 KiB. */
#define NC_STORE_CACHE_RECORDS 64u

/* A pack as it is known. Protected by map. */
typedef struct {
  uint32_t id;
  uint32_t length;
  uint32_t blocks;
  uint64_t block_bytes;
  bool sealed;
  bool damaged; /* not as it once was: cut short, no SEAL, no header */
} NcPack;

/* The pack that is written to. Protected by appending. */
typedef struct {
  NcPack *pack;       /* also in packs; NULL: there is none */
  char name[NC_PACK_NAME_BYTES];
  int fd;             /* -1: none */
  bool finish_only;   /* found when opening: to be sealed before another is begun */
  bool name_durable;
  NcPackHeader header;
  NcSealer *sealer;   /* NULL: not encrypted */
  GArray *offsets;    /* uint32_t, of its records */
} NcOpenPack;

struct NcPageStoreWriter {
  NcPageStore *store;
  GHashTable *pins; /* pack ids; small */
};

typedef struct {
  uint64_t key; /* pack << 32 | offset; 0: free */
  uint64_t used;
  NcDecoded *decoded;
} NcCacheEntry;

struct NcPageStore {
  /* fixed once it is open */
  NcStoreDir dir;
  int lock_fd;
  bool read_only;
  NcSealKey *key; /* NULL: not encrypted */
  int level;
  uint32_t pack_bytes;
  uint64_t budget;
  size_t table_entries; /* NC_STORE_TABLE_ENTRIES, except in tests */
  uint8_t store_id[NC_STORE_ID_BYTES];

  pthread_mutex_t collecting;
  uint64_t work_total, work_done; /* atomic; set by who has collecting: bytes of packs */
  pthread_mutex_t maintaining;
  uint32_t next_run; /* maintaining */

  pthread_mutex_t appending;
  NcOpenPack open;    /* appending */
  uint32_t next_pack; /* appending */

  pthread_mutex_t naming;
  GHashTable *leases; /* naming: name of a manifest's file -> NcManifestLease, borrowed from the readers */

  pthread_rwlock_t map;
  GHashTable *packs; /* map: id -> NcPack, owned */
  NcTable *table;    /* map: what was put lately */
  NcTable *frozen;   /* map: what is being written out; or NULL */
  uint32_t frozen_up_to; /* map: it knows all blocks of packs up to this one that no run knows */
  GPtrArray *runs;   /* map: NcRun, oldest first */

  pthread_mutex_t noting; /* one change of the file of bad records at a time; before small */

  pthread_mutex_t small;
  GHashTable *bad_records; /* small: guint64 pack << 32 | offset, owned; read and found damaged */
  GHashTable *touched;     /* small: pack ids held since gc began; NULL: none runs */
  GPtrArray *writers;      /* small: NcPageStoreWriter, borrowed */
  uint64_t used;           /* small: bytes of all files */
  uint64_t dead_bytes;     /* small */
  int64_t dead_known_us;   /* small */
  bool failed;             /* small: an fsync failed, or what a failed write left could not be cut off */
  gint refused;            /* atomic: the disk has refused a change (NcStoreDir) */
  bool index_bad;          /* small: a page of a run could not be read */

  pthread_mutex_t caching;
  NcCacheEntry cache[NC_STORE_CACHE_RECORDS]; /* caching */
  uint64_t cache_clock;                       /* caching */
};

/* --- page_store_open.c --- */

/* nc_page_store_open() with a ${hook} before each change on disk, and another size of the table (0: as always). */
NcPageStore *nc_page_store_open_hooked(const char *directory, const NcPageStoreOptions *options, NcStoreHook hook,
                                       gpointer hook_data, size_t table_entries, GError **error);

/* --- page_store_common.c --- */

void nc_store_address(const NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES], uint8_t ret[NC_ADDRESS_BYTES]);
/* May it be written to? NC_ERROR_FORBIDDEN or NC_ERROR_IO if not. */
bool nc_store_writable(NcPageStore *store, GError **error);
/* A failing fsync: ends writing. Returns false. */
bool nc_store_fail(NcPageStore *store);
void nc_store_count(NcPageStore *store, int64_t more_bytes);
/* NC_ERROR_RESOURCE if ${more} bytes are beyond the budget. */
bool nc_store_within_budget(NcPageStore *store, uint64_t more, GError **error);
/* ${cancelled} of the options: false with NC_ERROR_CANCELLED if it asks to stop. */
bool nc_store_go_on(const gint *cancelled, GError **error);

/* --- page_store_damage.c --- */

bool nc_store_record_is_bad(NcPageStore *store, uint32_t pack, uint32_t offset);
/* It was read, and is damaged. Known at the next opening, too, where that can be written. */
void nc_store_note_bad_record(NcPageStore *store, uint32_t pack, uint32_t offset);
/* It was read, and is whole: what failed then was the reading. */
void nc_store_forget_bad_record(NcPageStore *store, uint32_t pack, uint32_t offset);
/* What was noted before, in an opening: the packs are known, nothing else runs. */
void nc_store_load_bad_records(NcPageStore *store);

/* --- page_store_index.c --- */

typedef enum {
  NC_FIND_THERE,
  NC_FIND_ABSENT,
  NC_FIND_LOST,      /* it was in a pack that has been cut short; *ret says where */
  NC_FIND_INDEX_BAD, /* the index is damaged where it would be; error is set */
} NcFind;

/* Under map. ${error} may be NULL. */
NcFind nc_index_find_locked(NcPageStore *store, const uint8_t address[NC_ADDRESS_BYTES], NcLocation *ret, GError **error);
/* The same, and if it is THERE and its record not known to be damaged, ${writer} (may be NULL) holds its pack. Takes map. */
NcFind nc_index_find(NcPageStore *store, const uint8_t address[NC_ADDRESS_BYTES], NcPageStoreWriter *writer, NcLocation *ret,
                     GError **error);
/* Under map: is the pack there, and long enough? */
bool nc_index_is_valid_locked(NcPageStore *store, const NcLocation *location);
/* Writes the table out and merges runs, if the table is large or ${all}. Never under appending or map. */
bool nc_index_maintain(NcPageStore *store, bool all, GError **error);
/* Merges all runs into one, without what lay in packs that are gone. */
bool nc_index_compact(NcPageStore *store, GError **error);
/* Under appending, all of the table being of sealed packs: sets it aside to be written out, if it is large or ${all}. */
void nc_index_freeze(NcPageStore *store, bool all);
/* While opening or rebuilding, by one thread: the table's content to a run appended to ${runs}. */
bool nc_index_spill(NcPageStore *store, NcTable *table, uint32_t replaces, GPtrArray *runs, const GArray *packs, GError **error);
/* The files of ${runs} (of NcRun) go: nothing points to them any more. What can't be removed now goes with the next opening. */
void nc_index_unlink_runs(NcPageStore *store, const GPtrArray *runs);

/* All blocks in order of their addresses, each once, at its newest valid place. */
typedef struct NcIndexWalk NcIndexWalk;

NcIndexWalk *nc_index_walk_new(NcPageStore *store);
/* *ret NULL at the end. False: the index is damaged. */
bool nc_index_walk_next(NcIndexWalk *walk, const NcLocation **ret, GError **error);
void nc_index_walk_free(NcIndexWalk *walk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcIndexWalk, nc_index_walk_free)

/* --- page_store_append.c --- */

/*
 * Appends ${count} frames as records of one pack, all or none, and makes them known; ${writer} (NULL: gc) holds the
 * pack. ${over_budget}: the budget is not looked at. Takes appending.
 */
bool nc_append_frames(NcPageStore *store, NcFrame *frames, unsigned count, NcPageStoreWriter *writer, bool over_budget,
                      GError **error);
/* Under appending: seals the open pack if there is one. */
bool nc_append_seal_locked(NcPageStore *store, GError **error);
/* Under appending: durable. */
bool nc_append_sync_locked(NcPageStore *store, GError **error);
/* Under small: writer holds pack. */
void nc_writer_pin_locked(NcPageStore *store, NcPageStoreWriter *writer, uint32_t pack);

/* --- page_store_put.c --- */

/* The frames of ${count} blocks: array of NcFrame, to be cleared. */
GArray *nc_put_build_frames(const NcFrameBlock *blocks, unsigned count, int level);
void nc_put_free_frames(GArray *frames);

/* --- page_store_scan.c: packs that no run covers, when opening and rebuilding --- */

/* What the blocks of one record are called in ${table}. */
void nc_scan_enter(NcTable *table, uint32_t pack, uint32_t offset, const NcRecordHead *head, const uint8_t *front);
/*
 * Enters the pack's blocks into ${table} and sets its counts, sealed and damaged. ${last}: the pack
 * may have been written to when the power went; is repaired, unless the store is read-only.
 */
bool nc_scan_pack(NcPageStore *store, NcPack *pack, bool last, NcTable *table, GError **error);

/* --- page_store_manifest*.c --- */

#define NC_MANIFEST_SUFFIX ".manifest"
#define NC_MANIFEST_DELETED ".deleted" /* deleted, and still read */
#define NC_MANIFEST_PART ".part"       /* being written */

/* Opens by file name ("manifests/..."); takes no lease. */
NcManifestReader *nc_manifest_open_file(NcPageStore *store, const char *file, GError **error);

/* --- page_store_rebuild.c --- */

/* With collecting held. */
bool nc_rebuild_index_locked(NcPageStore *store, GError **error);

/* --- page_store_packs.c --- */

/* All packs as they are now, by id. Array of NcPack. Takes map. */
GArray *nc_packs_snapshot(NcPageStore *store);
/* One of gc, verify and rebuild at a time: NC_ERROR_CONFLICT if another is at it. */
bool nc_packs_begin_collecting(NcPageStore *store, GError **error);
void nc_packs_end_collecting(NcPageStore *store);
/* For whoever asks how it is getting on: of ${packs} (of NcPack) so many bytes are done. With collecting held. */
void nc_packs_set_work(NcPageStore *store, const GArray *packs, uint64_t done);
