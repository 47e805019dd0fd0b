/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/liveness.h"
#include "base/ident.h"
#include "qemu/migration_qmp.h"

/* Nanoseconds of CPU that the thread ${tid} has had: first field of schedstat (proc(5)). */
static guint64
nc_thread_run_ns(pid_t pid, int64_t tid)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/task/%" G_GINT64_FORMAT "/schedstat", (int)pid, tid);
  g_autofree char *text = nc_file_read(path, 256, NULL, NULL);
  return text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

static guint64
nc_vcpus_run_ns(pid_t pid, json_t *cpus)
{
  guint64 sum = 0;
  size_t i;
  json_t *cpu;
  json_array_foreach(cpus, i, cpu) sum += nc_thread_run_ns(pid, nc_json_int_or(cpu, "thread-id", 0));
  return sum;
}

bool
nc_liveness_check(NcQmp *qmp, pid_t pid, char **ret_detail)
{
  return nc_liveness_check_within(qmp, pid, NC_LIVENESS_WAIT_MS, ret_detail);
}

bool
nc_liveness_check_within(NcQmp *qmp, pid_t pid, int wait_ms, char **ret_detail)
{
  if (!qmp || !nc_qemu_is_running(qmp)) {
    *ret_detail = g_strdup("QEMU does not say that it runs");
    return false;
  }
  nc_autojson json_t *cpus = nc_qmp_call(qmp, "query-cpus-fast", NULL, -1, NC_LIVENESS_WAIT_MS, NULL);
  guint64 before = nc_vcpus_run_ns(pid, cpus);
  int64_t deadline = nc_mono_us() + wait_ms * INT64_C(1000);

  while (nc_mono_us() < deadline) {
    guint64 now = nc_vcpus_run_ns(pid, cpus);
    if (now > before) {
      *ret_detail = g_strdup_printf("running, vCPUs had %.1f ms of CPU", (double)(now - before) / 1e6);
      return true;
    }
    g_usleep(5000);
  }
  *ret_detail = g_strdup("running, vCPUs idle");
  return nc_qmp_is_alive(qmp);
}
