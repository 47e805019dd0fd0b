/* SPDX-License-Identifier: Apache-2.0 */
/* What every command about a move is told: which machine, where to, and how. One thread. */
#pragma once

#include "base/error.h"
#include "base/msg.h"

typedef struct {
  char *to, *bandwidth, *algorithm, *compression;
  int max_downtime_ms; /* 0: the node's default */
} NcMoveOptions;

/* Rows of a GOptionEntry table for all but --to, whose meaning differs. ${o}: an NcMoveOptions. */
#define NC_MOVE_OPTION_ENTRIES(o)                                                                                                       \
  { "max-downtime", 0, 0, G_OPTION_ARG_INT, &(o).max_downtime_ms, "longest pause, milliseconds (default: the node's, 300)", "MS" },     \
    { "bandwidth", 0, 0, G_OPTION_ARG_STRING, &(o).bandwidth, "most it may send: 50MB/s, 800Mbit (default 0: no limit)", "RATE" },      \
    { "bandwidth-limit", 0, 0, G_OPTION_ARG_STRING, &(o).bandwidth, "the same", "RATE" },                                               \
    { "algorithm", 0, 0, G_OPTION_ARG_STRING, &(o).algorithm, "auto, pre-copy or post-copy (default: the node's, auto)", "HOW" },       \
  {                                                                                                                                     \
    "compression", 0, 0, G_OPTION_ARG_STRING, &(o).compression, "auto, none, lz4, zstd or zstd:LEVEL (default: the node's, auto)",      \
        "HOW"                                                                                                                           \
  }

/* What becomes of backing chains: for migrate and check. ${keep}, ${trust}: int. */
#define NC_CHAIN_OPTION_ENTRIES(keep, trust)                                                                                            \
  { "keep-chain", 0, 0, G_OPTION_ARG_NONE, &(keep), "overlays only: same backing files are there", NULL },            \
  {                                                                                                                                     \
    "trust-base", 0, 0, G_OPTION_ARG_NONE, &(trust), "with --keep-chain: do not compare those", NULL                  \
  }
/* Into ${body}; nothing if nothing was said. NC_ERROR_INVALID. */
bool nc_move_chain_body(json_t *body, bool keep, bool trust, GError **error);

void nc_move_options_clear(NcMoveOptions *o);
/* ${vm} and ${to} (may be NULL) can name a machine and a node. NC_ERROR_INVALID. */
bool nc_move_check_names(const char *vm, const char *to, GError **error);
/* The request's body, checked; what was not given is left out: the node knows its defaults. New reference. NC_ERROR_INVALID. */
json_t *nc_move_options_body(const char *vm, const NcMoveOptions *o, GError **error);
