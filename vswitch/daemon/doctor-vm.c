/* SPDX-License-Identifier: BSD-3-Clause */
/* Running VMs: what of their QEMU's command line is refused at attach, and where their vCPUs run.
 */
#include "doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the command line ---- */

/* The largest writable mapping of a VMM is its guest's RAM. 1 shared, 0 private, -1 unknown. */
static int ram_shared(pid_t pid)
{
	unsigned long long start, end, most = 0;
	char path[64], line[512], perm[8];
	int shared = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = host_file(path);
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

/* Not only the beginning of another one's name, as of vmx-ept. */
static bool has_part(const char *cpu, const char *part)
{
	const size_t len = strlen(part);
	const char *p = cpu;

	while ((p = strchr(p, ',')) && (strncmp(++p, part, len) || (p[len] && p[len] != ',')))
		;
	return p;
}

static bool cpu_without(const char *cpu, const char *feature)
{
	char off[2][48];

	snprintf(off[0], sizeof(off[0]), "-%s", feature);
	snprintf(off[1], sizeof(off[1]), "%s=off", feature);
	return has_part(cpu, off[0]) || has_part(cpu, off[1]);
}

/* libvirt always says which name is the guest's; who types it seldom does. */
static bool by_libvirt(const char *line)
{
	char name[128];

	return option_value(line, "-name", name, sizeof(name)) && !strncmp(name, "guest=", 6);
}

static void check_qemu_cpu(json_t *list, const char *label, const char *line)
{
	static const struct {
		const char *feature, *host_flag;
	} hide[] = {
		{"pcid", "pcid"},	 {"vmx", "vmx"}, {"pku", "pku"},
		{"rtm", "rtm"},		 {"hle", "hle"}, {"la57", "la57"},
		{"shstk", "user_shstk"}, {"ibt", "ibt"}, {"uintr", "uintr"},
	};
	char cpu[1024], need[256] = "", xml[512], pmu[32];
	size_t used = 0, tags = 0;

	if (!option_value(line, "-cpu", cpu, sizeof(cpu))) {
		add(list, "vm", WARN,
		    by_libvirt(line)
			    ? "<cpu mode='host-passthrough'>, see docs/libvirt.md"
			    : "run it with -cpu host and what the refusal at attach asks for",
		    "%s has no -cpu option: QEMU's default model lacks AVX", label);
		return;
	}
	if (strncmp(cpu, "host", 4) && strncmp(cpu, "max", 3)) {
		add(list, "vm", OK, "", "%s: CPU model %.64s, judged at attach", label, cpu);
		return;
	}
	tags = (size_t)snprintf(xml, sizeof(xml), "in its XML, and start it again:");
	for (size_t i = 0; i < sizeof(hide) / sizeof(hide[0]); i++) {
		if (!cpuinfo_has("flags", hide[i].host_flag) || cpu_without(cpu, hide[i].feature))
			continue;
		used += (size_t)snprintf(need + used, sizeof(need) - used, ",-%s", hide[i].feature);
		tags += (size_t)snprintf(xml + tags, sizeof(xml) - tags,
					 " <feature policy='disable' name='%s'/>", hide[i].feature);
	}
	/* Without the parameter KVM has one, too, if the host has. */
	if (*host_line("/sys/module/kvm/parameters/enable_pmu", pmu, sizeof(pmu)) == 'Y' &&
	    !cpu_without(cpu, "pmu")) {
		used += (size_t)snprintf(need + used, sizeof(need) - used, ",pmu=off");
		snprintf(xml + tags, sizeof(xml) - tags, " <pmu state='off'/>");
	}
	if (used)
		add(list, "vm", FAIL, by_libvirt(line) ? xml : "restart it with these hidden",
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
	line = proc_cmdline(p->pid);
	if (!ram_shared(p->pid))
		add(list, "vm", FAIL,
		    line && by_libvirt(line)
			    ? "<memoryBacking><source type='memfd'/><access "
			      "mode='shared'/></memoryBacking> "
			      "in its XML, and start it again"
			    : "restart it with -object memory-backend-memfd,id=mem,size=SIZE,"
			      "share=on -machine ...,memory-backend=mem",
		    "%s: its RAM is private memory", label);
	if (line)
		check_qemu_cpu(list, label, line);
	free(line);
}

/* ---- where vCPUs run ---- */

#define THREADS_MAX 512

struct vcpu_thread {
	const struct guest *guest;
	pid_t tid;
	unsigned int vcpu;
	char cpus[64]; /* as in "3", "0-7" */
};

/* QEMU names them "CPU 0/KVM", with -name debug-threads=on. */
static bool thread_read(const struct guest *g, pid_t tid, struct vcpu_thread *t)
{
	char path[96], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)g->pid, (int)tid);
	host_line(path, line, sizeof(line));
	*t = (struct vcpu_thread){.guest = g, .tid = tid};
	if (sscanf(line, "CPU %u/KVM", &t->vcpu) != 1)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)g->pid, (int)tid);
	f = host_file(path);
	while (f && !t->cpus[0] && fgets(line, sizeof(line), f))
		sscanf(line, "Cpus_allowed_list: %63s", t->cpus);
	if (f)
		fclose(f);
	return t->cpus[0];
}

static unsigned int threads_find(const struct guest *g, struct vcpu_thread *t, unsigned int max)
{
	unsigned int count = 0;
	struct dirent *e;
	char path[256];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/proc/%d/task", host_root(), (int)g->pid);
	dir = opendir(path);
	while (dir && count < max && (e = readdir(dir)))
		if (isdigit((unsigned char)e->d_name[0]))
			count += thread_read(g, (pid_t)atoi(e->d_name), &t[count]);
	if (dir)
		closedir(dir);
	return count;
}

static bool floats(const struct vcpu_thread *t)
{
	return t->cpus[strspn(t->cpus, "0123456789")];
}

static bool cpu_in(const char *list, unsigned long cpu)
{
	char *p = (char *)list;

	while (*p) {
		unsigned long first = strtoul(p, &p, 10), last = first;

		if (*p == '-')
			last = strtoul(p + 1, &p, 10);
		if (cpu >= first && cpu <= last)
			return true;
		if (*p != ',')
			break;
		p++;
	}
	return false;
}

static void pin_fix(const struct vcpu_thread *t, char *fix, size_t len)
{
	snprintf(fix, len,
		 "give each vCPU a CPU of its own: virsh vcpupin %s %u CPU, or taskset -cp CPU %d",
		 t->guest->name, t->vcpu, (int)t->tid);
}

/* Whose calls wait while another runs on their CPU: others' frames wait with them. */
static void check_shared(json_t *list, const struct vcpu_thread *t, unsigned int count)
{
	char fix[256];

	for (unsigned int i = 0; i < count; i++) {
		for (unsigned int k = 0; k < count; k++) {
			/* Two that are pinned are one finding. */
			if (i == k || floats(&t[i]) || (!floats(&t[k]) && k < i) ||
			    !cpu_in(t[k].cpus, strtoul(t[i].cpus, NULL, 10)))
				continue;
			pin_fix(&t[k], fix, sizeof(fix));
			add(list, "pinning", WARN, fix,
			    "vCPU %u of %s may run on CPU %s, where vCPU %u of %s is", t[k].vcpu,
			    t[k].guest->name, t[i].cpus, t[i].vcpu, t[i].guest->name);
			break;
		}
	}
}

static void check_floating(json_t *list, const struct guest *g, const struct vcpu_thread *t,
			   unsigned int count)
{
	const struct vcpu_thread *first = NULL;
	unsigned int n = 0;
	char fix[256];

	for (unsigned int i = 0; i < count; i++) {
		if (!floats(&t[i]))
			continue;
		first = first ? first : &t[i];
		n++;
	}
	if (!count) {
		add(list, "pinning", WARN, "start QEMU with -name NAME,debug-threads=on",
		    "%s: which of its threads are vCPUs cannot be told", g->name);
	} else if (first) {
		pin_fix(first, fix, sizeof(fix));
		add(list, "pinning", WARN, fix,
		    "%s: %u of %u vCPUs are not pinned (vCPU %u: CPUs %s)", g->name, n, count,
		    first->vcpu, first->cpus);
	} else {
		add(list, "pinning", OK, "", "%s: %u vCPUs, each pinned", g->name, count);
	}
}

static void check_pinning(struct daemon *d, json_t *list)
{
	struct vcpu_thread *t = calloc(THREADS_MAX, sizeof(*t));
	unsigned int count = 0, more;
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	{
		if (!t || g->local || g->state != GUEST_ATTACHED)
			continue;
		more = threads_find(g, &t[count], THREADS_MAX - count);
		check_floating(list, g, &t[count], more);
		count += more;
	}
	if (t)
		check_shared(list, t, count);
	free(t);
}

void check_vms(struct daemon *d, json_t *list)
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
	check_pinning(d, list);
}
