/* SPDX-License-Identifier: Apache-2.0 */
/* The pki directory: appears whole or not at all. */
#include "crypto/pki.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/tcp.h"
#include "crypto/pki_stage.h"
#include "crypto/roster.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const nc_pki_file[] = { "ca.crt", "ca.key", "node.crt", "node.key", "roster.json", "roster.sig" };

char *
nc_pki_dir(const char *data_dir)
{
  return g_build_filename(data_dir, "pki", NULL);
}

bool
nc_pki_is_free(const char *data_dir, GError **error)
{
  g_autofree char *pki_dir = nc_pki_dir(data_dir);
  g_autoptr(GDir) dir = g_dir_open(pki_dir, 0, NULL);

  if (dir && g_dir_read_name(dir))
    return nc_fail(error, NC_ERROR_EXISTS, "%s is there already: this node belongs to a cluster", pki_dir);
  return true;
}

char *
nc_pki_stage(const char *data_dir, GError **error)
{
  if (!nc_pki_is_free(data_dir, error) || !nc_mkdir_p(data_dir, 0711, error))
    return NULL;
  g_autofree char *stage = g_build_filename(data_dir, "pki.new-XXXXXX", NULL);
  if (!g_mkdtemp_full(stage, 0700)) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't create a directory in %s", data_dir);
    return NULL;
  }
  return g_steal_pointer(&stage);
}

void
nc_pki_unstage(const char *stage)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_pki_file); i++) {
    g_autofree char *path = g_build_filename(stage, nc_pki_file[i], NULL);
    unlink(path);
  }
  rmdir(stage);
}

bool
nc_pki_publish(const char *stage, const char *data_dir, GError **error)
{
  g_autofree char *pki_dir = nc_pki_dir(data_dir);
  nc_autofd int parent = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  /* rename(2) replaces an empty directory and refuses any other: two of us at once can't mix. */
  if (rename(stage, pki_dir) < 0) {
    if (errno == ENOTEMPTY || errno == EEXIST)
      return nc_fail(error, NC_ERROR_EXISTS, "%s is there already: this node belongs to a cluster", pki_dir);
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't create %s", pki_dir);
  }
  if (parent < 0 || fsync(parent) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't make %s durable", data_dir);
  return true;
}

bool
nc_pki_save_node(const char *stage, NcKey *key, NcCert *cert, GError **error)
{
  g_autofree char *key_path = g_build_filename(stage, "node.key", NULL);
  g_autofree char *cert_path = g_build_filename(stage, "node.crt", NULL);

  return nc_key_save(key, key_path, error) && nc_cert_save(cert, cert_path, error);
}

static bool
nc_pki_make(const char *stage, const char *cluster, const char *node, const char *address, int validity_days, GError **error)
{
  g_autoptr(NcCa) ca = nc_ca_new(cluster, error);
  g_autoptr(NcKey) key = ca ? nc_key_new(error) : NULL;
  g_autofree char *csr = key ? nc_key_make_csr(key, node, error) : NULL;
  g_autoptr(NcCert) cert = csr ? nc_ca_issue(ca, csr, node, 1, validity_days, error) : NULL;
  if (!cert)
    return false;
  nc_ca_set_holder(ca, node);
  g_autoptr(NcRoster) empty = nc_roster_new(cluster, ca, error);
  g_autoptr(NcRoster) roster = empty ? nc_roster_with_node(empty, cert, address, false, ca, error) : NULL;

  return roster && nc_ca_save(ca, stage, error) && nc_pki_save_node(stage, key, cert, error) &&
         nc_roster_save(roster, NULL, stage, error);
}

bool
nc_pki_init(const char *data_dir, const char *cluster, const char *node, const char *address, int validity_days, GError **error)
{
  if (!nc_tcp_address_is_valid(address))
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is not an address of the form host:port", address ? address : "");
  g_autofree char *stage = nc_pki_stage(data_dir, error);
  if (!stage)
    return false;
  if (nc_pki_make(stage, cluster, node, address, validity_days, error) && nc_pki_publish(stage, data_dir, error))
    return true;
  nc_pki_unstage(stage);
  return false;
}
