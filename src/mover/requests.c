/* SPDX-License-Identifier: Apache-2.0 */
/* REQ_PAGES_ID: u16 type, u16 length, u64 offset, u32 bytes, counted name. */
#include "mover/requests.h"
#include "base/bytes.h"

#include <string.h>

enum { FIXED_BYTES = 8 + 4, NAME_AT = 2 + 2 + FIXED_BYTES };

static void
nc_requests_put(GByteArray *out, const void *name, uint8_t name_bytes, uint64_t offset, uint32_t bytes)
{
  nc_put_u16(out, NC_RETURN_REQ_PAGES_ID);
  nc_put_u16(out, (uint16_t)(FIXED_BYTES + 1 + name_bytes));
  nc_put_u64(out, offset);
  nc_put_u32(out, bytes);
  nc_put_u8(out, name_bytes);
  g_byte_array_append(out, name, name_bytes);
}

bool
nc_requests_replace(NcRequests *r, const NcReturnMessage *message, GByteArray *ret)
{
  g_byte_array_set_size(ret, 0);
  if (message->type == NC_RETURN_REQ_PAGES_ID) { /* of a shape that nc_return_path_next() has checked */
    r->name_bytes = message->data[NAME_AT];
    memcpy(r->name, message->data + NAME_AT + 1, r->name_bytes);
    return false;
  }
  if (message->type != NC_RETURN_REQ_PAGES || (r->name_bytes == 0 && !r->has_asked))
    return false;
  if (r->name_bytes > 0)
    nc_requests_put(ret, r->name, r->name_bytes, message->page_offset, message->page_bytes);
  return true;
}

GByteArray *
nc_requests_ask(NcRequests *r, const char *block, uint64_t offset, uint32_t bytes)
{
  GByteArray *out = g_byte_array_new();

  nc_requests_put(out, block, (uint8_t)strlen(block), offset, bytes);
  r->has_asked = true;
  return out;
}

char *
nc_requests_block(const NcRequests *r, const NcReturnMessage *message)
{
  if (message->type == NC_RETURN_REQ_PAGES_ID)
    return g_strndup((const char *)message->data + NAME_AT + 1, message->data[NAME_AT]);
  return message->type == NC_RETURN_REQ_PAGES && r->name_bytes > 0 ? g_strndup((const char *)r->name, r->name_bytes) : NULL;
}
