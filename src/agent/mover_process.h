/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a mover and talking to it (docs/protocols.md section 1).
 *
 * The mover's messages arrive in the inbox given; NC_FROM_MOVER with NULL says
 * that it is gone. Closing our end of its socket ends it, so a crash of
 * novacrond leaves no mover behind.
 */
#pragma once

#include "agent/config.h"
#include "agent/inbox.h"

typedef struct NcMoverProcess NcMoverProcess;

/* What the first message tells it. All borrowed. */
typedef struct {
  bool is_source;
  const char *migration;
  const uint8_t *psk; /* 32 bytes */
  int streams;
  const char *compression;
  int pause_budget_ms;
  int64_t rate_bps; /* of the source; 0: no limit */
  bool yield;       /* of the source: gives way to others */
} NcMoverSetup;

NcMoverProcess *nc_mover_process_start(const NcConfig *config, const NcMoverSetup *setup, NcInbox *inbox, GError **error);
/* Kills it if it still runs, reaps it, joins the reader. */
void nc_mover_process_free(NcMoverProcess *mover);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMoverProcess, nc_mover_process_free)

/* Any thread. ${fd} >= 0 is passed along; the caller keeps its copy. ${message} is taken. */
bool nc_mover_process_send(NcMoverProcess *mover, json_t *message, int fd, GError **error);
pid_t nc_mover_process_pid(const NcMoverProcess *mover);
