/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What test_cost.sh counts instructions of: CALLS calls of vs_entry that send BURST frames of LEN
 * bytes each to one learned destination. Usage: path_cost BURST LEN CALLS
 */
#include "harness.h"

int main(int argc, char **argv)
{
	static struct t_switch t;
	static struct t_frame frame;
	struct t_guest *a, *b;
	unsigned int burst, len, calls;

	if (argc != 4)
		return 2;
	burst = (unsigned int)atoi(argv[1]);
	len = (unsigned int)atoi(argv[2]);
	calls = (unsigned int)atoi(argv[3]);
	t_create(&t, 1024);
	a = t_guest(&t, true);
	b = t_guest(&t, true);
	if (t_setup(a, 0, 256, 256, T_BUF) < 0 || t_setup(b, 0, 256, 256, T_BUF) < 0)
		return 1;
	t_post(&a->q[0], 256);
	t_post(&b->q[0], 256);
	/* Not counted: the counting starts with the operation's number of calls below. */
	if (t_send_one(b, 60, a->mac, b->mac, 0) != 1 ||
	    t_send_one(a, 60, b->mac, a->mac, 0) != 1 || !t_receive(b, 0, &frame))
		return 1;
	for (unsigned int c = 0; c < calls; c++) {
		for (unsigned int i = 0; i < burst; i++)
			t_frame_put(a, 0, len, b->mac, a->mac, i);
		if (t_send(a, 0, burst) != (int)burst)
			return 1;
		for (unsigned int i = 0; i < burst; i++)
			if (!t_receive(b, 0, &frame) || !t_frame_is(&frame, len, b->mac, a->mac, i))
				return 1;
	}
	t_destroy(&t);
	return 0;
}
