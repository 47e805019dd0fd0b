/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's QEMU: starting it, finding it again, watching it, ending it. */
#include "agent/machine.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "qemu/command_line.h"
#include "qemu/machine_spec.h"
#include "qemu/process.h"
#include "qemu/start_lock.h"
#include "qemu/tap.h"

#include <glib/gstdio.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NC_LAUNCH_TIMEOUT_MS 30000
#define NC_CONNECT_TIMEOUT_MS 5000
#define NC_RECONNECT_TIMEOUT_MS 1000
#define NC_QUERY_TIMEOUT_MS 5000
#define NC_EXPLAIN_MS 1000
#define NC_KILL_TERM_MS 10000
#define NC_LOCK_WAIT_MS (NC_KILL_TERM_MS + 5000) /* for one that was told to end, and is killed then */
/* A QMP connection ends just before its QEMU: this long it may take to be gone before we try to reconnect. */
#define NC_DYING_US 1000000
/* In the machine's run_dir; nc_qemu_command_line() says so. */
#define NC_QMP_SOCKET_NAME "qmp.sock"

/* --- events --- */

/* The migration first: it is the one in a hurry. ${event} NULL: QEMU is gone. */
static void
nc_machine_forward(NcMachine *m, json_t *event)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->event_lock);
  if (m->event_func)
    m->event_func(event, m->event_data);
}

static NcGuestState
nc_guest_after(NcGuestState before, const char *event)
{
  if (g_str_equal(event, "STOP"))
    return NC_GUEST_PAUSED;
  return g_str_equal(event, "RESUME") ? NC_GUEST_RUNNING : before;
}

/* On the QMP client's thread. */
static void
nc_machine_on_event(json_t *event, gpointer data)
{
  NcMachine *m = data;

  /* The end of a connection is not yet the end of QEMU: the watcher finds out, and tells. */
  if (event)
    nc_machine_forward(m, event);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  if (event) {
    m->guest = nc_guest_after(m->guest, nc_json_string_or(event, "event", ""));
  } else {
    m->qmp_lost = true;
    m->qmp_lost_us = nc_mono_us();
    g_cond_broadcast(&m->owner->changed);
  }
}

/* --- the connection --- */

/* Puts ${qmp} (taken, may be NULL) in the place of the present one, which a lease may still point to. */
static void
nc_machine_replace_qmp(NcMachine *m, NcQmp *qmp)
{
  NcQmp *old;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->qmp_lock);
    old = m->qmp;
    m->qmp = qmp;
  }
  if (!old)
    return;
  nc_qmp_set_event_func(old, NULL, NULL);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    if (m->lease_held) {
      g_ptr_array_add(m->old_qmp, g_steal_pointer(&old));
      return;
    }
  }
  nc_qmp_free(old);
}

void
nc_machine_drop_old_qmp(NcMachine *m)
{
  g_autoptr(GPtrArray) old = g_ptr_array_new_with_free_func((GDestroyNotify)nc_qmp_free);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  while (m->old_qmp->len)
    g_ptr_array_add(old, g_ptr_array_steal_index_fast(m->old_qmp, 0));
  /* ${guard} ends before ${old}: freeing waits for readers that may want the lock. */
}

pid_t
nc_machine_pid(NcMachine *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  return m->pid;
}

NcQmp *
nc_machine_qmp(NcMachine *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->qmp_lock);
  return m->qmp && nc_qmp_is_alive(m->qmp) ? m->qmp : NULL;
}

void
nc_machine_refresh(NcMachine *m)
{
  NcQmp *qmp = nc_machine_qmp(m);
  nc_autojson json_t *status = qmp ? nc_qmp_call(qmp, "query-status", NULL, -1, NC_QUERY_TIMEOUT_MS, NULL) : NULL;

  if (!status)
    return;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  m->guest = nc_json_bool_or(status, "running", false) ? NC_GUEST_RUNNING : NC_GUEST_PAUSED;
}

static char *
nc_machine_copy_qmp_path(NcMachine *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  return g_strdup(m->qmp_path);
}

bool
nc_machine_connect(NcMachine *m, int timeout_ms, GError **error)
{
  g_autofree char *path = nc_machine_copy_qmp_path(m);
  g_autoptr(NcQmp) qmp = NULL;

  if (!path)
    return nc_fail(error, NC_ERROR_INTERNAL, "machine %s has no QMP socket", m->name);
  if (!(qmp = nc_qmp_connect(path, timeout_ms, error))) {
    g_prefix_error(error, "the QEMU of %s: ", m->name);
    return false;
  }
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    m->qmp_lost = false;
  }
  nc_qmp_set_event_func(qmp, nc_machine_on_event, m);
  nc_machine_replace_qmp(m, g_steal_pointer(&qmp));
  nc_machine_refresh(m);
  return true;
}

/* --- the process --- */

static void
nc_machine_copy_process(NcMachine *m, pid_t *ret_pid, uint64_t *ret_start)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  *ret_pid = m->pid;
  *ret_start = m->pid_start;
}

bool
nc_machine_qemu_lives(NcMachine *m)
{
  pid_t pid;
  uint64_t start;

  nc_machine_copy_process(m, &pid, &start);
  return pid > 0 && nc_qemu_process_is_alive(pid, start);
}

void
nc_machine_set_process(NcMachine *m, pid_t pid, uint64_t start, const char *qmp_path)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  m->pid = pid;
  m->pid_start = start;
  if (qmp_path != m->qmp_path) {
    g_free(m->qmp_path);
    m->qmp_path = g_strdup(qmp_path);
  }
  m->guest = NC_GUEST_UNKNOWN;
  m->death_told = false;
}

void
nc_machine_set_spec(NcMachine *m, const NcMachineSpec *spec)
{
  nc_autojson json_t *json = nc_machine_spec_to_json(spec);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  json_decref(m->spec);
  m->spec = g_steal_pointer(&json);
}

uint64_t
nc_machine_missing_bytes(NcMachine *m)
{
  nc_autojson json_t *spec = nc_machine_get_spec(m);
  uint64_t promised = (uint64_t)CLAMP(nc_json_int_or(spec, "memory_mib", 0), 0, INT64_C(1) << 32) << 20;
  uint64_t resident = 0;
  pid_t pid;
  bool incoming;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    pid = m->pid;
    incoming = m->incoming;
  }
  if (!incoming)
    return 0;
  if (pid) {
    g_autofree char *path = g_strdup_printf("/proc/%d/statm", (int)pid);
    g_autofree char *text = nc_file_read(path, 4096, NULL, NULL);
    const char *second = text ? strchr(text, ' ') : NULL;
    resident = second ? g_ascii_strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
  }
  return resident < promised ? promised - resident : 0;
}

static char *
nc_machine_log_path(NcMachine *m)
{
  g_autofree char *name = g_strdup_printf("%s.log", m->name);
  return g_build_filename(m->owner->config->qemu_log_dir, name, NULL);
}

char *
nc_machine_log_tail(NcMachine *m)
{
  g_autofree char *path = nc_machine_log_path(m);
  return nc_qemu_log_tail(path);
}

/* --- ending --- */

/* Beside run_dir, which is emptied while the process may still be about; no machine's name begins with a dot. */
static char *
nc_machine_lock_path(const NcMachine *m)
{
  g_autofree char *parent = g_path_get_dirname(m->run_dir);
  g_autofree char *name = g_strdup_printf(".%s.lock", m->name);
  return g_build_filename(parent, name, NULL);
}

/* Sockets, with ${logs_too} everything; and the directory if nothing is left. */
static void
nc_machine_empty_run_dir(NcMachine *m, bool logs_too)
{
  GDir *dir = g_dir_open(m->run_dir, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(m->run_dir, name, NULL);
    if (logs_too || !g_str_has_suffix(name, ".log"))
      g_unlink(path);
  }
  if (dir)
    g_dir_close(dir);
  g_rmdir(m->run_dir);
}

void
nc_machine_remove_files(NcMachine *m)
{
  g_autofree char *lock_path = nc_machine_lock_path(m);

  nc_machine_empty_run_dir(m, true);
  nc_start_lock_remove(lock_path);
}

/*
 * Taps that novacrond put into a bridge go with the QEMU. One without a bridge
 * may have been made by the administrator, who then wants to find it again.
 */
static void
nc_machine_remove_taps(NcMachine *m, const NcMachineSpec *spec)
{
  for (guint i = 0; i < spec->nics->len; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    g_autoptr(GError) error = NULL;
    if (nic->bridge && nic->tap && !nc_tap_delete(nic->tap, &error))
      nc_log(NC_LOG_WARNING, "agent", "machine %s: %s", m->name, error->message);
  }
}

/* What novacrond made for the machine's QEMU. */
static void
nc_machine_clean_up(NcMachine *m)
{
  nc_autojson json_t *json = nc_machine_get_spec(m);
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json, NULL);

  if (spec)
    nc_machine_remove_taps(m, spec);
  nc_machine_empty_run_dir(m, false);
}

void
nc_machine_clear_runtime(NcMachine *m)
{
  bool ours;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    ours = (m->pid != 0 || m->qmp_path != NULL) && !m->adopted;
    m->adopted = false; /* the next QEMU of this machine is started here */
  }
  nc_machine_replace_qmp(m, NULL);
  nc_machine_set_process(m, 0, 0, NULL);
  if (ours)
    nc_machine_clean_up(m);
}

/* Otherwise the watcher would connect to a QEMU that is being connected to, or report a death that is wanted. */
static void
nc_machine_set_settling(NcMachine *m, bool settling)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  m->settling = settling;
}

bool
nc_machine_kill(NcMachine *m, GError **error)
{
  pid_t pid;
  uint64_t start;

  nc_machine_copy_process(m, &pid, &start);
  nc_machine_set_settling(m, true);
  bool gone = !pid || nc_qemu_process_kill(pid, start, NC_KILL_TERM_MS, error);
  if (gone)
    nc_machine_clear_runtime(m);
  nc_machine_set_settling(m, false);
  if (!gone)
    g_prefix_error(error, "the QEMU of %s (process %d) on node %s: ", m->name, (int)pid, m->owner->config->node);
  return gone;
}

/* --- finding again --- */

/* By the socket in the machine's own directory: a QEMU that the journal does not know of. */
static void
nc_machine_look_for_unrecorded(NcMachine *m)
{
  g_autofree char *path = g_build_filename(m->run_dir, NC_QMP_SOCKET_NAME, NULL);
  uint64_t start;

  if (!g_file_test(path, G_FILE_TEST_EXISTS))
    return;
  pid_t pid = nc_qemu_process_behind_socket(path, NULL);
  if (pid <= 0 || !nc_qemu_process_start_time(pid, &start))
    return;
  nc_log(NC_LOG_NOTICE, "agent", "machine %s: found its QEMU (process %d), which had not been recorded", m->name, (int)pid);
  nc_machine_set_process(m, pid, start, path);
}

void
nc_machine_find_qemu(NcMachine *m)
{
  g_autoptr(GError) error = NULL;
  pid_t pid;
  uint64_t start;

  nc_machine_copy_process(m, &pid, &start);
  if (!pid)
    nc_machine_look_for_unrecorded(m);
  else if (!nc_machine_qemu_lives(m))
    nc_log(NC_LOG_WARNING, "agent", "machine %s: its QEMU (process %d) is gone", m->name, (int)pid);
  if (!nc_machine_qemu_lives(m))
    nc_machine_clear_runtime(m);
  else if (!nc_machine_connect(m, NC_CONNECT_TIMEOUT_MS, &error))
    nc_log(NC_LOG_WARNING, "agent", "machine %s: its QEMU lives and does not answer; trying again: %s", m->name, error->message);
}

/* --- starting --- */

static bool
nc_machine_make_taps(const NcMachineSpec *spec, GError **error)
{
  for (guint i = 0; i < spec->nics->len; i++) {
    const NcNicSpec *nic = spec->nics->pdata[i];
    if (nic->tap && !nc_tap_create(nic->tap, nic->bridge, error))
      return false;
  }
  return true;
}

bool
nc_machine_make_run_dir(NcMachine *m, GError **error)
{
  g_autofree char *parent = g_path_get_dirname(m->run_dir);
  g_autofree char *proc = g_strdup_printf("/proc/%d", (int)m->pid);
  struct stat process;

  /* Others may pass through the parent: an adopted QEMU may run as another user. */
  if (!nc_mkdir_p(parent, 0755, error) || !nc_mkdir_p(m->run_dir, 0700, error))
    return false;
  if (m->adopted && stat(proc, &process) == 0 && chown(m->run_dir, process.st_uid, process.st_gid) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't give %s to user %u, who runs the QEMU of %s", m->run_dir,
                         (unsigned)process.st_uid, m->name);
  return true;
}

static bool
nc_machine_spawn(NcMachine *m, const NcMachineSpec *spec, bool incoming, GError **error)
{
  const NcConfig *config = m->owner->config;
  NcQemuLaunch launch = { .run_dir = m->run_dir, .qemu_binary = config->qemu_binary, .incoming = incoming };
  g_autofree char *qmp_path = g_build_filename(m->run_dir, NC_QMP_SOCKET_NAME, NULL);
  g_autofree char *log_path = nc_machine_log_path(m);
  g_auto(GStrv) argv = nc_qemu_command_line(spec, &launch, error);
  g_autofree char *lock_path = nc_machine_lock_path(m);
  NcQemuProcess process;

  if (!argv || !nc_machine_make_run_dir(m, error))
    return false;
  nc_autofd int lock = nc_start_lock_take(lock_path, NC_LOCK_WAIT_MS, error); /* before the taps, which the one before it may still use */
  NcQemuStart start = { .argv = argv, .lock = lock, .qmp_path = qmp_path, .log_path = log_path, .timeout_ms = NC_LAUNCH_TIMEOUT_MS };
  if (lock < 0 || !nc_machine_make_taps(spec, error) || !nc_qemu_process_start(&start, &process, error))
    return false;
  nc_start_lock_sign(lock_path, process.pid);
  nc_machine_set_process(m, process.pid, process.start_time, qmp_path);
  return true;
}

/*
 * "pc" means another machine with every QEMU: from the first start on the
 * machine has the versioned type, here and on every node it moves to.
 */
static bool
nc_machine_fix_type(NcMachine *m, NcMachineSpec *spec, GError **error)
{
  NcQmp *qmp = nc_machine_qmp(m);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s ended at its start", m->name);
  json_t *question = json_pack("{s:s, s:s}", "path", "/machine", "property", "type");
  nc_autojson json_t *answer = nc_qmp_call(qmp, "qom-get", question, -1, NC_QUERY_TIMEOUT_MS, error);
  const char *type = json_string_value(answer);

  if (!answer)
    return false;
  if (!type || !g_str_has_suffix(type, "-machine"))
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s does not say what machine type it has", m->name);
  g_autofree char *asked = g_steal_pointer(&spec->machine);
  spec->machine = g_strdup_printf("%.*s%s", (int)(strlen(type) - strlen("-machine")), type, asked + strcspn(asked, ","));
  nc_machine_set_spec(m, spec);
  return true;
}

/* QEMU opens its QMP socket before it looks at the devices; what it then says about them is in its log. */
static void
nc_machine_explain_end(NcMachine *m, GError **error)
{
  for (int waited_ms = 0; nc_machine_qemu_lives(m) && waited_ms < NC_EXPLAIN_MS; waited_ms += 20)
    g_usleep(20000);
  if (nc_machine_qemu_lives(m))
    return;
  g_autofree char *tail = nc_machine_log_tail(m);
  g_clear_error(error);
  nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s ended at its start on node %s: %s", m->name, m->owner->config->node, tail);
}

static bool
nc_machine_bring_up(NcMachine *m, NcMachineSpec *spec, bool incoming, GError **error)
{
  /* The record before the rest: a QEMU of ours is never unknown for longer than this takes. */
  if (!nc_machine_spawn(m, spec, incoming, error) || !nc_machine_save(m, error))
    return false;
  /* Its socket is there long before it answers: first it takes its memory, of which there may be much. */
  if (!nc_machine_connect(m, m->owner->config->prepare_timeout_ms, error) || (!spec->adopted_argv && !nc_machine_fix_type(m, spec, error))) {
    nc_machine_explain_end(m, error);
    return false;
  }
  return nc_machine_save(m, error);
}

/*
 * After a start that failed. Where nothing was started since another QEMU of the machine holds the lock, that one's sockets are not touched: by them it
 * is found, now or at the next attempt.
 */
static void
nc_machine_undo_launch(NcMachine *m, const GError *failure)
{
  g_autoptr(GError) problem = NULL;
  bool is_another = nc_machine_pid(m) == 0 && g_error_matches(failure, NC_ERROR, NC_ERROR_CONFLICT);

  if (is_another)
    nc_machine_look_for_unrecorded(m);
  if ((!is_another && !nc_machine_kill(m, &problem)) || !nc_machine_save(m, &problem))
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", m->name, problem->message);
  if (!is_another)
    nc_machine_clean_up(m);
}

bool
nc_machine_launch(NcMachine *m, bool incoming, GError **error)
{
  g_autoptr(GError) failure = NULL;
  nc_autojson json_t *json = nc_machine_get_spec(m);
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json, error);

  if (!spec)
    return false;
  nc_machine_look_for_unrecorded(m);
  if (nc_machine_qemu_lives(m))
    return nc_fail(error, NC_ERROR_CONFLICT, "a QEMU of %s is on node %s already (process %d)", m->name, m->owner->config->node, (int)m->pid);
  nc_machine_set_settling(m, true);
  bool ok = nc_machine_bring_up(m, spec, incoming, &failure);
  nc_machine_set_settling(m, false);
  if (ok)
    return true;
  nc_machine_undo_launch(m, failure);
  g_propagate_error(error, g_steal_pointer(&failure));
  return false;
}

/* --- looking after --- */

/* True if the machine is nobody's at the moment: the watcher has it then, until nc_machine_release(). */
static bool
nc_machine_try_take(NcMachine *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  if (m->busy || m->lease_id || !m->present)
    return false;
  m->busy = true;
  m->busy_with = "check";
  nc_machine_ref(m);
  return true;
}

/* The migration decides what its machine's death means; it is told once, by NULL. */
static void
nc_machine_check_leased(NcMachine *m, bool lives)
{
  bool tell;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    tell = !lives && m->pid && m->lease_held && !m->death_told;
    m->death_told = m->death_told || tell;
  }
  if (tell)
    nc_machine_forward(m, NULL);
  else if (lives && nc_machine_connect(m, NC_RECONNECT_TIMEOUT_MS, NULL))
    nc_log(NC_LOG_NOTICE, "agent", "machine %s: connected to its QEMU again", m->name);
}

static void
nc_machine_check_free(NcMachine *m, bool lives)
{
  g_autoptr(GError) error = NULL;

  if (!nc_machine_try_take(m))
    return;
  if (lives) {
    if (nc_machine_connect(m, NC_RECONNECT_TIMEOUT_MS, NULL))
      nc_log(NC_LOG_NOTICE, "agent", "machine %s: connected to its QEMU again", m->name);
  } else {
    g_autofree char *tail = nc_machine_log_tail(m);
    nc_log(NC_LOG_WARNING, "agent", "machine %s: its QEMU (process %d) ended: %s", m->name, (int)m->pid, tail);
    nc_machine_clear_runtime(m);
    if (!nc_machine_save(m, &error))
      nc_log(NC_LOG_ERR, "agent", "machine %s: %s", m->name, error->message);
  }
  nc_machine_release(m);
}

void
nc_machine_check(NcMachine *m)
{
  bool lives = nc_machine_qemu_lives(m);
  bool leased, dying;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    if (!m->pid || m->busy || m->settling)
      return;
    leased = m->lease_id != NULL;
    dying = m->qmp_lost && nc_mono_us() - m->qmp_lost_us < NC_DYING_US;
  }
  if (lives && (nc_machine_qmp(m) || dying))
    return;
  if (leased)
    nc_machine_check_leased(m, lives);
  else
    nc_machine_check_free(m, lives);
}
