/* SPDX-License-Identifier: Apache-2.0 */
/* What the gate is told: command line first, then the section [gate] of a file, then defaults. */
#pragma once

#include "base/error.h"
#include <stdbool.h>

#define NC_GATE_CONFIG_DEFAULT "/etc/novacron/gate.conf"

typedef struct {
  char *listen;       /* "host:port" for HTTPS; "none": no HTTPS */
  char *socket;       /* path of the API's UNIX socket; "none": no such socket */
  char *socket_group; /* its members are admins; NULL: only root and the gate's own user */
  char *control;      /* novacrond's socket */
  char *tls_cert;     /* PEM files; NULL: no HTTPS */
  char *tls_key;
  char *client_ca; /* NULL: nobody can authenticate over HTTPS */
  char *admins;    /* comma-separated names of client certificates */
  char *operators; /* likewise */
  char *tokens_without_certificate; /* "yes" or "no" */
  char *origins;   /* comma-separated origins of pages that may use the API, beside our own; NULL: none */
  char *watchers;  /* how many WebSockets at once, in decimal */
  char *user;      /* run as; NULL: stay who we are */
  char *log_level;
  char *log_format;
  char *config;
  bool no_seccomp;
  bool show_version;
} NcGateOptions;

/*
 * Reads the command line and the file (a missing default file is no error).
 * --help prints and exits 0. NULL with NC_ERROR_INVALID naming the option or
 * file and key. Free with nc_gate_options_free().
 */
NcGateOptions *nc_gate_options_read(int argc, char **argv, GError **error);
void nc_gate_options_free(NcGateOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcGateOptions, nc_gate_options_free)
