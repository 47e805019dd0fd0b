/* SPDX-License-Identifier: Apache-2.0 */
#include "mover/sandbox_options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char nc_sandbox_usage[] = "Usage: %s [OPTION]...\n"
                                       "%s"
                                       "\n"
                                       "      --uid N           become user N (number; as root)\n"
                                       "      --gid N           become group N (number; as root)\n"
                                       "      --no-sandbox      keep privileges and system calls: for debugging only\n"
                                       "      --help            print this\n"
                                       "      --version         print the version\n"
                                       "\n"
                                       "Exit status: 0 after an orderly end, 1 after an error, 2 for wrong usage.\n";

static uid_t
nc_sandbox_parse_id(const char *program, const char *text)
{
  guint64 value;
  if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &value, NULL)) {
    fprintf(stderr, "%s: bad value '%s'\n", program, text);
    exit(2);
  }
  return (uid_t)value;
}

void
nc_sandbox_options_parse(const char *program, const char *purpose, int argc, char **argv, NcSandboxOptions *ret)
{
  const struct option options[] = { { "uid", required_argument, NULL, 'u' },  { "gid", required_argument, NULL, 'g' },
                                    { "no-sandbox", no_argument, NULL, 'n' }, { "help", no_argument, NULL, 'h' },
                                    { "version", no_argument, NULL, 'v' },    { NULL, 0, NULL, 0 } };
  int choice;

  *ret = (NcSandboxOptions){ .uid = NC_SANDBOX_KEEP_ID, .gid = NC_SANDBOX_KEEP_ID };
  while ((choice = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (choice) {
    case 'u':
      ret->uid = nc_sandbox_parse_id(program, optarg);
      break;
    case 'g':
      ret->gid = nc_sandbox_parse_id(program, optarg);
      break;
    case 'n':
      ret->no_sandbox = true;
      break;
    case 'h':
      printf(nc_sandbox_usage, program, purpose);
      exit(EXIT_SUCCESS);
    case 'v':
      printf("%s " NC_VERSION "\n", program);
      exit(EXIT_SUCCESS);
    default:
      fprintf(stderr, "Try '%s --help'.\n", program);
      exit(2);
    }
  }
  if (optind < argc) {
    fprintf(stderr, "%s: unexpected argument '%s'\n", program, argv[optind]);
    exit(2);
  }
}
