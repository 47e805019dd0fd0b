/* SPDX-License-Identifier: Apache-2.0 */
/* Compression as people write it: "auto", "none", "lz4", "zstd", "zstd:3". */
#include "wire/batch.h"
#include "wire/rungs.h"

#include <string.h>

#define NC_COMPRESSION_RULE "compression is \"auto\", \"none\", \"lz4\", \"zstd\" or \"zstd:LEVEL\""

bool
nc_compression_parse(const char *text, NcBatchPolicy *ret, GError **error)
{
  const char *colon = strchr(text, ':');
  const NcCodec *codec = nc_codec_by_name(text, colon ? (size_t)(colon - text) : strlen(text));
  gint64 level = 0;

  if (g_str_equal(text, "auto")) {
    *ret = *nc_rung_policy(NC_RUNG_START);
    return true;
  }
  if (!codec)
    return nc_fail(error, NC_ERROR_INVALID, NC_COMPRESSION_RULE ", not \"%.40s\"", text);
  if (!colon) {
    *ret = (NcBatchPolicy){ .codec = codec->id, .level = codec->level_default };
    return true;
  }
  if (codec->level_min == codec->level_max)
    return nc_fail(error, NC_ERROR_INVALID, NC_COMPRESSION_RULE ": %s has no levels", codec->name);
  if (!g_ascii_string_to_signed(colon + 1, 10, codec->level_min, codec->level_max, &level, NULL) || level == 0)
    return nc_fail(error, NC_ERROR_INVALID, NC_COMPRESSION_RULE ", a level from %d to %d except 0, not \"%.40s\"",
                   codec->level_min, codec->level_max, colon + 1);
  *ret = (NcBatchPolicy){ .codec = codec->id, .level = (int)level };
  return true;
}
