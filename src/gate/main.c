/* SPDX-License-Identifier: Apache-2.0 */
/* novacron-gate: opens what it needs, gives up its rights, serves, and stops in order. */
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "gate/gate_limits.h"
#include "gate/listeners.h"
#include "gate/sandbox.h"
#include "gate/server.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#define NC_GATE_TICK_MS 500          /* how late a deadline may be noticed */
#define NC_GATE_FAREWELL_MS 100      /* a local answer takes 1 */
#define NC_GATE_PEM_MAX_BYTES 262144 /* a chain of a dozen certificates is 20 KiB */

typedef struct {
  NcListeners listeners;
  char *certificate, *key, *client_ca; /* PEM texts */
  NcAccess access;
  NcBackend *backend;
  NcConnections *connections;
  NcWatchers *watchers;
  unsigned places; /* for watchers */
  char **origins;
  NcServer *local, *https;
} NcGate;

static bool
nc_gate_read_pem(const char *path, const char *what, char **ret, GError **error)
{
  size_t length;

  if (!path)
    return true;
  *ret = nc_file_read(path, NC_GATE_PEM_MAX_BYTES, &length, error);
  if (!*ret) {
    g_prefix_error(error, "%s: ", what);
    return false;
  }
  return true;
}

/* The names that ${text} lists under ${key}; *ret stays NULL if there is none. */
static bool
nc_gate_read_names(const char *key, const char *text, char ***ret, GError **error)
{
  *ret = text ? g_strsplit(text, ",", -1) : NULL;
  for (char **name = *ret; name && *name; name++) {
    g_strstrip(*name);
    if (!nc_name_is_valid(*name))
      return nc_fail(error, NC_ERROR_INVALID, "%s: \"%s\" is not a name: %s", key, *name, NC_NAME_RULE);
  }
  return true;
}

static bool
nc_gate_read_access(const NcGateOptions *options, NcAccess *access, GError **error)
{
  if (!nc_gate_read_names("admins", options->admins, &access->admins, error) ||
      !nc_gate_read_names("operators", options->operators, &access->operators, error))
    return false;
  access->tokens_alone = g_str_equal(options->tokens_without_certificate, "yes");
  if (!options->socket_group)
    return true;
  struct group *entry = getgrnam(options->socket_group);
  if (!entry)
    return nc_fail(error, NC_ERROR_INVALID, "socket-group: there is no group \"%s\" on this node",
                   options->socket_group);
  access->group = entry->gr_gid;
  access->has_group = true;
  return true;
}

/* With a socket from systemd the group stands in the unit (SocketGroup=), that is, on the file. */
static void
nc_gate_find_group(NcGate *gate)
{
  struct sockaddr_un address = { 0 };
  socklen_t length = sizeof address - 1;
  struct stat status;

  if (gate->access.has_group || gate->listeners.local < 0 ||
      getsockname(gate->listeners.local, (struct sockaddr *)&address, &length) < 0 ||
      stat(address.sun_path, &status) < 0 || status.st_gid == 0)
    return;
  gate->access.group = status.st_gid;
  gate->access.has_group = true;
}

static void
nc_gate_read_origins(NcGate *gate, const NcGateOptions *options)
{
  gate->origins = options->origins ? g_strsplit(options->origins, ",", -1) : NULL;
  for (size_t i = 0; gate->origins && gate->origins[i]; i++)
    g_strstrip(gate->origins[i]);
}

static void
nc_gate_limit_files(NcGate *gate, const NcGateOptions *options)
{
  unsigned wanted = (unsigned)g_ascii_strtoull(options->watchers, NULL, 10); /* checked by options.c */

  gate->places = nc_sandbox_limit_files(wanted);
  if (gate->places < wanted)
    nc_log(NC_LOG_WARNING, "gate",
           "only %u of %u may watch, since this process may open so few files: let it open %u (LimitNOFILE=, ulimit -n)", gate->places,
           wanted, NC_GATE_FILES + wanted * NC_GATE_FILES_PER_WATCHER);
}

/* Everything that needs files, names or rights. */
static bool
nc_gate_prepare(NcGate *gate, const NcGateOptions *options, GError **error)
{
  if (!nc_gate_read_access(options, &gate->access, error) ||
      !nc_gate_read_pem(options->tls_cert, "tls-cert", &gate->certificate, error) ||
      !nc_gate_read_pem(options->tls_key, "tls-key", &gate->key, error) ||
      !nc_gate_read_pem(options->client_ca, "client-ca", &gate->client_ca, error) ||
      !nc_listeners_open(options, &gate->listeners, error))
    return false;
  if (options->user && !nc_sandbox_drop_user(options->user, error))
    return false;
  nc_gate_limit_files(gate, options);
  nc_gate_find_group(gate);
  nc_gate_read_origins(gate, options);
  gate->access.own_uid = geteuid();
  if (gate->access.own_uid == 0)
    nc_log(NC_LOG_WARNING, "gate", "running as root: give --user a user of its own");
  return nc_sandbox_harden(error) && (options->no_seccomp || nc_sandbox_filter(error));
}

static bool
nc_gate_start(NcGate *gate, const NcGateOptions *options, GError **error)
{
  NcServerTls tls = { gate->certificate, gate->key, gate->client_ca };

  gate->backend = nc_backend_new(options->control, error);
  if (!gate->backend)
    return false;
  const NcWatchLimits limits = { .watchers = gate->places,
                                 .per_client = NC_GATE_WATCHERS_PER_IP,
                                 .things = NC_GATE_WATCHED,
                                 .fleet_things = NC_GATE_WATCHED_OF_FLEET,
                                 .ask_ms = NC_GATE_WATCH_ASK_MS,
                                 .fleet_ask_ms = NC_GATE_WATCH_FLEET_ASK_MS,
                                 .ping_ms = NC_GATE_WATCH_PING_MS,
                                 .silence_ms = NC_GATE_WATCH_SILENCE_MS };
  gate->connections = nc_connections_new();
  gate->watchers = nc_watchers_new(gate->backend, &limits, error);
  if (!gate->watchers)
    return false;
  NcServerDeps deps = { gate->backend, gate->connections, &gate->access, gate->watchers, gate->origins };
  if (gate->listeners.local >= 0) {
    gate->local = nc_server_new(nc_fd_steal(&gate->listeners.local), NULL, &deps, error);
    if (!gate->local)
      return false;
  }
  if (gate->listeners.https >= 0) {
    gate->https = nc_server_new(nc_fd_steal(&gate->listeners.https), &tls, &deps, error);
    if (!gate->https)
      return false;
  }
  return true;
}

/* Until SIGTERM or SIGINT: sweeps connections and tells systemd's watchdog that we live. */
static void
nc_gate_run(NcGate *gate, const sigset_t *signals)
{
  const struct timespec tick = { .tv_nsec = NC_GATE_TICK_MS * 1000000L };

  sd_notify(0, "READY=1");
  nc_log(NC_LOG_NOTICE, "gate", "serving%s%s", gate->local ? " the UNIX socket" : "", gate->https ? " HTTPS" : "");
  for (;;) {
    int signal = sigtimedwait(signals, NULL, &tick);
    if (signal == SIGTERM || signal == SIGINT)
      break;
    unsigned ended = nc_connections_sweep(gate->connections, nc_mono_us());
    if (ended > 0)
      nc_log(NC_LOG_INFO, "gate", "ended %u connections that took too long", ended);
    sd_notify(0, "WATCHDOG=1");
  }
  sd_notify(0, "STOPPING=1");
}

/* Also after half a start. The backend goes first: what it fails wakes the suspended connections the servers wait for.
 */
static void
nc_gate_stop(NcGate *gate)
{
  if (gate->backend) {
    nc_backend_stop(gate->backend);
    g_usleep(NC_GATE_FAREWELL_MS * 1000); /* the servers' threads tell those who waited */
  }
  if (gate->watchers)
    nc_watchers_stop(gate->watchers); /* gives their connections back to the servers */
  nc_server_free(gate->local);
  nc_server_free(gate->https);
  nc_watchers_free(gate->watchers);
  nc_backend_free(gate->backend);
  nc_connections_free(gate->connections);
  nc_fd_clear(&gate->listeners.local);
  nc_fd_clear(&gate->listeners.https);
  g_strfreev(gate->access.admins);
  g_strfreev(gate->access.operators);
  g_strfreev(gate->origins);
  if (gate->key)
    explicit_bzero(gate->key, strlen(gate->key));
  g_free(gate->certificate);
  g_free(gate->key);
  g_free(gate->client_ca);
}

/* Blocked in every thread, so that only nc_gate_run() sees them; a client that goes away is no reason to die. */
static void
nc_gate_block_signals(sigset_t *signals)
{
  sigemptyset(signals);
  sigaddset(signals, SIGTERM);
  sigaddset(signals, SIGINT);
  sigaddset(signals, SIGHUP); /* nothing to reload: ignored, not fatal */
  sigprocmask(SIG_BLOCK, signals, NULL);
  signal(SIGPIPE, SIG_IGN);
}

int
main(int argc, char **argv)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcGateOptions) options = nc_gate_options_read(argc, argv, &error);
  NcGate gate = { .listeners = { -1, -1 } };
  sigset_t signals;

  if (!options) {
    fprintf(stderr, "novacron-gate: %s\nTry novacron-gate --help.\n", error->message);
    return nc_error_exit_status(NC_ERROR_INVALID);
  }
  if (options->show_version) {
    puts("novacron-gate " NC_VERSION);
    return 0;
  }
  nc_log_init("novacron-gate", g_str_equal(options->log_format, "json") ? NC_LOG_JSON : NC_LOG_TEXT,
              (NcLogLevel)nc_log_level_from_name(options->log_level));
  nc_gate_block_signals(&signals);
  bool ok = nc_gate_prepare(&gate, options, &error) && nc_gate_start(&gate, options, &error);
  if (ok)
    nc_gate_run(&gate, &signals);
  else
    nc_log(NC_LOG_ERR, "gate", "%s", error->message);
  nc_gate_stop(&gate);
  return ok ? 0 : nc_error_exit_status(error->code);
}
