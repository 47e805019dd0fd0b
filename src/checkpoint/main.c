/* SPDX-License-Identifier: Apache-2.0 */
/* novacron-checkpointer: reads one machine's migration stream in a sandbox and tells novacrond what is in it. */
#include "base/log.h"
#include "base/msg.h"
#include "checkpoint/reader.h"
#include "mover/sandbox.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
  uid_t uid;
  gid_t gid;
  int no_sandbox;
} NcCheckpointerOptions;

static const char nc_checkpointer_usage[] = "Usage: novacron-checkpointer [OPTION]...\n"
                                            "Reads the memory of one machine for a checkpoint. novacrond starts it, with a\n"
                                            "socket as descriptor 3; there is nothing to gain from starting it by hand.\n"
                                            "\n"
                                            "      --uid N           become user N (number; as root)\n"
                                            "      --gid N           become group N (number; as root)\n"
                                            "      --no-sandbox      keep privileges and system calls: for debugging only\n"
                                            "      --help            print this\n"
                                            "      --version         print the version\n"
                                            "\n"
                                            "Exit status: 0 after an orderly end, 1 after an error, 2 for wrong usage.\n";

static uid_t
nc_checkpointer_parse_id(const char *text)
{
  guint64 value;
  if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &value, NULL)) {
    fprintf(stderr, "novacron-checkpointer: bad value '%s'\n", text);
    exit(2);
  }
  return (uid_t)value;
}

/* Exits for --help, --version and wrong usage. */
static void
nc_checkpointer_parse(int argc, char **argv, NcCheckpointerOptions *ret)
{
  const struct option options[] = { { "uid", required_argument, NULL, 'u' },  { "gid", required_argument, NULL, 'g' },
                                    { "no-sandbox", no_argument, NULL, 'n' }, { "help", no_argument, NULL, 'h' },
                                    { "version", no_argument, NULL, 'v' },    { NULL, 0, NULL, 0 } };
  int choice;

  while ((choice = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (choice) {
    case 'u':
      ret->uid = nc_checkpointer_parse_id(optarg);
      break;
    case 'g':
      ret->gid = nc_checkpointer_parse_id(optarg);
      break;
    case 'n':
      ret->no_sandbox = true;
      break;
    case 'h':
      fputs(nc_checkpointer_usage, stdout);
      exit(EXIT_SUCCESS);
    case 'v':
      puts("novacron-checkpointer " NC_VERSION);
      exit(EXIT_SUCCESS);
    default:
      fputs("Try 'novacron-checkpointer --help'.\n", stderr);
      exit(2);
    }
  }
  if (optind < argc) {
    fprintf(stderr, "novacron-checkpointer: unexpected argument '%s'\n", argv[optind]);
    exit(2);
  }
}

/* GLib translates an error's text when it is first asked for, and that opens files. */
static void
nc_checkpointer_load_error_texts(void)
{
  const char *volatile text;
  for (int errnum = 1; errnum <= EHWPOISON; errnum++)
    text = g_strerror(errnum);
  (void)text;
}

static bool
nc_checkpointer_run(const NcCheckpointerOptions *options, GError **error)
{
  nc_autofd int qemu = -1;

  signal(SIGPIPE, SIG_IGN);
  if (!nc_sandbox_isolate(error))
    return false;
  nc_checkpointer_load_error_texts();
  json_object_seed(0); /* jansson would open /dev/urandom at the first object */
  if (!nc_sandbox_demote(options->uid, options->gid, !options->no_sandbox, error) ||
      (!options->no_sandbox && !nc_sandbox_seal(error)))
    return false;
  nc_autojson json_t *order = nc_msg_recv(NC_SANDBOX_LAST_FD, -1, &qemu, error);
  if (!order)
    return false;
  if (qemu < 0)
    return nc_fail(error, NC_ERROR_PROTOCOL, "novacrond sent no descriptor");
  return nc_reader_run(qemu, NC_SANDBOX_LAST_FD, error);
}

int
main(int argc, char **argv)
{
  NcCheckpointerOptions options = { .uid = NC_SANDBOX_KEEP_ID, .gid = NC_SANDBOX_KEEP_ID };
  g_autoptr(GError) error = NULL;

  nc_checkpointer_parse(argc, argv, &options);
  nc_log_init("novacron-checkpointer", NC_LOG_TEXT, NC_LOG_INFO);
  if (nc_checkpointer_run(&options, &error))
    return EXIT_SUCCESS;
  nc_log(NC_LOG_ERR, "checkpoint", "%s", error->message);
  return EXIT_FAILURE;
}
