/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migration streams written as text, for tests: hexadecimal bytes, 'quoted'
 * characters, and @ for the 4096 bytes of a page; the pieces are strings to be
 * put together.
 */
#pragma once

#include "base/bytes.h"
#include "qemu/stream.h"

#define FILE_START "51 45 56 4d 00000003 "
#define MACHINE FILE_START "07 0000000d 'pc-i440fx-7.2' "
#define RETURN_PATH "08 0001 0000  08 0002 0004 00000001 "
#define ADVISE "08 0003 0010 0000000000001000 0000000000001000 "
#define RAM_START "01 00000002 03 'ram' 00000000 00000004 "
#define RAM_LIST "0000000000005004  02 'm0' 0000000000003000  07 'pc.bios' 0000000000002000 "
#define EOS "0000000000000010 "
#define FOOTER "7e 00000002 "
#define SETUP MACHINE RETURN_PATH RAM_START RAM_LIST EOS FOOTER
#define PART "02 00000002 "
#define END "03 00000002 "
#define FULL "04 00000000 05 'timer' 00000000 00000002 0011223344556677 7e 00000000 "
#define NAMED_PAGE "0000000000000008 02 'm0' @ "
#define NEXT_PAGE "0000000000001028 @ "
#define NEXT_ZERO "0000000000002022 00 "
#define BIOS_PAGE "0000000000001008 07 'pc.bios' @ "
#define DISCARD "08 0006 0015 00 02 'm0' 00 0000000000001000 0000000000001000 "
#define PACKAGE "08 0007 0004 00000024  08 0004 0000 00 01 02 03 04 'device state' 08 0002 0004 00000003 08 0005 0000 "
#define DESCRIPTION "00 06 00000010 '{\"devices\":[{}]}' "

static inline void
append_page(GByteArray *out)
{
  static guint seed;

  for (guint i = 0; i < NC_STREAM_PAGE_BYTES; i++)
    nc_put_u8(out, (uint8_t)(i * 7 + seed));
  seed++;
}

static inline GByteArray *
bytes(const char *text)
{
  GByteArray *out = g_byte_array_new();

  for (const char *at = text; *at;) {
    if (*at == ' ') {
      at++;
    } else if (*at == '@') {
      append_page(out);
      at++;
    } else if (*at == '\'') {
      const char *end = strchr(at + 1, '\'');
      g_assert_nonnull(end);
      g_byte_array_append(out, (const uint8_t *)at + 1, (guint)(end - at - 1));
      at = end + 1;
    } else {
      char digits[] = { at[0], at[1], 0 };
      uint8_t byte;
      g_assert_true(nc_hex_decode(digits, &byte, 1));
      nc_put_u8(out, byte);
      at += 2;
    }
  }
  return out;
}
