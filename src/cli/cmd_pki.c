/* SPDX-License-Identifier: Apache-2.0 */
/* novacron pki: making a cluster. Needs no running novacrond. */
#include "base/tcp.h"
#include "cli/cli.h"
#include "crypto/pki.h"

#include <stdio.h>

static bool
nc_pki_check(const char *name, const char *address, int days, GError **error)
{
  if (!name || !address)
    return nc_fail(error, NC_ERROR_INVALID,
                   "--name NODE and --address HOST:PORT are needed (see novacron pki init --help)");
  if (!nc_cli_check_name("node", name, error))
    return false;
  if (!nc_tcp_address_is_valid(address))
    return nc_fail(error, NC_ERROR_INVALID,
                   "\"%s\" is not an address other nodes can connect to: write HOST:PORT, like 192.0.2.1:7450",
                   address);
  if (days < 0 || days > NC_PKI_CA_DAYS)
    return nc_fail(error, NC_ERROR_INVALID, "--days must be from 1 to %d", NC_PKI_CA_DAYS);
  return true;
}

bool
nc_cmd_pki_init(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *dir = NULL, *name = NULL, *address = NULL, *cluster = NULL;
  int days = 0;
  const GOptionEntry options[] = {
    { "name", 0, 0, G_OPTION_ARG_STRING, &name, "this node's name", "NODE" },
    { "address", 0, 0, G_OPTION_ARG_STRING, &address, "where other nodes reach its novacrond", "HOST:PORT" },
    { "dir", 0, 0, G_OPTION_ARG_FILENAME, &dir, "where keys and certificates go (default " NC_PKI_DIR_DEFAULT ")",
      "DIR" },
    { "cluster", 0, 0, G_OPTION_ARG_STRING, &cluster, "the cluster's name (default novacron)", "NAME" },
    { "days", 0, 0, G_OPTION_ARG_INT, &days, "life of the node's certificate (default 825)", "N" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_pki_check(name, address, days, error) ||
      !nc_cli_check_name("cluster", cluster ? cluster : "novacron", error))
    return false;
  g_autofree char *data_dir = nc_cli_pki_data_dir(dir ? dir : NC_PKI_DIR_DEFAULT);
  if (!nc_pki_init(data_dir, cluster ? cluster : "novacron", name, address, days, error))
    return false;
  g_autofree char *pki = nc_pki_dir(data_dir);
  if (cli->json) {
    nc_autojson json_t *made = json_pack("{s:s, s:s, s:s}", "directory", pki, "name", name, "address", address);
    nc_cli_print_json(made);
    return true;
  }
  printf("%s is the first node of a new cluster; its keys are in %s.\n"
         "Keep %s/ca.key safe: whoever has it can add nodes.\n"
         "Next: systemctl start novacrond; then \"novacron node token\" for each further node.\n",
         name, pki, pki);
  return true;
}
