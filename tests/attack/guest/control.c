// SPDX-License-Identifier: GPL-2.0-only
/*
 * Group control: calls with control bits and flags that this guest may set, and some that it may
 * not. tests/vmx/vmx-state does the same with every bit and with mixes.
 */
#include "attack.h"

#define BIT64(n)	(1ull << (n))
#define IOPL		(BIT64(12) | BIT64(13))	/* not for ring 3 to change */

/* What is toggled. */
static const struct control {
	const char *id;
	u64 cr0, cr4, rflags;
} controls[] = {
	{ "control-smep", .cr4 = BIT64(20) },
	{ "control-smap", .cr4 = BIT64(21) },
	{ "control-osxsave", .cr4 = BIT64(18) },
	{ "control-pcide", .cr4 = BIT64(17) },
	{ "control-la57", .cr4 = BIT64(12) },
	{ "control-pke", .cr4 = BIT64(22) },
	{ "control-fsgsbase", .cr4 = BIT64(16) },
	{ "control-pvi", .cr4 = BIT64(1) },
	{ "control-wp", .cr0 = BIT64(16) },
	{ "control-ts", .cr0 = BIT64(3) },
	{ "control-ac", .cr0 = BIT64(18), .rflags = BIT64(18) },
	{ "control-df", .rflags = BIT64(10) },
	{ "control-iopl", .rflags = IOPL },
};

static int control(struct attack_run *run)
{
	struct stage_cpu cpu;
	unsigned int i;
	u64 flags;
	int rc;

	for (i = 0; strcmp(controls[i].id, run->id); i++)
		if (i == ARRAY_SIZE(controls) - 1)
			return -ENOENT;
	stage_reset(&cpu, STAGE_NOP);
	cpu.cr0 ^= controls[i].cr0;
	cpu.cr4 ^= controls[i].cr4;
	cpu.rflags ^= controls[i].rflags;
	rc = attack_by_run(run, &cpu);
	/* A call that works leaves these as the trusted context has had them. */
	flags = cpu.rflags & controls[i].rflags & ~IOPL;
	if (!rc && run->outcome == ATTACK_NO_EFFECT && flags)
		return attack_is(run, ATTACK_BREACH, 0, "RFLAGS 0x%llx came through", cpu.rflags);
	return rc;
}

const struct attack control_attacks[] = {
	{ "control-smep", control }, { "control-smap", control }, { "control-osxsave", control },
	{ "control-pcide", control }, { "control-la57", control }, { "control-pke", control },
	{ "control-fsgsbase", control }, { "control-pvi", control }, { "control-wp", control },
	{ "control-ts", control }, { "control-ac", control }, { "control-df", control },
	{ "control-iopl", control },
	{ }
};
