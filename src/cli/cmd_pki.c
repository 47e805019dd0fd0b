/* SPDX-License-Identifier: Apache-2.0 */
/* novacron pki: making a cluster, which needs no running novacrond, and renewing a node's certificate, which it does. */
#include "base/tcp.h"
#include "cli/client.h"
#include "cli/table.h"
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

static json_t *
nc_pki_renew_body(int days, const char *from)
{
  json_t *body = json_object();

  if (days)
    json_object_set_new(body, "days", json_integer(days));
  if (from)
    json_object_set_new(body, "from", json_string(from));
  return body;
}

static void
nc_pki_print_renewed(json_t *renewed)
{
  g_autofree char *name = nc_text_clean(nc_json_string_or(renewed, "name", "?"));
  g_autofree char *signer = nc_text_clean(nc_json_string_or(renewed, "signer", "?"));
  g_autofree char *expires = nc_text_clean(nc_json_string_or(renewed, "certificate_expires", "?"));

  printf("%s has a new key and certificate, good until %.10s; novacrond uses them.\n", name, expires);
  if (nc_json_bool_or(renewed, "old_is_revoked", false))
    printf("The old certificate is refused from now on.\n");
  else
    printf("The old certificate is good, too, until %s is reached again.\n", signer);
}

bool
nc_cmd_pki_renew(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *from = NULL;
  int days = 0;
  const GOptionEntry options[] = {
    { "days", 0, 0, G_OPTION_ARG_INT, &days, "life of the new certificate (default 825)", "N" },
    { "from", 0, 0, G_OPTION_ARG_STRING, &from, "the node with the CA's key (default: as the node list says)", "NODE" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || (from && !nc_cli_check_name("node", from, error)))
    return false;
  if (days < 0 || days > NC_PKI_CA_DAYS)
    return nc_fail(error, NC_ERROR_INVALID, "--days must be from 1 to %d", NC_PKI_CA_DAYS);
  nc_autojson json_t *body = nc_pki_renew_body(days, from);
  nc_autojson json_t *renewed = nc_client_call(cli, "POST", "/api/v2/node/certificate", body, error);
  if (!renewed)
    return false;
  if (cli->json)
    nc_cli_print_json(renewed);
  else
    nc_pki_print_renewed(renewed);
  return true;
}
