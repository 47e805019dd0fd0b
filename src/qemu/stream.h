/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the pages are in QEMU's migration stream.
 *
 * A parser is fed the bytes that a source's QEMU writes, in order and in
 * pieces of any size, and says for each piece how much of it is complete and
 * which page records it holds. It changes nothing and copies nothing: what it
 * has consumed is forwarded as it is, page records coded by whoever likes to.
 *
 * Sections of the stream carry no length, so the parser has to understand each
 * byte up to where device state begins. There, and at the first byte that it
 * does not understand, it turns opaque for good: from then on everything is
 * consumed and no record is reported. Being opaque is the normal end of every
 * pre-copy stream, never an error. Only a post-copy stream is parsed to its
 * last byte.
 *
 * Nothing complete is ever held back. QEMU flushes before the footer of a
 * section, so whoever waits for "the end of the section" waits for ever.
 *
 * Page size is 4096 (x86-64). One parser belongs to one thread at a time.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NC_STREAM_PAGE_BYTES 4096u
/*
 * The longest piece that is only consumed as a whole: a page record that names
 * its block (8 + 1 + 255 + 4096). Fewer bytes than this are ever left over.
 */
#define NC_STREAM_RECORD_MAX 4360u
/* RAM blocks per stream; a machine with 256 DIMMs and 32 NICs has about 400. More: opaque. */
#define NC_STREAM_BLOCKS_MAX 4096u
/* Discarded ranges that are kept: every other page of 2 GiB dirty takes as many. Those beyond are not reported. */
#define NC_STREAM_DISCARDS_MAX (256u << 10)
/* How much of an opaque stream nc_stream_parser_at_tail() looks back at; QEMU's description is 30 to 300 KiB. */
#define NC_STREAM_TAIL_MAX (2u << 20)

typedef enum {
  NC_RECORD_PAGE, /* body: NC_STREAM_PAGE_BYTES bytes of the page */
  NC_RECORD_ZERO, /* body: one byte, which is 0 */
  NC_RECORD_BLOCK, /* no header; body: NC_STREAM_PAGE_BYTES bytes of a disk. Not of this stream: qemu/nbd_blocks.h */
} NcRecordKind;

/*
 * One page record. Its header (a word and, unless it continues the previous
 * record's block, the counted name of its block) is header_bytes long; the
 * body fills it up to length. The header can't be recomputed from the other
 * fields: whether QEMU names the block is QEMU's choice.
 */
typedef struct {
  uint32_t start;        /* offset of the header in the data given to nc_stream_parser_scan() */
  uint16_t header_bytes; /* 8, or 9 to 264 with a block id */
  uint8_t kind;          /* NcRecordKind */
  uint8_t flags;         /* QEMU's flags, the low bits of the header word: 0x02 ZERO, 0x08 PAGE, 0x20 CONTINUE */
  uint32_t length;       /* header and body, bytes */
  uint32_t block;        /* index for nc_stream_parser_block() */
  uint64_t page_offset;  /* in the block, bytes; a multiple of NC_STREAM_PAGE_BYTES */
} NcStreamRecord;

typedef struct {
  const char *name;     /* no NUL inside, 1 to 255 bytes, any bytes otherwise */
  uint64_t used_length; /* bytes; pages lie below it. 0: unknown (a block that no setup list announced) */
  uint64_t page_size;   /* bytes; more than 4096 for huge pages, as far as the stream tells */
  uint64_t address;     /* guest-physical; only with x-ignore-shared, else 0 */
} NcStreamBlock;

/* Whole pages of a block, inside it. */
typedef struct {
  uint64_t start;  /* bytes in the block, */
  uint64_t length; /* more than 0; both multiples of NC_STREAM_PAGE_BYTES */
  uint32_t block;  /* index for nc_stream_parser_block(), of a block with known used_length */
} NcStreamRange;

typedef struct {
  uint64_t bytes;            /* consumed */
  uint64_t pages;            /* NC_RECORD_PAGE records */
  uint64_t zero_pages;       /* NC_RECORD_ZERO records */
  uint64_t xbzrle_pages;     /* deltas of QEMU's, passed over */
  uint64_t compressed_pages; /* compressed by QEMU, passed over */
  uint64_t other_bytes;      /* consumed outside page and zero records */
} NcStreamTotals;

typedef struct NcStreamParser NcStreamParser;

/* For a main channel: from the file header, or the connection of a recovery (see nc_stream_parser_reconnect()). */
NcStreamParser *nc_stream_parser_new(void);
/*
 * For the second channel of postcopy-preempt: bare page records and one end
 * mark. It knows no setup list; blocks are numbered as they turn up and their
 * used_length is unknown.
 */
NcStreamParser *nc_stream_parser_new_preempt(void);
void nc_stream_parser_free(NcStreamParser *p); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcStreamParser, nc_stream_parser_free)

/*
 * Looks at the next ${length} bytes of the stream. Appends the complete page
 * records among them to ${records} (a GArray of NcStreamRecord; `start` counts
 * from ${data}), in order, and returns how many bytes are complete. The rest,
 * fewer than NC_STREAM_RECORD_MAX bytes, is to be presented again, in front of
 * more. What is consumed between and after records is forwarded as it is. When
 * the source closes, the rest is forwarded as it is, too.
 *
 * Once opaque, returns ${length}. Keeps no reference to ${data}. ${length} is
 * at most 4 GiB - 1; beyond that, only the first 4 GiB - 1 are looked at.
 */
size_t nc_stream_parser_scan(NcStreamParser *p, const uint8_t *data, size_t length, GArray *records);

/*
 * The source has connected again to recover a post-copy migration: ${p} expects
 * that connection's stream from its first byte, which has neither header nor
 * setup list; sections, blocks and totals keep their meaning. An opaque parser
 * stays opaque. nc_stream_parser_is_opaque()'s offset counts on from here.
 */
void nc_stream_parser_reconnect(NcStreamParser *p);

/* Turns opaque at the current offset, for a caller who no longer wants records. ${reason} is copied. */
void nc_stream_parser_give_up(NcStreamParser *p, const char *reason);

/*
 * Whether ${p} has turned opaque; if so, where (bytes consumed before) and
 * why, for people; printable ASCII, owned by ${p}. Both may be NULL.
 */
bool nc_stream_parser_is_opaque(const NcStreamParser *p, uint64_t *ret_offset, const char **ret_reason);

/*
 * Whether what was consumed so far ends where a stream ends: with EOF and a
 * complete description (pre-copy, found by its shape among opaque bytes), or
 * with EOF or, on a preempt channel, the end mark where these were parsed. For
 * opaque bytes this is a likely end, not a proof, and takes about a
 * millisecond if the last byte is right, nothing if not. False for machines
 * with suppress-vmdesc.
 */
bool nc_stream_parser_at_tail(const NcStreamParser *p);

/*
 * Whether the stream is the connection of a recovery, and ${p} has not seen what came before. Then its first section is
 * taken for RAM, and blocks are numbered as they turn up; their used_length is unknown.
 */
bool nc_stream_parser_is_orphan(const NcStreamParser *p);
/*
 * Whether the package of post-copy was consumed to its last byte: behind it the destination runs, and each page
 * comes once. Stays true, also on the connection of a recovery.
 */
bool nc_stream_parser_in_postcopy(const NcStreamParser *p);
/* How many bytes of its connection that was; 0: not yet. */
uint64_t nc_stream_parser_package_end(const NcStreamParser *p);
/*
 * The ranges that POSTCOPY_RAM_DISCARD has named so far, in order: what the destination has old or not at all, and
 * will be sent behind the package. Commands that make no sense have none. Of NcStreamRange, owned by ${p}, valid until the next scan.
 */
const GArray *nc_stream_parser_discards(const NcStreamParser *p);

/* e.g. "pc-i440fx-7.2", printable ASCII; NULL while unknown or if the stream does not say. Owned by ${p}. */
const char *nc_stream_parser_machine_type(const NcStreamParser *p);
/* Whether shared memory is left out (x-ignore-shared): pages missing from the stream are then not zero. */
bool nc_stream_parser_ignores_shared(const NcStreamParser *p);
size_t nc_stream_parser_block_count(const NcStreamParser *p);
/* ${index} below the count. The strings live as long as ${p}, the struct until the next scan. */
const NcStreamBlock *nc_stream_parser_block(const NcStreamParser *p, size_t index);
void nc_stream_parser_totals(const NcStreamParser *p, NcStreamTotals *ret_totals);
