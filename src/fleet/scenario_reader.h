/* SPDX-License-Identifier: Apache-2.0 */
/* Reading checked values out of a JSON file, with complaints that name line and path. Private to src/fleet/scenario*.c. */
#pragma once

#include "base/error.h"
#include "base/msg.h"

typedef struct {
  const char *name, *text; /* of the file */
  size_t length_bytes;
} NcReader;

/* A place in the file: a value, and the path to it. */
typedef struct {
  const NcReader *reader;
  json_t *value; /* borrowed */
  const char *path;
} NcPlace;

/* A number that an object may have. */
typedef struct {
  const char *key;
  double minimum, maximum;
  double fallback; /* NAN: it must be there */
  bool is_whole;
  size_t offset; /* of a double in the struct to be filled in */
} NcNumber;

/* false, and says what is wrong at ${key} (NULL: the place itself). */
bool nc_reader_fail(const NcPlace *place, const char *key, GError **error, const char *format, ...) G_GNUC_PRINTF(4, 5);
/* Is it an object, with no keys but those of ${numbers} and ${others} (NULL-terminated)? Then all numbers, into ${ret}. */
bool nc_reader_object(const NcPlace *place, const NcNumber *numbers, size_t count, const char *const *others, void *ret, GError **error);
/* *ret is NULL if there is no ${key} and it need not be there; borrowed. */
bool nc_reader_string(const NcPlace *place, const char *key, bool must, const char **ret, GError **error);
bool nc_reader_bool(const NcPlace *place, const char *key, bool *ret, GError **error);
/* Strings; *ret is NULL if there is no ${key}. The array is the caller's, the strings are borrowed: g_free(). */
bool nc_reader_strings(const NcPlace *place, const char *key, size_t most, const char ***ret, GError **error);

typedef bool (*NcReaderFunc)(const NcPlace *place, void *user_data, GError **error);
/* Calls ${func} for each element of the array ${key}; fine if there is none. */
bool nc_reader_each(const NcPlace *place, const char *key, NcReaderFunc func, void *user_data, GError **error);
