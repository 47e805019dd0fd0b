/* SPDX-License-Identifier: Apache-2.0 */
/* The table of codecs. */
#include "wire/codec.h"

#include <string.h>

static const NcCodec *const nc_codecs[] = {
  [NC_CODEC_NONE] = &nc_codec_none,
  [NC_CODEC_LZ4] = &nc_codec_lz4,
  [NC_CODEC_ZSTD] = &nc_codec_zstd,
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_codecs) == NC_CODEC_COUNT);

const NcCodec *
nc_codec_by_id(unsigned id)
{
  return id < G_N_ELEMENTS(nc_codecs) ? nc_codecs[id] : NULL;
}

const NcCodec *
nc_codec_by_name(const char *name, size_t length)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_codecs); i++)
    if (strlen(nc_codecs[i]->name) == length && memcmp(nc_codecs[i]->name, name, length) == 0)
      return nc_codecs[i];
  return NULL;
}
