/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_bridge.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_gact.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "bridge.h"

static struct mnl_socket *sock;
static uint32_t sequence;
static _Alignas(NLMSG_ALIGNTO) char buf[8192];

void b_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("oracle: ", stdout);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	exit(1);
}

void b_open(void)
{
	sock = mnl_socket_open(NETLINK_ROUTE);
	if (!sock || mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0)
		b_fail("no netlink socket: %s", strerror(errno));
}

unsigned int b_index(const char *fmt, unsigned int n)
{
	char name[IFNAMSIZ];
	unsigned int index;

	snprintf(name, sizeof(name), fmt, n);
	index = if_nametoindex(name);
	if (!index)
		b_fail("there is no device %s", name);
	return index;
}

static struct nlmsghdr *request(unsigned int type, unsigned int flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = (uint16_t)type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	nlh->nlmsg_seq = ++sequence;
	return nlh;
}

static void done(struct nlmsghdr *nlh, const char *what, unsigned int port)
{
	ssize_t n;

	if (mnl_socket_sendto(sock, nlh, nlh->nlmsg_len) < 0)
		b_fail("%s: %s", what, strerror(errno));
	n = mnl_socket_recvfrom(sock, buf, sizeof(buf));
	if (n < 0 ||
	    mnl_cb_run(buf, (size_t)n, sequence, mnl_socket_get_portid(sock), NULL, NULL) < 0)
		b_fail("%s at device %u: %s", what, port, strerror(errno));
}

static struct nlmsghdr *link_request(unsigned int type, unsigned int family, unsigned int port)
{
	struct nlmsghdr *nlh = request(type, 0);
	struct ifinfomsg *m = mnl_nlmsg_put_extra_header(nlh, sizeof(*m));

	m->ifi_family = (uint8_t)family;
	m->ifi_index = (int)port;
	return nlh;
}

void b_master(unsigned int port, unsigned int master)
{
	struct nlmsghdr *nlh = link_request(RTM_SETLINK, AF_UNSPEC, port);

	mnl_attr_put_u32(nlh, IFLA_MASTER, master);
	done(nlh, "master", port);
}

void b_port(unsigned int port, const struct b_flags *f)
{
	struct nlmsghdr *nlh = link_request(RTM_SETLINK, AF_BRIDGE, port);
	struct nlattr *nest = mnl_attr_nest_start(nlh, IFLA_PROTINFO);

	mnl_attr_put_u8(nlh, IFLA_BRPORT_STATE,
			f->forwarding ? BR_STATE_FORWARDING : BR_STATE_DISABLED);
	mnl_attr_put_u8(nlh, IFLA_BRPORT_LEARNING, f->learning);
	mnl_attr_put_u8(nlh, IFLA_BRPORT_UNICAST_FLOOD, f->unknown);
	mnl_attr_put_u8(nlh, IFLA_BRPORT_MCAST_FLOOD, f->multicast);
	mnl_attr_put_u8(nlh, IFLA_BRPORT_BCAST_FLOOD, f->broadcast);
	mnl_attr_put_u8(nlh, IFLA_BRPORT_ISOLATED, f->isolated);
	mnl_attr_nest_end(nlh, nest);
	done(nlh, "flags", port);
}

void b_flush(unsigned int port)
{
	struct nlmsghdr *nlh = link_request(RTM_SETLINK, AF_BRIDGE, port);
	struct nlattr *nest = mnl_attr_nest_start(nlh, IFLA_PROTINFO);

	mnl_attr_put(nlh, IFLA_BRPORT_FLUSH, 0, NULL);
	mnl_attr_nest_end(nlh, nest);
	done(nlh, "flush", port);
}

static void vlan(unsigned int type, unsigned int port, uint16_t vid, unsigned int flags)
{
	struct nlmsghdr *nlh = link_request(type, AF_BRIDGE, port);
	struct bridge_vlan_info info = {.vid = vid, .flags = (uint16_t)flags};
	struct nlattr *nest = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);

	mnl_attr_put(nlh, IFLA_BRIDGE_VLAN_INFO, sizeof(info), &info);
	mnl_attr_nest_end(nlh, nest);
	done(nlh, "VLAN", port);
}

void b_vlan_add(unsigned int port, uint16_t vid, bool pvid, bool untagged)
{
	vlan(RTM_SETLINK, port, vid,
	     (pvid ? BRIDGE_VLAN_INFO_PVID : 0) | (untagged ? BRIDGE_VLAN_INFO_UNTAGGED : 0));
}

void b_vlan_del(unsigned int port, uint16_t vid)
{
	vlan(RTM_DELLINK, port, vid, 0);
}

static void fdb(unsigned int type, unsigned int flags, unsigned int port, const uint8_t mac[6],
		uint16_t vid)
{
	struct nlmsghdr *nlh = request(type, flags);
	struct ndmsg *m = mnl_nlmsg_put_extra_header(nlh, sizeof(*m));

	m->ndm_family = PF_BRIDGE;
	m->ndm_ifindex = (int)port;
	m->ndm_state = NUD_NOARP; /* static, but not the bridge's own */
	m->ndm_flags = NTF_MASTER | NTF_STICKY;
	mnl_attr_put(nlh, NDA_LLADDR, 6, mac);
	if (vid)
		mnl_attr_put_u16(nlh, NDA_VLAN, vid);
	done(nlh, type == RTM_NEWNEIGH ? "a static address" : "a static address less", port);
}

void b_fdb_add(unsigned int port, const uint8_t mac[6], uint16_t vid)
{
	fdb(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, port, mac, vid);
}

void b_fdb_del(unsigned int port, const uint8_t mac[6], uint16_t vid)
{
	fdb(RTM_DELNEIGH, 0, port, mac, vid);
}

/* ---- filters ---- */

/* Time that `burst` takes at `rate`, in ticks of 64 ns (PSCHED_SHIFT of the kernel). */
static uint64_t ticks(uint64_t burst, uint64_t rate)
{
	return burst * 1000000000 / rate >> 6;
}

static void put_police(struct nlmsghdr *nlh, const struct b_filter *f)
{
	static const uint8_t table[1024]; /* is asked for, and not looked at any more */
	struct tc_police police = {
		.action = TC_ACT_SHOT,
		.burst = (uint32_t)ticks(f->bytes, f->rate),
		.rate = {.cell_log = 3,
			 .cell_align = -1,
			 .linklayer = TC_LINKLAYER_ETHERNET,
			 .overhead = f->in ? ETH_HLEN : 0, /* which is not there any more */
			 .mpu = (uint16_t)f->least,
			 .rate = f->rate},
	};

	mnl_attr_put(nlh, TCA_POLICE_RATE, sizeof(table), table);
	mnl_attr_put(nlh, TCA_POLICE_TBF, sizeof(police), &police);
	mnl_attr_put_u32(nlh, TCA_POLICE_RESULT, (uint32_t)TC_ACT_UNSPEC);
}

static void put_action(struct nlmsghdr *nlh, const struct b_filter *f)
{
	const char *kind = f->mirror ? "mirred" : f->pass ? "gact" : "police";
	struct nlattr *first = mnl_attr_nest_start(nlh, 1), *options;

	mnl_attr_put_strz(nlh, TCA_ACT_KIND, kind);
	options = mnl_attr_nest_start(nlh, TCA_ACT_OPTIONS);
	if (f->mirror) {
		struct tc_mirred mirred = {.action = TC_ACT_UNSPEC,
					   .eaction = TCA_EGRESS_MIRROR,
					   .ifindex = f->mirror};

		mnl_attr_put(nlh, TCA_MIRRED_PARMS, sizeof(mirred), &mirred);
	} else if (f->pass) {
		struct tc_gact gact = {.action = TC_ACT_OK};

		mnl_attr_put(nlh, TCA_GACT_PARMS, sizeof(gact), &gact);
	} else {
		put_police(nlh, f);
	}
	mnl_attr_nest_end(nlh, options);
	mnl_attr_nest_end(nlh, first);
}

static struct nlmsghdr *filter(unsigned int type, unsigned int flags, unsigned int port, bool in,
			       unsigned int pref)
{
	struct nlmsghdr *nlh = request(type, flags);
	struct tcmsg *m = mnl_nlmsg_put_extra_header(nlh, sizeof(*m));

	m->tcm_ifindex = (int)port;
	m->tcm_parent = TC_H_MAKE(TC_H_CLSACT, in ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
	if (pref)
		m->tcm_info = TC_H_MAKE(pref << 16, htons(ETH_P_ALL));
	return nlh;
}

void b_filter_add(const struct b_filter *f)
{
	static const uint8_t ones[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, group[6] = {1};
	struct nlmsghdr *nlh =
		filter(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, f->port, f->in, f->pref);
	const uint8_t *address = f->match == B_BROADCAST ? ones : group;
	struct nlattr *options, *act;

	mnl_attr_put_strz(nlh, TCA_KIND, f->match == B_ALL ? "matchall" : "flower");
	options = mnl_attr_nest_start(nlh, TCA_OPTIONS);
	if (f->match != B_ALL) {
		mnl_attr_put(nlh, TCA_FLOWER_KEY_ETH_DST, 6, address);
		mnl_attr_put(nlh, TCA_FLOWER_KEY_ETH_DST_MASK, 6, address);
	}
	act = mnl_attr_nest_start(nlh, f->match == B_ALL ? TCA_MATCHALL_ACT : TCA_FLOWER_ACT);
	put_action(nlh, f);
	mnl_attr_nest_end(nlh, act);
	mnl_attr_nest_end(nlh, options);
	done(nlh, "a filter", f->port);
}

void b_filter_del(unsigned int port, bool in, unsigned int pref)
{
	done(filter(RTM_DELTFILTER, 0, port, in, pref), "a filter less", port);
}
