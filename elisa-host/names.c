/* SPDX-License-Identifier: BSD-3-Clause */
/* Names for programs, sentences for people. */
#include <stdio.h>

#include "internal.h"

enum detail { NOTHING, VCPU, GPA, BUGS };

struct refusal {
	const char *name;
	enum detail detail;
	/* What is wrong, with a %s where the detail goes if it is of use; then what to do. */
	const char *text;
};

/* clang-format off */
static const struct refusal refusals[] = {
	[ELISA_REFUSE_NONE] = { "none", NOTHING, "not refused" },
	[ELISA_REFUSE_HOST_NO_VMX] = { "host-no-vmx", NOTHING,
		"this host has no VT-x in use: an Intel CPU with VT-x enabled in the firmware and the "
		"kvm_intel module loaded are needed" },
	[ELISA_REFUSE_HOST_NO_VMFUNC] = { "host-no-vmfunc", NOTHING,
		"this host's CPU cannot switch EPTs with VMFUNC: a Haswell or newer Core or Xeon is "
		"needed, and a hypervisor below, if any, must pass VM functions on" },
	[ELISA_REFUSE_HOST_NO_EPT] = { "host-no-ept", NOTHING,
		"KVM does not use EPT on this host: load kvm_intel with ept=1" },
	[ELISA_REFUSE_HOST_NO_EXEC_ONLY] = { "host-no-exec-only", NOTHING,
		"this host's EPT has no execute-only pages: use another CPU" },
	[ELISA_REFUSE_HOST_NO_INVEPT] = { "host-no-invept", NOTHING,
		"this host's CPU lacks single-context INVEPT or INVVPID: use another CPU" },
	[ELISA_REFUSE_HOST_CPU_BUGS] = { "host-cpu-bugs", BUGS,
		"this host's CPU leaks memory between contexts (%s): use a CPU that is not affected, or "
		"attach with --force-cpu if all its VMs trust each other" },
	[ELISA_REFUSE_NOT_KVM] = { "not-kvm", NOTHING,
		"the descriptor is not that of a KVM VM: name the process of a VM that runs on KVM" },
	[ELISA_REFUSE_VM_DEAD] = { "vm-dead", NOTHING,
		"the VM is being destroyed: attach it when it runs again" },
	[ELISA_REFUSE_ALREADY_ATTACHED] = { "already-attached", NOTHING,
		"the VM is attached to a service already: detach it there first" },
	[ELISA_REFUSE_NO_VCPU] = { "no-vcpu", NOTHING,
		"the VM has no vCPU yet: attach it once it has been started" },
	[ELISA_REFUSE_NO_IRQCHIP] = { "no-irqchip", NOTHING,
		"the VM has no in-kernel interrupt controller: start QEMU with -machine "
		"kernel-irqchip=on" },
	[ELISA_REFUSE_RAM_IN_WINDOW] = { "ram-in-window", GPA,
		"the VM has memory at guest-physical address %s, in the upper half of the address space, "
		"which trusted contexts need: give it less memory or a smaller maxmem" },
	[ELISA_REFUSE_VCPU_BUSY] = { "vcpu-busy", VCPU,
		"vCPU %s could not be looked at in time: try again, and see whether its thread is stuck" },
	[ELISA_REFUSE_LEAVING] = { "leaving", NOTHING,
		"a call of the VM's former attachment has not ended yet: try again in a second" },
	[ELISA_REFUSE_LOGGED] = { "dirty-logging", NOTHING,
		"the VM's memory is being copied (migration): attach it when that is over; with a dirty ring "
		"it counts as copied always: start QEMU without -accel kvm,dirty-ring-size=..." },
	[ELISA_REFUSE_GUEST_PCID] = { "guest-pcid", VCPU,
		"guest CPUID shows PCID (vCPU %s): start QEMU with -cpu ...,-pcid" },
	[ELISA_REFUSE_GUEST_VMX] = { "guest-vmx", VCPU,
		"guest CPUID shows VMX (vCPU %s): start QEMU with -cpu ...,-vmx, nested virtualisation "
		"cannot be had together with the trusted context" },
	[ELISA_REFUSE_GUEST_PKU] = { "guest-pku", VCPU,
		"guest CPUID shows protection keys (vCPU %s): start QEMU with -cpu ...,-pku,-pks" },
	[ELISA_REFUSE_GUEST_TSX] = { "guest-tsx", VCPU,
		"guest CPUID shows TSX (vCPU %s): start QEMU with -cpu ...,-rtm,-hle" },
	[ELISA_REFUSE_GUEST_CET] = { "guest-cet", VCPU,
		"guest CPUID shows control-flow enforcement (vCPU %s): start QEMU with "
		"-cpu ...,-shstk,-ibt" },
	[ELISA_REFUSE_GUEST_UINTR] = { "guest-uintr", VCPU,
		"guest CPUID shows user interrupts (vCPU %s): start QEMU with -cpu ...,-uintr" },
	[ELISA_REFUSE_GUEST_LA57] = { "guest-la57", VCPU,
		"guest CPUID shows 5-level paging (vCPU %s): start QEMU with -cpu ...,-la57" },
	[ELISA_REFUSE_GUEST_PT] = { "guest-pt", VCPU,
		"guest CPUID shows Intel PT (vCPU %s): start QEMU with -cpu ...,-intel-pt" },
	[ELISA_REFUSE_GUEST_VPMU] = { "guest-vpmu", VCPU,
		"the guest has a virtual PMU (vCPU %s): start QEMU with -cpu ...,pmu=off" },
	[ELISA_REFUSE_GUEST_NO_LM] = { "guest-no-lm", VCPU,
		"guest CPUID lacks 64-bit mode or NX (vCPU %s): start QEMU with -cpu ...,+lm,+nx" },
	[ELISA_REFUSE_GUEST_NO_SMEP] = { "guest-no-smep", VCPU,
		"guest CPUID lacks SMEP (vCPU %s): start QEMU with -cpu ...,+smep" },
	[ELISA_REFUSE_GUEST_NO_SMAP] = { "guest-no-smap", VCPU,
		"guest CPUID lacks SMAP (vCPU %s): start QEMU with -cpu ...,+smap" },
	[ELISA_REFUSE_GUEST_NO_FSGSBASE] = { "guest-no-fsgsbase", VCPU,
		"guest CPUID lacks FSGSBASE (vCPU %s): start QEMU with -cpu ...,+fsgsbase" },
	[ELISA_REFUSE_GUEST_NO_AVX] = { "guest-no-avx", VCPU,
		"guest CPUID lacks XSAVE, AVX, AVX2 or PCLMULQDQ (vCPU %s): start QEMU with "
		"-cpu ...,+xsave,+avx,+avx2,+pclmulqdq" },
	[ELISA_REFUSE_NO_MODULE] = { "no-module", NOTHING,
		"/dev/elisa is missing: load the elisa kernel module (modprobe elisa)" },
	[ELISA_REFUSE_NO_PROCESS] = { "no-process", NOTHING,
		"there is no such process: give the pid of a running VM's QEMU" },
	[ELISA_REFUSE_NO_PERMISSION] = { "no-permission", NOTHING,
		"this process may not look into that one: run as root, with CAP_SYS_PTRACE, and see "
		"that no security module forbids it" },
	[ELISA_REFUSE_NO_KVM] = { "no-kvm", NOTHING,
		"the process has no KVM VM: give the pid of a QEMU that runs with -enable-kvm" },
	[ELISA_REFUSE_MANY_VMS] = { "many-vms", NOTHING,
		"the process has several KVM VMs: only VMMs with one VM in a process are supported" },
	[ELISA_REFUSE_NOT_SHARED] = { "not-shared", GPA,
		"guest RAM at guest-physical address %s is not a shared mapping of a file: start QEMU "
		"with -object memory-backend-memfd,id=ram,share=on,size=... -machine "
		"memory-backend=ram" },
	[ELISA_REFUSE_NO_RAM] = { "no-ram", NOTHING,
		"the VM has no RAM that could be shared: attach it once it has been started" },
	[ELISA_REFUSE_TOO_MANY_SLOTS] = { "too-many-slots", NOTHING,
		"the VM's RAM is in too many pieces: give it fewer memory backends and DIMMs" },
	[ELISA_REFUSE_MODULE_REVISION] = { "module-revision", NOTHING,
		"the loaded elisa kernel module is of another revision than this program: install both "
		"from one release and reload the module" },
};
/* clang-format on */

static const struct refusal *find(uint32_t refusal)
{
	if (refusal >= ARRAY_SIZE(refusals) || !refusals[refusal].name)
		return NULL;
	return &refusals[refusal];
}

static void detail_text(const struct refusal *r, uint64_t detail, char *buf, size_t len)
{
	static const char *const bugs[] = {"L1TF", "MDS", "TAA"};
	size_t i, n = 0;

	buf[0] = '\0';
	if (r->detail == GPA)
		snprintf(buf, len, "%#llx", (unsigned long long)detail);
	if (r->detail == VCPU)
		snprintf(buf, len, "%llu", (unsigned long long)detail);
	for (i = 0; r->detail == BUGS && i < ARRAY_SIZE(bugs); i++)
		if (detail & 1u << i && n < len)
			n += snprintf(buf + n, len - n, "%s%s", n ? ", " : "", bugs[i]);
}

#pragma GCC diagnostic push
/* The formats are those above, each with at most one %s; a unit test reads them all. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
ELISA_PUBLIC const char *elisa_why_text(const struct elisa_why *why, char *buf, size_t len)
{
	const struct refusal *r = find(why->refusal);
	char detail[64];

	if (!r) {
		snprintf(buf, len,
			 "refused for reason %u, which this program does not know (detail %#llx): "
			 "use a program and a module of one release",
			 why->refusal, (unsigned long long)why->detail);
		return buf;
	}
	detail_text(r, why->detail, detail, sizeof(detail));
	if (r->detail == NOTHING)
		snprintf(buf, len, "%s", r->text);
	else
		snprintf(buf, len, r->text, detail);
	return buf;
}
#pragma GCC diagnostic pop

ELISA_PUBLIC const char *elisa_refusal_name(uint32_t refusal)
{
	const struct refusal *r = find(refusal);

	return r ? r->name : "unknown";
}

ELISA_PUBLIC const char *elisa_kill_name(uint32_t kill)
{
	static const char *const names[] = {
		[ELISA_KILL_NONE] = "none",	  [ELISA_KILL_EXIT] = "exit",
		[ELISA_KILL_TOUCHED] = "touched", [ELISA_KILL_EVENT] = "event",
		[ELISA_KILL_STATE] = "state",	  [ELISA_KILL_TIMEOUT] = "timeout",
		[ELISA_KILL_PARKED] = "parked",
	};

	return kill < ARRAY_SIZE(names) ? names[kill] : "unknown";
}

/* SDM vol. 3, appendix C. */
static const char *const exit_reasons[] = {
	[0] = "exception-or-nmi",
	[1] = "external-interrupt",
	[2] = "triple-fault",
	[3] = "init",
	[4] = "sipi",
	[5] = "io-smi",
	[6] = "smi",
	[7] = "interrupt-window",
	[8] = "nmi-window",
	[9] = "task-switch",
	[10] = "cpuid",
	[11] = "getsec",
	[12] = "hlt",
	[13] = "invd",
	[14] = "invlpg",
	[15] = "rdpmc",
	[16] = "rdtsc",
	[17] = "rsm",
	[18] = "vmcall",
	[19] = "vmclear",
	[20] = "vmlaunch",
	[21] = "vmptrld",
	[22] = "vmptrst",
	[23] = "vmread",
	[24] = "vmresume",
	[25] = "vmwrite",
	[26] = "vmxoff",
	[27] = "vmxon",
	[28] = "cr-access",
	[29] = "dr-access",
	[30] = "io",
	[31] = "rdmsr",
	[32] = "wrmsr",
	[33] = "entry-failure-state",
	[34] = "entry-failure-msr",
	[36] = "mwait",
	[37] = "monitor-trap",
	[39] = "monitor",
	[40] = "pause",
	[41] = "entry-failure-machine-check",
	[43] = "tpr-below-threshold",
	[44] = "apic-access",
	[45] = "virtualized-eoi",
	[46] = "gdtr-idtr-access",
	[47] = "ldtr-tr-access",
	[48] = "ept-violation",
	[49] = "ept-misconfiguration",
	[50] = "invept",
	[51] = "rdtscp",
	[52] = "preemption-timer",
	[53] = "invvpid",
	[54] = "wbinvd",
	[55] = "xsetbv",
	[56] = "apic-write",
	[57] = "rdrand",
	[58] = "invpcid",
	[59] = "vmfunc",
	[60] = "encls",
	[61] = "rdseed",
	[62] = "pml-full",
	[63] = "xsaves",
	[64] = "xrstors",
	[65] = "pconfig",
	[66] = "spp-event",
	[67] = "umwait",
	[68] = "tpause",
	[69] = "loadiwkey",
	[70] = "enclv",
	[72] = "enqcmd-pasid-failure",
	[73] = "enqcmds-pasid-failure",
	[74] = "bus-lock",
	[75] = "instruction-timeout",
	[76] = "seamcall",
	[77] = "tdcall",
};

ELISA_PUBLIC const char *elisa_exit_reason_name(uint32_t reason)
{
	if (reason >= ARRAY_SIZE(exit_reasons) || !exit_reasons[reason])
		return "other";
	return exit_reasons[reason];
}
