/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and starting the programs that belong to this one. */
#pragma once

#include "base/error.h"
#include <sys/types.h>

#define NC_PROGRAM_FD 3 /* what a program that we start has of us */

/*
 * The program ${name} of the same installation: beside the one that runs, in ../${room} (a build directory), or in ../libexec/novacron;
 * ${name} itself, to be looked for in PATH, if there is none. Interned: never freed.
 */
const char *nc_program_find(const char *name, const char *room);

/*
 * Starts ${binary} with ${options} (NULL-terminated, without its name) and with ${fd} (the caller keeps its copy) as descriptor NC_PROGRAM_FD.
 * Whoever starts it reaps it. NC_ERROR_INTERNAL.
 */
bool nc_program_start(const char *binary, const char *const *options, int fd, pid_t *ret_pid, GError **error);
