/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two relays agree on before a byte flows: the first message of a session
 * ("relay_open", docs/protocols.md section 6). Pure: no sockets, no threads.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"
#include <stdint.h>

#define NC_RELAY_PROTOCOL 1
#define NC_RELAY_PSK_BYTES 32
#define NC_RELAY_MAX_STREAMS 16 /* as many as a mover takes (mover/mover.h) */
#define NC_RELAY_MAX_PAUSE_MS 600000

typedef struct {
  char *id; /* fits a preface */
  uint8_t psk[NC_RELAY_PSK_BYTES];
  int streams;
  char *compression;
  int pause_budget_ms;
} NcRelayOffer;

/* A fresh id and key. ${compression} is copied. NC_ERROR_INVALID names the option that is out of bounds. */
bool nc_relay_offer_init(NcRelayOffer *offer, int streams, const char *compression, int pause_budget_ms,
                         GError **error);
/* Clears the key, too. */
void nc_relay_offer_clear(NcRelayOffer *offer);

/* The message; holds the key in clear, for a TLS session only. New reference. */
json_t *nc_relay_offer_to_json(const NcRelayOffer *offer);
/* Checks everything a stranger could get wrong; NC_ERROR_PROTOCOL. On failure ${ret} is empty. */
bool nc_relay_offer_parse(json_t *message, NcRelayOffer *ret, GError **error);
