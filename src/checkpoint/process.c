/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/process.h"
#include "base/program.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of the socket between us: enough for several frames, so that reading and storing overlap. */
#define NC_CHECKPOINTER_BUFFER (2 << 20)

struct NcCheckpointer {
  pid_t pid;
  int fd;
};

const char *
nc_checkpointer_find_binary(void)
{
  return nc_program_find("novacron-checkpointer", "checkpoint");
}

static bool
nc_checkpointer_spawn(const NcMoverProgram *program, int theirs, pid_t *ret_pid, GError **error)
{
  g_autofree char *uid = g_strdup_printf("--uid=%u", (unsigned)program->uid);
  g_autofree char *gid = g_strdup_printf("--gid=%u", (unsigned)program->gid);
  const char *const options[] = { uid, gid, NULL };

  if (nc_program_start(program->binary, options, theirs, ret_pid, error))
    return true;
  g_prefix_error(error, "the checkpointer, which belongs to novacrond's installation: ");
  return false;
}

NcCheckpointer *
nc_checkpointer_start(const NcMoverProgram *program, GError **error)
{
  const int size = NC_CHECKPOINTER_BUFFER;
  int pair[2];
  pid_t pid;

  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't make the checkpointer's socket");
    return NULL;
  }
  nc_autofd int ours = pair[0];
  nc_autofd int theirs = pair[1];
  setsockopt(theirs, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size); /* not root: the ordinary size does, too */
  if (!nc_checkpointer_spawn(program, theirs, &pid, error))
    return NULL;
  NcCheckpointer *c = g_new0(NcCheckpointer, 1);
  c->pid = pid;
  c->fd = nc_fd_steal(&ours);
  return c;
}

bool
nc_checkpointer_give(NcCheckpointer *c, int qemu, GError **error)
{
  nc_autojson json_t *order = json_pack("{s:s}", "op", "read");
  if (nc_msg_send(c->fd, order, qemu, error))
    return true;
  g_prefix_error(error, "the checkpointer on this node: ");
  return false;
}

bool
nc_checkpointer_next(NcCheckpointer *c, NcFrame *ret, GByteArray *body, int timeout_ms, GError **error)
{
  uint8_t header[NC_FRAME_HEADER_BYTES];

  if (!nc_read_all(c->fd, header, sizeof header, timeout_ms, error)) {
    g_prefix_error(error, "the checkpointer on this node: ");
    return false;
  }
  if (!nc_frame_decode(header, ret, error))
    return false;
  g_byte_array_set_size(body, nc_frame_body_bytes(ret));
  if (!nc_read_all(c->fd, body->data, body->len, timeout_ms, error)) {
    g_prefix_error(error, "the checkpointer on this node: ");
    return false;
  }
  if (ret->kind != NC_FRAME_FAILED)
    return true;
  g_autofree char *raw = g_strndup((const char *)body->data, body->len);
  g_autofree char *why = g_utf8_make_valid(raw, -1);
  return nc_fail(error, NC_ERROR_QEMU, "%s", why);
}

void
nc_checkpointer_break(NcCheckpointer *c)
{
  shutdown(c->fd, SHUT_RDWR);
}

void
nc_checkpointer_free(NcCheckpointer *c)
{
  if (!c)
    return;
  close(c->fd);
  kill(c->pid, SIGKILL);
  while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
    ;
  g_free(c);
}
