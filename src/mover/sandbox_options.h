/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a small program in the mover's sandbox, which novacrond starts: how much of the sandbox, and what it is. */
#pragma once

#include "mover/sandbox.h"

typedef struct {
  uid_t uid; /* NC_SANDBOX_KEEP_ID: not asked for, as gid */
  gid_t gid;
  int no_sandbox;
} NcSandboxOptions;

/* ${purpose}: whole lines for --help. Exits for --help, --version and wrong usage (2). */
void nc_sandbox_options_parse(const char *program, const char *purpose, int argc, char **argv, NcSandboxOptions *ret);
