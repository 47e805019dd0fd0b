/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all subcommands share: the global options, the table of subcommands,
 * and reading a subcommand's own options.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"
#include <glib.h>
#include <stdbool.h>

#define NC_CLI_SOCKET_DEFAULT "/run/novacron/api.sock"

typedef struct {
  char *socket;              /* the gate's UNIX socket; used unless ${url} is set */
  char *url;                 /* "https://host:port" */
  char *cert, *key, *cacert; /* PEM files for ${url} */
  char *token_file;
  char *token; /* from ${token_file} or, with ${url}, $NOVACRON_TOKEN; NULL: none */
  int json;                  /* one JSON object on standard output instead of text */
  const int *stop; /* set, by g_atomic_int_set(), to end what is asked; NULL: nobody does */
  int status; /* the exit status of a command that did what it was asked (`migrate --wait` reports an outcome) */
} NcCli;

typedef struct NcCommand NcCommand;

/* Does it; arguments without the subcommand's words. false with an error: main() prints it and chooses the status. */
typedef bool (*NcCommandFunc)(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error);

struct NcCommand {
  const char *name;      /* "vm define" */
  const char *arguments; /* "FILE", for usage; "" */
  int min_arguments, max_arguments;
  NcCommandFunc run;
  const char *summary; /* one line */
  const char *help;    /* examples and what else is worth saying */
};

/* The table, ended by a row without a name. */
extern const NcCommand nc_commands[];

/*
 * Reads options of ${command} (${options}: its own, NULL-terminated table or
 * NULL) together with the global ones, which may stand anywhere, and checks
 * the number of arguments. --help prints and exits 0. On return *argv holds
 * the arguments alone, *argc their number. NC_ERROR_INVALID on misuse.
 */
bool nc_cli_parse(NcCli *cli, const NcCommand *command, const GOptionEntry *options, int *argc, char ***argv,
                  GError **error);

/* Reads global options that stand before the subcommand; *argc and *argv then begin at the subcommand. */
bool nc_cli_parse_global(NcCli *cli, int *argc, char ***argv, bool *ret_help, bool *ret_version, GError **error);

/* Prints ${object} (borrowed) as one line of JSON. */
void nc_cli_print_json(json_t *object);

/* Name rule of base/ident.h as an error for a command line's ${what}: "machine", "node", "migration". */
bool nc_cli_check_name(const char *what, const char *name, GError **error);
/* Of what only a node's migrations have: an id of the fleet's has attempts that do. */
bool nc_cli_check_migration(const char *id, GError **error);

#define NC_PKI_DIR_DEFAULT "/var/lib/novacron/pki"
/* ${directory} as people name it, ".../pki" or the one above, to the data directory of crypto/pki.h. Caller frees. */
char *nc_cli_pki_data_dir(const char *directory);

/* One function per row of the table, in cmd_*.c. */
bool nc_cmd_pki_init(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_pki_renew(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_relay_connect(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_relay_listen(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_node_list(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_node_info(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_node_token(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_node_remove(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_token_create(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_token_list(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_token_revoke(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_vm_define(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_vm_list(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_vm_show(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_vm_start(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_vm_stop(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_vm_destroy(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_vm_adopt(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_create(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_list(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_show(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_verify(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_restore(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_copy(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_cancel(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_delete(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_checkpoint_schedule(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_store_status(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_store_verify(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_store_gc(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_store_cancel(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_migrate(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_status(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_nodes(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_evacuations(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_batches(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_machines(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_list(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_show(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_migrate(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_batch(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_evacuate(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_cancel(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_cordon(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_fleet_uncordon(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_queue(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_history(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_events(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_simulate(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_top(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_status(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_check(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_plan(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_report(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_doctor(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_cancel(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_limit(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_resolve(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_rollback(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_alerts(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_audit_list(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_audit_verify(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_version(NcCli *, const NcCommand *, int, char **, GError **);
bool nc_cmd_help(NcCli *, const NcCommand *, int, char **, GError **);
