/* SPDX-License-Identifier: BSD-3-Clause */
/* The build for scenarios: who sends to one address stays inside for good; the shipped one has
 * none. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common.h"

#define ROUND_MS 300

/* Does a round that sends to `last` end? */
static bool ends(uint8_t last)
{
	struct nic_config cfg = nic_config("net_fake0");
	uint8_t frame[64] = {0x02, 0x00, 0xde, 0xad, 0x00, last, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
	struct nic *nic;
	struct hand h;
	int status;
	pid_t pid;

	fake_reset();
	nic = nic_up(&cfg);
	hand_take(&h, nic, 0);
	assert_true(hand_send(&h, frame, sizeof(frame), 0, 0, 0));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		lib->ops->tx(h.txq);
		_exit(0);
	}
	usleep(ROUND_MS * 1000);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	lib->remove(nic);
	return WIFEXITED(status);
}

static void hook(void **state)
{
	assert_int_equal(ends(1), !getenv("NIC_STOPS"));
	assert_true(ends(2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(hook)};

	return cmocka_run_group_tests(tests, common_open, common_close);
}
