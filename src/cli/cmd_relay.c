/* SPDX-License-Identifier: Apache-2.0 */
/* novacron relay: options, and what people see of a session. Needs no novacrond. */
#include "base/tcp.h"
#include "cli/cli.h"
#include "cli/progress_line.h"
#include "cli/table.h"
#include "cli/units.h"
#include "relay/relay.h"

#include <pwd.h>
#include <signal.h>
#include <stdio.h>

#define NC_RELAY_STREAMS_DEFAULT 1
#define NC_RELAY_COMPRESSION_DEFAULT "auto"
#define NC_RELAY_PAUSE_DEFAULT_MS 300
#define NC_RELAY_MAX_CPU_DEFAULT 100

/* What both subcommands take, and what is shown. */
typedef struct {
  char *pki, *path, *node, *mover, *mover_uid, *mover_gid;
  NcCli *cli;
  GMutex lock; /* protects what is printed, and status */
  NcProgressLine line;
  int status; /* of the last session; 0: completed, or none */
} NcRelayCommand;

/* Signal handlers can reach nothing else. */
static volatile sig_atomic_t nc_relay_interrupted;

static void
nc_relay_on_signal(int signal)
{
  nc_relay_interrupted = 1;
}

static bool
nc_relay_command_is_stopped(gpointer user_data)
{
  return nc_relay_interrupted;
}

/* --- what is shown --- */

static void
nc_relay_on_notice(const char *text, gpointer user_data)
{
  NcRelayCommand *c = user_data;
  g_autofree char *clean = nc_text_clean(text);

  g_mutex_lock(&c->lock);
  nc_progress_line_end(&c->line);
  fprintf(stderr, "novacron: %s\n", clean);
  g_mutex_unlock(&c->lock);
}

/* "96.2 MiB of stream, 31.3 MiB sent (3.1x), 11.3 MB/s, 8.4 s" */
static char *
nc_relay_describe(uint64_t stream_bytes, uint64_t wire_bytes)
{
  g_autofree char *stream = nc_format_bytes((int64_t)stream_bytes);
  g_autofree char *wire = nc_format_bytes((int64_t)wire_bytes);
  double ratio = wire_bytes > 0 ? (double)stream_bytes / (double)wire_bytes : 0;

  return g_strdup_printf("%s of stream, %s on the wire (%.1fx)", stream, wire, ratio);
}

static void
nc_relay_on_progress(const NcRelayProgress *progress, gpointer user_data)
{
  NcRelayCommand *c = user_data;
  g_autofree char *bytes = nc_relay_describe(progress->stream_bytes, progress->wire_bytes);
  g_autofree char *rate = nc_format_rate((double)progress->wire_rate_bps);
  g_autofree char *time = nc_format_ms((double)progress->elapsed_ms);
  g_autofree char *text = g_strdup_printf("%s, %s, %s", bytes, rate, time);

  g_mutex_lock(&c->lock);
  nc_progress_line_draw(&c->line, text);
  g_mutex_unlock(&c->lock);
}

static void
nc_relay_print_end(const NcRelayReport *report)
{
  g_autofree char *bytes = nc_relay_describe(report->stream_bytes, report->wire_bytes);
  g_autofree char *time = nc_format_ms((double)report->total_ms);
  g_autofree char *problem = report->error ? nc_text_clean(report->error->message) : NULL;

  if (problem) {
    fprintf(stderr, "novacron: the migration was not relayed to its end: %s\n", problem);
    return;
  }
  printf("Relayed %s %s in %s: %s.\n", report->is_source ? "to" : "from", report->node, time, bytes);
  if (report->sha256_equal > 0)
    printf("SHA-256 equal on both sides: %s\n", report->sha256);
  else
    puts("SHA-256: each part was verified; the digest of the whole is not known.");
}

static void
nc_relay_on_ended(const NcRelayReport *report, gpointer user_data)
{
  NcRelayCommand *c = user_data;

  g_mutex_lock(&c->lock);
  nc_progress_line_end(&c->line);
  c->status = report->error ? nc_error_exit_status(report->error->code) : 0;
  if (!c->cli->json || report->error)
    nc_relay_print_end(report);
  if (c->cli->json) {
    nc_autojson json_t *object = nc_relay_report_to_json(report);
    nc_cli_print_json(object);
  }
  fflush(stdout); /* who reads a long-lived listener's output wants it now */
  g_mutex_unlock(&c->lock);
}

/* --- options --- */

#define NC_RELAY_COMMON_ENTRIES(c)                                                                                          \
  { "unix", 0, 0, G_OPTION_ARG_FILENAME, &(c)->path, "QEMU's migration socket", "PATH" },                                   \
      { "pki", 0, 0, G_OPTION_ARG_FILENAME, &(c)->pki, "this node's keys (default " NC_PKI_DIR_DEFAULT ")", "DIR" },        \
      { "node", 0, 0, G_OPTION_ARG_STRING, &(c)->node, "talk to this node only (default: any of the cluster)", "NAME" },    \
      { "mover", 0, 0, G_OPTION_ARG_FILENAME, &(c)->mover, "novacron-mover, if not where it was installed", "FILE" },       \
      { "mover-uid", 0, 0, G_OPTION_ARG_STRING, &(c)->mover_uid, "as root: user of the mover (default novacron)", "USER" }, \
  {                                                                                                                         \
    "mover-gid", 0, 0, G_OPTION_ARG_STRING, &(c)->mover_gid, "as root: its group, a number (default the user's)",           \
        "GID"                                                                                                               \
  }

static bool
nc_relay_parse_number(const char *option, const char *text, uint32_t *ret, GError **error)
{
  guint64 value;

  if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &value, NULL))
    return nc_fail(error, NC_ERROR_INVALID, "%s: \"%s\" is neither a name on this host nor a number", option, text);
  *ret = (uint32_t)value;
  return true;
}

/* A user by name or number. */
static bool
nc_relay_parse_user(const char *option, const char *text, uid_t *ret, GError **error)
{
  const struct passwd *user = getpwnam(text);

  if (!user)
    return nc_relay_parse_number(option, text, ret, error);
  *ret = user->pw_uid;
  return true;
}

static bool
nc_relay_parse_program(const NcRelayCommand *c, NcMoverProgram *ret, GError **error)
{
  ret->binary = c->mover ? c->mover : nc_mover_find_binary();
  ret->log_level = "err"; /* the rest is said by us */
  ret->uid = nc_mover_default_uid();
  if (c->mover_uid && !nc_relay_parse_user("--mover-uid", c->mover_uid, &ret->uid, error))
    return false;
  ret->gid = nc_mover_default_gid(ret->uid);
  return !c->mover_gid || nc_relay_parse_number("--mover-gid", c->mover_gid, &ret->gid, error);
}

static bool
nc_relay_check_address(const char *option, const char *address, GError **error)
{
  if (!address)
    return nc_fail(error, NC_ERROR_INVALID, "%s HOST:PORT is needed", option);
  return nc_tcp_address_is_valid(address) ||
         nc_fail(error, NC_ERROR_INVALID, "%s: \"%s\" is not an address: write HOST:PORT, like 192.0.2.1:7451", option,
                 address);
}

static bool
nc_relay_check_common(const NcRelayCommand *c, GError **error)
{
  if (!c->path)
    return nc_fail(error, NC_ERROR_INVALID, "--unix PATH is needed: the socket of QEMU's migration");
  return !c->node || nc_cli_check_name("node", c->node, error);
}

static bool
nc_relay_setup(NcRelayCommand *c, const char *data_dir, NcRelaySetup *ret, GError **error)
{
  const struct sigaction action = { .sa_handler = nc_relay_on_signal };
  const NcRelayCallbacks on = { .notice = nc_relay_on_notice,
                                .progress = nc_relay_on_progress,
                                .ended = nc_relay_on_ended,
                                .is_stopped = nc_relay_command_is_stopped,
                                .user_data = c };

  *ret = (NcRelaySetup){ .data_dir = data_dir, .path = c->path, .node = c->node, .on = on };
  if (!nc_relay_check_common(c, error) || !nc_relay_parse_program(c, &ret->program, error))
    return false;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  nc_progress_line_begin(&c->line);
  return true;
}

static void
nc_relay_command_clear(NcRelayCommand *c)
{
  c->cli->status = c->status;
  g_mutex_clear(&c->lock);
  g_free(c->pki);
  g_free(c->path);
  g_free(c->node);
  g_free(c->mover);
  g_free(c->mover_uid);
  g_free(c->mover_gid);
}

static bool
nc_relay_run_connect(NcRelayCommand *c, NcRelayConnect *options, const char *owner, GError **error)
{
  g_autofree char *data_dir = nc_cli_pki_data_dir(c->pki ? c->pki : NC_PKI_DIR_DEFAULT);
  NcRelaySetup setup;

  return nc_relay_check_address("--to", options->address, error) &&
         (!owner || nc_relay_parse_user("--owner", owner, &options->owner, error)) &&
         nc_relay_setup(c, data_dir, &setup, error) && nc_relay_connect(&setup, options, error);
}

bool
nc_cmd_relay_connect(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  NcRelayCommand c = { .cli = cli };
  g_autofree char *to = NULL, *owner = NULL, *compression = NULL;
  NcRelayConnect options = { .owner = (uid_t)-1,
                             .streams = NC_RELAY_STREAMS_DEFAULT,
                             .pause_budget_ms = NC_RELAY_PAUSE_DEFAULT_MS,
                             .max_cpu = NC_RELAY_MAX_CPU_DEFAULT };
  const GOptionEntry entries[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &to, "where `novacron relay listen` is", "HOST:PORT" },
    NC_RELAY_COMMON_ENTRIES(&c),
    { "owner", 0, 0, G_OPTION_ARG_STRING, &owner, "as root: the user QEMU runs as, who may connect", "USER" },
    { "streams", 0, 0, G_OPTION_ARG_INT, &options.streams, "TCP connections, 1 to 16 (default 1)", "N" },
    { "compression", 0, 0, G_OPTION_ARG_STRING, &compression, "auto, none, lz4, zstd or zstd:LEVEL (default auto)",
      "HOW" },
    { "max-cpu", 0, 0, G_OPTION_ARG_INT, &options.max_cpu,
      "percent of this host's processors that coding may use (default 100)", "PERCENT" },
    { "pause-budget", 0, 0, G_OPTION_ARG_INT, &options.pause_budget_ms,
      "QEMU's downtime-limit, milliseconds: bounds what is under way (default 300)", "MS" },
    { NULL },
  };

  g_mutex_init(&c.lock);
  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error);
  options.address = to;
  options.compression = compression ? compression : NC_RELAY_COMPRESSION_DEFAULT;
  ok = ok && nc_relay_run_connect(&c, &options, owner, error);
  nc_relay_command_clear(&c);
  return ok;
}

static bool
nc_relay_run_listen(NcRelayCommand *c, const NcRelayListen *options, GError **error)
{
  g_autofree char *data_dir = nc_cli_pki_data_dir(c->pki ? c->pki : NC_PKI_DIR_DEFAULT);
  NcRelaySetup setup;

  return nc_relay_check_address("--bind", options->address, error) && nc_relay_setup(c, data_dir, &setup, error) &&
         nc_relay_listen(&setup, options, error);
}

bool
nc_cmd_relay_listen(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  NcRelayCommand c = { .cli = cli };
  g_autofree char *bind = NULL;
  int once = 0;
  const GOptionEntry entries[] = {
    { "bind", 0, 0, G_OPTION_ARG_STRING, &bind, "where to listen", "HOST:PORT" },
    NC_RELAY_COMMON_ENTRIES(&c),
    { "once", 0, 0, G_OPTION_ARG_NONE, &once, "end with the first session, whose outcome is the exit status", NULL },
    { NULL },
  };

  g_mutex_init(&c.lock);
  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error);
  const NcRelayListen options = { .address = bind, .once = once };
  ok = ok && nc_relay_run_listen(&c, &options, error);
  nc_relay_command_clear(&c);
  return ok;
}
