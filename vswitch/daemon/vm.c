/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VMs. In: elisa_vm_attach_begin -> its RAM, a chunk a step (MAPPING) -> the same into local clients
 * (ATTACHING) -> guest, ports, vCPUs. Out, always in this order, each step from the event loop so
 * that a stopped or large VM holds up nobody but itself:
 *
 *	ports unbound		nobody begins to use its rings
 *	DRAIN_OUT		its vCPUs leave; then none can enter (elisa_vm_disarm_all)
 *	callers deleted		what they had reserved in others' rings is given back
 *	DRAIN_GRACE		others leave its RAM
 *	DRAIN_REGIONS		local clients unmap its RAM
 *	guest deleted
 *	DRAIN_RAM		its RAM, a chunk a step
 *	elisa_vm_detach
 */
#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* A call takes microseconds; its vCPU thread may wait for a CPU of a busy host, though. */
#define DISARM_MS 250
/* Microseconds of the event loop at a time that mapping and unmapping RAM may take. */
#define RAM_STEPS (20 * MSEC)
#define NICS_FIRST (2 * SEC)
/* Re-attach after the VMM's own doing (a reset while inside): so often in so long. */
#define AGAIN_MAX  3
#define AGAIN_SPAN (60 * SEC)

/* ---- the trusted context ---- */

static int ctx_fail(struct daemon *d, const char *step, int err)
{
	ctx_close(d);
	snprintf(d->ctx_note, sizeof(d->ctx_note), "the trusted context was not made: %s: %s", step,
		 strerror(-err));
	return err;
}

static int host_open(struct daemon *d)
{
	int ret = elisa_host_open(&d->host);

	if (!ret)
		return 0;
	d->host = NULL;
	if (ret == -ENOENT)
		snprintf(d->ctx_note, sizeof(d->ctx_note),
			 "the kernel module is not loaded (no "
			 "/dev/elisa): run \"modprobe elisa\"; only local clients are possible");
	else if (ret == -EACCES || ret == -EPERM)
		snprintf(d->ctx_note, sizeof(d->ctx_note),
			 "no permission to open /dev/elisa: run the "
			 "daemon as root");
	else if (ret == -EPROTO)
		snprintf(d->ctx_note, sizeof(d->ctx_note),
			 "the loaded kernel module is of another revision: stop VMs that are "
			 "attached, then \"rmmod elisa; modprobe elisa\" with the one of this "
			 "version (%s)",
			 ELISA_VERSION);
	else
		snprintf(d->ctx_note, sizeof(d->ctx_note), "/dev/elisa: %s", strerror(-ret));
	return ret;
}

int ctx_open(struct daemon *d)
{
	int ret;

	if (d->ctx)
		return 0;
	ret = host_open(d);
	if (ret)
		return ret;
	ret = elisa_ctx_create(d->host, vs_entry, &d->ctx);
	if (ret) {
		d->ctx = NULL;
		return ctx_fail(d, "create", ret);
	}
	ret = elisa_export(d->ctx, d->arena, d->arena_len, ELISA_R | ELISA_W);
	if (ret)
		return ctx_fail(d, "export of the switch's memory", ret);
	ret = elisa_export_object(d->ctx, (const void *)vs_entry);
	if (ret)
		return ctx_fail(d, "export of the switch's code", ret);
	ret = nics_ctx_made(d, d->ctx);
	if (ret)
		return ctx_fail(d, "export of the NICs' memory", ret);
	ret = elisa_ctx_realize(d->ctx);
	if (ret)
		return ctx_fail(d, "realize", ret);
	ret = local_export_all(d);
	if (ret)
		return ctx_fail(d, "export of local clients' memory", ret);
	ret = capture_export_all(d);
	if (ret)
		return ctx_fail(d, "export of captures' memory", ret);
	d->ctx_note[0] = '\0';
	nics_ctx_ready(d);
	event_say(d, EVENT_DAEMON, SD_NOTICE, NULL, NULL,
		  "trusted context ready, generation %08x", d->generation);
	return 0;
}

/* For guests this is "away": their VMs are not detached. */
void ctx_close(struct daemon *d)
{
	struct guest *g;

	nics_ctx_gone(d);
	capture_ctx_gone(d);
	TAILQ_FOREACH(g, &d->guests, link)
	{
		g->exported = false;
		if (g->local)
			continue;
		g->source = sd_event_source_disable_unref(g->source);
		g->vm = NULL; /* ended with its context */
	}
	if (d->ctx)
		elisa_ctx_destroy(d->ctx);
	d->ctx = NULL;
	if (d->host)
		elisa_host_close(d->host);
	d->host = NULL;
}

int vm_status(struct guest *g, struct elisa_vm_status *st)
{
	int ret = elisa_vm_status(g->vm, st);

	if (!ret && st->state & ELISA_VM_RESET && g->state == GUEST_ATTACHED) {
		event_say(g->daemon, EVENT_VM_RESET, SD_NOTICE, g->name, NULL,
			  "VM %s (pid %d): reset", g->name, (int)g->pid);
		vs_guest_reset(g->daemon->vs, g->id);
	}
	if (!ret && st->state & ELISA_VM_LOGGED && g->state == GUEST_ATTACHED) {
		g->logged = true;
		work_soon(g->daemon, 0);
	}
	return ret;
}

/* ---- outcomes ---- */

json_t *vm_error_data(int err, const struct guest *g)
{
	json_t *data = json_pack("{s:i}", "errno", -err);

	if (g && g->refusal) {
		json_object_set_new(data, "refusal", json_string(elisa_refusal_name(g->refusal)));
		json_object_set_new(data, "detail", json_integer((json_int_t)g->refusal_detail));
	}
	return data;
}

void vm_answer_attach(struct guest *g)
{
	struct request *req = g->attach_request;

	g->attach_request = NULL;
	if (!req)
		return;
	req->guest = NULL;
	if (g->state == GUEST_ATTACHED)
		request_reply(req, vm_json(g));
	else
		request_error(req, RPC_REFUSED, vm_error_data(-EPERM, g), "%s", g->note);
}

void vm_answer_detach(struct guest *g)
{
	struct request *req;

	while ((req = TAILQ_FIRST(&g->detach_requests))) {
		TAILQ_REMOVE(&g->detach_requests, req, link);
		req->guest = NULL;
		request_reply(req, json_pack("{s:s, s:s}", "name", g->name, "state", "detached"));
	}
}

/* Ports that were given for one attachment only. */
static void vm_return_ports(struct guest *g)
{
	struct port *port;

	TAILQ_FOREACH(port, &g->daemon->ports, link)
	{
		if (port->lent && !strcmp(port->set.vm, g->name)) {
			port->lent = false;
			port->set.vm[0] = '\0';
		}
	}
}

/* Nothing of it is attached any more. Frees it when nobody wants to know about it. */
static void vm_settle(struct guest *g)
{
	state_changed(g->daemon);
	vm_answer_attach(g);
	vm_answer_detach(g);
	if (g->pid && proc_start(g->pid) != g->pid_start)
		g->pid = 0;
	if (g->wanted && (g->pid || g->setting)) {
		g->state = GUEST_WAITING;
		work_soon(g->daemon, MSEC);
		return;
	}
	if (g->setting && !g->pid && !g->held) {
		/* The next process of that name is another VM. */
		g->wanted = g->setting->auto_attach;
		g->state = g->wanted ? GUEST_WAITING : GUEST_DETACHED;
		memset(&g->killed, 0, sizeof(g->killed));
		return;
	}
	g->state = GUEST_DETACHED;
	if (!g->setting && (!g->killed.kill || !g->pid)) {
		vm_return_ports(g);
		guest_free(g);
	}
}

/* A failed try. */
static void vm_failed(struct guest *g, const char *was)
{
	uint64_t wait = g->tries < 50 ? 100 * MSEC : 2 * SEC;

	g->entering = false;
	if (g->tries++ == 0 || strcmp(was, g->note))
		event_say_why(g->daemon, EVENT_VM_REFUSED, SD_WARNING, g->name, NULL,
			      g->refusal ? elisa_refusal_name(g->refusal) : NULL,
			      "VM %s (pid %d): not attached: %s%s", g->name, (int)g->pid, g->note,
			      g->wanted ? "; will be tried again" : "");
	g->next_try = now_us() + wait;
	vm_settle(g);
}

/* ---- out ---- */

static void vm_drain(struct guest *g)
{
	g->source = sd_event_source_disable_unref(g->source);
	guest_ports_unbind(g);
	g->state = GUEST_DRAIN_OUT;
	g->drain_since = now_us();
	if (g->vm)
		elisa_vm_kick(g->vm);
	work_soon(g->daemon, 0);
}

/* Nobody knows its RAM any more. */
static void vm_drain_ram(struct guest *g)
{
	g->state = GUEST_DRAIN_RAM;
	work_soon(g->daemon, 0);
}

static void vm_out(struct guest *g)
{
	char was[WHY_LEN];

	if (g->vm)
		elisa_vm_detach(g->vm, DISARM_MS);
	g->vm = NULL;
	g->no_local = false;
	event_say(g->daemon, EVENT_VM_DETACHED, SD_NOTICE, g->name, NULL, "VM %s (pid %d): detached",
		  g->name, (int)g->pid);
	if (g->entering) {
		/* `note` says why it did not get in. */
		snprintf(was, sizeof(was), "%s", g->note);
		vm_failed(g, was);
		return;
	}
	g->next_try = now_us();
	vm_settle(g);
}

static void vm_drained(struct guest *g)
{
	int ret = vs_guest_del(g->daemon->vs, g->id);

	if (ret)
		log_error("VM %s: not deleted from the switch: %s", g->name, strerror(-ret));
	g->id = -1;
	vm_drain_ram(g);
}

static void drain_regions(struct guest *g)
{
	if (g->state == GUEST_DRAIN_GRACE) {
		g->state = GUEST_DRAIN_REGIONS;
		local_unshare(g);
	}
	if (!g->regions_left)
		vm_drained(g);
}

/* Its vCPUs: a stopped one may stay inside as long as its VMM likes; killing it is for --force. */
static void drain_out(struct guest *g)
{
	struct elisa_vm_status st;
	bool out = true;
	int ret;

	if (g->vm && !g->force_drain && !vm_status(g, &st) &&
	    !(st.state & (ELISA_VM_GONE | ELISA_VM_KILLED)))
		out = !st.inside;
	if (!out) {
		guest_note(g,
			   "%u of its vCPUs stopped inside the switch: resume the VM, or detach "
			   "with --force, which kills it",
			   st.inside);
		elisa_vm_kick(g->vm);
		return;
	}
	if (g->vm) {
		ret = elisa_vm_disarm_all(g->vm, g->force_drain ? 0 : DISARM_MS);
		if (ret)
			log_warning("VM %s: vCPUs did not leave by themselves: %s", g->name,
				    strerror(-ret));
	}
	guest_callers_del(g);
	g->ticket = vs_grace_begin(g->daemon->vs);
	g->state = GUEST_DRAIN_GRACE;
}

static void drain_step(struct guest *g)
{
	char holders[WHY_LEN - 64];

	if (g->state == GUEST_DRAIN_OUT)
		drain_out(g);
	if (g->state == GUEST_DRAIN_GRACE) {
		if (!vs_grace_done(g->daemon->vs, g->ticket)) {
			guest_holders(g, holders, sizeof(holders));
			guest_note(g, "waits until a call of %s ends", holders);
			return;
		}
		/* Giving back a VM's memory keeps the context busy, which a NIC's reset needs. */
		if (nics_resetting(g->daemon) && now_us() - g->drain_since < NICS_FIRST)
			return;
		drain_regions(g);
	} else if (g->state == GUEST_DRAIN_REGIONS) {
		drain_regions(g);
	}
}

void vm_region_gone(struct guest *g)
{
	if (g->regions_left)
		g->regions_left--;
	work_soon(g->daemon, 0);
}

void vm_detach(struct guest *g)
{
	g->wanted = false;
	g->held = g->setting;
	memset(&g->killed, 0, sizeof(g->killed));
	guest_note(g, "detached by the administrator");
	state_changed(g->daemon);
	if (g->state == GUEST_WAITING || g->state == GUEST_DETACHED)
		vm_settle(g);
	else if (g->state == GUEST_MAPPING)
		vm_drain_ram(g);
	else if (g->state == GUEST_ATTACHING || g->state == GUEST_ATTACHED)
		vm_drain(g);
}

/* ---- while attached ---- */

static void log_kill(struct guest *g, const struct elisa_vm_status *st)
{
	char code[64], where[160] = "", what[128];
	int rc;

	/* An address inside that was not to be touched: whose it is says most. */
	if (st->kill_gpa) {
		rc = elisa_ctx_where(g->daemon->ctx, st->kill_gpa, what, sizeof(what));
		snprintf(where, sizeof(where), ": %s%s", what, rc ? ", not exported" : "");
	}
	if (st->kill == ELISA_KILL_EXIT)
		snprintf(code, sizeof(code), "%s", elisa_exit_reason_name((uint32_t)st->kill_code));
	else
		snprintf(code, sizeof(code), "code %#llx", (unsigned long long)st->kill_code);
	guest_note(g,
		   "killed: %s (%s) on vCPU %u in the %s context, qualification %#llx, GPA %#llx%s",
		   elisa_kill_name(st->kill), code, st->kill_vcpu,
		   st->kill_context == 1 ? "gate" : "trusted",
		   (unsigned long long)st->kill_qualification, (unsigned long long)st->kill_gpa,
		   where);
	event_say_why(g->daemon, EVENT_VM_KILLED, SD_ERR, g->name, NULL, elisa_kill_name(st->kill),
		      "VM %s (pid %d): %s", g->name, (int)g->pid, g->note);
}

/*
 * TOUCHED is the VMM's doing, never the guest's: it set registers of a vCPU that was stopped
 * inside, as a reset does. Such a VM gets in again by itself; all others stay out until told
 * otherwise.
 */
static void vm_killed(struct guest *g, const struct elisa_vm_status *st)
{
	uint64_t now = now_us();

	g->daemon->kills++;
	g->killed = *st;
	log_kill(g, st);
	if (now - g->again_since > AGAIN_SPAN) {
		g->again_since = now;
		g->again = 0;
	}
	g->wanted = st->kill == ELISA_KILL_TOUCHED && g->again++ < AGAIN_MAX;
	vm_drain(g);
}

/*
 * Its VMM has begun to copy its memory, and would miss what others write: out, and in again when
 * that is over; the module refuses it until then.
 */
static void vm_logged(struct guest *g)
{
	guest_note(g, "away: migration in progress");
	event_say_why(g->daemon, EVENT_VM_DETACHED, SD_NOTICE, g->name, NULL, "migration",
		      "VM %s (pid %d): its memory is being copied (migration): detached meanwhile",
		      g->name, (int)g->pid);
	vm_drain(g);
}

/* Its VMM took memory away that was attached: what the guest has there now is another. */
static void vm_lost(struct guest *g)
{
	guest_note(g, "detached: its process cut off memory that is attached (its file became "
		      "shorter, or lost pages): restart the VM");
	event_say_why(g->daemon, EVENT_VM_DETACHED, SD_WARNING, g->name, NULL, "memory-lost",
		      "VM %s (pid %d): its process cut off memory that is attached: detached",
		      g->name, (int)g->pid);
	g->wanted = false;
	g->held = g->setting;
	vm_drain(g);
}

static int on_vm_event(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct guest *g = user;
	struct elisa_vm_status st = {0};
	int ret = vm_status(g, &st);

	if (ret || (st.state & ELISA_VM_GONE)) {
		event_say(g->daemon, EVENT_VM_GONE, SD_NOTICE, g->name, NULL,
			  "VM %s (pid %d): gone", g->name, (int)g->pid);
		guest_note(g, "its process has ended");
		g->wanted = g->setting && g->setting->auto_attach && !g->held;
		vm_drain(g);
	} else if (st.state & ELISA_VM_KILLED) {
		vm_killed(g, &st);
	}
	return 0;
}

/* Of a vCPU that was not armed: it may be, a while later. */
static bool passes(int err)
{
	return err == -ENOMEM || err == -EAGAIN;
}

/*
 * Arms vCPUs that are not armed yet. One that never will be stands in no other's way. Want of memory
 * is an error, and what lacks is tried again the next time: no VM is let in with half of its vCPUs.
 */
static int vm_arm(struct guest *g)
{
	int ret, last = -ENODEV, wants = 0;
	struct elisa_vm_status st;
	unsigned int armed = 0;

	ret = vm_status(g, &st);
	if (!ret)
		ret = guest_callers_add(g, st.vcpus);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < g->caller_count; i++) {
		struct caller *c = &g->callers[i];

		if (!c->armed && (!c->failed || passes(c->failed))) {
			last = elisa_vm_arm(g->vm, i, c->vs);
			c->armed = !last;
			if (last && last != c->failed)
				log_warning("VM %s: vCPU %u was not armed: %s", g->name, i,
					    strerror(-last));
			c->failed = last;
			if (passes(last))
				wants = last;
		}
		armed += c->armed;
	}
	return wants ? wants : armed ? (int)armed : last;
}

/* ---- in ---- */

/* The module looked at the beginning; mapping a large VM takes a while. */
static bool vm_logged_meanwhile(struct guest *g, const struct elisa_vm_status *st)
{
	if (!(st->state & ELISA_VM_LOGGED))
		return false;
	g->refusal = ELISA_REFUSE_LOGGED;
	guest_note(g, "refused: %s: its memory is being copied (migration) meanwhile",
		   elisa_refusal_name(g->refusal));
	return true;
}

/* Everybody can reach its RAM: let it in. */
static void vm_enter(struct guest *g)
{
	struct daemon *d = g->daemon;
	struct elisa_vm_status st;
	unsigned int ports;
	int armed, ret;

	if (!vm_status(g, &st) && vm_logged_meanwhile(g, &st)) {
		vm_drain(g);
		return;
	}
	ports = guest_ports_bind(g);
	armed = vm_arm(g);
	if (armed < 0) {
		guest_note(g, "its vCPUs could not be armed: %s%s", strerror(-armed),
			   armed == -ENOSPC ? ": raise switch.max_callers" : "");
		vm_drain(g);
		return;
	}
	ret = sd_event_add_io(d->event, &g->source, elisa_vm_fd(g->vm),
			      EPOLLIN | EPOLLERR | EPOLLHUP, on_vm_event, g);
	if (ret < 0) {
		guest_note(g, "cannot be watched: %s", strerror(-ret));
		vm_drain(g);
		return;
	}
	g->state = GUEST_ATTACHED;
	g->entering = false;
	g->wanted = true;
	g->held = false;
	g->tries = 0;
	memset(&g->killed, 0, sizeof(g->killed));
	guest_note(g, "%s", ports ? "" : "it has no port: see \"elisactl port add\"");
	state_changed(d);
	event_say(d, EVENT_VM_ATTACHED, SD_NOTICE, g->name, NULL,
		  "VM %s (pid %d): attached, %d vCPUs, %u ports", g->name, (int)g->pid, armed,
		  ports);
	vm_answer_attach(g);
}

void vm_region_ready(struct guest *g)
{
	if (++g->regions_ready == g->region_count && g->state == GUEST_ATTACHING)
		vm_enter(g);
}

static int vm_switch_add(struct guest *g)
{
	const struct elisa_region *regions;
	struct vs_region vs[VS_REGIONS_MAX];
	int n = elisa_vm_regions(g->vm, &regions);
	unsigned int count = 0;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		/* A PC has small pieces of RAM for its firmware, a doorbell device has one, too. */
		if (regions[i].len < VS_REGION_MIN)
			continue;
		if (count == VS_REGIONS_MAX)
			return -E2BIG;
		vs[count++] = (struct vs_region){regions[i].gpa, regions[i].len, regions[i].addr};
	}
	g->id = vs_guest_add(g->daemon->vs, g->name, vs, count);
	return g->id < 0 ? g->id : 0;
}

/* The library's and the module's part. */
static int vm_open(struct guest *g)
{
	uint32_t flags = g->force_cpu || g->daemon->set.force_cpu ? ELISA_VM_FORCE_CPU : 0;
	struct elisa_why why = {0};
	char text[WHY_LEN];
	int ret;

	g->refusal = 0;
	ret = ctx_open(g->daemon);
	if (ret) {
		g->refusal = ret == -ENOENT   ? ELISA_REFUSE_NO_MODULE
			     : ret == -EPROTO ? ELISA_REFUSE_MODULE_REVISION
					      : 0;
		guest_note(g, "%s%s%s%s", g->refusal ? "refused: " : "",
			   g->refusal ? elisa_refusal_name(g->refusal) : "", g->refusal ? ": " : "",
			   g->daemon->ctx_note);
		return ret;
	}
	ret = elisa_vm_attach_begin(g->daemon->ctx, g->pid, flags, &why, &g->vm);
	if (!ret)
		return 0;
	g->vm = NULL;
	g->refusal = why.refusal;
	g->refusal_detail = why.detail;
	if (why.refusal)
		guest_note(g, "refused: %s: %s", elisa_refusal_name(why.refusal),
			   elisa_why_text(&why, text, sizeof(text)));
	else
		guest_note(g, "attach failed: %s", strerror(-ret));
	return ret;
}

int vm_attach(struct guest *g)
{
	char was[WHY_LEN];
	int ret;

	snprintf(was, sizeof(was), "%s", g->note);
	ret = vm_open(g);
	if (ret) {
		vm_failed(g, was);
		return ret;
	}
	g->state = GUEST_MAPPING;
	g->entering = true;
	guest_note(g, "its memory is being mapped");
	work_soon(g->daemon, 0);
	return 0;
}

/* All of its RAM is mapped. */
static int vm_mapped(struct guest *g)
{
	int ret;

	if (proc_start(g->pid) != g->pid_start) {
		guest_note(g, "its process ended meanwhile");
		return -ESRCH;
	}
	ret = vm_switch_add(g);
	if (ret) {
		guest_note(g, "the switch has no room for it: %s%s", strerror(-ret),
			   ret == -ENOSPC ? ": raise switch.max_vms" : "");
		return ret;
	}
	g->state = GUEST_ATTACHING;
	if (local_share(g))
		vm_drain(g);
	else if (!g->region_count)
		vm_enter(g);
	return 0;
}

static void map_step(struct guest *g)
{
	struct elisa_vm_status st;
	int ret = vm_status(g, &st);

	if (ret || st.state & ELISA_VM_GONE) {
		guest_note(g, "its process ended meanwhile");
		vm_drain_ram(g);
		return;
	}
	if (vm_logged_meanwhile(g, &st)) {
		vm_drain_ram(g);
		return;
	}
	ret = elisa_vm_attach_step(g->vm);
	if (ret < 0)
		guest_note(g, "its memory cannot be mapped: %s", strerror(-ret));
	else if (!ret)
		ret = vm_mapped(g);
	if (ret < 0)
		vm_drain_ram(g);
	/* Large VMs take as long as they take, as long as they go on. */
	if (g->attach_request && g->attach_request->patience)
		g->attach_request->deadline = now_us() + g->attach_request->patience;
}

/*
 * One chunk of one VM's RAM: requests and frames between chunks wait for no more than that, however
 * many VMs come and go. VMs take turns, so that one that goes need not wait for a large one to come.
 */
static bool ram_step(struct daemon *d)
{
	struct guest *g, *next = NULL;

	TAILQ_FOREACH(g, &d->guests, link)
	if (!g->local && (g->state == GUEST_MAPPING || g->state == GUEST_DRAIN_RAM) &&
	    (!next || g->turn < next->turn))
		next = g;
	if (!next)
		return false;
	next->turn = ++d->turns;
	if (next->state == GUEST_MAPPING)
		map_step(next);
	else if (!next->vm || elisa_vm_detach_step(next->vm, DISARM_MS) <= 0)
		vm_out(next);
	return true;
}

/* ---- time ---- */

static void vm_look(struct guest *g)
{
	const struct vm_setting *set = g->setting;
	pid_t pid = set->pid	    ? set->pid
		    : set->pid_file ? proc_pid_file(set->pid_file)
				    : proc_find_qemu(g->name);
	uint64_t start = pid > 0 ? proc_start(pid) : 0;

	if (!start || (set->pid && start != set->pid_start)) {
		guest_note(g, pid == -ENOTUNIQ
				      ? "several QEMU processes have that name: attach one "
					"with --pid"
				      : "its QEMU does not run");
		return;
	}
	g->pid = pid;
	g->pid_start = start;
	g->tries = 0;
	g->next_try = now_us();
}

static void tick_one(struct guest *g)
{
	bool alive = g->pid && proc_start(g->pid) == g->pid_start;

	if (g->state == GUEST_ATTACHED && elisa_vm_lost(g->vm))
		vm_lost(g);
	else if (g->state == GUEST_ATTACHED)
		vm_arm(g);
	else if (g->state != GUEST_WAITING && g->state != GUEST_DETACHED)
		return;
	else if (g->pid && !alive)
		vm_settle(g);
	else if (g->state == GUEST_WAITING && g->setting && !g->pid)
		vm_look(g);
}

void vm_tick(struct daemon *d)
{
	struct guest *g, *next;

	FOREACH_SAFE(g, &d->guests, link, next)
	if (!g->local)
		tick_one(g);
	work_soon(d, 0);
}

uint64_t vm_work(struct daemon *d)
{
	uint64_t now = now_us(), soon = 0, us;
	struct guest *g, *next;
	bool more;

	FOREACH_SAFE(g, &d->guests, link, next)
	{
		if (g->local)
			continue;
		us = 0;
		if (g->logged && g->state == GUEST_ATTACHED)
			vm_logged(g);
		g->logged = false;
		if (g->state == GUEST_WAITING && g->wanted && g->pid) {
			us = 100 * MSEC;
			if (now >= g->next_try && !d->stopping)
				vm_attach(g);
		} else if (g->state >= GUEST_DRAIN_OUT && g->state <= GUEST_DRAIN_REGIONS) {
			us = now - g->drain_since < SEC ? 2 * MSEC : 20 * MSEC;
			drain_step(g);
		}
		if (us && (!soon || us < soon))
			soon = us;
	}
	/* Several at once: whoever sleeps after each waits for polling guests each time. */
	do
		more = ram_step(d);
	while (more && now_us() - now < RAM_STEPS);
	return more ? 1 : soon;
}

static void vm_configure(struct daemon *d, const struct vm_setting *set)
{
	struct guest *g = guest_new(d, set->name, false);

	if (!g) {
		log_error("VM %s: out of memory", set->name);
		return;
	}
	g->setting = set;
	g->wanted = set->auto_attach;
	g->force_cpu = set->force_cpu;
	g->state = g->wanted ? GUEST_WAITING : GUEST_DETACHED;
}

void vms_configure(struct daemon *d)
{
	for (size_t i = 0; i < d->set.vm_count; i++)
		vm_configure(d, &d->set.vms[i]);
}

static struct guest *vm_named(struct daemon *d, const char *name)
{
	struct guest *g = guest_find(d, name);

	return g && !g->local ? g : NULL;
}

static void vm_adopt(struct guest *g, const struct vm_setting *set)
{
	bool begins = set->auto_attach && (!g->setting || !g->setting->auto_attach);

	g->setting = set;
	g->force_cpu |= set->force_cpu;
	if (g->state == GUEST_DETACHED && begins && !g->held && !g->killed.kill) {
		g->wanted = true;
		g->state = GUEST_WAITING;
	} else if (g->state == GUEST_WAITING && !g->pid && !g->domain && !set->auto_attach) {
		g->wanted = false;
		g->state = GUEST_DETACHED;
	}
}

/* Settings of before are still there, but nobody's any more. */
void vms_reconfigure(struct daemon *d)
{
	struct guest *g, *next;

	for (size_t i = 0; i < d->set.vm_count; i++) {
		g = vm_named(d, d->set.vms[i].name);
		if (g)
			vm_adopt(g, &d->set.vms[i]);
		else
			vm_configure(d, &d->set.vms[i]);
	}
	FOREACH_SAFE(g, &d->guests, link, next)
	{
		const struct vm_setting *set = g->setting;

		if (g->local || !set || (g->domain && set == domain_vm(g->domain)) ||
		    (set >= d->set.vms && set < d->set.vms + d->set.vm_count))
			continue;
		g->setting = g->domain ? domain_vm(g->domain) : NULL;
		if (!g->setting && !g->pid &&
		    (g->state == GUEST_WAITING || g->state == GUEST_DETACHED))
			vm_settle(g);
	}
	work_soon(d, 0);
}
