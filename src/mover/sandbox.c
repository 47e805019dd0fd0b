/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls behind the three stages. */
#include "mover/sandbox.h"
#include "base/io.h"
#include "wire/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* 16 connections with an eventfd each, QEMU's channels, 32 disks, our own few: rounded up. */
#define NC_SANDBOX_MAX_FDS 112
/*
 * Address space, not memory: 128 threads (two for each disk) reserve a stack of 8 MiB and a malloc
 * arena of 128 MiB each, and a shadow may be as large as a machine. What is really used is bounded by the windows of limits.h.
 */
#define NC_SANDBOX_MAX_AS_BYTES ((24ull << 30) + ((uint64_t)NC_SHADOW_FRAMES_MAX << 12))

bool
nc_sandbox_isolate(GError **error)
{
  if (fcntl(NC_SANDBOX_LAST_FD, F_GETFD) < 0)
    return nc_fail(error, NC_ERROR_INVALID, "descriptor %d is not open: novacrond starts this program",
                   NC_SANDBOX_LAST_FD);
  nc_autofd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "/dev/null");
  if (close_range(NC_SANDBOX_LAST_FD + 1, ~0u, 0) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "close_range");
  null = -1; /* was among them */
  return true;
}

static bool
nc_sandbox_take_ids(uid_t uid, gid_t gid, GError **error)
{
  if (geteuid() != 0)
    return true; /* nothing to give up: the capabilities go below */
  if (gid != NC_SANDBOX_KEEP_ID && (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0))
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "can't become group %u", (unsigned)gid);
  if (uid != NC_SANDBOX_KEEP_ID && setresuid(uid, uid, uid) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "can't become user %u", (unsigned)uid);
  return true;
}

static bool
nc_sandbox_drop_bounding_set(GError **error)
{
  /* Ends at the first number the kernel does not know. */
  for (unsigned long capability = 0; capability < 64; capability++) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
      continue;
    if (errno == EINVAL || errno == EPERM) /* past the last one; or no CAP_SETPCAP: then no_new_privs must do */
      return true;
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "PR_CAPBSET_DROP");
  }
  return true;
}

static bool
nc_sandbox_drop_capabilities(GError **error)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

  if (syscall(SYS_capset, &header, none) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "can't drop capabilities");
  return true;
}

static bool
nc_sandbox_limit(GError **error)
{
  const struct {
    __rlimit_resource_t resource;
    rlim_t value;
  } limits[] = {
    { RLIMIT_CORE, 0 }, /* a core would hold guest memory and the key */
    { RLIMIT_NOFILE, NC_SANDBOX_MAX_FDS },
    { RLIMIT_AS, NC_SANDBOX_MAX_AS_BYTES },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
    struct rlimit old;
    if (getrlimit(limits[i].resource, &old) < 0)
      return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "getrlimit");
    rlim_t value = MIN(limits[i].value, old.rlim_max); /* RLIM_INFINITY is the greatest */
    struct rlimit limit = { .rlim_cur = value, .rlim_max = value };
    if (setrlimit(limits[i].resource, &limit) < 0)
      return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "setrlimit");
  }
  return true;
}

bool
nc_sandbox_demote(uid_t uid, gid_t gid, bool confine, GError **error)
{
  if (confine && !nc_sandbox_drop_bounding_set(error))
    return false;
  if (!nc_sandbox_take_ids(uid, gid, error))
    return false;
  if (!confine)
    return true;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "prctl");
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* EINVAL on kernels that have none */
  if (!nc_sandbox_drop_capabilities(error))
    return false;
  return NC_SANDBOX_SANITIZED || nc_sandbox_limit(error); /* the sanitizers map terabytes */
}

/* Allowed whatever their arguments are; grouped by who needs them. */
static const int nc_sandbox_calls[] = {
  /* descriptors we hold: QEMU's socket, TLS, novacrond, eventfds, standard error */
  SCMP_SYS(read),
  SCMP_SYS(write),
  SCMP_SYS(pread64),
  SCMP_SYS(recvfrom),
  SCMP_SYS(recvmsg),
  SCMP_SYS(sendto),
  SCMP_SYS(sendmsg),
  SCMP_SYS(poll),
  SCMP_SYS(ppoll),
  SCMP_SYS(close),
  SCMP_SYS(shutdown),
  SCMP_SYS(eventfd2),
  SCMP_SYS(getsockopt),
  SCMP_SYS(setsockopt),
  SCMP_SYS(getpeername),
  SCMP_SYS(getsockname),
  SCMP_SYS(fstat),
  SCMP_SYS(ftruncate), /* the shadow's file */
  /* malloc, and the stacks of threads (mmap and mprotect: below) */
  SCMP_SYS(brk),
  SCMP_SYS(munmap),
  SCMP_SYS(mremap),
  SCMP_SYS(madvise),
  /* pthreads (clone: below) */
  SCMP_SYS(futex),
  SCMP_SYS(set_robust_list),
  SCMP_SYS(rseq),
  SCMP_SYS(sched_yield),
  SCMP_SYS(sched_getaffinity),
  SCMP_SYS(gettid),
  SCMP_SYS(getpid),
  SCMP_SYS(rt_sigprocmask),
  SCMP_SYS(restart_syscall),
  /* abort() and its signal */
  SCMP_SYS(tgkill),
  SCMP_SYS(rt_sigaction),
  SCMP_SYS(rt_sigreturn),
  SCMP_SYS(exit),
  SCMP_SYS(exit_group),
  /* time (where the vDSO can't tell), randomness, our own use of the processor */
  SCMP_SYS(clock_gettime),
  SCMP_SYS(gettimeofday),
  SCMP_SYS(nanosleep),
  SCMP_SYS(clock_nanosleep),
  SCMP_SYS(getrandom),
  SCMP_SYS(getrusage),
};

/* Each rule of one call is an alternative. */
static int
nc_sandbox_add_conditional(scmp_filter_ctx filter)
{
  const uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
  const int fcntls[] = { F_GETFL, F_SETFL, F_GETFD, F_SETFD };
  int r = 0;

  r |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  r |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  r |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
  /* Its flags are behind a pointer, so a filter can't check them; glibc then takes clone. */
  r |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  r |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, TCGETS)); /* isatty */
  r |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
  for (size_t i = 0; i < G_N_ELEMENTS(fcntls); i++)
    r |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)fcntls[i]));
  return r;
}

bool
nc_sandbox_seal(GError **error)
{
  if (NC_SANDBOX_SANITIZED)
    return true;
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (!filter)
    return nc_fail(error, NC_ERROR_INTERNAL, "seccomp_init failed");
  int r = nc_sandbox_add_conditional(filter);
  for (size_t i = 0; i < G_N_ELEMENTS(nc_sandbox_calls); i++)
    r |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, nc_sandbox_calls[i], 0);
  if (r == 0)
    r = seccomp_load(filter);
  seccomp_release(filter);
  return r == 0 ? true
                : nc_fail(error, NC_ERROR_INTERNAL, "the seccomp filter was refused: is CONFIG_SECCOMP_FILTER on?");
}
