/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of bytes.h that are not worth inlining. */
#include "base/bytes.h"

bool
nc_reader_varint(NcReader *r, uint64_t *ret)
{
  NcReader probe = *r;
  uint64_t value = 0;

  for (unsigned shift = 0; shift < 64; shift += 7) {
    uint8_t byte;
    if (!nc_reader_u8(&probe, &byte))
      return false;
    if (shift == 63 && byte > 1) /* the tenth byte holds one bit */
      return false;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) {
      *ret = value;
      *r = probe;
      return true;
    }
  }
  return false;
}

void
nc_put_u8(GByteArray *out, uint8_t value)
{
  g_byte_array_append(out, &value, 1);
}

void
nc_put_u16(GByteArray *out, uint16_t value)
{
  uint8_t b[2];
  nc_store_be16(b, value);
  g_byte_array_append(out, b, sizeof b);
}

void
nc_put_u32(GByteArray *out, uint32_t value)
{
  uint8_t b[4];
  nc_store_be32(b, value);
  g_byte_array_append(out, b, sizeof b);
}

void
nc_put_u64(GByteArray *out, uint64_t value)
{
  uint8_t b[8];
  nc_store_be64(b, value);
  g_byte_array_append(out, b, sizeof b);
}

void
nc_put_varint(GByteArray *out, uint64_t value)
{
  while (value >= 0x80) {
    nc_put_u8(out, (uint8_t)(value | 0x80));
    value >>= 7;
  }
  nc_put_u8(out, (uint8_t)value);
}

char *
nc_hex_encode(const void *data, size_t length_bytes)
{
  static const char digit[] = "0123456789abcdef";
  const uint8_t *p = data;
  char *hex = g_malloc(length_bytes * 2 + 1);

  for (size_t i = 0; i < length_bytes; i++) {
    hex[2 * i] = digit[p[i] >> 4];
    hex[2 * i + 1] = digit[p[i] & 15];
  }
  hex[length_bytes * 2] = '\0';
  return hex;
}

bool
nc_hex_decode(const char *hex, void *ret_data, size_t length_bytes)
{
  uint8_t *out = ret_data;

  if (strlen(hex) != length_bytes * 2)
    return false;
  for (size_t i = 0; i < length_bytes; i++) {
    int high = g_ascii_xdigit_value(hex[2 * i]);
    int low = g_ascii_xdigit_value(hex[2 * i + 1]);
    if (high < 0 || low < 0)
      return false;
    out[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}
