/* SPDX-License-Identifier: BSD-3-Clause */
/* elisa-info: is this VM attached to a switch, and with which ports? */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

const char *argp_program_version = "elisa-info " ELISA_VERSION;

struct options {
	const char *transport;
	bool json;
};

static const struct argp_option option_list[] = {
	{"transport", 't', "SPEC", 0, "vmfunc (default) or local:SOCKET[,OPTIONS] (no isolation)", 0},
	{"json", 'j', NULL, 0, "Print JSON", 0},
	{0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 't':
		o->transport = arg;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Reads every port's info. Returns how many there are, or -errno. */
static int read_ports(struct elisa_guest *guest, struct elisa_port_info *ports)
{
	struct elisa_port_info *at;
	struct elisa_call call;
	struct elisa_mem *mem = NULL;
	int64_t r = 0;
	int n = 0, rc = elisa_guest_call(guest, &call);

	/* Others who look at the ports hold this memory for an instant. */
	for (int i = 0; !rc && i < 1000; i++) {
		rc = elisa_mem_alloc(guest, "port-names", sizeof(*at), &mem);
		if (rc != -EBUSY)
			break;
		rc = 0;
		tool_sleep_us(1000);
	}
	if (rc)
		return rc;
	if (!mem)
		return -EBUSY;
	at = mem->addr;
	while (n < ELISA_PORTS_PER_VM) {
		r = elisa_call(&call, ELISA_NET_PORT_INFO, (uint64_t)n, elisa_mem_gpa(mem, at), 0);
		if (r < 0)
			break;
		ports[n] = *at;
		ports[n].name[sizeof(at->name) - 1] = '\0';
		n++;
	}
	elisa_mem_free(guest, mem);
	return r < 0 && r != -ELISA_ENODEV ? (int)r : n;
}

/* It takes memory that the switch reaches, which takes more than being attached. */
static const char *why_no_ports(int rc)
{
	switch (-rc) {
	case ENODEV:
		return "no hugetlbfs of 2 MiB pages is mounted";
	case ENOMEM:
		return "no free hugepage (sysctl vm.nr_hugepages)";
	case EPERM:
	case EACCES:
		return "not permitted: run as root";
	default:
		return elisa_port_state_text(rc);
	}
}

static void print_json(struct elisa_guest *guest, int64_t hello,
		       const struct elisa_port_info *ports, int count)
{
	char mac[MAC_TEXT];

	printf("{\"attached\": true, \"transport\": \"%s\", \"abi_revision\": %d, \"service\": %u, "
	       "\"generation\": %u, ",
	       elisa_guest_transport(guest), ELISA_ABI_REVISION, ELISA_HELLO_SERVICE(hello),
	       ELISA_HELLO_GENERATION(hello));
	if (count < 0)
		printf("\"ports_error\": \"%s\", ", why_no_ports(count));
	printf("\"ports\": [");
	for (int i = 0; i < count; i++) {
		printf("%s{\"index\": %d, \"name\": ", i ? ", " : "", i);
		tool_json_string(stdout, ports[i].name);
		printf(", \"mac\": \"%s\", \"mtu\": %u, \"queues\": %u, \"link\": %s}",
		       tool_mac_text(ports[i].mac, mac), ports[i].mtu, ports[i].queues,
		       ports[i].link & ELISA_LINK_UP ? "true" : "false");
	}
	printf("]}\n");
}

static void print_table(struct elisa_guest *guest, int64_t hello,
			const struct elisa_port_info *ports, int count)
{
	char mac[MAC_TEXT];

	printf("attached to a switch by %s, ABI revision %d, generation %u\n",
	       elisa_guest_transport(guest), ELISA_ABI_REVISION, ELISA_HELLO_GENERATION(hello));
	if (count < 0) {
		fprintf(stderr, "elisa-info: the ports cannot be read: %s\n", why_no_ports(count));
		return;
	}
	printf("%-6s %-20s %-18s %6s %7s %s\n", "PORT", "NAME", "MAC", "MTU", "QUEUES", "LINK");
	for (int i = 0; i < count; i++)
		printf("%-6d %-20s %-18s %6u %7u %s\n", i, ports[i].name,
		       tool_mac_text(ports[i].mac, mac), ports[i].mtu, ports[i].queues,
		       ports[i].link & ELISA_LINK_UP ? "up" : "down");
}

static int run(const struct options *o)
{
	struct elisa_port_info ports[ELISA_PORTS_PER_VM];
	struct elisa_guest *guest;
	int64_t hello;
	int count, rc;

	rc = elisa_guest_open(o->transport, ELISA_SERVICE_SWITCH, &guest);
	if (rc) {
		if (o->json) {
			printf("{\"attached\": false, \"error\": %d, \"reason\": ", -rc);
			tool_json_string(stdout, elisa_guest_error());
			printf("}\n");
		} else {
			fprintf(stderr, "elisa-info: %s\n", elisa_guest_error());
		}
		return 1;
	}
	hello = elisa_guest_hello(guest);
	count = read_ports(guest, ports);
	if (o->json)
		print_json(guest, hello, ports, count);
	else
		print_table(guest, hello, ports, count);
	elisa_guest_close(guest);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		option_list,
		parse,
		NULL,
		"Says whether this VM is attached to a switch, and which ports it has. "
		"Exit status 0: attached; 1: not.",
		NULL,
		NULL,
		NULL};
	struct options o = {0};

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	return run(&o);
}
