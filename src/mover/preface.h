/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first 32 bytes of a mover's connection (docs/protocols.md section 4):
 * how the TCP port tells it from TLS, and whose it is. Exchanged by whoever
 * starts the movers, before the descriptor is theirs. Needs nothing but src/base/.
 *
 * All functions may be used from any thread.
 */
#pragma once

#include "base/error.h"
#include <stdint.h>

#define NC_PREFACE_BYTES 32
#define NC_PREFACE_VERSION 1
#define NC_PREFACE_ID_BYTES 24

typedef struct {
  uint16_t index;                   /* of the connection, from 0 */
  char id[NC_PREFACE_ID_BYTES + 1]; /* the migration's */
} NcPreface;

/* False if ${id} does not fit. */
bool nc_preface_encode(const char *id, uint16_t index, uint8_t ret[NC_PREFACE_BYTES]);
/* False: other bytes than a preface of this version. */
bool nc_preface_decode(const uint8_t bytes[NC_PREFACE_BYTES], NcPreface *ret);

/*
 * Waits until the accepted ${fd} has shown what it is, and reads nothing:
 * *ret_preface says whether a whole preface can be read at once. NC_ERROR_TIMEOUT,
 * NC_ERROR_IO.
 */
bool nc_preface_await(int fd, bool *ret_preface, int timeout_ms, GError **error);
/* Reads it. NC_ERROR_PROTOCOL if it is none after all. */
bool nc_preface_read(int fd, NcPreface *ret, int timeout_ms, GError **error);
/* The answer "go on". It must leave before the mover has ${fd}, which begins with TLS. */
bool nc_preface_accept(int fd, GError **error);

/* Connects to ${address}, sends the preface and waits for the answer. -1 on error. ${timeout_ms} for each step. */
int nc_preface_dial(const char *address, const char *id, uint16_t index, int timeout_ms, GError **error);
