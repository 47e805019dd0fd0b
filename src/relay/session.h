/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of one session: the mover, the connection to the other relay, and
 * our duplicate of QEMU's socket. What source.c and listener.c have in common.
 *
 * One thread owns a session. The mover's reader and the peer's put what they
 * read into its inbox; nc_relay_session_run() takes it out and hands it to the
 * role's two functions until one of them says that it is over.
 *
 * The messages between two relays are in docs/protocols.md section 6.
 */
#pragma once

#include "crypto/peer.h"
#include "mover/dialler.h"
#include "relay/offer.h"
#include "relay/relay.h"
#include "relay/verdict.h"

#define NC_RELAY_READY_MS 30000  /* for the movers to find each other */
#define NC_RELAY_FINISH_MS 10000 /* for a mover to end after `finish` */
#define NC_RELAY_REASON_MS 1000  /* for the better reason of a failure, which may be on its way */
#define NC_RELAY_SLICE_MS 100    /* how soon is_stopped() is asked again */

typedef struct NcRelaySession NcRelaySession;

/* ${message} is borrowed. False with an error ends the session. */
typedef bool (*NcRelayHandler)(NcRelaySession *s, const char *name, json_t *message, GError **error);

struct NcRelaySession {
  const NcRelaySetup *setup; /* borrowed */
  bool is_source;
  NcRelayHandler on_mover; /* `ev` by name; what the session itself needs is taken before */
  NcRelayHandler on_peer;  /* `type` by name */

  NcRelayOffer offer;
  int max_cpu; /* of the source; as in NcRelayConnect */
  char *node; /* the other one */
  NcPeer *peer;
  NcMoverProcess *mover;
  NcDialler *dialler; /* source */
  int qemu; /* our duplicate; keeps QEMU's socket open while it lives */

  GAsyncQueue *inbox;
  GThread *peer_reader;
  int64_t started_us;
  int64_t deadline_us; /* for the next step; 0: none */
  const char *awaited; /* that step, for people */

  bool stream_ended; /* the mover's `end` */
  bool finishing;    /* the mover was told to finish: its errors are of no interest */
  bool done;         /* it has */
  bool over;         /* set by a handler: success */
  bool peer_failed;  /* the other relay has given up, and said why */
  bool peer_gone;

  NcRelayFacts facts;
  bool peer_ended;   /* source: the other side's `end` is known ... */
  char *peer_sha256; /* ... with the digest of what was delivered */
  uint64_t stream_bytes, wire_bytes;
  char *sha256;
  int bytes_equal; /* as in NcRelayReport */
};

/* ${offer} is taken. Frees with nc_relay_session_free(). */
NcRelaySession *nc_relay_session_new(const NcRelaySetup *setup, bool is_source, NcRelayOffer *offer);
/* Ends the mover, closes QEMU's socket and the connection. */
void nc_relay_session_free(NcRelaySession *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRelaySession, nc_relay_session_free)

/* Starts the mover and gives it QEMU's socket ${qemu}, which is taken. */
bool nc_relay_session_start_mover(NcRelaySession *s, int qemu, GError **error);
/* Takes ${peer}, from here on read by a thread of its own. */
void nc_relay_session_attach_peer(NcRelaySession *s, NcPeer *peer);

/* Runs until over. */
bool nc_relay_session_run(NcRelaySession *s, GError **error);
/* After a failure at any step: tells the other relay why, unless it told us, and hears what it knows better. */
void nc_relay_session_abandon(NcRelaySession *s, GError **problem);
/* Sends `finish`; `done` follows. */
bool nc_relay_session_finish(NcRelaySession *s, GError **error);

/* Sends to the other relay; ${message} is taken. False: it is gone. */
bool nc_relay_session_tell(NcRelaySession *s, json_t *message);
/* Reports the end: completed without ${problem}. */
void nc_relay_session_report(NcRelaySession *s, const GError *problem);

bool nc_relay_is_stopped(const NcRelaySetup *setup);
void nc_relay_notice(const NcRelaySetup *setup, const char *format, ...) G_GNUC_PRINTF(2, 3);
