/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the programs that belong to this one. */
#pragma once

/*
 * The program ${name} of the same installation: beside the one that runs, in ../${room} (a build directory), or in ../libexec/novacron;
 * ${name} itself, to be looked for in PATH, if there is none. Interned: never freed.
 */
const char *nc_program_find(const char *name, const char *room);
