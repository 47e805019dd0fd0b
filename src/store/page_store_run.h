/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run: one file of the index, index/ID.run. It says where the blocks of some
 * packs lie, in order of their addresses; the index is the runs, newest first.
 * It never changes; runs are merged into new ones.
 *
 * The file is pages of 4096 bytes, each with a checksum of its own at its end, verified
 * whenever one is read (so a damaged one gives an error, not a wrong answer). They are
 * read with pread, not mapped: a bad sector is then an error code and not a SIGBUS.
 *   page 0: "NCINDEX1", u16 version, u16 0, u32 id, u32 replaces, u32 entry pages, u64 entries, u32 packs, u32 last pack (no
 *           id up to it is used again), store id 16, salt 8
 *   entry pages: u16 1, u16 count, u32 number of the page, then at most 92 times: address 32, u32 pack, u32 offset, u16 slot,
 *           u16 length - 1
 *   pack pages: u16 2, u16 count, u32 number of the page, then at most 170 times: u32 id, u32 length, u32 blocks, u32 0, u64
 *           bytes of all blocks: the packs that it covers, which need not be looked through when opening
 * The sum is XXH3-64 seeded by salt + number of the page (of page 0: by its id).
 * A run replaces those with ids from `replaces` up to its own.
 */
#pragma once

#include "store/page_store_files.h"
#include "store/page_store_table.h"

#define NC_RUN_PAGE_BYTES 4096u
#define NC_RUN_ENTRIES 92u
#define NC_RUN_PACKS 170u
#define NC_RUN_NAME_BYTES 24

/* A pack as the index knows it. */
typedef struct {
  uint32_t id;
  uint32_t length;
  uint32_t blocks;
  uint64_t block_bytes;
} NcRunPack;

typedef struct {
  gint refs;
  const NcStoreDir *dir; /* borrowed */
  char name[NC_RUN_NAME_BYTES];
  int fd;
  uint32_t id, replaces;
  uint64_t entries;
  uint32_t entry_pages;
  uint32_t last_pack; /* highest id that it mentions */
  uint64_t bytes;  /* of the file */
  uint64_t salt;
  GArray *packs;   /* NcRunPack, by id */
} NcRun;

void nc_run_name(uint32_t id, char ret[NC_RUN_NAME_BYTES]);
uint32_t nc_run_id_of(const char *name); /* 0: not a run's name */

/* Opens and checks all but the entry pages. */
NcRun *nc_run_open(const NcStoreDir *dir, uint32_t id, const uint8_t store_id[NC_STORE_ID_BYTES], GError **error);
/* The same file once more, through a descriptor of its own also if its name has gone: to check what nc_run_open() does. */
NcRun *nc_run_reopen(const NcRun *run, const uint8_t store_id[NC_STORE_ID_BYTES], GError **error);
NcRun *nc_run_ref(NcRun *run);
void nc_run_unref(NcRun *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRun, nc_run_unref)

typedef enum { NC_RUN_FOUND, NC_RUN_ABSENT, NC_RUN_BAD } NcRunOutcome;

/* Two or three reads of a page, whatever the run's size. BAD: a page that would have to be read is damaged; error is set. */
NcRunOutcome nc_run_find(const NcRun *run, const uint8_t address[NC_ADDRESS_BYTES], NcLocation *ret, GError **error);

/* Checks every page, and their order; ${func} gets the number of each that is damaged. False: one was. */
typedef void (*NcRunBadFunc)(uint32_t page, const char *text, gpointer data);
bool nc_run_check(const NcRun *run, NcRunBadFunc func, gpointer data);

/* The entries one after the other. */
typedef struct {
  const NcRun *run; /* borrowed; NULL: of an array */
  const NcLocation *array;
  size_t array_count;
  uint64_t next;    /* entry to come */
  uint32_t page;    /* that is in `rows`; 0: none */
  unsigned rows_count;
  NcLocation rows[NC_RUN_ENTRIES];
} NcRunCursor;

void nc_run_cursor_init(NcRunCursor *cursor, const NcRun *run);
void nc_run_cursor_init_array(NcRunCursor *cursor, const NcLocation *array, size_t count);
/* *ret is NULL at the end. False: damaged. */
bool nc_run_cursor_peek(NcRunCursor *cursor, const NcLocation **ret, GError **error);
void nc_run_cursor_skip(NcRunCursor *cursor);

/* Writing one: entries in order of addresses, then the packs. */
typedef struct NcRunWriter NcRunWriter;

NcRunWriter *nc_run_writer_new(const NcStoreDir *dir, uint32_t id, uint32_t replaces, const uint8_t store_id[NC_STORE_ID_BYTES],
                               GError **error);
bool nc_run_writer_add(NcRunWriter *writer, const NcLocation *location, GError **error);
/* Durable under its name after this; opened. ${packs}: NcRunPack by id. */
NcRun *nc_run_writer_finish(NcRunWriter *writer, const GArray *packs, GError **error);
void nc_run_writer_free(NcRunWriter *writer); /* abandons what was not finished; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRunWriter, nc_run_writer_free)
