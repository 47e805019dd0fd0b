/* SPDX-License-Identifier: Apache-2.0 */
/* The codec that leaves everything as it is: for links faster than a core compresses. */
#include "wire/codec.h"

static NcCodecContext *
nc_codec_none_context_new(void)
{
  return NULL;
}

static void
nc_codec_none_context_free(NcCodecContext *context)
{
}

/* A coded section must be smaller than the section; this one never is. */
static size_t
nc_codec_none_encode(NcCodecContext *context, int level, const uint8_t *from, size_t length, uint8_t *to, size_t room)
{
  return 0;
}

static bool
nc_codec_none_decode(NcCodecContext *context, const uint8_t *from, size_t length, uint8_t *to, size_t want)
{
  return false;
}

const NcCodec nc_codec_none = {
  .id = NC_CODEC_NONE,
  .name = "none",
  .context_new = nc_codec_none_context_new,
  .context_free = nc_codec_none_context_free,
  .encode = nc_codec_none_encode,
  .decode = nc_codec_none_decode,
};
