/* SPDX-License-Identifier: Apache-2.0 */
/* novacron-checkpointer: reads one machine's migration stream in a sandbox and tells novacrond what is in it. */
#include "base/log.h"
#include "base/msg.h"
#include "checkpoint/reader.h"
#include "mover/sandbox_options.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>

static const char nc_checkpointer_purpose[] = "Reads the memory of one machine for a checkpoint. novacrond starts it, with a\n"
                                              "socket as descriptor 3; there is nothing to gain from starting it by hand.\n";

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
nc_checkpointer_run(const NcSandboxOptions *options, GError **error)
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
  NcSandboxOptions options;
  g_autoptr(GError) error = NULL;

  nc_sandbox_options_parse("novacron-checkpointer", nc_checkpointer_purpose, argc, argv, &options);
  nc_log_init("novacron-checkpointer", NC_LOG_TEXT, NC_LOG_INFO);
  if (nc_checkpointer_run(&options, &error))
    return EXIT_SUCCESS;
  nc_log(NC_LOG_ERR, "checkpoint", "%s", error->message);
  return EXIT_FAILURE;
}
