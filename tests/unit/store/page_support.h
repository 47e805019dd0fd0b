/* SPDX-License-Identifier: Apache-2.0 */
/* What the page store's tests share: directories in memory, blocks that are known by a number, findings counted. */
#pragma once

#include "store/page_store.h"

/* An empty directory, on tmpfs if there is one. Caller frees. */
char *test_directory(void);
void test_remove(const char *directory);
/* All of ${from} to the new directory ${to}. */
void test_copy(const char *from, const char *to);

/* The content of block ${number}: its bytes (at most NC_PAGE_STORE_BLOCK_MAX) to ${ret}, its length returned. */
uint32_t test_block(unsigned number, uint8_t *ret);
void test_block_hash(unsigned number, uint8_t ret[NC_SHA256_BYTES]);
/* Puts blocks ${from} to ${from} + ${count} - 1. */
bool test_put(NcPageStoreWriter *writer, unsigned from, unsigned count, GError **error);
/* Gets block ${number} and compares: false with an error if it can't be had; aborts if it is another. */
bool test_get(NcPageStore *store, unsigned number, GError **error);
/* A manifest of blocks ${from} to ${from} + ${count} - 1, a hole in front, with its name as header. */
bool test_manifest(NcPageStoreWriter *writer, const char *name, unsigned from, unsigned count, GError **error);
/*
 * The same with all blocks ${times} times, so that a short list becomes a long one, and ${base} (NULL: none). If ${times} is not
 * 1, the first of them is a section of its own.
 */
bool test_manifest_repeated(NcPageStoreWriter *writer, const char *name, const char *base, unsigned from, unsigned count,
                            unsigned times, GError **error);
void test_check_manifest_repeated(NcPageStore *store, const char *name, unsigned from, unsigned count, unsigned times);
/* Reads it, and that is what is in it, and all its blocks can be had. */
void test_check_manifest(NcPageStore *store, const char *name, unsigned from, unsigned count);

typedef struct {
  unsigned count[NC_FINDING_COUNT];
  GString *text; /* NULL: not wanted */
} TestFindings;

/* Verifies; returns the number of findings of all kinds. ${findings} may be NULL. */
uint64_t test_verify(NcPageStore *store, TestFindings *findings);

NcPageStore *test_open(const char *directory, const NcPageStoreOptions *options);

/* The only file in ${directory}/${sub}. Caller frees. */
char *test_only_file(const char *directory, const char *sub);
void test_flip(const char *path, uint64_t offset, uint8_t with);
/* A bit in the first record of pack number ${nth} (of those there are in the store, by name) becomes another. */
void test_hurt_pack(const char *directory, unsigned nth);
uint64_t test_length(const char *path);
