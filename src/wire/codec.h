/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressors behind one face: a codec is a struct of functions, found by its
 * number on the wire or by its name. One file each; nobody else includes a
 * compressor's header or asks which one it is.
 *
 * A context holds what a compressor wants to keep between calls. It belongs to
 * one thread at a time and works in both directions.
 */
#pragma once

#include "base/error.h"
#include "wire/limits.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers on the wire: never reused, never changed. */
typedef enum {
  NC_CODEC_NONE = 0,
  NC_CODEC_LZ4 = 1,
  NC_CODEC_ZSTD = 2,
  NC_CODEC_COUNT,
} NcCodecId;

typedef struct NcCodecContext NcCodecContext;

typedef struct {
  uint8_t id; /* NcCodecId */
  const char *name;
  /* Bounds of `level`; equal if there is nothing to choose. */
  int level_min, level_max, level_default;
  NcCodecContext *(*context_new)(void);          /* may return NULL: it needs none */
  void (*context_free)(NcCodecContext *context); /* NULL is fine */
  /* Returns the length of the coded form; 0 if there is none that fits in ${room}. */
  size_t (*encode)(NcCodecContext *context, int level, const uint8_t *from, size_t length, uint8_t *to, size_t room);
  /* True if ${from} is the coded form of exactly ${want} bytes, now at ${to}. Writes nothing beyond them. */
  bool (*decode)(NcCodecContext *context, const uint8_t *from, size_t length, uint8_t *to, size_t want);
} NcCodec;

extern const NcCodec nc_codec_none;
extern const NcCodec nc_codec_lz4;
extern const NcCodec nc_codec_zstd;

/* NULL for a number we don't know. Static. */
const NcCodec *nc_codec_by_id(unsigned id);
/* ${length} bytes of ${name}; NULL for a name we don't know. */
const NcCodec *nc_codec_by_name(const char *name, size_t length);
