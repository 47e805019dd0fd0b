/* SPDX-License-Identifier: Apache-2.0 */
/* By ioctls on /dev/net/tun and a control socket: no helper program, no dependency. */
#include "qemu/tap.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool
nc_ifname_set(struct ifreq *request, const char *ifname, GError **error)
{
  *request = (struct ifreq){ 0 };
  if (ifname[0] == '\0' || strlen(ifname) >= IFNAMSIZ)
    return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is no network device's name (1 to %d characters)", ifname, IFNAMSIZ - 1);
  g_strlcpy(request->ifr_name, ifname, IFNAMSIZ);
  return true;
}

bool
nc_bridge_exists(const char *bridge)
{
  /* SIOCBRADDIF of index 0 is EINVAL on a bridge and EOPNOTSUPP on anything else; sysfs may show another namespace. */
  struct ifreq request;
  nc_autofd int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0 || !nc_ifname_set(&request, bridge, NULL))
    return false;
  return ioctl(control, SIOCBRADDIF, &request) < 0 && errno == EINVAL;
}

static bool
nc_tap_make_persistent(const char *ifname, GError **error)
{
  struct ifreq request;
  nc_autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "/dev/net/tun");
  if (!nc_ifname_set(&request, ifname, error))
    return false;
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
    return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't make the tap %s", ifname);
  return true;
}

static bool
nc_tap_add_to_bridge(int control, const char *ifname, const char *bridge, GError **error)
{
  struct ifreq request;
  if (!nc_ifname_set(&request, bridge, error))
    return false;
  request.ifr_ifindex = (int)if_nametoindex(ifname);
  if (ioctl(control, SIOCBRADDIF, &request) == 0 || errno == EBUSY) /* busy: it is in one already */
    return true;
  int problem = errno;
  if (if_nametoindex(bridge) == 0)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "there is no bridge %s on this node", bridge);
  return nc_fail_errno(error, NC_ERROR_UNSUITABLE, problem, "the tap %s can't be added to %s", ifname, bridge);
}

static bool
nc_tap_bring_up(int control, const char *ifname, GError **error)
{
  struct ifreq request;
  if (!nc_ifname_set(&request, ifname, error))
    return false;
  if (ioctl(control, SIOCGIFFLAGS, &request) == 0) {
    request.ifr_flags |= IFF_UP;
    if (ioctl(control, SIOCSIFFLAGS, &request) == 0)
      return true;
  }
  return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't bring the tap %s up", ifname);
}

bool
nc_tap_create(const char *ifname, const char *bridge, GError **error)
{
  nc_autofd int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0)
    return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "socket");
  bool was_there = if_nametoindex(ifname) != 0;
  if (!nc_tap_make_persistent(ifname, error))
    return false;
  if ((!bridge || nc_tap_add_to_bridge(control, ifname, bridge, error)) && nc_tap_bring_up(control, ifname, error))
    return true;
  if (!was_there)
    nc_tap_delete(ifname, NULL);
  return false;
}

bool
nc_tap_delete(const char *ifname, GError **error)
{
  struct ifreq request;
  if (if_nametoindex(ifname) == 0)
    return true;
  nc_autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "/dev/net/tun");
  if (!nc_ifname_set(&request, ifname, error))
    return false;
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 0) < 0)
    return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "can't remove the tap %s", ifname);
  return true;
}

/* The kernel's answer to RTM_GETLINK: the index of the master, 0 if there is none. */
static int
nc_master_of_answer(const struct nlmsghdr *header, size_t length)
{
  if (!NLMSG_OK(header, length) || header->nlmsg_type != RTM_NEWLINK || header->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
    return 0;
  const struct ifinfomsg *link = NLMSG_DATA(header);
  size_t left = IFLA_PAYLOAD(header);
  for (const struct rtattr *attribute = IFLA_RTA(link); RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    int index;
    if (attribute->rta_type == IFLA_MASTER && RTA_PAYLOAD(attribute) >= sizeof index) {
      memcpy(&index, RTA_DATA(attribute), sizeof index);
      return index;
    }
  }
  return 0;
}

char *
nc_tap_master(const char *ifname)
{
  struct {
    struct nlmsghdr header;
    struct ifinfomsg link;
  } request = { .header = { .nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST },
                .link = { .ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(ifname) } };
  union {
    struct nlmsghdr header;
    char bytes[16384];
  } answer;
  char name[IF_NAMESIZE];
  /* Not by /sys: that may show another network namespace than ours. */
  nc_autofd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

  if (fd < 0 || request.link.ifi_index == 0 || send(fd, &request, sizeof request, 0) < 0)
    return NULL;
  ssize_t n = recv(fd, &answer, sizeof answer, 0);
  int master = n > 0 ? nc_master_of_answer(&answer.header, (size_t)n) : 0;
  return master > 0 && if_indextoname((unsigned)master, name) ? g_strdup(name) : NULL;
}
