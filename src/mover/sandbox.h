/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shedding privilege, in named stages.
 *
 * The mover is the only process that reads bytes a guest wrote and bytes a
 * stranger on the network may have written. Whoever takes it over gets what is
 * left after these stages:
 *
 *   stage 1, isolate   descriptors 0 to 3 only (3: novacrond), 0 and 1 are
 *                      /dev/null. Still possible: everything else.
 *   (the caller loads what needs files: OpenSSL's algorithms and its randomness)
 *   stage 2, demote    the user and group given, no supplementary groups, no
 *                      capabilities, no way to get any, no core dump, not
 *                      traceable, few descriptors. Still possible: opening
 *                      what that user may read, sockets, programs.
 *   stage 3, seal      seccomp: reading, writing and polling descriptors it
 *                      holds or is handed over descriptor 3, memory (never
 *                      executable), threads, time, randomness. Nothing can be
 *                      opened, connected or executed; anything else kills the
 *                      process, which costs one migration attempt.
 *
 * Stage 3, and stage 2's limit of memory, are left out in a build with a sanitizer
 * (its runtime opens /proc/self/maps and does much more).
 */
#pragma once

#include "base/error.h"
#include <stdbool.h>
#include <sys/types.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NC_SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define NC_SANDBOX_SANITIZED 1
#endif
#endif
#ifndef NC_SANDBOX_SANITIZED
#define NC_SANDBOX_SANITIZED 0
#endif

#define NC_SANDBOX_LAST_FD 3 /* what novacrond gives us */
#define NC_SANDBOX_KEEP_ID ((uid_t)-1)

/* Stage 1. Descriptor ${NC_SANDBOX_LAST_FD} must be open. */
bool nc_sandbox_isolate(GError **error);
/*
 * Stage 2. ${uid} and ${gid} are taken if we are root; NC_SANDBOX_KEEP_ID: stay
 * who we are, without capabilities. ${confine} false (--no-sandbox): only change the ids.
 */
bool nc_sandbox_demote(uid_t uid, gid_t gid, bool confine, GError **error);
/* Stage 3, for the whole process: call it before the first thread is made. */
bool nc_sandbox_seal(GError **error);
