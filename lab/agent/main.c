// SPDX-License-Identifier: BSD-3-Clause
/* lab-agent: one static program with the lab's roles inside the emulated host and its guests. */
#include "agent.h"

#include <stdio.h>
#include <string.h>

static int usage(void)
{
	fprintf(stderr, "usage: lab-agent host DEVICE          run commands from a serial line\n"
			"       lab-agent guest DEVICE         the same, in a guest\n"
			"       lab-agent guestd DIR QEMU...   start a guest, relay commands to it\n"
			"       lab-agent guestd DIR --socket PATH   relay to a guest that others start\n"
			"       lab-agent exec [-t|-i] SOCK COMMAND\n"
			"       lab-agent qmp SOCK JSON\n");
	return 2;
}

int main(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";
	bool tty = false, input = false;
	int i = 2;

	if (!strcmp(role, "host") && argc == 3)
		return agent_main(argv[2], true);
	if (!strcmp(role, "guest") && argc == 3)
		return agent_main(argv[2], false);
	if (!strcmp(role, "guestd") && argc > 3)
		return guestd_main(argv[2], argv + 3);
	if (!strcmp(role, "qmp") && argc == 4)
		return qmp_main(argv[2], argv[3]);
	if (strcmp(role, "exec"))
		return usage();
	for (; i < argc && argv[i][0] == '-'; i++) {
		tty |= !strcmp(argv[i], "-t");
		input |= !strcmp(argv[i], "-i");
	}
	if (i + 2 != argc)
		return usage();
	return exec_main(argv[i], argv[i + 1], tty, input || tty);
}
