/* SPDX-License-Identifier: Apache-2.0 */
#include "post/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sys/socket.h>
#include <unistd.h>

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(scmp_filter_ctx, seccomp_release, NULL)

/* Grouped by who needs them. */
static const int nc_post_calls[] = {
  /* connections: libcurl, OpenSSL, the resolver, novacrond */
  SCMP_SYS(connect),
  SCMP_SYS(bind), /* the resolver's netlink socket */
  SCMP_SYS(read),
  SCMP_SYS(readv),
  SCMP_SYS(recvfrom),
  SCMP_SYS(recvmsg),
  SCMP_SYS(write),
  SCMP_SYS(writev),
  SCMP_SYS(sendto),
  SCMP_SYS(sendmsg),
  SCMP_SYS(sendmmsg),
  SCMP_SYS(shutdown),
  SCMP_SYS(close),
  SCMP_SYS(getsockopt),
  SCMP_SYS(setsockopt),
  SCMP_SYS(getsockname),
  SCMP_SYS(getpeername),
  SCMP_SYS(ioctl), /* FIONREAD */
  SCMP_SYS(fcntl),
  /* files to be read */
  SCMP_SYS(pread64),
  SCMP_SYS(lseek),
  SCMP_SYS(fstat),
  SCMP_SYS(stat),
  SCMP_SYS(statx),
  SCMP_SYS(newfstatat),
  SCMP_SYS(access),
  SCMP_SYS(faccessat),
  SCMP_SYS(faccessat2),
  SCMP_SYS(readlink),
  SCMP_SYS(readlinkat),
  SCMP_SYS(getdents64),
  SCMP_SYS(uname),
  /* waiting */
  SCMP_SYS(poll),
  SCMP_SYS(ppoll),
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
  SCMP_SYS(exit),
  SCMP_SYS(exit_group),
  SCMP_SYS(prctl),
  /* memory and randomness */
  SCMP_SYS(brk),
  SCMP_SYS(mmap),
  SCMP_SYS(munmap),
  SCMP_SYS(mremap),
  SCMP_SYS(mprotect),
  SCMP_SYS(madvise),
  SCMP_SYS(getrandom),
  /* signals, and who we are */
  SCMP_SYS(rt_sigaction),
  SCMP_SYS(rt_sigprocmask),
  SCMP_SYS(rt_sigreturn),
  SCMP_SYS(sigaltstack),
  SCMP_SYS(getuid),
  SCMP_SYS(geteuid),
  SCMP_SYS(getgid),
  SCMP_SYS(getegid),
};

/* What only an intruder would try: not an error but the end. */
static const int nc_post_fatal[] = {
  SCMP_SYS(execve),
  SCMP_SYS(execveat),
  SCMP_SYS(ptrace),
  SCMP_SYS(process_vm_readv),
  SCMP_SYS(process_vm_writev),
  SCMP_SYS(bpf),
  SCMP_SYS(mount),
  SCMP_SYS(setuid),
  SCMP_SYS(setresuid),
  SCMP_SYS(io_uring_setup),
  SCMP_SYS(userfaultfd),
  SCMP_SYS(unshare),
  SCMP_SYS(setns),
};

bool
nc_post_seal(GError **error)
{
  static const int families[] = { AF_INET, AF_INET6, AF_NETLINK };
  g_auto(scmp_filter_ctx) filter = seccomp_init(SCMP_ACT_ERRNO(EPERM)); /* what a newer library tries must not bring it down */
  int failed = filter ? 0 : -ENOMEM;

  for (size_t i = 0; i < G_N_ELEMENTS(nc_post_calls) && failed == 0; i++)
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, nc_post_calls[i], 0);
  for (size_t i = 0; i < G_N_ELEMENTS(nc_post_fatal) && failed == 0; i++)
    failed = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, nc_post_fatal[i], 0);
  for (size_t i = 0; i < G_N_ELEMENTS(families) && failed == 0; i++)
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
  if (failed == 0) /* between libcurl's threads; of datagrams it could be turned towards the log's socket */
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 2, SCMP_A0(SCMP_CMP_EQ, AF_UNIX),
                              SCMP_A1(SCMP_CMP_MASKED_EQ, (scmp_datum_t) ~(SOCK_CLOEXEC | SOCK_NONBLOCK), SOCK_STREAM));
  if (failed == 0) /* abort(3); others of its user are not its business */
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
  if (failed == 0)
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
  if (failed == 0)
    failed = seccomp_load(filter);
  return failed == 0 || nc_fail_errno(error, NC_ERROR_INTERNAL, -failed, "the system-call filter can't be installed");
}
