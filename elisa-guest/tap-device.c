/* SPDX-License-Identifier: BSD-3-Clause */
/* TAP by /dev/net/tun and the classic interface ioctls: Documentation/networking/tuntap.rst. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <elisa/net.h>

#include "tap-device.h"

static int complain(const char *what, const char *value)
{
	int rc = -errno;

	fprintf(stderr, "elisa-tap: cannot %s %s: %s\n", what, value, strerror(-rc));
	return rc;
}

/* One ioctl of a socket on the interface; ioctls of this family want any socket at all. */
static int interface_ioctl(const struct tap *tap, unsigned long request, struct ifreq *ifr,
			   const char *what)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (sock < 0)
		return complain("open a socket for", tap->name);
	memcpy(ifr->ifr_name, tap->name, IFNAMSIZ);
	if (ioctl(sock, request, ifr))
		rc = complain(what, tap->name);
	close(sock);
	return rc;
}

int tap_open(struct tap *tap)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	int header_len = sizeof(struct virtio_net_hdr), rc;

	if (tap->headers)
		ifr.ifr_flags |= IFF_VNET_HDR;

	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fd < 0)
		return complain("open", "/dev/net/tun (is the tun module there?)");
	memcpy(ifr.ifr_name, tap->name, IFNAMSIZ);
	if (ioctl(tap->fd, TUNSETIFF, &ifr) ||
	    (tap->headers && ioctl(tap->fd, TUNSETVNETHDRSZ, &header_len))) {
		rc = complain("create the TAP interface", tap->name);
		close(tap->fd);
		tap->fd = -1;
		return rc;
	}
	memcpy(tap->name, ifr.ifr_name, IFNAMSIZ);
	return 0;
}

/* The switch cuts a frame into ELISA_GSO_SEGS_MAX segments at most. */
static int limit_segmentation(const struct tap *tap, uint32_t max)
{
	struct {
		struct nlmsghdr message;
		struct ifinfomsg interface;
		struct {
			struct rtattr attribute;
			uint32_t value;
		} segments, bytes;
	} request = {
		.message = {.nlmsg_len = sizeof(request),
			    .nlmsg_type = RTM_NEWLINK,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.interface = {.ifi_index = (int)if_nametoindex(tap->name)},
		.segments = {{8, IFLA_GSO_MAX_SEGS}, ELISA_GSO_SEGS_MAX},
		.bytes = {{8, IFLA_GSO_MAX_SIZE}, max},
	};
	struct {
		struct nlmsghdr message;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc = 0;

	if (sock < 0)
		return complain("open a netlink socket for", tap->name);
	if (send(sock, &request, sizeof(request), 0) < 0 ||
	    recv(sock, &answer, sizeof(answer), 0) < 0)
		rc = complain("limit the segmentation of", tap->name);
	else if (answer.error.error) {
		errno = -answer.error.error;
		rc = complain("limit the segmentation (or use --offload=off) of", tap->name);
	}
	close(sock);
	return rc;
}

int tap_offload(const struct tap *tap, uint32_t features, uint32_t max)
{
	unsigned long flags = 0;

	if (features & ELISA_NET_F_CSUM)
		flags |= TUN_F_CSUM;
	if (features & ELISA_NET_F_TSO4)
		flags |= TUN_F_TSO4 | TUN_F_TSO_ECN;
	if (features & ELISA_NET_F_TSO6)
		flags |= TUN_F_TSO6 | TUN_F_TSO_ECN;
	if (ioctl(tap->fd, TUNSETOFFLOAD, flags))
		return complain("set the offloads of", tap->name);
	return limit_segmentation(tap, max);
}

int tap_configure(const struct tap *tap, const uint8_t mac[6], uint16_t mtu)
{
	struct ifreq ifr = {.ifr_hwaddr.sa_family = ARPHRD_ETHER};
	int rc;

	memcpy(ifr.ifr_hwaddr.sa_data, mac, 6);
	rc = interface_ioctl(tap, SIOCSIFHWADDR, &ifr, "set the MAC address of");
	if (rc)
		return rc;
	memset(&ifr, 0, sizeof(ifr));
	ifr.ifr_mtu = mtu;
	return interface_ioctl(tap, SIOCSIFMTU, &ifr, "set the MTU of");
}

static int add_ipv4(const struct tap *tap, struct in_addr addr, int len)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = addr};
	struct ifreq ifr = {0};
	int rc;

	memcpy(&ifr.ifr_addr, &sin, sizeof(sin));
	rc = interface_ioctl(tap, SIOCSIFADDR, &ifr, "set the address of");
	if (rc)
		return rc;
	memset(&ifr, 0, sizeof(ifr));
	sin.sin_addr.s_addr = len ? htonl(~0u << (32 - len)) : 0;
	memcpy(&ifr.ifr_netmask, &sin, sizeof(sin));
	return interface_ioctl(tap, SIOCSIFNETMASK, &ifr, "set the netmask of");
}

static int add_ipv6(const struct tap *tap, const struct in6_addr *addr, int len)
{
	struct in6_ifreq req = {.ifr6_addr = *addr,
				.ifr6_prefixlen = (uint32_t)len,
				.ifr6_ifindex = (int)if_nametoindex(tap->name)};
	int sock = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (sock < 0)
		return complain("open an IPv6 socket for", tap->name);
	if (ioctl(sock, SIOCSIFADDR, &req))
		rc = complain("set the IPv6 address of", tap->name);
	close(sock);
	return rc;
}

int tap_add_address(const struct tap *tap, const char *address)
{
	char text[INET6_ADDRSTRLEN], *end;
	const char *slash = strchr(address, '/');
	struct in6_addr v6;
	struct in_addr v4;
	long len;

	if (!slash || (size_t)(slash - address) >= sizeof(text))
		goto malformed;
	memcpy(text, address, (size_t)(slash - address));
	text[slash - address] = '\0';
	len = strtol(slash + 1, &end, 10);
	if (end == slash + 1 || *end || len < 0)
		goto malformed;
	if (inet_pton(AF_INET, text, &v4) == 1 && len <= 32)
		return add_ipv4(tap, v4, (int)len);
	if (inet_pton(AF_INET6, text, &v6) == 1 && len <= 128)
		return add_ipv6(tap, &v6, (int)len);
malformed:
	fprintf(stderr, "elisa-tap: \"%s\" is no address: ADDR/LEN, as 10.0.0.1/24 or fd00::1/64\n",
		address);
	return -EINVAL;
}

int tap_up(const struct tap *tap)
{
	struct ifreq ifr = {0};
	int rc = interface_ioctl(tap, SIOCGIFFLAGS, &ifr, "read the flags of");

	if (rc)
		return rc;
	ifr.ifr_flags |= IFF_UP;
	return interface_ioctl(tap, SIOCSIFFLAGS, &ifr, "bring up");
}

size_t tap_announcement(const struct tap *tap, void *frame)
{
	struct ifreq mac = {0}, address = {0};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sin;
	struct ether_header ether = {.ether_type = htons(ETHERTYPE_ARP)};
	struct ether_arp arp = {.ea_hdr = {htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), ETH_ALEN, 4,
					   htons(ARPOP_REQUEST)}};
	bool has;

	memcpy(mac.ifr_name, tap->name, IFNAMSIZ);
	memcpy(address.ifr_name, tap->name, IFNAMSIZ);
	has = sock >= 0 && !ioctl(sock, SIOCGIFHWADDR, &mac) && !ioctl(sock, SIOCGIFADDR, &address);
	if (sock >= 0)
		close(sock);
	if (!has)
		return 0;
	memcpy(&sin, &address.ifr_addr, sizeof(sin));
	memcpy(arp.arp_sha, mac.ifr_hwaddr.sa_data, ETH_ALEN);
	memcpy(arp.arp_spa, &sin.sin_addr, 4);
	memcpy(arp.arp_tpa, &sin.sin_addr, 4);
	memset(ether.ether_dhost, 0xff, ETH_ALEN);
	memcpy(ether.ether_shost, arp.arp_sha, ETH_ALEN);
	memcpy(frame, &ether, sizeof(ether));
	memcpy((char *)frame + sizeof(ether), &arp, sizeof(arp));
	_Static_assert(sizeof(ether) + sizeof(arp) <= TAP_ANNOUNCEMENT_MAX, "it fits");
	return sizeof(ether) + sizeof(arp);
}

int tap_carrier(const struct tap *tap, bool up)
{
	int on = up;

	/* EINVAL: the interface was set down by somebody, which has no carrier anyway. */
	if (ioctl(tap->fd, TUNSETCARRIER, &on) && errno != EINVAL)
		return complain("set the carrier of", tap->name);
	return 0;
}

void tap_close(struct tap *tap)
{
	if (tap->fd >= 0)
		close(tap->fd);
	tap->fd = -1;
}
