// SPDX-License-Identifier: GPL-2.0-only
/* Of elisa-weak.ko only: which defences are off. */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <elisa/ioctl.h>
#include "defence.h"

unsigned long elisa_off[BITS_TO_LONGS(ELISA_DEFENCE_COUNT)];
unsigned long elisa_refusals_off[BITS_TO_LONGS(ELISA_REFUSALS)];

#define NAME(name) #name,
static const char *const names[] = { ELISA_DEFENCES(NAME) };

/* What attach asks for has a number already. */
static const struct {
	const char *name;
	unsigned int reason;
} refusals[] = {
	{ "refuse_cpu_bugs", ELISA_REFUSE_HOST_CPU_BUGS },
	{ "refuse_no_irqchip", ELISA_REFUSE_NO_IRQCHIP },
	{ "window", ELISA_REFUSE_RAM_IN_WINDOW },
	{ "refuse_logged", ELISA_REFUSE_LOGGED },
	{ "refuse_pcid", ELISA_REFUSE_GUEST_PCID },
	{ "refuse_vmx", ELISA_REFUSE_GUEST_VMX },
	{ "refuse_pku", ELISA_REFUSE_GUEST_PKU },
	{ "refuse_tsx", ELISA_REFUSE_GUEST_TSX },
	{ "refuse_cet", ELISA_REFUSE_GUEST_CET },
	{ "refuse_uintr", ELISA_REFUSE_GUEST_UINTR },
	{ "refuse_la57", ELISA_REFUSE_GUEST_LA57 },
	{ "refuse_pt", ELISA_REFUSE_GUEST_PT },
	{ "refuse_vpmu", ELISA_REFUSE_GUEST_VPMU },
	{ "refuse_no_lm", ELISA_REFUSE_GUEST_NO_LM },
	{ "refuse_no_smep", ELISA_REFUSE_GUEST_NO_SMEP },
	{ "refuse_no_smap", ELISA_REFUSE_GUEST_NO_SMAP },
	{ "refuse_no_fsgsbase", ELISA_REFUSE_GUEST_NO_FSGSBASE },
	{ "refuse_no_avx", ELISA_REFUSE_GUEST_NO_AVX },
};

static int switch_off(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i])) {
			set_bit(i, elisa_off);
			return 0;
		}
	for (i = 0; i < ARRAY_SIZE(refusals); i++)
		if (!strcmp(name, refusals[i].name)) {
			set_bit(refusals[i].reason, elisa_refusals_off);
			return 0;
		}
	pr_err("elisa: off=%s: there is no such defence\n", name);
	return -EINVAL;
}

/* NAME[,NAME...]: these, and no others. "-" in a name is the same as "_". */
static int set_off(const char *value, const struct kernel_param *param)
{
	char *copy = kstrdup(value, GFP_KERNEL), *at = copy, *name;
	int err = copy ? 0 : -ENOMEM;

	bitmap_zero(elisa_off, ELISA_DEFENCE_COUNT);
	bitmap_zero(elisa_refusals_off, ELISA_REFUSALS);
	if (copy)
		strreplace(strim(copy), '-', '_');
	while (!err && (name = strsep(&at, ",\n")))
		if (*name)
			err = switch_off(name);
	kfree(copy);
	return err;
}

static int get_off(char *buffer, const struct kernel_param *param)
{
	size_t i;
	int len = 0;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (test_bit(i, elisa_off))
			len += scnprintf(buffer + len, PAGE_SIZE - len, "%s\n", names[i]);
	for (i = 0; i < ARRAY_SIZE(refusals); i++)
		if (test_bit(refusals[i].reason, elisa_refusals_off))
			len += scnprintf(buffer + len, PAGE_SIZE - len, "%s\n", refusals[i].name);
	return len;
}

static const struct kernel_param_ops off_ops = { .set = set_off, .get = get_off };

/* May be changed at run time: what is looked at once, as a mapping is made, stays as it was then. */
module_param_cb(off, &off_ops, NULL, 0644);
MODULE_PARM_DESC(off, "defences that are switched off: for tests only");
