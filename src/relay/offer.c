/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/offer.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "crypto/digest.h"
#include "mover/preface.h"
#include "wire/batch.h"

#include <string.h>

static bool
nc_relay_offer_check(const NcRelayOffer *offer, int code, GError **error)
{
  NcBatchPolicy policy;

  if (offer->streams < 1 || offer->streams > NC_RELAY_MAX_STREAMS)
    return nc_fail(error, code, "streams: from 1 to %d, not %d", NC_RELAY_MAX_STREAMS, offer->streams);
  if (offer->pause_budget_ms < 1 || offer->pause_budget_ms > NC_RELAY_MAX_PAUSE_MS)
    return nc_fail(error, code, "pause budget: from 1 to %d ms, not %d", NC_RELAY_MAX_PAUSE_MS, offer->pause_budget_ms);
  return nc_compression_parse(offer->compression, &policy, error);
}

bool
nc_relay_offer_init(NcRelayOffer *offer, int streams, const char *compression, int pause_budget_ms, GError **error)
{
  *offer = (NcRelayOffer){
    .id = nc_id_new("r"), .streams = streams, .compression = g_strdup(compression), .pause_budget_ms = pause_budget_ms
  };
  nc_random_bytes(offer->psk, sizeof offer->psk);
  if (nc_relay_offer_check(offer, NC_ERROR_INVALID, error))
    return true;
  nc_relay_offer_clear(offer);
  return false;
}

void
nc_relay_offer_clear(NcRelayOffer *offer)
{
  g_free(offer->id);
  g_free(offer->compression);
  nc_secret_clear(offer->psk, sizeof offer->psk);
  *offer = (NcRelayOffer){ 0 };
}

json_t *
nc_relay_offer_to_json(const NcRelayOffer *offer)
{
  g_autofree char *psk = nc_hex_encode(offer->psk, sizeof offer->psk);
  json_t *message = json_pack("{s:s, s:i, s:s, s:s, s:i, s:s, s:i}", "type", "relay_open", "protocol",
                              NC_RELAY_PROTOCOL, "id", offer->id, "psk", psk, "streams", offer->streams, "compression",
                              offer->compression, "pause_budget_ms", offer->pause_budget_ms);
  nc_secret_clear(psk, strlen(psk));
  return message;
}

static bool
nc_relay_offer_check_protocol(json_t *message, GError **error)
{
  int64_t protocol;

  if (!nc_json_int(message, "protocol", 0, G_MAXINT, &protocol, error))
    return false;
  return protocol == NC_RELAY_PROTOCOL ||
         nc_fail(error, NC_ERROR_PROTOCOL,
                 "the source's relay speaks version %d, the destination's version %d: run the same NovaCron on both",
                 (int)protocol, NC_RELAY_PROTOCOL);
}

static bool
nc_relay_offer_parse_into(json_t *message, NcRelayOffer *ret, GError **error)
{
  int64_t streams, pause;
  const char *id = nc_json_string(message, "id", error);
  const char *psk = id ? nc_json_string(message, "psk", error) : NULL;
  const char *compression = psk ? nc_json_string(message, "compression", error) : NULL;

  if (!compression || !nc_json_int(message, "streams", 1, NC_RELAY_MAX_STREAMS, &streams, error) ||
      !nc_json_int(message, "pause_budget_ms", 1, NC_RELAY_MAX_PAUSE_MS, &pause, error))
    return false;
  if (!nc_name_is_valid(id) || strlen(id) > NC_PREFACE_ID_BYTES)
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"id\" must be a name of at most %d bytes", NC_PREFACE_ID_BYTES);
  if (!nc_hex_decode(psk, ret->psk, sizeof ret->psk))
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"psk\" must be %d bytes in hexadecimal", NC_RELAY_PSK_BYTES);
  ret->id = g_strdup(id);
  ret->compression = g_strdup(compression);
  ret->streams = (int)streams;
  ret->pause_budget_ms = (int)pause;
  return nc_relay_offer_check(ret, NC_ERROR_PROTOCOL, error);
}

bool
nc_relay_offer_parse(json_t *message, NcRelayOffer *ret, GError **error)
{
  const char *type = nc_json_string_or(message, "type", "");

  *ret = (NcRelayOffer){ 0 };
  if (!g_str_equal(type, "relay_open"))
    return nc_fail(error, NC_ERROR_PROTOCOL,
                   "this port belongs to `novacron relay listen`, which answers only `novacron relay connect`");
  if (nc_relay_offer_check_protocol(message, error) && nc_relay_offer_parse_into(message, ret, error))
    return true;
  nc_relay_offer_clear(ret);
  return false;
}
