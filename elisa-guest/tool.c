/* SPDX-License-Identifier: BSD-3-Clause */
/* Parsing, opening and printing for the guest's programs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tool.h"

#define RETRY_US 100000

uint64_t tool_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void tool_sleep_us(uint64_t us)
{
	const struct timespec ts = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

	nanosleep(&ts, NULL);
}

bool tool_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < min || n > max)
		return false;
	*value = n;
	return true;
}

uint32_t tool_parse_list(const char *text, uint64_t min, uint64_t max, uint32_t *values,
			 uint32_t room)
{
	char *copy = strdup(text), *rest = copy, *word;
	uint32_t count = 0;
	uint64_t n;

	while (copy && (word = strsep(&rest, ","))) {
		if (count == room || !tool_parse_number(word, min, max, &n)) {
			count = 0;
			break;
		}
		values[count++] = (uint32_t)n;
	}
	free(copy);
	return count;
}

bool tool_parse_mac(const char *text, uint8_t mac[6])
{
	unsigned int b[6];
	int used = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &used) != 6 ||
	    used != 17 || text[used])
		return false;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return true;
}

const char *tool_mac_text(const uint8_t mac[6], char text[MAC_TEXT])
{
	snprintf(text, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
	return text;
}

void tool_json_string(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(out, "\\u%04x", (unsigned int)*text);
		else
			putc(*text, out);
	}
	putc('"', out);
}

static bool may_come(int rc)
{
	return rc == -ENOTCONN || rc == -ESHUTDOWN || rc == -ECONNREFUSED || rc == -ENOENT ||
	       rc == -ECONNRESET || rc == -ESTALE || rc == -EBUSY || rc == -EAGAIN;
}

int tool_open_guest(const char *program, const char *spec, uint64_t wait_s,
		    struct elisa_guest **guest)
{
	const uint64_t end = tool_now_us() + wait_s * 1000000;
	int rc;

	while ((rc = elisa_guest_open(spec, ELISA_SERVICE_SWITCH, guest)) && may_come(rc) &&
	       tool_now_us() < end)
		tool_sleep_us(RETRY_US);
	if (rc)
		fprintf(stderr, "%s: %s\n", program, elisa_guest_error());
	return rc;
}

static void explain_port(const char *program, const char *which, int rc)
{
	if (!which)
		which = "0";
	if (rc == -ENODEV)
		fprintf(stderr,
			"%s: no port \"%s\" for this VM, or no hugetlbfs of 2 MiB pages is "
			"mounted: see elisa-info, `mount -t hugetlbfs none /dev/hugepages`\n",
			program, which);
	else if (rc == -EBUSY)
		fprintf(stderr, "%s: port %s is in use by another process of this VM\n", program,
			which);
	else if (rc == -ENOMEM)
		fprintf(stderr,
			"%s: not enough memory for port %s: more hugepages are needed "
			"(sysctl vm.nr_hugepages), or with local a larger ram= option\n",
			program, which);
	else if (rc == -EPERM || rc == -EACCES)
		fprintf(stderr,
			"%s: port %s needs CAP_SYS_ADMIN (for guest-physical addresses) "
			"and write access to hugetlbfs: run as root\n",
			program, which);
	else if (rc == -EAGAIN)
		fprintf(stderr, "%s: port %s: its former queues stay busy; try again\n", program,
			which);
	else
		fprintf(stderr, "%s: port %s: %s\n", program, which, elisa_port_state_text(rc));
}

int tool_open_port(const char *program, struct elisa_guest *guest, const char *which,
		   const struct elisa_port_params *params, uint64_t wait_s,
		   struct elisa_port **port)
{
	const uint64_t end = tool_now_us() + wait_s * 1000000;
	int rc;

	while ((rc = elisa_port_open(guest, which, params, port)) && may_come(rc) &&
	       tool_now_us() < end)
		tool_sleep_us(RETRY_US);
	if (rc)
		explain_port(program, which, rc);
	return rc;
}

void tool_json_counters(FILE *out, const struct elisa_port_counters *c)
{
	static const char *const drop_names[] = {
#define NAME(id, name) name,
		ELISA_DROPS(NAME)
#undef NAME
	};
	const char *comma = "";

	fprintf(out,
		"\"tx_frames\": %lu, \"tx_bytes\": %lu, \"rx_frames\": %lu, \"rx_bytes\": %lu, "
		"\"tx_unicast\": %lu, \"tx_multicast\": %lu, \"tx_broadcast\": %lu, "
		"\"tx_flooded\": %lu, \"tx_calls\": %lu, \"tx_csum\": %lu, "
		"\"tx_segmented\": %lu, \"tx_segments\": %lu, \"tx_bells\": %lu, \"drops\": {",
		c->tx_frames, c->tx_bytes, c->rx_frames, c->rx_bytes, c->tx_unicast,
		c->tx_multicast, c->tx_broadcast, c->tx_flooded, c->tx_calls, c->tx_csum,
		c->tx_segmented, c->tx_segments, c->tx_bells);
	for (uint32_t i = 0; i < ELISA_DROP_COUNT; i++) {
		if (!c->drops[i])
			continue;
		fprintf(out, "%s\"%s\": %lu", comma, drop_names[i], c->drops[i]);
		comma = ", ";
	}
	fprintf(out, "}");
}
