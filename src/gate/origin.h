/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose page is it that asks?
 *
 * A browser shows a client certificate, and uses a bridge to our UNIX socket,
 * for any page that tells it to. So whatever changes something, and every
 * WebSocket, is refused to pages that are neither ours (their Origin is where
 * they ask) nor listed in gate.conf. Programs send no Origin. Pure.
 */
#pragma once

#include <stdbool.h>

/*
 * May a page of ${origin} (an Origin header), asking ${host} (a Host header; may be NULL), open WebSockets and change
 * things? ${tls}: it was asked by HTTPS. ${origins}: those that are listed; may be NULL.
 */
bool nc_origin_is_allowed(const char *origin, const char *host, bool tls, char *const *origins);

/*
 * Over the UNIX socket there is no certificate that says whom a browser meant to reach: a stranger's name that leads to
 * a bridge's address makes their page one of ours (DNS rebinding). Is ${host} an address, a name without a dot
 * (localhost), which nobody can have registered, or the host of one of ${origins}?
 */
bool nc_host_is_ours(const char *host, char *const *origins);
