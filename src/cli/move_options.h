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
/* The same without the names, into ${body}. */
bool nc_move_options_put(json_t *body, const NcMoveOptions *o, GError **error);

/* --- the finer points of a move --- */

typedef struct {
  char *qos, *paths, *checkpoint_keep, *target_rate;
  int streams, max_cpu;                           /* 0: the default */
  int max_throttle, convergence_timeout_s, retry; /* -1: the default */
  int checkpoint, no_checkpoint;                  /* neither: the default */
  int keep_chain, trust_base;
} NcMoveTuning;

#define NC_MOVE_TUNING_NONE                                                                                            \
  {                                                                                                                    \
    .max_throttle = -1, .convergence_timeout_s = -1, .retry = -1                                                       \
  }

/* Rows of a GOptionEntry table. ${t}: an NcMoveTuning. */
#define NC_MOVE_TUNING_ENTRIES(t)                                                                                                       \
  NC_CHAIN_OPTION_ENTRIES((t).keep_chain, (t).trust_base),                                                                              \
    { "qos", 0, 0, G_OPTION_ARG_STRING, &(t).qos, "class of service: background, normal, high, critical (default normal)", "CLASS" },   \
    { "target-rate", 0, 0, G_OPTION_ARG_STRING, &(t).target_rate, "fast enough: no alert SlowTransfer (default: what fills the link)", "RATE" }, \
    { "max-cpu", 0, 0, G_OPTION_ARG_INT, &(t).max_cpu,                                                                                  \
      "percent of the source's processors that coding may use (default: the node's, 100)", "PERCENT" },                                 \
    { "max-throttle", 0, 0, G_OPTION_ARG_INT, &(t).max_throttle,                                                                        \
      "percent of its time that may be taken from the machine (default: the node's, 70)", "PERCENT" },                                  \
    { "convergence-timeout", 0, 0, G_OPTION_ARG_INT, &(t).convergence_timeout_s,                                                        \
      "give up if it still dirties too much so long after its memory was sent once (default: the node's, 300)", "SECONDS" },            \
    { "retry", 0, 0, G_OPTION_ARG_INT, &(t).retry, "more attempts if one fails by what may pass (default 3)", "N" },                    \
    { "checkpoint", 0, 0, G_OPTION_ARG_NONE, &(t).checkpoint, "take one first, to set it back to afterwards", NULL },                   \
    { "no-checkpoint", 0, 0, G_OPTION_ARG_NONE, &(t).no_checkpoint, "take none", NULL },                                                \
    { "checkpoint-keep", 0, 0, G_OPTION_ARG_STRING, &(t).checkpoint_keep, "of it: 2h, 1d (default), forever", "DURATION" },             \
    { "streams", 0, 0, G_OPTION_ARG_INT, &(t).streams, "TCP connections (default: by the round trip)", "N" },                           \
  {                                                                                                                                     \
    "paths", 0, 0, G_OPTION_ARG_STRING, &(t).paths, "[LOCAL>]HOST:PORT, ... used at once (default: what the other node names)",         \
        "PATHS"                                                                                                                         \
  }

void nc_move_tuning_clear(NcMoveTuning *t);
/* Into ${body}, checked; what was not given is left out. NC_ERROR_INVALID. */
bool nc_move_tuning_put(json_t *body, const NcMoveTuning *t, GError **error);
