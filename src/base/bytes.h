/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounds-checked access to foreign bytes, and building of our own.
 *
 * Every byte that NovaCron did not write itself (a peer's frame, QEMU's
 * stream, a file after a crash) is read through an NcReader: a cursor with an
 * end. A read past the end fails and leaves the cursor where it was; nothing
 * else in the tree does pointer arithmetic on input. All integers are
 * big-endian, as in QEMU's stream and on our wire.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct {
  const uint8_t *at;  /* next byte; borrowed */
  const uint8_t *end; /* one past the last */
} NcReader;

static inline NcReader
nc_reader(const void *data, size_t length_bytes)
{
  const uint8_t *at = data;
  return (NcReader){ .at = at, .end = at ? at + length_bytes : at };
}

static inline size_t
nc_reader_left(const NcReader *r)
{
  return (size_t)(r->end - r->at);
}

/* Returns a pointer to the next ${n} bytes and moves past them; NULL if there are fewer. */
static inline const uint8_t *
nc_reader_take(NcReader *r, size_t n)
{
  if (nc_reader_left(r) < n)
    return NULL;
  const uint8_t *p = r->at;
  r->at += n;
  return p;
}

static inline uint16_t
nc_be16(const uint8_t *p)
{
  return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
nc_be32(const uint8_t *p)
{
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t
nc_be64(const uint8_t *p)
{
  return (uint64_t)nc_be32(p) << 32 | nc_be32(p + 4);
}

static inline bool
nc_reader_u8(NcReader *r, uint8_t *ret)
{
  const uint8_t *p = nc_reader_take(r, 1);
  if (p)
    *ret = *p;
  return p != NULL;
}

static inline bool
nc_reader_u16(NcReader *r, uint16_t *ret)
{
  const uint8_t *p = nc_reader_take(r, 2);
  if (p)
    *ret = nc_be16(p);
  return p != NULL;
}

static inline bool
nc_reader_u32(NcReader *r, uint32_t *ret)
{
  const uint8_t *p = nc_reader_take(r, 4);
  if (p)
    *ret = nc_be32(p);
  return p != NULL;
}

static inline bool
nc_reader_u64(NcReader *r, uint64_t *ret)
{
  const uint8_t *p = nc_reader_take(r, 8);
  if (p)
    *ret = nc_be64(p);
  return p != NULL;
}

/* Unsigned LEB128 of at most 10 bytes; a longer or overflowing one fails. */
bool nc_reader_varint(NcReader *r, uint64_t *ret);

/* Copies ${n} bytes to ${dst}; false if there are fewer. */
static inline bool
nc_reader_copy(NcReader *r, void *dst, size_t n)
{
  const uint8_t *p = nc_reader_take(r, n);
  if (p)
    memcpy(dst, p, n);
  return p != NULL;
}

void nc_put_u8(GByteArray *out, uint8_t value);
void nc_put_u16(GByteArray *out, uint16_t value);
void nc_put_u32(GByteArray *out, uint32_t value);
void nc_put_u64(GByteArray *out, uint64_t value);
void nc_put_varint(GByteArray *out, uint64_t value);

static inline void
nc_store_be16(uint8_t *p, uint16_t v)
{
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
}

static inline void
nc_store_be32(uint8_t *p, uint32_t v)
{
  nc_store_be16(p, (uint16_t)(v >> 16));
  nc_store_be16(p + 2, (uint16_t)v);
}

static inline void
nc_store_be64(uint8_t *p, uint64_t v)
{
  nc_store_be32(p, (uint32_t)(v >> 32));
  nc_store_be32(p + 4, (uint32_t)v);
}

/* Lower-case hexadecimal. Caller frees. */
char *nc_hex_encode(const void *data, size_t length_bytes);

/* Decodes exactly ${length_bytes} bytes from ${hex}; false on any other length or digit. */
bool nc_hex_decode(const char *hex, void *ret_data, size_t length_bytes);
