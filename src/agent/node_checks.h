/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is this node well? What is judged, without looking at anything: node_look.c looks. Lists of checks (base/check.h). Some of
 * them are about a destination before a move, too (preflight_peer.c). Pure.
 */
#pragma once

#include "base/check.h"
#include <stdint.h>

/* One other node, as it was found. */
typedef struct {
  char *name, *address;
  char *problem;             /* why it could not be asked; NULL: it was */
  int64_t rtt_us, offset_us; /* its clock minus ours */
  int64_t expires_us;        /* its certificate, wall clock; 0: not known */
} NcPeerFacts;
void nc_peer_facts_free(gpointer facts); /* also what is in it */

/* What was seen; -1 and NULL: could not be found out. All borrowed. */
typedef struct {
  int64_t now_us;
  int64_t certificate_expires_us;
  bool has_ca_key; /* the node, so that it can renew its certificate also when that has ended */
  const char *data_dir;
  int64_t data_free_bytes;
  json_t *store; /* store.status; NULL: ${store_problem} */
  const char *store_problem;
  const char *qemu_binary, *qemu_version;               /* version "": it can't be run */
  const char *congestion_controls, *congestion_control; /* as /proc/sys/net/ipv4 has them */
  int64_t send_buffer_bytes;                            /* the largest that tcp_wmem allows */
  int userfaultfd_problem;                              /* errno; 0: it works */
  int64_t memory_bytes, memory_available_bytes;
  const GPtrArray *peers;  /* NcPeerFacts, by name */
  unsigned peers_left_out; /* that were not asked */
  json_t *migrations;      /* records of those that have not ended */
} NcNodeFacts;

/* All of it, in the order in which people look. New reference. */
json_t *nc_node_checks(const NcNodeFacts *facts);

/* Each appends one check to ${list}. */
void nc_node_check_postcopy(json_t *list, int problem);
void nc_node_check_data_dir(json_t *list, const char *data_dir, int64_t free_bytes);
/* ${offset_us}: another clock minus ours; ${whose}: NULL if that need not be said. */
void nc_node_check_clock(json_t *list, const char *check, const char *whose, int64_t offset_us);
