/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NcPageStore: the node's content-addressed store of memory pages and disk
 * blocks, and the named manifests that say which of them a checkpoint needs.
 *
 * A block (1 byte to 64 KiB; usually a page of 4 KiB) is found by the SHA-256
 * of its content, all 32 bytes of it, and is stored once. Blocks lie in packs:
 * append-only files of some 64 MiB, whose records hold up to 128 KiB of blocks each,
 * compressed together where that pays. What is in which pack, the index says;
 * it can be made again from the packs (docs: page_store_format.h).
 *
 * What is promised:
 *  - what was put before nc_page_store_flush() returned true is there after a
 *    power cut; a manifest is there wholly or not at all, and never names a
 *    block that is not in the store;
 *  - what a get returns has the hash that was asked for, verified each time;
 *  - a put that fails leaves nothing behind; the store goes on working (only a failing
 *    fsync ends writing until the store is opened again: nobody knows then what is on disk);
 *  - nothing goes that a manifest names, that a living writer has put, or that a manifest's
 *    open reader may still want, whoever collects or deletes at the same time.
 *
 * Memory: about 100 bytes per block for at most the last 256 Ki blocks put, 44.5 bytes per block on
 * disk in the index, some 16 MiB of decoded records, 1.5 bytes per block while gc runs, and 1 byte per entry of the base of a
 * manifest that is being written. A read-only open needs
 * 100 bytes for each block that no index covers (after a crash: those since the last one).
 *
 * One process writes (lock file); any number of read-only ones may share the
 * store while none does. All functions may be called from any thread, a
 * manifest's writer and reader from one thread at a time each. All block on the disk.
 *
 * Errors (all NC_ERROR_*, the texts name the directory, the cause and the remedy):
 *   NOT_FOUND  no such block, manifest, or (read-only) no store
 *   CORRUPT    damage on disk, with the pack, index or manifest and the offset in it
 *   RESOURCE   the budget is used up, or the disk is full
 *   FORBIDDEN  the store is read-only
 *   CONFLICT   another process has the store; gc is running; a writer must go first
 *   TRUST      this is not the key that the store was made with, or the key file is not private
 *   EXISTS     a manifest of that name is there
 *   INVALID    out of bounds: a length, a name; a store of a later version
 *   IO         the disk or the file system failed
 */
#pragma once

#include "base/error.h"
#include "crypto/digest.h"
#include "crypto/seal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- limits --- */

#define NC_PAGE_STORE_BLOCK_MAX (64u << 10) /* bytes of a block: a qcow2 cluster of default size */
#define NC_PAGE_STORE_PUT_MAX (16u << 20)   /* bytes of all blocks of one put: it is prepared in memory */
#define NC_PAGE_STORE_PUT_BLOCKS 4096u      /* blocks of one put: that many pages */
#define NC_MANIFEST_HEADER_MAX (16u << 20)  /* bytes of a manifest's header */

/* --- the store --- */

typedef struct NcPageStore NcPageStore;

typedef struct {
  uint64_t budget_bytes; /* of all files of the store together; 0: as much as the disk holds */
  const NcSealKey *key;  /* NULL: not encrypted. Borrowed; may be freed after opening. Must always be the same, or always NULL */
  bool read_only;        /* changes nothing on disk, not even repairs; works on a read-only file system */
  int compression_level; /* zstd's; 0: 1, which is as fast as a disk */
  uint32_t pack_bytes;   /* a pack is sealed when it reaches this; 0: 64 MiB; at most 1 GiB */
} NcPageStoreOptions;

/*
 * Opens the store in ${directory}, creating directory (0700) and store unless
 * read-only. Repairs what a crash left: the torn end of the last pack is cut
 * off, unfinished manifests go, index files that can't be used are made again. Damage
 * to what was whole once does not hinder opening: get and verify report it.
 * NULL on error.
 */
NcPageStore *nc_page_store_open(const char *directory, const NcPageStoreOptions *options, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/*
 * Makes durable what is there and closes. All writers and manifest readers must have
 * been freed before. What fails here is logged and repaired at the next opening. NULL is fine.
 */
void nc_page_store_close(NcPageStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPageStore, nc_page_store_close)

/* --- putting --- */

/*
 * A writer holds what is put through it: none of it is collected while the
 * writer lives. So: writer, puts, manifest committed, writer freed. Any number
 * at a time; one may be used by several threads.
 */
typedef struct NcPageStoreWriter NcPageStoreWriter;

/* NULL: the store is read-only, or has failed. The store must outlive the writer. */
NcPageStoreWriter *nc_page_store_writer_new(NcPageStore *store, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Lets go of what no manifest names. NULL is fine. */
void nc_page_store_writer_free(NcPageStoreWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcPageStoreWriter, nc_page_store_writer_free)

typedef enum {
  NC_PUT_COMPUTE, /* the store computes the hashes */
  NC_PUT_VERIFY,  /* the caller gives them; one that is wrong is NC_ERROR_CORRUPT, and nothing is stored */
} NcPutMode;

typedef struct {
  const void *data;              /* borrowed */
  uint32_t length;               /* 1 to NC_PAGE_STORE_BLOCK_MAX */
  uint8_t hash[NC_SHA256_BYTES]; /* in or out, by mode */
  bool is_new;                   /* out: it was not in the store yet */
} NcPageBlock;

/*
 * Stores those of ${count} ${blocks} (at most NC_PAGE_STORE_PUT_BLOCKS and
 * NC_PAGE_STORE_PUT_MAX bytes) that are not there yet, all or none. Blocks of one call
 * are compressed together, so give many, in the order in which they will be read.
 * In the store after true; durable after the next flush or manifest commit.
 */
bool nc_page_store_put(NcPageStoreWriter *writer, NcPageBlock *blocks, unsigned count, NcPutMode mode, GError **error);

/*
 * Has the writer hold a block that may be there already: true if it is, and
 * then it stays as long as the writer. For whoever decides by it not to send or put the block.
 * ${ret_length} may be NULL.
 */
bool nc_page_store_hold(NcPageStoreWriter *writer, const uint8_t hash[NC_SHA256_BYTES], uint32_t *ret_length);

/* After true a power cut takes nothing that was put (by any writer) before the call. */
bool nc_page_store_flush(NcPageStore *store, GError **error);

/* --- getting --- */

/*
 * Is the block there? From the index, its content is not read; true does not
 * keep it there (hold does). False also if the index is damaged where it would be.
 */
bool nc_page_store_has(NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES]);

/*
 * Reads the block of ${hash} to ${data}, verified. ${capacity}: bytes at ${data};
 * a longer block is NC_ERROR_INVALID. Threads may get at the same time; blocks
 * that were put together come fastest one after the other.
 */
bool nc_page_store_get(NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES], void *data, size_t capacity,
                       uint32_t *ret_length, GError **error);

/*
 * The same for ${count} blocks, each a page of 4 KiB, to ${data}, one behind the other: verified together, which on most processors
 * takes a fraction of the time. A block of another length is NC_ERROR_INVALID. False: what is in ${data} is of no use.
 */
bool nc_page_store_get_pages(NcPageStore *store, const uint8_t *const *hashes, unsigned count, uint8_t *data, GError **error);

/* --- manifests: what must stay --- */

typedef struct {
  uint8_t hash[NC_SHA256_BYTES]; /* all zero: a hole, no block belongs to it */
  uint32_t length;               /* of the block; of a hole: as the manifest's owner means it */
} NcManifestEntry;

typedef struct NcManifestWriter NcManifestWriter;

/*
 * Begins a manifest ${name} (NC_NAME_RULE). Nothing can be seen of it until it is committed.
 * ${writer} must outlive it. NC_ERROR_EXISTS if the name is taken (looked at again when committing).
 */
NcManifestWriter *nc_manifest_begin(NcPageStoreWriter *writer, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * What is added from now on is expected to be much like manifest ${base}, in about the same order: then only what differs takes
 * room. A hint: the manifests stay independent of each other, ${base} may be deleted at any time. Reads all of ${base}. False,
 * e.g. if it is damaged: it goes on without.
 */
bool nc_manifest_set_base(NcManifestWriter *manifest, const char *base, GError **error);
/*
 * Appends a reference to a block that is in the store, whoever put it; the writer
 * holds it from now on. NC_ERROR_NOT_FOUND if it is not there, NC_ERROR_INVALID if it has another length.
 */
bool nc_manifest_add(NcManifestWriter *manifest, const uint8_t hash[NC_SHA256_BYTES], uint32_t length, GError **error);
/* Appends a hole: e.g. pages of zeros, or pages to be found in an earlier checkpoint. Takes a few bytes. */
bool nc_manifest_add_hole(NcManifestWriter *manifest, uint32_t length, GError **error);
/* Writes what was added, so that the store's used_bytes count it; of them, *ret_file_bytes are the manifest's file so far. */
bool nc_manifest_settle(NcManifestWriter *manifest, uint64_t *ret_file_bytes, GError **error);
/*
 * Flushes the store, then makes the manifest durable under its name, with
 * ${header} (opaque; at most NC_MANIFEST_HEADER_MAX; NULL is fine for 0).
 * False: there is no manifest; all that remains is to free ${manifest}.
 */
bool nc_manifest_commit(NcManifestWriter *manifest, const void *header, size_t header_bytes, GError **error);
/* Abandons it unless it was committed. NULL is fine. */
void nc_manifest_writer_free(NcManifestWriter *manifest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcManifestWriter, nc_manifest_writer_free)

typedef struct {
  char name[64];
  int64_t created_us;    /* wall clock, when it was begun */
  uint64_t entries;      /* holes included */
  uint64_t blocks;       /* entries that are no holes */
  uint64_t block_bytes;  /* their lengths together, before dedup and compression */
  uint64_t header_bytes;
  uint64_t file_bytes;   /* its file; most of what it says lies in blocks of the store, which manifests share */
} NcManifestInfo;

/*
 * All manifests by name. Array of NcManifestInfo; NULL on error. One that is damaged has entries, blocks and bytes 0: verify
 * tells more.
 */
GArray *nc_manifest_list(NcPageStore *store, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Removes the name, durably. Its blocks go with the next gc, if nothing else
 * refers to them. Whoever has the manifest open may read on, and get all its blocks, until closing it.
 */
bool nc_manifest_delete(NcPageStore *store, const char *name, GError **error);

/* A reader is a lease: what the manifest names stays until the reader is freed. It does not outlive the process. */
typedef struct NcManifestReader NcManifestReader;

NcManifestReader *nc_manifest_open(NcPageStore *store, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
const NcManifestInfo *nc_manifest_info(const NcManifestReader *reader);                        /* borrowed */
const void *nc_manifest_header(const NcManifestReader *reader, size_t *ret_length);            /* borrowed */

typedef enum {
  NC_MANIFEST_ENTRY, /* *ret_entry is set */
  NC_MANIFEST_END,   /* there are no more */
  NC_MANIFEST_BAD,   /* error is set */
} NcManifestOutcome;

/* The next entry, in order. Reads some 36 KiB at a time. A block with a part of it that can't be had is NC_ERROR_CORRUPT, too. */
NcManifestOutcome nc_manifest_next(NcManifestReader *reader, NcManifestEntry *ret_entry, GError **error);
/* Back to the first entry. */
void nc_manifest_rewind(NcManifestReader *reader);
void nc_manifest_reader_free(NcManifestReader *reader); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcManifestReader, nc_manifest_reader_free)

/* True for the entry of a hole. */
bool nc_manifest_entry_is_hole(const NcManifestEntry *entry);

/* --- collecting --- */

typedef struct {
  bool dry_run;             /* counts only */
  unsigned rewrite_percent; /* a pack of which at least so much is dead is rewritten; 0: 30; above 100: none is */
  const gint *cancelled;    /* atomically read; not 0: stop, NC_ERROR_CANCELLED. NULL: go on to the end */
} NcPageStoreGcOptions;

typedef struct {
  uint64_t live_bytes;       /* of packs, in use by manifests, as stored (a record's share for each of its blocks) */
  uint64_t dead_bytes;       /* of packs, in use by nothing; before collecting */
  uint64_t freed_bytes;      /* by which the packs have become smaller */
  unsigned packs_removed;    /* rewritten ones included */
  unsigned packs_rewritten;
  unsigned packs_held;       /* with dead bytes, left alone since living writers hold them */
  unsigned packs_damaged;    /* with dead bytes, left alone since they are damaged: verify tells more */
} NcPageStoreGcReport;

/*
 * Frees what neither manifest nor writer nor reader holds. Puts and gets go on meanwhile. While it
 * rewrites packs the store may exceed its budget by one pack. NC_ERROR_CORRUPT, and nothing is
 * touched, if a manifest can't be read: what it needs is not known; delete it or restore it.
 * NC_ERROR_RESOURCE: what could be freed without room for rewriting was (and is reported). ${options} may be NULL.
 */
bool nc_page_store_gc(NcPageStore *store, const NcPageStoreGcOptions *options, NcPageStoreGcReport *ret_report, GError **error);

/* --- verifying --- */

typedef enum {
  NC_FINDING_STORE,    /* the store's own description; ${offset} in it */
  NC_FINDING_PACK,     /* a pack's record or frame is damaged; ${offset} in it */
  NC_FINDING_BLOCK,    /* a block that the damage takes; ${address} */
  NC_FINDING_INDEX,    /* an index file is damaged, or lacks a block that is wanted: nc_page_store_rebuild_index() mends it */
  NC_FINDING_MANIFEST, /* a manifest can't be read from ${offset} on */
  NC_FINDING_LOST,     /* entry ${ordinal} of ${manifest}, ${hash}, can't be had any more */
  NC_FINDING_COUNT
} NcFindingKind;

/* "store", "pack", "block", ... */
const char *nc_finding_kind_name(NcFindingKind kind);

typedef struct {
  NcFindingKind kind;
  const char *file;                 /* relative to the store's directory; NULL for LOST if the pack is gone */
  uint64_t offset;                  /* in ${file} */
  const char *manifest;             /* MANIFEST, LOST; else NULL */
  uint64_t ordinal;                 /* LOST */
  const uint8_t *hash;              /* LOST: of the content; else NULL */
  const uint8_t *address;           /* BLOCK, LOST: by which it is stored; the hash, unless the store is encrypted; else NULL */
  uint32_t length;                  /* BLOCK, LOST: of the block */
  const char *text;                 /* for people: what is wrong */
} NcPageStoreFinding;

/* All pointers are borrowed until the function returns. It must not call the store. */
typedef void (*NcPageStoreFindingFunc)(const NcPageStoreFinding *finding, gpointer data);

typedef struct {
  uint64_t packs, records, blocks, bytes; /* looked at */
  uint64_t manifests;
  uint64_t findings;                      /* of every kind but LOST */
  uint64_t lost;                          /* manifest entries that are LOST */
} NcPageStoreVerifyReport;

/*
 * Reads and checks everything: packs (each byte of them, each block against its hash), index and manifests, then
 * which entries of which manifests are lost. ${func} is called for each finding. True: it came to the end,
 * whatever it found. Puts and gets go on meanwhile; what is put later is not looked at. NC_ERROR_CONFLICT while gc runs.
 * ${cancelled} as for gc.
 */
bool nc_page_store_verify(NcPageStore *store, NcPageStoreFindingFunc func, gpointer data, const gint *cancelled,
                          NcPageStoreVerifyReport *ret_report, GError **error);

/* The same for one manifest: reads all blocks that ${name} names; findings are MANIFEST and LOST. */
bool nc_manifest_verify(NcPageStore *store, const char *name, NcPageStoreFindingFunc func, gpointer data, const gint *cancelled,
                        NcPageStoreVerifyReport *ret_report, GError **error);

/* Throws the index away and makes it again from the packs. Puts wait meanwhile. */
bool nc_page_store_rebuild_index(NcPageStore *store, GError **error);

/* --- counting --- */

typedef struct {
  uint64_t used_bytes;    /* of all files; what the budget limits */
  uint64_t budget_bytes;  /* 0: none */
  uint64_t disk_free_bytes;
  uint64_t packs, pack_bytes;
  uint64_t blocks;        /* stored, also those of manifests; one that is there twice (put by two threads at once) counts twice */
  uint64_t block_bytes;   /* their lengths, before compression */
  uint64_t index_bytes;
  uint64_t manifests, manifest_bytes; /* of their files */
  uint64_t dead_bytes;    /* of packs, as the last gc (or dry run) since opening has left it */
  int64_t dead_known_us;  /* wall clock of that; 0: not since opening */
  bool encrypted;
  bool read_only;         /* opened so, or its file system is now */
  bool failed;            /* an fsync failed, or the disk refused a write: nothing can be put until the store is opened again */
  uint64_t work_total;    /* bytes of packs that the verify or gc under way goes through; 0: none is, or it has not come to them */
  uint64_t work_done;     /* of these, what it has gone through */
} NcPageStoreStats;

void nc_page_store_stats(NcPageStore *store, NcPageStoreStats *ret_stats);
