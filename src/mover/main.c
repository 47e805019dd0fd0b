/* SPDX-License-Identifier: Apache-2.0 */
/* novacron-mover: its options, and the order in which it gives up what it could do. */
#include "base/log.h"
#include "crypto/tls.h"
#include "mover/control.h"
#include "mover/sandbox.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NC_MOVER_SPARE_ARENAS 4 /* beside one per encoder: reader, writer, and the links' share */

typedef struct {
  uid_t uid;
  gid_t gid;
  bool no_sandbox;
  NcLogFormat log_format;
  NcLogLevel log_level;
} NcMoverOptions;

static const char nc_mover_usage[] = "Usage: novacron-mover [OPTION]...\n"
                                     "Carries the bytes of one live migration on one side, between QEMU and the\n"
                                     "mover of the other node. novacrond starts it, with a socket as descriptor 3;\n"
                                     "there is nothing to gain from starting it by hand.\n"
                                     "\n"
                                     "      --uid N           become user N (number; as root)\n"
                                     "      --gid N           become group N (number; as root)\n"
                                     "      --log-format F    text or json (standard error)\n"
                                     "      --log-level L     err, warning, notice, info or debug\n"
                                     "      --no-sandbox      keep privileges and system calls: for debugging only\n"
                                     "      --help            print this\n"
                                     "      --version         print the version\n"
                                     "\n"
                                     "Exit status: 0 after an orderly end, 1 after an error (reported to novacrond\n"
                                     "first) or when novacrond went away, 2 for wrong usage.\n";

enum {
  NC_OPT_UID = 256,
  NC_OPT_GID,
  NC_OPT_LOG_FORMAT,
  NC_OPT_LOG_LEVEL,
  NC_OPT_NO_SANDBOX,
  NC_OPT_HELP,
  NC_OPT_VERSION
};

static const struct option nc_mover_long_options[] = {
  { "uid", required_argument, NULL, NC_OPT_UID },
  { "gid", required_argument, NULL, NC_OPT_GID },
  { "log-format", required_argument, NULL, NC_OPT_LOG_FORMAT },
  { "log-level", required_argument, NULL, NC_OPT_LOG_LEVEL },
  { "no-sandbox", no_argument, NULL, NC_OPT_NO_SANDBOX },
  { "help", no_argument, NULL, NC_OPT_HELP },
  { "version", no_argument, NULL, NC_OPT_VERSION },
  { NULL, 0, NULL, 0 },
};

static bool
nc_mover_parse_id(const char *text, uid_t *ret)
{
  guint64 value;
  if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &value, NULL))
    return false;
  *ret = (uid_t)value;
  return true;
}

static bool
nc_mover_parse_format(const char *text, NcLogFormat *ret)
{
  bool json = g_str_equal(text, "json");
  if (!json && !g_str_equal(text, "text"))
    return false;
  *ret = json ? NC_LOG_JSON : NC_LOG_TEXT;
  return true;
}

static bool
nc_mover_parse_level(const char *text, NcLogLevel *ret)
{
  int level = nc_log_level_from_name(text);
  if (level < 0)
    return false;
  *ret = (NcLogLevel)level;
  return true;
}

/* Exits for --help, --version and wrong usage. */
static void
nc_mover_parse_options(int argc, char **argv, NcMoverOptions *ret)
{
  int choice;

  while ((choice = getopt_long(argc, argv, "", nc_mover_long_options, NULL)) != -1) {
    bool ok = true;
    switch (choice) {
    case NC_OPT_UID:
      ok = nc_mover_parse_id(optarg, &ret->uid);
      break;
    case NC_OPT_GID:
      ok = nc_mover_parse_id(optarg, &ret->gid);
      break;
    case NC_OPT_LOG_FORMAT:
      ok = nc_mover_parse_format(optarg, &ret->log_format);
      break;
    case NC_OPT_LOG_LEVEL:
      ok = nc_mover_parse_level(optarg, &ret->log_level);
      break;
    case NC_OPT_NO_SANDBOX:
      ret->no_sandbox = true;
      break;
    case NC_OPT_HELP:
      fputs(nc_mover_usage, stdout);
      exit(EXIT_SUCCESS);
    case NC_OPT_VERSION:
      puts("novacron-mover " NC_VERSION);
      exit(EXIT_SUCCESS);
    default:
      fputs("Try 'novacron-mover --help'.\n", stderr);
      exit(2);
    }
    if (!ok) {
      fprintf(stderr, "novacron-mover: bad value '%s'\n", optarg);
      exit(2);
    }
  }
  if (optind < argc) {
    fprintf(stderr, "novacron-mover: unexpected argument '%s'\n", argv[optind]);
    exit(2);
  }
}

/*
 * Buffers of a batch are reused by malloc, not given back to the kernel and faulted in again each time. And the number
 * of arenas is said now: with the eighth thread or so glibc would look into /sys for it, which the sandbox forbids.
 */
static void
nc_mover_tune_malloc(void)
{
#ifdef M_ARENA_MAX
  mallopt(M_ARENA_MAX, NC_MOVER_SPARE_ARENAS + (int)g_get_num_processors());
#endif
#ifdef M_MMAP_THRESHOLD
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

/* GLib keeps the texts of errors it was asked for; translating one opens files. */
static void
nc_mover_load_error_texts(void)
{
  const char *volatile text; /* the compiler believes that asking has no effect */
  for (int errnum = 1; errnum <= EHWPOISON; errnum++)
    text = g_strerror(errnum);
  (void)text;
}

static NcControl *
nc_mover_prepare(const NcMoverOptions *options, GError **error)
{
  nc_mover_tune_malloc();
  signal(SIGPIPE, SIG_IGN);
  if (!nc_sandbox_isolate(error))
    return NULL;
  g_autoptr(NcControl) control = nc_control_new(NC_SANDBOX_LAST_FD, error);
  if (!control || !nc_tls_preload(error))
    return NULL;
  nc_mover_load_error_texts();
  if (!nc_sandbox_demote(options->uid, options->gid, !options->no_sandbox, error))
    return NULL;
  if (!options->no_sandbox && !nc_sandbox_seal(error))
    return NULL;
  return g_steal_pointer(&control);
}

int
main(int argc, char **argv)
{
  NcMoverOptions options = {
    .uid = NC_SANDBOX_KEEP_ID,
    .gid = NC_SANDBOX_KEEP_ID,
    .log_format = NC_LOG_TEXT,
    .log_level = NC_LOG_INFO,
  };
  g_autoptr(GError) error = NULL;

  nc_mover_parse_options(argc, argv, &options);
  nc_log_init("novacron-mover", options.log_format, options.log_level);
  NcControl *control = nc_mover_prepare(&options, &error);
  if (!control) {
    nc_log(NC_LOG_ERR, "mover", "%s", error->message);
    return EXIT_FAILURE;
  }
  nc_control_run(control); /* does not return: other threads run until _exit */
}
