/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing metrics as text: the Prometheus text format 0.0.4, and OpenMetrics 1.0
 * (https://prometheus.io/docs/specs/om/open_metrics_spec/). Pure. A family is
 * begun, its samples follow; a value that is not known (NAN) has no sample.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { NC_EXPOSITION_TEXT, NC_EXPOSITION_OPENMETRICS } NcExpositionFormat;
typedef enum { NC_FAMILY_GAUGE, NC_FAMILY_COUNTER, NC_FAMILY_HISTOGRAM, NC_FAMILY_INFO } NcFamilyType;

typedef struct NcExposition NcExposition;

NcExposition *nc_exposition_new(NcExpositionFormat format);
void nc_exposition_free(NcExposition *e);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcExposition, nc_exposition_free)

/* ${name}: without the _total or _info that samples of some types end with. ${unit}: "bytes", "seconds", the name's end; or NULL. */
void nc_exposition_family(NcExposition *e, const char *name, NcFamilyType type, const char *unit, const char *help);
/* One sample of the last family. ${labels}: of nc_exposition_labels(), or NULL. NAN: none is written. */
void nc_exposition_sample(NcExposition *e, const char *labels, double value);
/* Pairs of name and value, ended by NULL: "a=\"x\",b=\"y\"". A value of NULL leaves its label out. Caller frees. */
char *nc_exposition_labels(const char *name, ...) G_GNUC_NULL_TERMINATED;
/* All that was written, in ${e}; nothing can be added. Borrowed. */
const char *nc_exposition_end(NcExposition *e);
/* For Content-Type. */
const char *nc_exposition_media_type(NcExpositionFormat format);

/* --- histograms --- */

#define NC_HISTOGRAM_BOUNDS 16

typedef struct {
  const double *bounds; /* borrowed; ascending, NC_HISTOGRAM_BOUNDS at most */
  size_t n_bounds;
  uint64_t counts[NC_HISTOGRAM_BOUNDS + 1]; /* not cumulated; the last: above all bounds */
  double sum;
} NcHistogram;

/* NAN and negative values are not counted. */
void nc_histogram_observe(NcHistogram *h, double value);
/* The samples of a histogram's family. */
void nc_exposition_histogram(NcExposition *e, const char *labels, const NcHistogram *h);
