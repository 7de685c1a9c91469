/* SPDX-License-Identifier: BSD-3-Clause */
/* libelisa-guest as far as elisa-guard uses it, over a file that notes the calls. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <elisa/guest.h>

#include "fake-service.h"

static struct fake_service *fake;

static int64_t entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		     uint64_t a3)
{
	const int i = __atomic_fetch_add(&fake->calls, 1, __ATOMIC_SEQ_CST) % FAKE_CALLS;

	fake->call[i].op = op;
	fake->call[i].a1 = a1;
	fake->call[i].pid = getpid();
	return fake->away ? -ELISA_ESHUTDOWN : fake->busy ? -ELISA_EAGAIN : 0;
}

int elisa_guest_open(const char *spec, uint32_t service, struct elisa_guest **guest)
{
	int fd = open(spec, O_RDWR | O_CLOEXEC);

	if (fd < 0 || service != ELISA_SERVICE_SWITCH)
		return -ENOTCONN;
	fake = mmap(NULL, sizeof(*fake), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	*guest = (struct elisa_guest *)fake;
	return fake == MAP_FAILED ? -errno : 0;
}

const char *elisa_guest_error(void)
{
	return "the fake service does not answer";
}

int elisa_guest_call(struct elisa_guest *guest, struct elisa_call *call)
{
	*call = (struct elisa_call){entry, guest};
	return 0;
}

void elisa_guest_close(struct elisa_guest *guest)
{
	__atomic_fetch_add(&fake->ends, 1, __ATOMIC_SEQ_CST);
}
