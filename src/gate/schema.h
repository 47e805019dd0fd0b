/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request may carry: shape and bounds of bodies and query strings.
 *
 * A schema is a table of fields. Whatever is not in the table is refused with
 * its name, whatever is has its type and bounds checked, so that novacrond
 * sees only requests of a known shape. docs/api/openapi.json says the same
 * for people; tests/unit/gate/test_openapi.c compares the two.
 */
#pragma once

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
  NC_FIELD_STRING,  /* minimum and maximum count bytes */
  NC_FIELD_INTEGER, /* minimum and maximum are the value's */
  NC_FIELD_BOOLEAN,
  NC_FIELD_ARRAY, /* minimum and maximum count items; bodies only */
} NcFieldType;

typedef struct NcSchema NcSchema;

/* true if ${value} is acceptable. */
typedef bool (*NcFieldCheck)(const char *value);

typedef struct NcField {
  const char *key;
  NcFieldType type;
  bool required;
  int64_t minimum, maximum;
  NcFieldCheck check; /* strings only; NULL: none */
  const char *rule;   /* what ${check} wants, for people: "... must be <rule>" */
  const char *as;                    /* it is another name of that field; NULL: it is the own one */
  json_t *(*convert)(json_t *value); /* with ${as}: how that one says it, a new reference; NULL: likewise */
  bool yields;                       /* with ${as}: where both are given, the other counts; else that is refused */
  /* of an array: what each item is, one of the two */
  const struct NcField *item; /* its key is what one is called in messages */
  const NcSchema *object;
} NcField;

struct NcSchema {
  const char *name; /* of the schema in openapi.json */
  const NcField *fields;
  size_t n_fields;
  bool optional;    /* the body may be missing: like {} */
  bool open;        /* keys without a field pass: novacrond checks them (a machine's spec) */
  const char *wrap; /* the whole body becomes this one argument; NULL: its keys are the arguments */
};

/*
 * Parses ${length_bytes} of JSON sent by a stranger: an object, no deeper than
 * NC_GATE_JSON_DEPTH, no more than NC_GATE_JSON_VALUES values, keys unique, no
 * NUL in strings, nothing behind it. New reference; NULL with NC_ERROR_INVALID.
 */
json_t *nc_body_parse(const void *data, size_t length_bytes, GError **error);

/* Checks ${object} against ${schema}; NC_ERROR_INVALID naming the key. */
bool nc_schema_check(const NcSchema *schema, json_t *object, GError **error);

/*
 * Body to arguments for novacrond: parse, check, other names to their own, wrap. ${schema} NULL: no body
 * is allowed but an empty one or {}. New reference (an object); NULL on error.
 */
json_t *nc_schema_read_body(const NcSchema *schema, const void *data, size_t length_bytes, GError **error);

/*
 * One `key=value` of a query string, checked against ${schema} (NULL: none is
 * allowed) and added to ${args}. ${value} NULL: the key came without "=".
 */
bool nc_schema_read_query(const NcSchema *schema, const char *key, const char *value, json_t *args, GError **error);

/* The header by which a client names a request, so that asking twice does it once. */
#define NC_KEY_HEADER "Idempotency-Key"
#define NC_KEY_MOST 64 /* characters, printable ASCII */

/* That header, which came ${count} times, the last time with ${value}, as the argument "key". */
bool nc_schema_read_key(unsigned count, const char *value, json_t *args, GError **error);

/* "auto", "none", "lz4", "zstd", or "zstd:LEVEL" with a level from -5 to 9 except 0. */
bool nc_compression_is_valid(const char *text);
