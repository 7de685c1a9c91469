/* SPDX-License-Identifier: BSD-3-Clause */
/* Names and sentences: there for each reason, and each its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "internal.h"

/* All that there are; a test below sees to it that none is missing. */
static const uint32_t all[] = {
	ELISA_REFUSE_HOST_NO_VMX,	ELISA_REFUSE_HOST_NO_VMFUNC, ELISA_REFUSE_HOST_NO_EPT,
	ELISA_REFUSE_HOST_NO_EXEC_ONLY, ELISA_REFUSE_HOST_NO_INVEPT, ELISA_REFUSE_HOST_CPU_BUGS,
	ELISA_REFUSE_NOT_KVM,		ELISA_REFUSE_VM_DEAD,	     ELISA_REFUSE_ALREADY_ATTACHED,
	ELISA_REFUSE_NO_VCPU,		ELISA_REFUSE_NO_IRQCHIP,     ELISA_REFUSE_RAM_IN_WINDOW,
	ELISA_REFUSE_LOGGED,
	ELISA_REFUSE_VCPU_BUSY,		ELISA_REFUSE_LEAVING,	     ELISA_REFUSE_GUEST_PCID,
	ELISA_REFUSE_GUEST_VMX,		ELISA_REFUSE_GUEST_PKU,	     ELISA_REFUSE_GUEST_TSX,
	ELISA_REFUSE_GUEST_CET,		ELISA_REFUSE_GUEST_UINTR,    ELISA_REFUSE_GUEST_LA57,
	ELISA_REFUSE_GUEST_PT,		ELISA_REFUSE_GUEST_VPMU,     ELISA_REFUSE_GUEST_NO_LM,
	ELISA_REFUSE_GUEST_NO_SMEP,	ELISA_REFUSE_GUEST_NO_SMAP,  ELISA_REFUSE_GUEST_NO_FSGSBASE,
	ELISA_REFUSE_GUEST_NO_AVX,	ELISA_REFUSE_NO_MODULE,	     ELISA_REFUSE_NO_PROCESS,
	ELISA_REFUSE_NO_PERMISSION,	ELISA_REFUSE_NO_KVM,	     ELISA_REFUSE_MANY_VMS,
	ELISA_REFUSE_NOT_SHARED,	ELISA_REFUSE_NO_RAM,	     ELISA_REFUSE_TOO_MANY_SLOTS,
	ELISA_REFUSE_MODULE_REVISION,
};

static void test_refusals(void **state)
{
	char text[ARRAY_SIZE(all)][512];
	size_t i, j, known = 0;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		struct elisa_why why = {all[i], 7};

		assert_ptr_equal(elisa_why_text(&why, text[i], sizeof(text[i])), text[i]);
		/* One sentence that says what to do, whole, and without a hole where the detail
		 * goes. */
		assert_non_null(strchr(text[i], ':'));
		assert_true(strlen(text[i]) > 40 && strlen(text[i]) < 400);
		assert_null(strchr(text[i], '%'));
		assert_null(strchr(text[i], '\n'));
		assert_null(strstr(text[i], "()"));
		assert_null(strstr(text[i], "does not know"));
		for (j = 0; j < i; j++) {
			assert_string_not_equal(text[i], text[j]);
			assert_string_not_equal(elisa_refusal_name(all[i]),
						elisa_refusal_name(all[j]));
		}
	}
	/* The list above has all: nothing else has a name. */
	for (i = 0; i < 100000; i++)
		known += strcmp(elisa_refusal_name(i), "unknown") != 0;
	assert_int_equal(known, ARRAY_SIZE(all) + 1);
	assert_string_equal(elisa_refusal_name(ELISA_REFUSE_NONE), "none");
	assert_string_equal(elisa_refusal_name(ELISA_REFUSE_GUEST_PCID), "guest-pcid");
	assert_string_equal(elisa_refusal_name(ELISA_REFUSE_NOT_SHARED), "not-shared");
}

static void test_details(void **state)
{
	struct elisa_why why = {ELISA_REFUSE_GUEST_PCID, 3};
	char text[512], small[16];

	assert_non_null(strstr(elisa_why_text(&why, text, sizeof(text)), "vCPU 3"));
	why = (struct elisa_why){ELISA_REFUSE_NOT_SHARED, 0x100000};
	assert_non_null(strstr(elisa_why_text(&why, text, sizeof(text)), "0x100000"));
	why = (struct elisa_why){ELISA_REFUSE_HOST_CPU_BUGS, ELISA_BUG_L1TF | ELISA_BUG_TAA};
	assert_non_null(strstr(elisa_why_text(&why, text, sizeof(text)), "(L1TF, TAA)"));
	why = (struct elisa_why){12345, 0xabc};
	elisa_why_text(&why, text, sizeof(text));
	assert_non_null(strstr(text, "12345"));
	assert_non_null(strstr(text, "0xabc"));
	/* Cut, not overrun. */
	why.refusal = ELISA_REFUSE_NOT_SHARED;
	elisa_why_text(&why, small, sizeof(small));
	assert_int_equal(strlen(small), sizeof(small) - 1);
}

static void test_other_names(void **state)
{
	uint32_t i, j;

	for (i = 0; i <= ELISA_KILL_PARKED; i++)
		for (j = 0; j < i; j++)
			assert_string_not_equal(elisa_kill_name(i), elisa_kill_name(j));
	assert_string_equal(elisa_kill_name(ELISA_KILL_TIMEOUT), "timeout");
	assert_string_equal(elisa_kill_name(77), "unknown");
	assert_string_equal(elisa_exit_reason_name(48), "ept-violation");
	assert_string_equal(elisa_exit_reason_name(1), "external-interrupt");
	assert_string_equal(elisa_exit_reason_name(59), "vmfunc");
	assert_string_equal(elisa_exit_reason_name(35), "other");
	assert_string_equal(elisa_exit_reason_name(1u << 31), "other");
	for (i = 0; i < ELISA_EXIT_REASONS; i++)
		for (j = 0; j < i; j++)
			if (strcmp(elisa_exit_reason_name(i), "other"))
				assert_string_not_equal(elisa_exit_reason_name(i),
							elisa_exit_reason_name(j));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_details),
		cmocka_unit_test(test_other_names),
	};

	return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
