/* SPDX-License-Identifier: Apache-2.0 */
/* What a QEMU says it knows: its lists of machine types and CPU models. */
#pragma once

/*
 * What `${binary} ${option} help` prints; ${binary} is a path or in PATH. Caller frees.
 * NULL if it can't be run, hangs or is no QEMU. Answers are kept until the binary
 * changes, since running QEMU takes a tenth of a second that a migration would wait for.
 * Any thread; blocks while QEMU runs.
 */
char *nc_qemu_help(const char *binary, const char *option);
