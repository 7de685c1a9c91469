/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looks at the host and says what stands in the way. Reads only, but for opening the module if that
 * has not been done yet, as an attach would.
 */
#include "doctor.h"

#include <errno.h>
#include <grp.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

void add(json_t *list, const char *check, const char *level, const char *fix, const char *fmt, ...)
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

const char *host_line(const char *path, char *buf, size_t len)
{
	char whole[256];

	snprintf(whole, sizeof(whole), "%s%s", host_root(), path);
	return proc_read_line(whole, buf, len);
}

bool cpuinfo_has(const char *line_name, const char *word)
{
	FILE *f = host_file("/proc/cpuinfo");
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

	if (!*host_line("/sys/module/kvm_intel/parameters/ept", value, sizeof(value))) {
		add(list, "kvm", FAIL, "modprobe kvm_intel", "kvm_intel is not loaded");
		return;
	}
	host_line("/sys/module/kvm_intel/parameters/ept", value, sizeof(value));
	add(list, "kvm", *value == 'Y' ? OK : FAIL,
	    *value == 'Y' ? ""
			  : "remove ept=0 from "
			    "kvm_intel's options",
	    "kvm_intel ept=%s", value);
	host_line("/sys/module/kvm_intel/parameters/nested", value, sizeof(value));
	add(list, "kvm", *value == 'Y' ? WARN : OK,
	    *value == 'Y' ? "a guest that sees VMX is refused: "
			    "run it with -cpu ...,-vmx, or set kvm_intel nested=0"
			  : "",
	    "kvm_intel nested=%s", value);
	host_line("/sys/module/kvm/parameters/enable_pmu", value, sizeof(value));
	if (*value == 'Y')
		add(list, "kvm", WARN,
		    "a guest with a virtual PMU is refused: run it with -cpu "
		    "...,pmu=off, or set kvm enable_pmu=0",
		    "kvm enable_pmu=Y");
}

/* What the module would say of the CPU, as the kernel knows it. */
static void check_bugs(struct daemon *d, json_t *list)
{
	static const char *const bugs[] = {"l1tf", "mds", "tsx_async_abort"};
	char path[96], line[128];

	for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/vulnerabilities/%s", bugs[i]);
		host_line(path, line, sizeof(line));
		if (!*line || !strcmp(line, "Not affected"))
			continue;
		add(list, "cpu", d->set.force_cpu ? WARN : FAIL,
		    d->set.force_cpu ? ""
				     : "use a CPU without it, or accept the leak between VMs: "
				       "security.force_vulnerable_cpu = true",
		    "the CPU is vulnerable: %s: %s", bugs[i], line);
	}
}

/* Why modprobe fails where all is installed. */
static void check_lockdown(json_t *list)
{
	char line[64];

	host_line("/sys/kernel/security/lockdown", line, sizeof(line));
	if (!*line || strstr(line, "[none]"))
		return;
	add(list, "module", WARN,
	    "mokutil --import /var/lib/dkms/mok.pub (the key that DKMS signs with), then reboot "
	    "and "
	    "enrol it when the firmware asks",
	    "the kernel is locked down (%s): it loads modules only if it knows the key that signed "
	    "them",
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
		if (!d->host) {
			check_bugs(d, list);
			return;
		}
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

static void check_arena(json_t *list, json_t *arena)
{
	long long mib = json_integer_value(json_object_get(arena, "bytes")) >> 20;
	long long kib = json_integer_value(json_object_get(arena, "page")) >> 10;
	bool fallback = json_is_true(json_object_get(arena, "fallback"));

	add(list, "memory", fallback ? WARN : OK,
	    fallback ? "make the hugepages that are missing, or set switch.hugepages = \"never\""
		     : "",
	    "the switch has %lld MiB in pages of %lld KiB%s (switch.hugepages = \"%s\")", mib, kib,
	    fallback ? ": fallback, hugepages were missing" : "",
	    json_string_value(json_object_get(arena, "hugepages")));
}

static void check_hugepages(struct daemon *d, json_t *list)
{
	json_t *huge = huge_json(d), *e;
	size_t i;

	json_array_foreach(json_object_get(huge, "pools"), i, e)
	{
		long long total = json_integer_value(json_object_get(e, "total"));

		if (total)
			add(list, "memory", OK, "",
			    "node %lld: %lld of %lld hugepages of %lld KiB free",
			    (long long)json_integer_value(json_object_get(e, "node")),
			    (long long)json_integer_value(json_object_get(e, "free")), total,
			    (long long)json_integer_value(json_object_get(e, "page")) >> 10);
	}
	json_array_foreach(json_object_get(huge, "mounts"), i, e)
		add(list, "memory", OK, "", "hugetlbfs at %s (%s)",
		    json_string_value(json_object_get(e, "path")),
		    json_string_value(json_object_get(e, "options")));
	check_arena(list, json_object_get(huge, "arena"));
	json_array_foreach(json_object_get(huge, "needs"), i, e)
		add(list, "memory", json_integer_value(json_object_get(e, "missing")) ? WARN : OK,
		    json_string_value(json_object_get(e, "fix")), "%s",
		    json_string_value(json_object_get(e, "text")));
	json_decref(huge);
}

/* Whether DPDK finds a hugetlbfs where it is told to look. */
static void check_huge_dir(struct daemon *d, json_t *list)
{
	struct statfs fs;

	if (!d->set.nic_count || !d->set.dpdk.huge || !d->set.dpdk.huge_dir)
		return;
	if (!statfs(d->set.dpdk.huge_dir, &fs) && fs.f_type == HUGETLBFS_MAGIC)
		return;
	add(list, "memory", FAIL,
	    "mount -t hugetlbfs none on it, or leave dpdk.huge_dir out of the configuration",
	    "dpdk.huge_dir: %s is no hugetlbfs", d->set.dpdk.huge_dir);
}

static void check_memory(struct daemon *d, json_t *list)
{
	char line[256];
	struct rlimit lock;

	check_hugepages(d, list);
	check_huge_dir(d, list);
	host_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", line, sizeof(line));
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

/* Who may use elisactl. */
static void check_control(struct daemon *d, json_t *list)
{
	const char *path = d->set.control_socket, *name = d->set.control_group;
	struct group *group = name ? getgrnam(name) : NULL;
	struct stat st;

	if (stat(path, &st)) {
		add(list, "control", FAIL, "restart the daemon", "%s: %s", path, strerror(errno));
	} else if (!name) {
		add(list, "control", OK, "", "%s: for root only (no control.group)", path);
	} else if (!group || st.st_gid != group->gr_gid || (st.st_mode & 0777) != 0660) {
		add(list, "control", FAIL, "restart the daemon; control.group says who may use it",
		    "%s: is of group %u, mode %o, not of \"%s\" (%d), mode 660", path,
		    (unsigned int)st.st_gid, st.st_mode & 0777, name,
		    group ? (int)group->gr_gid : -1);
	} else if (!group->gr_mem[0]) {
		add(list, "control", WARN, "adduser USER GROUP for those who are to use elisactl",
		    "%s: for root and group \"%s\", which nobody is in but by a login group", path,
		    name);
	} else {
		add(list, "control", OK, "", "%s: for root and group \"%s\"", path, name);
	}
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
	check_memory(d, list);
	check_control(d, list);
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
