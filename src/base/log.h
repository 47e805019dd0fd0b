/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured log on standard error.
 *
 * Text lines start with journald's level prefix ("<6>") when standard error is
 * not a terminal; with NC_LOG_JSON each line is one object with keys time,
 * level, component, message, process. A component is the directory's name
 * ("agent", "mover", ...). Thread-safe; the one global of the tree.
 */
#pragma once

#include <glib.h>

typedef enum { NC_LOG_ERR = 3, NC_LOG_WARNING = 4, NC_LOG_NOTICE = 5, NC_LOG_INFO = 6, NC_LOG_DEBUG = 7 } NcLogLevel;
typedef enum { NC_LOG_TEXT, NC_LOG_JSON } NcLogFormat;

/* Until called: text, NC_LOG_INFO. ${process} is a static string, e.g. "novacrond". */
void nc_log_init(const char *process, NcLogFormat format, NcLogLevel most_verbose);
void nc_log(NcLogLevel level, const char *component, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* "err", "warning", "notice", "info", "debug" -> level; -1 for anything else. */
int nc_log_level_from_name(const char *name);
