/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `novacron relay`: a pair of movers between any two UNIX sockets, without
 * novacrond (docs/relay.md, docs/decisions/010-relay.md).
 *
 *   QEMU -> PATH  connect ==mutual TLS: relay_open==>  listen  PATH -> QEMU -incoming
 *                 mover   ==N connections, wire======>  mover
 *
 * There is no run right, no grant and no keeper: QEMU's final acknowledgement
 * passes at once, and if a relay dies, QEMU sees what it would see of a broken
 * TCP connection.
 *
 * Both functions block in the calling thread until the end. Callbacks come from
 * any thread, also at the same time.
 */
#pragma once

#include "mover/process.h"
#include <stdint.h>

typedef struct {
  const char *id;   /* of the session */
  const char *node; /* the other node */
  uint64_t stream_bytes;
  uint64_t wire_bytes;
  int64_t wire_rate_bps; /* bytes per second */
  int64_t elapsed_ms;
} NcRelayProgress;

/* The end of one session. */
typedef struct {
  bool is_source;
  bool completed;
  const GError *error; /* NULL if completed; NC_ERROR_CANCELLED: stopped by us */
  const char *id;      /* NULL: it did not come that far */
  const char *node;    /* NULL likewise */
  uint64_t stream_bytes;
  uint64_t wire_bytes;
  const char *sha256; /* chain over the stream (wire/chain.h); NULL: not known */
  int sha256_equal;   /* on both sides: 1, 0, -1 not known */
  int64_t total_ms;   /* since QEMU connected (source) or the session began */
} NcRelayReport;

typedef struct {
  void (*notice)(const char *text, gpointer user_data); /* something happened; a sentence for people */
  void (*progress)(const NcRelayProgress *progress, gpointer user_data);
  void (*ended)(const NcRelayReport *report, gpointer user_data);
  bool (*is_stopped)(gpointer user_data); /* asked several times a second: true ends everything in order */
  gpointer user_data;
} NcRelayCallbacks;

typedef struct {
  NcMoverProgram program;
  const char *data_dir; /* the directory that holds pki/ (crypto/pki.h) */
  const char *path;     /* UNIX socket: listened on at the source, connected to at the destination */
  const char *node;     /* the only node to talk to; NULL: any of the cluster */
  NcRelayCallbacks on;
} NcRelaySetup;

typedef struct {
  const char *address; /* of the listener, HOST:PORT */
  uid_t owner;         /* of the UNIX socket, (uid_t)-1: ourselves; nobody else may connect */
  int streams;
  const char *compression;
  int pause_budget_ms;
  int max_cpu; /* percent of this host's processors that coding may use, 1 to 100 */
} NcRelayConnect;

typedef struct {
  const char *address; /* to listen on */
  bool once;           /* end with the first session */
} NcRelayListen;

/*
 * The source: makes ${setup}->path, waits for QEMU, relays, removes it. False
 * with an error if it could not begin (options, keys, the socket); the end of a session,
 * also that nobody connected, is reported by `ended`.
 */
bool nc_relay_connect(const NcRelaySetup *setup, const NcRelayConnect *options, GError **error);

/*
 * The destination: serves one session at a time, until stopped or, with `once`,
 * until the first has ended. False with an error if it could not begin; each session's end
 * is reported by `ended`.
 */
bool nc_relay_listen(const NcRelaySetup *setup, const NcRelayListen *options, GError **error);

/* ${report} as novacron --json prints it. New reference. */
json_t *nc_relay_report_to_json(const NcRelayReport *report);
