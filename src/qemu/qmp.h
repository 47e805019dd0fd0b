/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QMP client.
 *
 * One NcQmp is one connection to one QEMU's QMP socket. It has a reader thread
 * of its own: nc_qmp_call() may be used from any thread (calls are answered in
 * order, QMP's rule), events go to a callback on the reader thread. QEMU's
 * bytes are foreign bytes: a line is at most NC_QMP_LINE_MAX, JSON nesting is
 * jansson's bound, an unknown event is passed on, an unknown reply id ends the
 * connection.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"
#include <sys/types.h>

#define NC_QMP_LINE_MAX (8u << 20) /* query-qmp-schema of 10.x is under 1 MiB */

typedef struct NcQmp NcQmp;

/* ${event} is one QMP event object (borrowed), NULL when the connection ended. Called on the reader thread. */
typedef void (*NcQmpEventFunc)(json_t *event, gpointer user_data);

/*
 * Connects to the UNIX socket ${path}, negotiates capabilities (out-of-band if
 * offered). QEMU serves one client at a time: NC_ERROR_TIMEOUT if there is
 * another, NC_ERROR_UNREACHABLE if nobody listens.
 */
NcQmp *nc_qmp_connect(const char *path, int timeout_ms, GError **error);
/*
 * A second connection for hard times: negotiated, commands out of band allowed, nobody reading. Its descriptor may be handed to
 * QEMU itself (getfd) and outlive us; -1 on error. As soon as QEMU's main loop waits for something, no new connection can be made.
 */
int nc_qmp_open_spare(const char *path, int timeout_ms, GError **error);
/*
 * Goes on with such a connection, whoever used it before. ${fd} is taken; freeing closes it, and does not end the connection for
 * others who have it. Only nc_qmp_do_oob() is of use.
 */
NcQmp *nc_qmp_adopt(int fd);
/* Waits for the reader thread; no callback runs after it returned. Not to be called from the callback. */
void nc_qmp_free(NcQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcQmp, nc_qmp_free)

/* Replaces the event callback (NULL: none). After it returns the previous one runs no more. Not to be called from the callback. */
void nc_qmp_set_event_func(NcQmp *qmp, NcQmpEventFunc func, gpointer user_data);

/*
 * Executes ${command} with ${arguments} (reference taken; NULL: none); ${fd}
 * >= 0 is passed along (SCM_RIGHTS; for getfd). Returns the "return" value, a
 * new reference. QEMU's refusal is NC_ERROR_QEMU with its text; a lost
 * connection NC_ERROR_QEMU "QEMU ... is gone"; no answer in time NC_ERROR_TIMEOUT.
 */
json_t *nc_qmp_call(NcQmp *qmp, const char *command, json_t *arguments, int fd, int timeout_ms, GError **error);
/* The same, for commands that return nothing of interest. */
bool nc_qmp_do(NcQmp *qmp, const char *command, json_t *arguments, GError **error);
/*
 * The same out of band, where QEMU has offered that: it answers also while its main loop is blocked. For the few commands
 * that allow it.
 */
bool nc_qmp_do_oob(NcQmp *qmp, const char *command, json_t *arguments, GError **error);

bool nc_qmp_is_alive(NcQmp *qmp);
/* QEMU's version from the greeting, e.g. 7,2,22. */
void nc_qmp_version(NcQmp *qmp, int ret_version[3]);
/* The process that made the listening socket: QEMU, unless somebody handed it a descriptor. 0 if unknown. */
pid_t nc_qmp_peer_pid(NcQmp *qmp);
