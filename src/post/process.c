/* SPDX-License-Identifier: Apache-2.0 */
#include "post/process.h"
#include "base/program.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NC_POSTER_ANSWER_MS 30000 /* twice what it takes itself */

struct NcPoster {
  pid_t pid;
  int fd;
};

NcPoster *
nc_poster_start(uid_t uid, gid_t gid, GError **error)
{
  g_autofree char *uid_option = g_strdup_printf("--uid=%u", (unsigned)uid);
  g_autofree char *gid_option = g_strdup_printf("--gid=%u", (unsigned)gid);
  const char *const options[] = { uid_option, gid_option, NULL };
  int pair[2];
  pid_t pid;

  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
    nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't make the poster's socket");
    return NULL;
  }
  nc_autofd int ours = pair[0];
  nc_autofd int theirs = pair[1];
  if (!nc_program_start(nc_program_find("novacron-post", "post"), options, theirs, &pid, error))
    return NULL;
  NcPoster *poster = g_new0(NcPoster, 1);
  poster->pid = pid;
  poster->fd = nc_fd_steal(&ours);
  return poster;
}

void
nc_poster_free(NcPoster *poster)
{
  if (!poster)
    return;
  close(poster->fd);
  kill(poster->pid, SIGKILL);
  while (waitpid(poster->pid, NULL, 0) < 0 && errno == EINTR)
    ;
  g_free(poster);
}

void
nc_poster_break(NcPoster *poster)
{
  shutdown(poster->fd, SHUT_RDWR);
}

bool
nc_poster_post(NcPoster *poster, const NcPost *post, int *ret_status, GError **error)
{
  nc_autojson json_t *order =
      json_pack("{s:s, s:s, s:s?, s:O, s:s}", "op", "post", "url", post->url, "ca", post->ca, "headers", post->headers, "body", post->body);
  nc_autojson json_t *answer = NULL;

  if (!nc_msg_send(poster->fd, order, -1, error) || !(answer = nc_msg_recv(poster->fd, NC_POSTER_ANSWER_MS, NULL, error))) {
    g_prefix_error(error, "novacron-post: ");
    return false;
  }
  *ret_status = (int)nc_json_int_or(answer, "status", 0);
  return *ret_status > 0 || nc_fail(error, NC_ERROR_UNREACHABLE, "%s", nc_json_string_or(answer, "error", "novacron-post says nothing"));
}
