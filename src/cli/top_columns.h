/* SPDX-License-Identifier: Apache-2.0 */
/* What `novacron top` shows of a migration, in columns that share the width there is. */
#pragma once

#include "base/msg.h"
#include "cli/top_page.h"

/* Lines of columns. The first two are about one that runs. */
typedef enum { NC_TOP_PLACE, NC_TOP_FIGURES, NC_TOP_ENDED } NcTopLine;

/* So many columns of an 80 columns wide page does a line need. */
#define NC_TOP_COLUMNS 80u

/* The titles of ${line}'s columns, or what they show of ${migration}, in ${width} cells from where ${page} is. */
void nc_top_put_titles(NcTopPage *page, NcTopLine line, size_t width);
void nc_top_put_columns(NcTopPage *page, NcTopLine line, size_t width, json_t *migration);

/* --- pieces, which the details use as well; callers free texts, "-" is what is not known --- */

char *nc_top_phase(json_t *migration);     /* "memory", "memory (2)" of the second attempt */
char *nc_top_bar(json_t *migration, size_t width);
char *nc_top_eta(json_t *migration);       /* "12s +-3s" */
char *nc_top_pause(json_t *migration);     /* "120/300 ms": expected or measured, and the limit */
char *nc_top_dirty(json_t *migration);     /* "5.0/90.0 MB/s", with "!" where it does not converge */
char *nc_top_rtt(json_t *migration);       /* "20.3 ms" */
char *nc_top_loss(json_t *migration);      /* "0.50%" */
char *nc_top_connections(json_t *migration); /* "4", "3/4" where some are down */
char *nc_top_duration(double ms);          /* "0.2s", "43s", "3m05s", "2h03m", "5d02h" */
bool nc_top_converges(json_t *migration);  /* or it is not known */
