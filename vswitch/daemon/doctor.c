/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looks at the host and says what stands in the way. Reads only, but for opening the module if that
 * has not been done yet, as an attach would.
 */
#include "daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

/* `fix` may be "". */
__attribute__((format(printf, 5, 6))) static void
add(json_t *list, const char *check, const char *level, const char *fix, const char *fmt, ...)
{
	char text[512];
	json_t *value;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	value = json_string(text);
	json_array_append_new(list,
			      json_pack("{s:s, s:s, s:o, s:s}", "check", check, "level", level,
					"text", value ? value : json_string("?"), "fix", fix));
}

#define OK   "ok"
#define WARN "warn"
#define FAIL "fail"

/* Whether `word` is one of a line of words in /proc/cpuinfo. */
static bool cpuinfo_has(const char *line_name, const char *word)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[4096], *save, *w;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		if (strncmp(line, line_name, strlen(line_name)))
			continue;
		for (w = strtok_r(line, " \t\n", &save); w && !found;
		     w = strtok_r(NULL, " \t\n", &save))
			found = !strcmp(w, word);
		break; /* all CPUs are alike */
	}
	if (f)
		fclose(f);
	return found;
}

static void check_cpu(json_t *list)
{
	static const char *const features[] = {"ept", "vpid"};
	bool vmx = cpuinfo_has("flags", "vmx");

	if (!vmx) {
		add(list, "cpu", FAIL,
		    "use a machine with Intel VT-x, enabled in its firmware (nested: in "
		    "the outer host); without it only local clients are possible, or the emulated "
		    "lab",
		    "the CPU offers no VT-x (\"vmx\" is not in /proc/cpuinfo)");
		return;
	}
	add(list, "cpu", OK, "", "VT-x (vmx)");
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		bool there =
			cpuinfo_has("flags", features[i]) || cpuinfo_has("vmx flags", features[i]);

		add(list, "cpu", there ? OK : FAIL,
		    there ? ""
			  : "use another CPU, or check kvm_intel's "
			    "parameters",
		    "%s%s", there ? "" : "missing: ", features[i]);
	}
	if (cpuinfo_has("vmx flags", "eptp_switching") || cpuinfo_has("vmx flags", "vmfunc"))
		add(list, "cpu", OK, "", "VM functions");
	else
		add(list, "cpu", WARN, "load the module: it asks the CPU itself",
		    "/proc/cpuinfo does not "
		    "name VM functions (older kernels do not list them)");
}

static void check_kvm(json_t *list)
{
	char value[32];

	if (access("/sys/module/kvm_intel", F_OK)) {
		add(list, "kvm", FAIL, "modprobe kvm_intel", "kvm_intel is not loaded");
		return;
	}
	proc_read_line("/sys/module/kvm_intel/parameters/ept", value, sizeof(value));
	add(list, "kvm", *value == 'Y' ? OK : FAIL,
	    *value == 'Y' ? ""
			  : "remove ept=0 from "
			    "kvm_intel's options",
	    "kvm_intel ept=%s", value);
	proc_read_line("/sys/module/kvm_intel/parameters/nested", value, sizeof(value));
	add(list, "kvm", *value == 'Y' ? WARN : OK,
	    *value == 'Y' ? "a guest that sees VMX is refused: "
			    "run it with -cpu ...,-vmx, or set kvm_intel nested=0"
			  : "",
	    "kvm_intel nested=%s", value);
	proc_read_line("/sys/module/kvm/parameters/enable_pmu", value, sizeof(value));
	if (*value == 'Y')
		add(list, "kvm", WARN,
		    "a guest with a virtual PMU is refused: run it with -cpu "
		    "...,pmu=off, or set kvm enable_pmu=0",
		    "kvm enable_pmu=Y");
}

/* Why modprobe fails where all is installed. */
static void check_lockdown(json_t *list)
{
	char line[64];

	proc_read_line("/sys/kernel/security/lockdown", line, sizeof(line));
	if (!*line || strstr(line, "[none]"))
		return;
	add(list, "module", WARN,
	    "mokutil --import /var/lib/dkms/mok.pub (the key that DKMS signs with), then reboot and "
	    "enrol it when the firmware asks",
	    "the kernel is locked down (%s): it loads modules only if it knows the key that signed them",
	    line);
}

static void check_module(struct daemon *d, json_t *list)
{
	struct elisa_why why = {0};
	struct elisa_info info;
	char text[WHY_LEN];

	ctx_open(d);
	if (!d->ctx) {
		add(list, "module", FAIL,
		    "modprobe elisa (package elisa-vswitch-dkms builds it for this kernel); "
		    "see the kernel log",
		    "%s", d->ctx_note);
		check_lockdown(list);
		if (!d->host)
			return;
	}
	if (elisa_host_info(d->host, &info))
		return;
	add(list, "module", OK, "",
	    "revision %u, %u guest-physical address bits, %llu pages pinned, "
	    "%llu VMs",
	    info.revision, info.phys_bits, (unsigned long long)info.pinned_pages,
	    (unsigned long long)info.vms);
	why.refusal = info.host_refusal;
	if (why.refusal)
		add(list, "module", FAIL, "", "no VM can be attached: %s: %s",
		    elisa_refusal_name(why.refusal), elisa_why_text(&why, text, sizeof(text)));
	if (info.cpu_bugs) {
		why.refusal = ELISA_REFUSE_HOST_CPU_BUGS;
		why.detail = info.cpu_bugs;
		add(list, "module", d->set.force_cpu ? WARN : FAIL,
		    d->set.force_cpu ? ""
				     : "use a CPU without them, or accept the leak between VMs: "
				       "security.force_vulnerable_cpu = true",
		    "%s", elisa_why_text(&why, text, sizeof(text)));
	}
}

static void check_memory(json_t *list)
{
	char line[256];
	struct rlimit lock;
	long free_pages;

	proc_read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", line,
		       sizeof(line));
	free_pages = strtol(line, NULL, 10);
	add(list, "memory", free_pages ? OK : WARN,
	    free_pages ? ""
		       : "for guests on hugepages: "
			 "sysctl vm.nr_hugepages=N",
	    "%ld free hugepages of 2 MiB", free_pages);
	proc_read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", line, sizeof(line));
	add(list, "memory", strstr(line, "[never]") ? WARN : OK,
	    strstr(line, "[never]")
		    ? "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled: larger EPT "
		      "leaves for "
		      "the switch's own memory"
		    : "",
	    "huge pages for shared memory: %s", line[0] ? line : "not offered by this kernel");
	if (!getrlimit(RLIMIT_MEMLOCK, &lock) && geteuid() && lock.rlim_cur != RLIM_INFINITY)
		add(list, "memory", WARN, "run the daemon as root, or raise LimitMEMLOCK",
		    "locked memory is limited to %llu KiB",
		    (unsigned long long)lock.rlim_cur / 1024);
	else
		add(list, "memory", OK, "", "locked memory is not limited");
}

static void check_kernel(json_t *list)
{
	struct utsname u;
	unsigned int major = 0, minor = 0;
	bool old;

	uname(&u);
	sscanf(u.release, "%u.%u", &major, &minor);
	old = major < 6 || (major == 6 && minor < 1);
	add(list, "kernel", old ? WARN : OK, old ? "6.1 is the oldest that is tested" : "",
	    "Linux %s", u.release);
}

/* ---- running VMs ---- */

/* The largest writable mapping of a VMM is its guest's RAM. 1 shared, 0 private, -1 unknown. */
static int ram_shared(pid_t pid)
{
	unsigned long long start, end, most = 0;
	char path[64], line[512], perm[8];
	int shared = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx-%llx %7s", &start, &end, perm) != 3 || perm[1] != 'w')
			continue;
		if (end - start > most) {
			most = end - start;
			shared = perm[3] == 's';
		}
	}
	if (f)
		fclose(f);
	return shared;
}

/* The argument of the first `option`, in `line` as of proc_cmdline(). */
static bool option_value(const char *line, const char *option, char *value, size_t len)
{
	const char *p = line;
	size_t n = strlen(option);

	while (p && *p) {
		if (!strncmp(p, option, n) && p[n] == '\n') {
			p += n + 1;
			snprintf(value, len, "%.*s", (int)strcspn(p, "\n"), p);
			return true;
		}
		p = strchr(p, '\n');
		p += !!p;
	}
	return false;
}

static bool cpu_without(const char *cpu, const char *feature)
{
	char off[2][48];

	snprintf(off[0], sizeof(off[0]), ",-%s", feature);
	snprintf(off[1], sizeof(off[1]), ",%s=off", feature);
	return strstr(cpu, off[0]) || strstr(cpu, off[1]);
}

static void check_qemu_cpu(json_t *list, const char *label, const char *line)
{
	static const struct {
		const char *feature, *host_flag;
	} hide[] = {
		{"pcid", "pcid"}, {"vmx", "vmx"}, {"pku", "pku"},
		{"rtm", "rtm"},	  {"hle", "hle"}, {"la57", "la57"},
	};
	char cpu[1024], need[256] = "";
	size_t used = 0;

	if (!option_value(line, "-cpu", cpu, sizeof(cpu))) {
		add(list, "vm", WARN,
		    "run it with -cpu host and what the refusal at attach asks for",
		    "%s has no -cpu option: QEMU's default model lacks AVX", label);
		return;
	}
	if (strncmp(cpu, "host", 4) && strncmp(cpu, "max", 3)) {
		add(list, "vm", OK, "", "%s: CPU model %.64s, judged at attach", label, cpu);
		return;
	}
	for (size_t i = 0; i < sizeof(hide) / sizeof(hide[0]); i++)
		if (cpuinfo_has("flags", hide[i].host_flag) && !cpu_without(cpu, hide[i].feature))
			used += (size_t)snprintf(need + used, sizeof(need) - used, ",-%s",
						 hide[i].feature);
	if (used)
		add(list, "vm", FAIL, "restart it with these hidden",
		    "%s: its guest may see features "
		    "that are refused: add %s to -cpu",
		    label, need);
	else
		add(list, "vm", OK, "", "%s: nothing on its command line speaks against attaching",
		    label);
}

static void check_qemu(struct daemon *d, json_t *list, const struct kvm_process *p)
{
	char name[64], label[128], *line;
	struct guest *g;

	if (proc_qemu_name(p->pid, name, sizeof(name)))
		snprintf(name, sizeof(name), "without -name");
	snprintf(label, sizeof(label), "QEMU %s (pid %d)", name, (int)p->pid);
	TAILQ_FOREACH(g, &d->guests, link)
	{
		if (!g->local && g->pid == p->pid && g->state == GUEST_ATTACHED) {
			add(list, "vm", OK, "", "%s: attached as \"%s\"", label, g->name);
			return;
		}
	}
	if (p->vms > 1)
		add(list, "vm", FAIL, "one VM a process is supported", "%s has %u KVM VMs", label,
		    p->vms);
	if (!ram_shared(p->pid))
		add(list, "vm", FAIL,
		    "restart it with -object memory-backend-memfd,id=mem,size=SIZE,"
		    "share=on -machine ...,memory-backend=mem",
		    "%s: its RAM is private memory", label);
	line = proc_cmdline(p->pid);
	if (line)
		check_qemu_cpu(list, label, line);
	free(line);
}

static void check_vms(struct daemon *d, json_t *list)
{
	struct kvm_process procs[VS_GUESTS_MAX];
	int n = proc_kvm_list(procs, VS_GUESTS_MAX);
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	if (!g->local && g->state != GUEST_ATTACHED && g->note[0])
		add(list, "vm", WARN, "", "VM %s is %s: %s", g->name, guest_state_name(g), g->note);
	if (n <= 0)
		add(list, "vm", OK, "", "no process with a KVM VM is running%s",
		    geteuid() ? ", or the daemon may not see it (it is not root)" : "");
	for (int i = 0; i < n; i++)
		check_qemu(d, list, &procs[i]);
}

static void check_ports(struct daemon *d, json_t *list)
{
	struct port *port;
	unsigned int count = 0, local = 0;

	TAILQ_FOREACH(port, &d->ports, link)
	{
		count++;
		local += port->set.local;
	}
	add(list, "ports", count ? OK : WARN,
	    count ? "" : "configure some, or \"elisactl port add\"",
	    "%u ports, %u of them local (no isolation)", count, local);
	if (!d->local)
		add(list, "ports", d->set.local_enable ? FAIL : OK, "", "local transport: %s",
		    d->set.local_enable ? d->local_note : "off");
	else
		add(list, "ports", local ? WARN : OK,
		    local ? "not for production: a local client can read "
			    "and write all of the switch and of its VMs"
			  : "",
		    "local transport: on, %u "
		    "clients",
		    local_clients(d));
}

static void check_nic(json_t *list, const char *name, json_t *nic)
{
	const char *state = json_string_value(json_object_get(nic, "state"));
	const char *note = json_string_value(json_object_get(nic, "note"));
	const char *fallback = json_string_value(json_object_get(nic, "fallback"));
	const char *by = json_string_value(json_object_get(nic, "served_by"));
	bool link = json_is_true(json_object_get(json_object_get(nic, "link"), "up"));

	if (!strcmp(state, "failed"))
		add(list, "nic", FAIL, "see docs/nic.md", "%s: %s", name, note);
	else if (strcmp(state, "up"))
		add(list, "nic", WARN, "", "%s: %s%s%s", name, state, *note ? ": " : "", note);
	else if (fallback)
		add(list, "nic", WARN, "set serve = \"daemon\", or see docs/nic.md",
		    "%s: up, but guests may not run it, the daemon does: %s", name, fallback);
	else
		add(list, "nic", link ? OK : WARN, link ? "" : "look at its cable or peer",
		    "%s: up, served by %s, link %s", name, by, link ? "up" : "down");
}

static void check_nics(struct daemon *d, json_t *list)
{
	json_t *nics = nics_json(d, NULL), *nic;
	const char *name;

	json_object_foreach(nics, name, nic) check_nic(list, name, nic);
	json_decref(nics);
}

json_t *doctor_json(struct daemon *d)
{
	json_t *list = json_array(), *f;
	unsigned int fails = 0, warns = 0;
	size_t i;

	check_kernel(list);
	check_cpu(list);
	check_kvm(list);
	check_module(d, list);
	check_memory(list);
	check_ports(d, list);
	check_nics(d, list);
	check_vms(d, list);
	json_array_foreach(list, i, f)
	{
		const char *level = json_string_value(json_object_get(f, "level"));

		fails += !strcmp(level, FAIL);
		warns += !strcmp(level, WARN);
	}
	return json_pack("{s:o, s:i, s:i}", "findings", list, "fail", (int)fails, "warn",
			 (int)warns);
}
