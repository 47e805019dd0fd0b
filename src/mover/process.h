/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a mover and talking to it (docs/protocols.md section 1): what
 * novacrond and a relay do with the program of this directory.
 *
 * Closing our end of its socket ends it, so a crash of ours leaves no mover
 * behind. Needs nothing but src/base/.
 */
#pragma once

#include "base/msg.h"
#include <sys/types.h>

typedef struct NcMoverProcess NcMoverProcess;

/* Which program, and who it becomes if we are root (else it stays who we are). */
typedef struct {
  const char *binary; /* borrowed */
  uid_t uid;
  gid_t gid;
  const char *log_level; /* borrowed; NULL: the mover's own default */
} NcMoverProgram;

/* What the first message tells it. All borrowed. */
typedef struct {
  bool is_source;
  const char *migration;
  const uint8_t *psk; /* 32 bytes */
  int streams;
  const char *compression;
  int max_cpu; /* of the source: percent of this host's processors that coding may use; 0: all */
  int pause_budget_ms;
  int64_t rate_bps; /* of the source; 0: no limit */
  bool yield;       /* of the source: gives way to others */
} NcMoverOrder;

/* Takes ${message}; NULL, the last one: the mover is gone. Called by a thread of the mover's own. */
typedef void (*NcMoverFunc)(json_t *message, gpointer user_data);

/* novacron-mover beside our own program, in the build tree in its directory, else by PATH. Static. */
const char *nc_mover_find_binary(void);
/* The user that movers run as if nobody says otherwise: novacron, else nobody. */
uid_t nc_mover_default_uid(void);
/* The main group of ${uid}'s user, else nogroup. */
gid_t nc_mover_default_gid(uid_t uid);

/* Errors: NC_ERROR_INTERNAL (the program can't be started), NC_ERROR_RESOURCE. ${user_data} must outlive the process.
 */
NcMoverProcess *nc_mover_process_start(const NcMoverProgram *program, const NcMoverOrder *order, NcMoverFunc func,
                                       gpointer user_data, GError **error);
/* Kills it if it still runs, reaps it, joins the reader. */
void nc_mover_process_free(NcMoverProcess *mover);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMoverProcess, nc_mover_process_free)

/* Any thread. ${fd} >= 0 is passed along; the caller keeps its copy. ${message} is taken. */
bool nc_mover_process_send(NcMoverProcess *mover, json_t *message, int fd, GError **error);

/* Of 4 KiB each. */
typedef struct {
  uint32_t frames; /* of pages (wire/shadow.h); 0: no shadow, and nothing of disks either */
  uint32_t blocks; /* of disks (wire/blocks.h); 0: none are kept */
} NcShadowSize;

/*
 * Both movers of a migration get the same numbers, before their first connection. ${fd}: the file to have it in,
 * so that it can be kept, of which the caller keeps its copy; -1: memory of the mover's own. ${kept}: frames that the file holds already,
 * of interest to the source.
 */
bool nc_mover_process_send_shadow(NcMoverProcess *mover, NcShadowSize size, int fd, uint32_t kept, GError **error);
pid_t nc_mover_process_pid(const NcMoverProcess *mover);
