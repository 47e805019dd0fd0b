/* SPDX-License-Identifier: Apache-2.0 */
/* LZ4: for links that are about as fast as a core compresses. */
#include "wire/codec.h"

#include <lz4.h>

#define NC_LZ4_ACCELERATION 1 /* LZ4's own default; more costs ratio for little speed on pages */

static NcCodecContext *
nc_codec_lz4_context_new(void)
{
  return g_malloc((size_t)LZ4_sizeofState());
}

static void
nc_codec_lz4_context_free(NcCodecContext *context)
{
  g_free(context);
}

static size_t
nc_codec_lz4_encode(NcCodecContext *context, int level, const uint8_t *from, size_t length, uint8_t *to, size_t room)
{
  if (length > LZ4_MAX_INPUT_SIZE)
    return 0;
  int n = LZ4_compress_fast_extState(context, (const char *)from, (char *)to, (int)length,
                                     (int)MIN(room, (size_t)G_MAXINT), NC_LZ4_ACCELERATION);
  return n > 0 ? (size_t)n : 0;
}

static bool
nc_codec_lz4_decode(NcCodecContext *context, const uint8_t *from, size_t length, uint8_t *to, size_t want)
{
  if (length > G_MAXINT || want > G_MAXINT)
    return false;
  int n = LZ4_decompress_safe((const char *)from, (char *)to, (int)length, (int)want);
  return n >= 0 && (size_t)n == want;
}

const NcCodec nc_codec_lz4 = {
  .id = NC_CODEC_LZ4,
  .name = "lz4",
  .context_new = nc_codec_lz4_context_new,
  .context_free = nc_codec_lz4_context_free,
  .encode = nc_codec_lz4_encode,
  .decode = nc_codec_lz4_decode,
};
