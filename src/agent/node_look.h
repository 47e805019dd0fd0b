/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at this node and asks the others whether they are there, for node_checks.h: the control socket's node.checks. */
#pragma once

#include "agent/migrations.h"
#include "agent/store_work.h"

typedef struct {
  const NcConfig *config;
  NcNodes *nodes;
  NcStoreWork *store_work;
  NcMigrations *migrations;
  gint is_looking; /* atomic; 0 at first */
} NcNodeLook;

/*
 * {node, verdict, checks}. Changes nothing; takes up to NC_PEER_LOOK_MS for each 16 nodes, hence one at a time, or those who may only look
 * could take all threads of the control socket: NC_ERROR_RESOURCE while another one looks. New reference.
 */
#define NC_PEER_LOOK_MS 3000
json_t *nc_node_look(NcNodeLook *look, json_t *args, GError **error);
/* Bytes free to others than root where ${directory} is; -1: not known. */
int64_t nc_directory_free_bytes(const char *directory);
