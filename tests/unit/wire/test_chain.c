/* SPDX-License-Identifier: Apache-2.0 */
/* The chain is what its header says it is, and notices everything that a stream's digest must notice. */
#include "wire/chain.h"
#include "base/bytes.h"

#include <glib.h>
#include <string.h>

static void
append(NcChain *chain, const char *text)
{
  uint8_t sha256[NC_SHA256_BYTES];
  nc_sha256(text, strlen(text), sha256);
  nc_chain_append(chain, (uint32_t)strlen(text), sha256);
}

static NcChain
chain_of(const char *first, const char *second)
{
  NcChain chain = { 0 };
  append(&chain, first);
  append(&chain, second);
  return chain;
}

/*
 * python3 -c 'import hashlib as h, struct; s=lambda b: h.sha256(b).digest(); v=bytes(32)
 * for n, b in ((3, b"abc"), (7, b"defg")): v = s(v + struct.pack(">Q", n) + s(b))
 * print(v.hex())'
 */
static void
test_known_value(void)
{
  NcChain chain = chain_of("abc", "defg");
  g_autofree char *hex = nc_hex_encode(chain.value, sizeof chain.value);

  g_assert_cmpstr(hex, ==, "f5ad2cd9ede89c782dfc12fad3e554f2b706bdf946d534e8c8f40a5c3c1a5c8e");
  g_assert_cmpuint(chain.offset, ==, 7);
}

static void
test_what_differs(void)
{
  static const char *const others[][2] = { { "abd", "defg" }, { "abc", "defh" }, { "defg", "abc" }, { "ab", "cdefg" }, { "abc", "def" } };
  NcChain chain = chain_of("abc", "defg"), same = chain_of("abc", "defg"), empty = { 0 };

  g_assert_true(nc_chain_equal(&chain, &same));
  g_assert_false(nc_chain_equal(&chain, &empty));
  for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
    NcChain other = chain_of(others[i][0], others[i][1]);
    g_assert_false(nc_chain_equal(&chain, &other));
  }
  same.offset++; /* a claim about another place */
  g_assert_false(nc_chain_equal(&chain, &same));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/chain/known-value", test_known_value);
  g_test_add_func("/chain/what-differs", test_what_differs);
  return g_test_run();
}
