/* SPDX-License-Identifier: Apache-2.0 */
/* Every bound the gate puts on strangers, with the reason for each, in one place. */
#pragma once

/* One request. */
#define NC_GATE_BODY_MAX_BYTES (1u << 20) /* the largest real body, a machine file, is under 64 KiB */
#define NC_GATE_BODY_DISCARD_BYTES                                                                                     \
  (3u << 20)                       /* beyond the limit we listen this long, so that the client reads our 413 */
#define NC_GATE_JSON_DEPTH 16      /* a machine's spec nests 4 deep */
#define NC_GATE_JSON_VALUES 20000  /* values in one body: a batch of 1000 migrations with all 18 keys are 19000 */
#define NC_GATE_HEADERS 64         /* browsers send about 20 */
#define NC_GATE_HEADER_BYTES 16384 /* request line and headers together, as most servers have it */
#define NC_GATE_PATH_BYTES 512     /* the longest route with the longest name is under 100 */

/* One connection. */
#define NC_GATE_CONNECTION_MEMORY (32u << 10) /* libmicrohttpd's pool: headers, and a window for the body */
#define NC_GATE_REQUEST_DEADLINE_MS                                                                                    \
  15000                                /* from connecting (or the last answer's end) to a whole request, TLS included */
#define NC_GATE_IDLE_DEADLINE_MS 60000 /* a kept-alive connection between requests */
#define NC_GATE_ANSWER_DEADLINE_MS 30000 /* for the client to take our answer */
#define NC_GATE_INACTIVITY_S 15          /* libmicrohttpd's own: no byte at all */

/* All clients. */
#define NC_GATE_CONNECTIONS 256          /* 32 KiB each: 8 MiB */
#define NC_GATE_CONNECTIONS_PER_IP 32    /* a browser opens 6 */
#define NC_GATE_PENDING 128              /* requests that wait for novacrond */
#define NC_GATE_BACKEND_QUEUE (8u << 20) /* bytes novacrond has not read yet */
#define NC_GATE_RATE_PER_S 50            /* requests per remote client; `migrate --wait` makes 4 */
#define NC_GATE_RATE_BURST 200           /* a dashboard's start, a script's loop */
#define NC_GATE_LOCAL_RATE_PER_S 200     /* per local user: 50 `migrate --wait` at once */
#define NC_GATE_LOCAL_RATE_BURST 1000
#define NC_GATE_REFUSED_PER_S 1 /* tokens that are not good, per client; behind that it is not even looked at one */
#define NC_GATE_REFUSED_BURST 10
#define NC_GATE_RATE_CLIENTS 1024 /* clients remembered; the stalest makes room */

/* Watchers (WebSockets). */
#define NC_GATE_WATCHERS 1024           /* unless gate.conf says less */
#define NC_GATE_WATCHERS_PER_IP 24      /* fewer than connections: who watches from there can still ask */
#define NC_GATE_WATCHED 64              /* migrations (or what the fleet has); a node runs some 10 at once */
#define NC_GATE_WATCHED_OF_FLEET 16     /* of those, migrations, batches, evacuations and the events of the fleet: each question may go to another node */
#define NC_GATE_WATCH_EVENTS 1000       /* of one of them that are kept for them; some dozens are usual */
#define NC_GATE_WATCH_BYTES (256u << 10) /* the same in bytes: 16 MiB for all */
#define NC_GATE_WATCH_SEND_BYTES (64 << 10) /* of the kernel, for each who does not read; it would give a TCP connection 4 MiB */
#define NC_GATE_WATCH_ASK_MS 500        /* novacrond renews a migration's numbers twice a second */
#define NC_GATE_WATCH_FLEET_ASK_MS 1000 /* as often as controllers ask nodes */
#define NC_GATE_WATCH_PING_MS 20000     /* below the idle limits of usual proxies */
#define NC_GATE_WATCH_SILENCE_MS 60000

/*
 * Descriptors. Two servers take NC_GATE_CONNECTIONS and as many more as may watch, and a watcher over TLS has a pair of
 * sockets besides; 64 for the rest. Where fewer are allowed fewer may watch, so that novacrond can always be connected to.
 */
#define NC_GATE_FILES (64 + 2 * NC_GATE_CONNECTIONS)
#define NC_GATE_FILES_PER_WATCHER 4

/* Time novacrond has for an answer. */
#define NC_GATE_ANSWER_MS 30000
#define NC_GATE_SLOW_ANSWER_MS 180000 /* stopping a guest by ACPI, starting one with much memory */
