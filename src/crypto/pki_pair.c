/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/pki_pair.h"
#include "base/fault.h"
#include "base/io.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define NC_PAIR_TRIES 3 /* a reader may come between the renames of somebody else, once */

typedef struct {
  char *cert, *before, *key, *next; /* paths */
} NcPairPaths;

static void
nc_pair_paths_clear(NcPairPaths *paths)
{
  g_free(paths->cert);
  g_free(paths->before);
  g_free(paths->key);
  g_free(paths->next);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcPairPaths, nc_pair_paths_clear)

static NcPairPaths
nc_pair_paths(const char *pki_dir)
{
  return (NcPairPaths){ .cert = g_build_filename(pki_dir, "node.crt", NULL),
                        .before = g_build_filename(pki_dir, NC_PKI_CERT_BEFORE, NULL),
                        .key = g_build_filename(pki_dir, "node.key", NULL),
                        .next = g_build_filename(pki_dir, "node.key.next", NULL) };
}

/* The key in ${path}, if it is that of ${cert}. */
static NcKey *
nc_pair_key(const char *path, const NcCert *cert, GError **error)
{
  g_autoptr(NcKey) key = nc_key_load(path, error);

  if (key && !nc_cert_fits_key(cert, key)) {
    nc_fail(error, NC_ERROR_TRUST, "node.key is not the key of node.crt");
    return NULL;
  }
  return g_steal_pointer(&key);
}

static bool
nc_pair_try(const NcPairPaths *paths, NcCert **ret_cert, NcKey **ret_key, GError **error)
{
  g_autoptr(NcCert) cert = nc_cert_load(paths->cert, error);
  NcKey *key = cert ? nc_pair_key(paths->key, cert, error) : NULL;

  if (cert && !key && (key = nc_pair_key(paths->next, cert, NULL)))
    g_clear_error(error);
  if (!key)
    return false;
  *ret_cert = g_steal_pointer(&cert);
  *ret_key = key;
  return true;
}

bool
nc_pki_pair_load(const char *pki_dir, NcCert **ret_cert, NcKey **ret_key, GError **error)
{
  g_auto(NcPairPaths) paths = nc_pair_paths(pki_dir);
  g_autoptr(GError) problem = NULL;

  for (int i = 0; i < NC_PAIR_TRIES; i++) {
    g_clear_error(&problem);
    if (nc_pair_try(&paths, ret_cert, ret_key, &problem))
      return true;
  }
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}

static bool
nc_pair_rename_key(const NcPairPaths *paths, GError **error)
{
  if (rename(paths->next, paths->key) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't rename %s", paths->next);
  return nc_directory_sync(paths->key, error);
}

bool
nc_pki_pair_settle(const char *pki_dir, GError **error)
{
  g_auto(NcPairPaths) paths = nc_pair_paths(pki_dir);

  if (access(paths.next, F_OK) < 0)
    return true;
  g_autoptr(NcCert) cert = nc_cert_load(paths.cert, error);
  if (!cert)
    return false;
  g_autoptr(NcKey) next = nc_pair_key(paths.next, cert, NULL);
  if (next)
    return nc_pair_rename_key(&paths, error);
  g_autoptr(NcKey) key = nc_pair_key(paths.key, cert, error);
  if (!key)
    return false; /* nothing is thrown away while nothing fits */
  if (unlink(paths.next) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't remove %s", paths.next);
  return true;
}

bool
nc_pki_pair_propose(const char *pki_dir, NcKey *key, GError **error)
{
  g_auto(NcPairPaths) paths = nc_pair_paths(pki_dir);

  /* What is there may be the only key that fits. */
  if (!nc_pki_pair_settle(pki_dir, error) || !nc_key_save(key, paths.next, error))
    return false;
  nc_fault_point("renew-key-proposed");
  return true;
}

/* A copy of the certificate that goes. */
static bool
nc_pair_keep_certificate(const NcPairPaths *paths, GError **error)
{
  g_autoptr(NcCert) cert = nc_cert_load(paths->cert, error);
  return cert && nc_cert_save(cert, paths->before, error);
}

bool
nc_pki_pair_replace(const char *pki_dir, NcCert *cert, GError **error)
{
  g_auto(NcPairPaths) paths = nc_pair_paths(pki_dir);
  g_autoptr(NcKey) key = nc_pair_key(paths.next, cert, NULL);

  if (!key)
    return nc_fail(error, NC_ERROR_TRUST, "the new certificate is not for the key that was made for it, %s", paths.next);
  if (!nc_pair_keep_certificate(&paths, error))
    return false;
  nc_fault_point("renew-certificate-kept");
  if (!nc_cert_save(cert, paths.cert, error))
    return false;
  nc_fault_point("renew-certificate-written");
  if (!nc_pair_rename_key(&paths, error))
    return false;
  nc_fault_point("renew-key-written");
  return true;
}
