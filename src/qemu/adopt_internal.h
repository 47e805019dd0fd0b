/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the rewriting rules share; private to src/qemu/adopt_*.c. */
#pragma once

#include "qemu/adopt.h"
#include "qemu/option.h"

typedef struct {
  const NcAdoptFacts *facts;
  char *const *argv;
  NcMachineSpec *spec; /* under construction */
  GPtrArray *out;      /* the new arguments */
  GHashTable *used;    /* names in the run directory */
  bool has_type;       /* -machine with a type was seen */
  bool has_accel;
  bool has_display;
  unsigned serials, parallels, debugcons, vncs, nics; /* so far, for names */
} NcAdopt;

typedef struct NcAdoptRule NcAdoptRule;
/* ${value} is NULL for options without one. False with NC_ERROR_UNSUITABLE. */
typedef bool (*NcAdoptFunc)(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);

struct NcAdoptRule {
  const char *name; /* with one dash */
  bool has_value;
  NcAdoptFunc func;
  const char *note; /* for nc_adopt_refuse: why; for paths: the keys with paths, "|" between */
};

void nc_adopt_emit(NcAdopt *a, const char *option, const char *value);
bool nc_adopt_emit_option(NcAdopt *a, const NcAdoptRule *rule, const NcOption *option);
/* For `return`: "-NAME VALUE: why". */
bool nc_adopt_unsuitable(const NcAdoptRule *rule, const char *value, const char *why, GError **error);
/*
 * Where a socket or log goes: NC_RUN_MARK/ and the last part of ${path}, if that is harmless
 * and not taken yet; otherwise (or with ${path} NULL) ${fallback}, which is unique. Caller frees.
 */
char *nc_adopt_run_path(NcAdopt *a, const char *path, const char *fallback);
/* Does another argument than ${own} refer to ${key} as ${id}: key=id, key:id or "key":"id"? */
bool nc_adopt_is_referenced(const NcAdopt *a, const char *key, const char *id, const char *own);

/* adopt_chardev.c */
bool nc_adopt_chardev(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_serial(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_parallel(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_debugcon(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);

/* adopt_devices.c */
bool nc_adopt_netdev(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_net(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_device(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_object(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_vnc(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_spice(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_display(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_nographic(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
bool nc_adopt_audio(NcAdopt *a, const NcAdoptRule *rule, const char *value, GError **error);
