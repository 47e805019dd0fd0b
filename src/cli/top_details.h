/* SPDX-License-Identifier: Apache-2.0 */
/* Everything about one migration on a page of `novacron top`: figures, trouble, history with the newest first. */
#pragma once

#include "base/msg.h"
#include "cli/top_page.h"

void nc_top_put_details(NcTopPage *page, json_t *migration);
