/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the stream parser share; private to src/qemu/stream*.c.
 *
 * The parser is a table of states. Each state is one step function that takes
 * one whole element from the reader or leaves no trace: a step changes the
 * parser only after its last read has succeeded, so a step that ran out of
 * bytes is simply run again when there are more.
 */
#pragma once

#include "base/bytes.h"
#include "qemu/stream.h"

#define NC_STREAM_NO_BLOCK UINT32_MAX
#define NC_STREAM_NAME_MAX 255u
/* Iterative handlers per stream; QEMU has one of RAM and one of dirty bitmaps that we parse. */
#define NC_STREAM_HANDLERS_MAX 8u

/* Top-level element types (the first byte of each). */
enum {
  NC_ELEMENT_EOF = 0x00,
  NC_ELEMENT_START = 0x01,
  NC_ELEMENT_PART = 0x02,
  NC_ELEMENT_END = 0x03,
  NC_ELEMENT_FULL = 0x04,
  NC_ELEMENT_SUBSECTION = 0x05,
  NC_ELEMENT_DESCRIPTION = 0x06,
  NC_ELEMENT_CONFIGURATION = 0x07,
  NC_ELEMENT_COMMAND = 0x08,
  NC_ELEMENT_FOOTER = 0x7e,
};

typedef enum {
  NC_STATE_HEADER,            /* first bytes of a connection */
  NC_STATE_CONFIGURATION,     /* machine type, if there is one */
  NC_STATE_CONFIG_SUBSECTION, /* what follows the machine type, if anything */
  NC_STATE_CONFIG_CAPABILITY, /* inside the list of capabilities */
  NC_STATE_ELEMENT,           /* between elements */
  NC_STATE_RAM_SETUP,         /* RAM's START: the total */
  NC_STATE_RAM_BLOCK,         /* RAM's START: the blocks */
  NC_STATE_RAM_RECORD,        /* a payload of RAM, and the preempt channel */
  NC_STATE_BITMAP_CHUNK,      /* a payload of dirty-bitmap */
  NC_STATE_VIRTIO_MEM,        /* the payload of virtio-mem's early section */
  NC_STATE_FOOTER,            /* behind a payload */
  NC_STATE_AFTER_EOF,         /* nothing or a description follows */
  NC_STATE_END,               /* nothing follows */
  NC_STATE_OPAQUE,            /* anything follows */
  NC_STATE_COUNT
} NcStreamState;

typedef enum {
  NC_STEP_DONE,    /* moved on: bytes were taken, or the state has changed */
  NC_STEP_MORE,    /* the element is not complete; nothing was changed */
  NC_STEP_FOREIGN, /* not understood: nc_stream_foreign() was called */
} NcStep;

typedef enum { NC_HANDLER_RAM, NC_HANDLER_BITMAP } NcHandlerKind;

typedef struct {
  uint32_t section;
  NcHandlerKind kind;
} NcStreamHandler;

/* What the bytes that are passed over are, where that makes a difference. */
typedef enum { NC_SKIP_PLAIN, NC_SKIP_DISCARD, NC_SKIP_PACKAGE } NcSkipKind;

typedef enum { NC_FOOTERS_UNKNOWN, NC_FOOTERS_PRESENT, NC_FOOTERS_ABSENT } NcFooters;

struct NcStreamParser {
  NcStreamState state;
  uint64_t skip;   /* bytes to pass over before the state counts */
  NcSkipKind skip_kind;
  bool preempt;    /* the second channel */
  bool orphan;     /* began as a recovery whose first connection was somebody else's: no section, no block is known */
  uint64_t offset; /* consumed on this connection */

  /* From the header. */
  char *machine_type;
  bool ignore_shared;
  uint32_t capabilities_left;

  /* Sections. */
  NcFooters footers;
  bool in_setup; /* no PART seen yet: virtio-mem's early section may come */
  uint32_t section; /* the one whose payload or footer is next */
  NcStreamHandler handlers[NC_STREAM_HANDLERS_MAX];
  size_t handler_count;

  /* RAM. */
  GArray *blocks;      /* NcStreamBlock */
  uint64_t setup_left; /* bytes of RAM still to be listed */
  bool huge_pages;     /* the setup list may carry page sizes */
  uint32_t last_block; /* what CONTINUE refers to */

  /* Post-copy. */
  GByteArray *discard;  /* the payload of a POSTCOPY_RAM_DISCARD, as far as it has come */
  GArray *discards;     /* NcStreamRange */
  uint64_t package_end; /* on its connection; 0: no package, or not all of it */

  NcStreamTotals totals;

  /* Once opaque. */
  uint64_t opaque_offset;
  char *reason;
  GByteArray *tail; /* the last NC_STREAM_TAIL_MAX opaque bytes, or more */
};

/* One call of nc_stream_parser_scan(). */
typedef struct {
  NcReader in;
  const uint8_t *data;
  GArray *records;
} NcStreamScan;

typedef NcStep (*NcStepFunc)(NcStreamParser *p, NcStreamScan *s);

/* The next byte, not taken. Steps are run only when there is one. */
static inline uint8_t
nc_stream_peek(const NcStreamScan *s)
{
  NcReader probe = s->in;
  uint8_t byte = 0;

  nc_reader_u8(&probe, &byte);
  return byte;
}

/* Sets the reason for turning opaque; for `return nc_stream_foreign(...)`. */
NcStep nc_stream_foreign(NcStreamParser *p, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* A counted string of 1 to 255 bytes without NUL. */
typedef struct {
  const char *text; /* borrowed, not terminated */
  uint8_t length;
} NcStreamName;
/* False if the bytes do not suffice. An empty name is returned as such. */
bool nc_stream_read_name(NcReader *r, NcStreamName *ret);
bool nc_stream_name_is_valid(const NcStreamName *name);
bool nc_stream_name_is(const NcStreamName *name, const char *text);
/* Printable copy for messages. Caller frees. */
char *nc_stream_name_escape(const NcStreamName *name);

/* Index of a block, or NC_STREAM_NO_BLOCK. */
uint32_t nc_stream_find_block(const NcStreamParser *p, const NcStreamName *name);
/* Index of the new block. The caller has checked name, uniqueness and NC_STREAM_BLOCKS_MAX. */
uint32_t nc_stream_add_block(NcStreamParser *p, const NcStreamName *name, NcStreamBlock block);

/* p->discard is complete: adds its ranges to p->discards, if all of it makes sense. */
void nc_stream_take_discard(NcStreamParser *p);

/* stream_elements.c */
NcStep nc_stream_step_header(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_configuration(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_config_subsection(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_config_capability(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_element(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_footer(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_after_eof(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_end(NcStreamParser *p, NcStreamScan *s);

/* stream_payloads.c */
NcStep nc_stream_step_ram_setup(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_ram_block(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_ram_record(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_bitmap_chunk(NcStreamParser *p, NcStreamScan *s);
NcStep nc_stream_step_virtio_mem(NcStreamParser *p, NcStreamScan *s);
