/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors: closing by scope, whole reads and writes, passing over
 * UNIX sockets, durable files.
 */
#pragma once

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `nc_autofd int fd = ...;` closes at the end of the scope; -1 is nothing. */
#define nc_autofd __attribute__((cleanup(nc_fd_clear)))
void nc_fd_clear(int *fd);          /* closes *fd and sets it to -1; keeps errno */
int nc_fd_steal(int *fd);           /* returns *fd and sets it to -1 */
bool nc_fd_set_nonblocking(int fd, bool nonblocking, GError **error);

/* Writes all of ${data}, waiting as needed (also on a non-blocking fd). Never raises SIGPIPE on sockets. */
bool nc_write_all(int fd, const void *data, size_t length_bytes, GError **error);
/* Reads exactly ${length_bytes}; an early end is NC_ERROR_IO "closed". ${timeout_ms} < 0: no limit. */
bool nc_read_all(int fd, void *data, size_t length_bytes, int timeout_ms, GError **error);

/* Listening UNIX socket at ${path} with permissions ${mode}; a stale socket file is replaced. -1 on error. */
int nc_unix_listen(const char *path, int mode, GError **error);
/* Connected UNIX stream socket, close-on-exec. -1 on error. */
int nc_unix_connect(const char *path, GError **error);

/* Sends ${length_bytes} (>= 1) with at most one descriptor attached to the first byte (${fd} < 0: none). */
bool nc_send_with_fd(int socket, const void *data, size_t length_bytes, int fd, GError **error);

/*
 * Replaces ${path} atomically and durably: temporary name, fsync, rename,
 * fsync of the directory. After true, a power cut leaves the new content;
 * before, the old.
 */
bool nc_file_replace(const char *path, const void *data, size_t length_bytes, int mode, GError **error);

/* Makes what was made, renamed or removed in the directory of ${path} durable. */
bool nc_directory_sync(const char *path, GError **error);

/* Reads a file of at most ${limit_bytes}; NUL-terminated beyond *ret_length. NULL on error. */
char *nc_file_read(const char *path, size_t limit_bytes, size_t *ret_length, GError **error);

/* mkdir -p with ${mode}. */
bool nc_mkdir_p(const char *path, int mode, GError **error);
