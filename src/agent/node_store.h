/* SPDX-License-Identifier: Apache-2.0 */
/* The node's page store, opened as novacrond.conf says. */
#pragma once

#include "agent/config.h"
#include "store/page_store.h"

/*
 * Opens store_dir. One that can't be written to (a read-only file system) is opened for reading, with a line in the log. NULL on
 * error: the node can do without checkpoints, so that is not the end.
 */
NcPageStore *nc_node_store_open(const NcConfig *config, GError **error);
