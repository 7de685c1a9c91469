/* SPDX-License-Identifier: BSD-3-Clause */
/* elisactl drops: which frames were dropped, what that means, and what to do about it. */
#include "ctl.h"

#include <stdlib.h>
#include <string.h>
#include <elisa/net.h>

static const char *const names[ELISA_DROP_COUNT] = {
#define NAME(id, name) [ELISA_DROP_##id] = name,
	ELISA_DROPS(NAME)
#undef NAME
};

static const struct {
	const char *means, *todo;
} reasons[ELISA_DROP_COUNT] = {
	[ELISA_DROP_TX_BAD_DESC] = {"the guest's driver wrote a descriptor that makes no sense",
				    "look at the program in the guest: it is broken or hostile"},
	[ELISA_DROP_TX_BAD_ADDR] = {"the guest's driver named memory that is not its shared RAM",
				    "look at the program in the guest: it is broken or hostile"},
	[ELISA_DROP_TX_RUNT] = {"a frame shorter than an Ethernet header",
				"look at the program in the guest"},
	[ELISA_DROP_TX_TOO_LONG] = {"a frame longer than its own port's MTU allows",
				    "raise the port's MTU (port set --mtu), or lower the guest's"},
	[ELISA_DROP_TX_SPOOFED] = {"its source is not the port's address",
				   "if the guest is a bridge or router: port set --anti-spoof off"},
	[ELISA_DROP_TX_BAD_SOURCE] = {"its source is a group address or zero",
				      "look at the program in the guest: it is broken or hostile"},
	[ELISA_DROP_TX_NO_PORT] =
		{"nobody to deliver it to: no other port is up, or it was for the "
		 "sender itself",
		 "harmless while the sender is alone; see port list, fdb list"},
	[ELISA_DROP_TX_ISOLATED] = {"the receiver is in none of the sender's groups",
				    "if they are to speak: port set --groups"},
	[ELISA_DROP_TX_LINK_DOWN] = {"the sender's port is switched off", "port set --up"},
	[ELISA_DROP_TX_BAD_OFFLOAD] = {"a checksum or segmentation request that makes no sense",
				       "look at the driver in the guest"},
	[ELISA_DROP_TX_VLAN] = {"the sender's port is not a member of the frame's VLAN",
				"compare the tags that the guest sends with the port's vlan"},
	[ELISA_DROP_TX_POLICED] = {"the guest sent more than the port's rate allows",
				   "meant so; else raise the rate"},
	[ELISA_DROP_TX_STORM] = {"more floods than the port's storm control allows",
				 "look for a loop or a scan in the guest; else raise the limit"},
	[ELISA_DROP_TX_MAC_LIMIT] = {"more source addresses than the port may have",
				     "look for forged addresses; else raise mac_limit"},
	[ELISA_DROP_RX_LINK_DOWN] = {"the receiver's port or queue is not up",
				     "harmless while it starts; else see port show"},
	[ELISA_DROP_RX_NO_BUFFER] = {"the receiver did not post buffers in time: it is too slow",
				     "give it larger rings, more queues or more CPU; for a mirror: "
				     "capture less"},
	[ELISA_DROP_RX_TOO_LONG] = {"longer than the receiver's MTU allows",
				    "give both ports the same MTU"},
	[ELISA_DROP_RX_BAD_ADDR] = {"a buffer that the receiver posted is not its RAM",
				    "look at the driver in the receiving guest"},
	[ELISA_DROP_RX_BAD_RING] = {"the receiver's count of buffers makes no sense",
				    "look at the driver in the receiving guest"},
	[ELISA_DROP_RX_CONTENDED] = {"too many senders wanted the receiver's ring at once",
				     "give the receiver more queues"},
	[ELISA_DROP_RX_ABORTED] = {"its sender was killed or has died while it copied",
				   "see events: which VM was killed, and why"},
	[ELISA_DROP_RX_FILTERED] = {"the receiver does not want this address",
				    "meant so: it has not joined the group, or is not promiscuous"},
	[ELISA_DROP_RX_VLAN] = {"the receiver's port is not a member of the frame's VLAN",
				"if it should get it: change the port's vlan"},
	[ELISA_DROP_RX_POLICED] = {"more for the receiver than its rate allows",
				   "meant so; else raise the rate"},
};

const char *drop_name(unsigned int reason)
{
	return reason < ELISA_DROP_COUNT ? names[reason] : "?";
}

static const char *means(const char *name, const char **todo)
{
	for (unsigned int i = 0; i < ELISA_DROP_COUNT; i++) {
		if (strcmp(names[i], name))
			continue;
		*todo = reasons[i].todo;
		return reasons[i].means;
	}
	*todo = "";
	return "(a newer daemon's: use its elisactl)";
}

static int explain(void)
{
	struct table *t = table_new("REASON|MEANS|WHAT TO DO");

	for (unsigned int i = 0; i < ELISA_DROP_COUNT; i++)
		table_row(t, names[i], reasons[i].means, reasons[i].todo);
	table_print(t);
	return CTL_OK;
}

static void print_drops(json_t *ports)
{
	struct table *t = table_new("PORT|REASON|>FRAMES|MEANS|WHAT TO DO");
	const char *name, *reason, *text, *todo;
	json_t *port, *count;
	unsigned int rows = 0;

	json_object_foreach(ports, name, port)
	{
		json_object_foreach(json_object_get(port, "drops"), reason, count)
		{
			text = means(reason, &todo);
			table_row(t, name, reason,
				  cell("%lld", (long long)json_integer_value(count)), text, todo);
			rows++;
		}
	}
	if (rows)
		table_print(t);
	else
		printf("nothing was dropped\n");
}

/* {port: {reason: count}} */
static void print_json(json_t *ports)
{
	json_t *all = json_object(), *port;
	const char *name;

	json_object_foreach(ports, name, port)
		json_object_set(all, name, json_object_get(port, "drops"));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

int run_drops(const char *path, bool as_json, json_t *params)
{
	json_t *result = NULL;
	int ret;

	if (is(params, "explain")) {
		json_decref(params);
		return explain();
	}
	ret = ctl_call(path, "stats", params, as_json, &result);
	if (ret)
		return ret;
	if (as_json)
		print_json(json_object_get(result, "ports"));
	else
		print_drops(json_object_get(result, "ports"));
	json_decref(result);
	return fflush(stdout) ? CTL_REFUSED : CTL_OK;
}
