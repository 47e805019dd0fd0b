/* SPDX-License-Identifier: Apache-2.0 */
/* The stages of giving up rights, and the list of system calls that are left. */
#include "gate/sandbox.h"
#include "gate/gate_limits.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(scmp_filter_ctx, seccomp_release, NULL)

bool
nc_sandbox_drop_user(const char *user, GError **error)
{
  errno = 0;
  struct passwd *entry = getpwnam(user);

  if (!entry)
    return nc_fail(error, NC_ERROR_INVALID, "there is no user \"%s\" on this node", user);
  if (geteuid() == entry->pw_uid && getuid() == entry->pw_uid)
    return true;
  if (geteuid() != 0)
    return nc_fail(error, NC_ERROR_FORBIDDEN, "only root can become user \"%s\"", user);
  if (initgroups(user, entry->pw_gid) < 0 || setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
      setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "can't become user \"%s\"", user);
  if (entry->pw_uid != 0 && setuid(0) == 0)
    return nc_fail(error, NC_ERROR_INTERNAL, "became user \"%s\", but could become root again", user);
  return true;
}

unsigned
nc_sandbox_limit_files(unsigned watchers)
{
  struct rlimit files = { NC_GATE_FILES, NC_GATE_FILES };

  getrlimit(RLIMIT_NOFILE, &files);
  rlim_t bound = MIN((rlim_t)NC_GATE_FILES + (rlim_t)watchers * NC_GATE_FILES_PER_WATCHER, files.rlim_max);
  files.rlim_cur = files.rlim_max = bound;
  if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &files) == 0)
    bound = files.rlim_cur;
  return bound < NC_GATE_FILES ? 0 : MIN(watchers, (unsigned)(bound - NC_GATE_FILES) / NC_GATE_FILES_PER_WATCHER);
}

bool
nc_sandbox_harden(GError **error)
{
  struct rlimit none = { 0, 0 };

  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "prctl");
  if (setrlimit(RLIMIT_CORE, &none) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "setrlimit");
  tzset(); /* libc reads /etc/localtime now or never */
  return true;
}

/* Grouped by who needs them. */
static const int nc_sandbox_calls[] = {
  /* sockets that are open: libmicrohttpd, GnuTLS, the backend */
  SCMP_SYS(accept),
  SCMP_SYS(accept4),
  SCMP_SYS(read),
  SCMP_SYS(readv),
  SCMP_SYS(recv),
  SCMP_SYS(recvfrom),
  SCMP_SYS(recvmsg),
  SCMP_SYS(write),
  SCMP_SYS(writev),
  SCMP_SYS(send),
  SCMP_SYS(sendto),
  SCMP_SYS(sendmsg),
  SCMP_SYS(shutdown),
  SCMP_SYS(close),
  SCMP_SYS(getsockopt),
  SCMP_SYS(setsockopt),
  SCMP_SYS(getsockname),
  SCMP_SYS(getpeername),
  SCMP_SYS(connect),
  SCMP_SYS(fcntl),
  SCMP_SYS(fcntl64),
  SCMP_SYS(lseek),
  SCMP_SYS(fstat),
  SCMP_SYS(newfstatat),
  /* waiting */
  SCMP_SYS(poll),
  SCMP_SYS(ppoll),
  SCMP_SYS(epoll_create1),
  SCMP_SYS(epoll_ctl),
  SCMP_SYS(epoll_wait),
  SCMP_SYS(epoll_pwait),
  SCMP_SYS(eventfd2),
  SCMP_SYS(pipe2),
  SCMP_SYS(nanosleep),
  SCMP_SYS(clock_nanosleep),
  SCMP_SYS(restart_syscall),
  SCMP_SYS(clock_gettime),
  SCMP_SYS(clock_getres),
  SCMP_SYS(gettimeofday),
  SCMP_SYS(time),
  /* threads */
  SCMP_SYS(clone),
  SCMP_SYS(clone3),
  SCMP_SYS(futex),
  SCMP_SYS(set_robust_list),
  SCMP_SYS(rseq),
  SCMP_SYS(sched_yield),
  SCMP_SYS(sched_getaffinity),
  SCMP_SYS(gettid),
  SCMP_SYS(getpid),
  SCMP_SYS(tgkill),
  SCMP_SYS(exit),
  SCMP_SYS(exit_group),
  SCMP_SYS(prctl),
  SCMP_SYS(sched_setattr),
  SCMP_SYS(sched_getattr),
  /* memory and randomness */
  SCMP_SYS(brk),
  SCMP_SYS(mmap),
  SCMP_SYS(mmap2),
  SCMP_SYS(munmap),
  SCMP_SYS(mremap),
  SCMP_SYS(mprotect),
  SCMP_SYS(madvise),
  SCMP_SYS(getrandom),
  SCMP_SYS(getrusage),
  /* signals, and who we are */
  SCMP_SYS(rt_sigaction),
  SCMP_SYS(rt_sigprocmask),
  SCMP_SYS(rt_sigreturn),
  SCMP_SYS(rt_sigtimedwait),
  SCMP_SYS(sigaltstack),
  SCMP_SYS(getuid),
  SCMP_SYS(geteuid),
  SCMP_SYS(getgid),
  SCMP_SYS(getegid),
};

/* What only an intruder would try: not an error but the end. */
static const int nc_sandbox_fatal[] = {
  SCMP_SYS(execve),
  SCMP_SYS(execveat),
  SCMP_SYS(ptrace),
  SCMP_SYS(process_vm_readv),
  SCMP_SYS(process_vm_writev),
  SCMP_SYS(bpf),
  SCMP_SYS(mount),
  SCMP_SYS(init_module),
  SCMP_SYS(finit_module),
  SCMP_SYS(setuid),
  SCMP_SYS(setresuid),
  SCMP_SYS(io_uring_setup),
  SCMP_SYS(userfaultfd),
  SCMP_SYS(unshare),
  SCMP_SYS(setns),
};

bool
nc_sandbox_filter(GError **error)
{
  /* Everything else fails with EPERM: a newer libc's probing must not bring the gate down. */
  g_auto(scmp_filter_ctx) filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  int failed = filter ? 0 : -ENOMEM;

  for (size_t i = 0; i < G_N_ELEMENTS(nc_sandbox_calls) && failed == 0; i++)
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, nc_sandbox_calls[i], 0);
  for (size_t i = 0; i < G_N_ELEMENTS(nc_sandbox_fatal) && failed == 0; i++)
    failed = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, nc_sandbox_fatal[i], 0);
  if (failed == 0) /* a descriptor for novacrond's socket, or sd_notify's */
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
  if (failed == 0) /* libmicrohttpd's, between TLS and a WebSocket */
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
  if (failed == 0)
    failed = seccomp_load(filter);
  return failed == 0 || nc_fail_errno(error, NC_ERROR_INTERNAL, -failed, "the system-call filter can't be installed");
}
