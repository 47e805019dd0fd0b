/* SPDX-License-Identifier: Apache-2.0 */
/* Zstandard: for links slower than a core compresses. */
#include "wire/codec.h"

#include <zstd.h>

/* Made at first use: a mover compresses or decompresses, seldom both. */
struct NcCodecContext {
  ZSTD_CCtx *encoder;
  ZSTD_DCtx *decoder;
};

static NcCodecContext *
nc_codec_zstd_context_new(void)
{
  return g_new0(NcCodecContext, 1);
}

static void
nc_codec_zstd_context_free(NcCodecContext *context)
{
  if (!context)
    return;
  ZSTD_freeCCtx(context->encoder);
  ZSTD_freeDCtx(context->decoder);
  g_free(context);
}

static size_t
nc_codec_zstd_encode(NcCodecContext *context, int level, const uint8_t *from, size_t length, uint8_t *to, size_t room)
{
  if (!context->encoder && !(context->encoder = ZSTD_createCCtx()))
    return 0;
  size_t n = ZSTD_compressCCtx(context->encoder, to, room, from, length, level);
  return ZSTD_isError(n) ? 0 : n;
}

/* In one go into memory of known size, zstd allocates nothing that the input could ask for. */
static bool
nc_codec_zstd_decode(NcCodecContext *context, const uint8_t *from, size_t length, uint8_t *to, size_t want)
{
  if (!context->decoder && !(context->decoder = ZSTD_createDCtx()))
    return false;
  size_t n = ZSTD_decompressDCtx(context->decoder, to, want, from, length);
  return !ZSTD_isError(n) && n == want;
}

const NcCodec nc_codec_zstd = {
  .id = NC_CODEC_ZSTD,
  .name = "zstd",
  .level_min = NC_ZSTD_LEVEL_MIN,
  .level_max = NC_ZSTD_LEVEL_MAX,
  .level_default = NC_ZSTD_LEVEL_DEFAULT,
  .context_new = nc_codec_zstd_context_new,
  .context_free = nc_codec_zstd_context_free,
  .encode = nc_codec_zstd_encode,
  .decode = nc_codec_zstd_decode,
};
