/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What agents and joining nodes send each other, past TLS: a message, a join
 * request with its certificate request, a certificate, a roster, a token. The
 * first byte chooses. A roster is signed first: behind the signature the
 * parser must still hold.
 */
#include "base/bytes.h"
#include "base/msg.h"
#include "base/tcp.h"
#include "crypto/join.h"
#include "crypto/pki.h"
#include "crypto/roster.h"

#include <stdlib.h>
#include <string.h>

#define FUZZ_MAX_BYTES 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static NcCa *
fuzz_ca(void)
{
  static NcCa *ca;

  if (!ca)
    ca = nc_ca_new("fuzz", NULL);
  return ca;
}

static void
fuzz_join(const char *text, size_t length)
{
  nc_autojson json_t *message = nc_msg_decode(text, length, NULL);
  NcJoinRequest request;

  if (message && nc_join_check_request(message, &request, NULL)) {
    g_autoptr(NcCert) cert = nc_ca_issue(fuzz_ca(), request.csr, request.name, 1, 0, NULL);
    if (cert && strcmp(nc_cert_node(cert), request.name) != 0)
      abort(); /* a name must come from us, not from the request */
  }
}

static void
fuzz_roster(const char *text)
{
  g_autoptr(GBytes) signature = nc_ca_sign(fuzz_ca(), text, strlen(text), NULL);
  g_autofree char *hex = nc_hex_encode(g_bytes_get_data(signature, NULL), g_bytes_get_size(signature));
  g_autoptr(NcRoster) roster = nc_roster_parse(text, hex, nc_ca_cert(fuzz_ca()), NULL);

  for (size_t i = 0; roster && i < nc_roster_count(roster); i++)
    if (nc_roster_find(roster, nc_roster_at(roster, i)->name) != nc_roster_at(roster, i))
      abort();
}

static void
fuzz_cert(const char *text)
{
  g_autoptr(NcCert) cert = nc_cert_parse(text, NULL);

  if (cert && nc_cert_check_issuer(cert, nc_ca_cert(fuzz_ca()), NULL))
    abort(); /* nobody but us can have issued it, and we did not */
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1 || size > FUZZ_MAX_BYTES)
    return 0;
  g_autofree char *text = g_strndup((const char *)data + 1, size - 1);

  switch (data[0]) {
  case 'j':
    fuzz_join((const char *)data + 1, size - 1);
    break;
  case 'r':
    fuzz_roster(text);
    break;
  case 'c':
    fuzz_cert(text);
    break;
  case 't':
    nc_join_token_free(nc_join_token_parse(text, NULL));
    break;
  case 'a':
    nc_tcp_address_is_valid(text);
    break;
  }
  return 0;
}
