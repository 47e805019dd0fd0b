/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A way to talk to the destination's QEMU in post-copy that survives novacrond.
 *
 * QEMU's main loop may touch a page that is not here yet (a network card's ring, say), and then
 * stands still until it comes. Commands out of band are taken all the same, but not
 * from a connection that is made then: to negotiate takes the main loop. If novacrond was
 * restarted and the movers are gone too, the page comes only after a `migrate-recover` that nobody
 * could give. So a second connection is made and negotiated while all is well, and QEMU
 * keeps our end of it itself, as it does with its migration socket (keeper.h); the next
 * novacrond takes it out of QEMU's process.
 */
#pragma once

#include "agent/migration.h"
#include "qemu/qmp.h"

/* Makes one and hands it to QEMU; notes where it is in the record. Without one, post-copy is less safe, and no less possible. */
bool nc_spare_monitor_keep(NcMigration *m, NcQmp *qmp, GError **error);
/* The one that QEMU holds; for commands out of band. */
NcQmp *nc_spare_monitor_take(NcMigration *m, GError **error);
/* All pages are here: QEMU lets go of it. */
void nc_spare_monitor_end(NcQmp *qmp);
