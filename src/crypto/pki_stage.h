/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a pki directory aside and putting it in place, for pki.c and join.c.
 * Private to src/crypto.
 */
#pragma once

#include "crypto/pki.h"

/* NC_ERROR_EXISTS if ${data_dir}/pki holds anything. */
bool nc_pki_is_free(const char *data_dir, GError **error);
/* A new directory beside ${data_dir}/pki. Caller frees the name. */
char *nc_pki_stage(const char *data_dir, GError **error);
/* Removes what nc_pki_stage() made. */
void nc_pki_unstage(const char *stage);
bool nc_pki_save_node(const char *stage, NcKey *key, NcCert *cert, GError **error);
/* Renames it to ${data_dir}/pki, durably; on failure it is still the caller's to unstage. */
bool nc_pki_publish(const char *stage, const char *data_dir, GError **error);
