/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is read out of /proc, from crafted folders and from this very process, and what is made of
 * it: views of files, regions, refusals, and VMs with parked threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "model.h"

#define PAGE	 ((size_t)ELISA_PAGE_SIZE)
#define MIB	 (1ULL << 20)
#define READONLY 2

/* ---- lines of maps ---- */

static void test_lines(void **state)
{
	static const char *const bad[] = {
		"",
		"\n",
		"-",
		"7f00-",
		"7f00-8f00",
		"7f00 8f00 rw-p 0 0:0 0\n",
		"7f00-8f00 rw-p 0 0:0 0",   /* cut */
		"8f00-7f00 rw-p 0 0:0 0\n", /* backwards */
		"7f00-7f00 rw-p 0 0:0 0\n",
		"7f00-8f00 rwxq 0 0:0 0\n",
		"7f00-8f00 r0-p 0 0:0 0\n",
		"7f00-8f00 rw-pp 0 0:0 0\n",
		"7f00-8f00 rw-\n",
		"7f00-8f00 rw-p\n",
		"7f00-8f00 rw-p 0 0 0\n",
		"7f00-8f00 rw-p 0 0:0 x\n",
		"7f00-8f00 rw-p 0 0:0 -1\n",
		"7f00-8f00 rw-p 0 0:0 \n",
		"10000000000000000-8f00 rw-p 0 0:0 0\n",
		"7f00-10000000000000000 rw-p 0 0:0 0\n",
		"7f00-8f00 rw-p ffffffffffffff00 0:0 0\n", /* offset wraps */
		"7f00-8f00 rw-p 0 100000000:0 0\n",
		"7f00-8f00 rw-p 0 0:0 18446744073709551616\n",
		" 7f00-8f00 rw-p 0 0:0 0\n",
		"+7f00-8f00 rw-p 0 0:0 0\n",
		"0x7f00-8f00 rw-p 0 0:0 0\n",
		"7F00-8F00 rw-p 0 0:0 0\n",
	};
	struct vma v;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		if (vma_parse(bad[i], &v) != -EPROTO)
			fail_msg("taken for a mapping: %s", bad[i]);
	assert_int_equal(vma_parse("7f0000000000-7f0040000000 rw-s 1000 00:01 1044     "
				   "/memfd:memory-backend-memfd (deleted)\n",
				   &v),
			 0);
	assert_int_equal(v.start, 0x7f0000000000);
	assert_int_equal(v.end, 0x7f0040000000);
	assert_int_equal(v.offset, 0x1000);
	assert_int_equal(v.major, 0);
	assert_int_equal(v.minor, 1);
	assert_int_equal(v.inode, 1044);
	assert_true(v.shared && v.writable);
	assert_int_equal(vma_parse("7f00-8f00 r--p 0 fe:10 0\n", &v), 0);
	assert_false(v.shared || v.writable);
	assert_int_equal(v.major, 0xfe);
	/* A path may look like anything. */
	assert_int_equal(vma_parse("7f00-8f00 r--s 0 0:0 5 1000-2000 rw-s 0 0:1 7 x\\012y\n", &v),
			 0);
	assert_int_equal(v.start, 0x7f00);
	assert_int_equal(v.inode, 5);
}

/* Random bytes in the place of good ones: never taken for more than a mapping, never a crash. */
static void test_random_lines(void **state)
{
	static const char good[] = "7f0000000000-7f0040000000 rw-s 1000 00:01 1044 /memfd:x\n";
	char line[sizeof(good)];
	struct vma v;
	int i, j;

	srandom(3);
	for (i = 0; i < 200000; i++) {
		memcpy(line, good, sizeof(good));
		for (j = random() % 6; j >= 0; j--)
			line[random() % (sizeof(good) - 1)] =
				random() % 3 ? "0f-: s\nw"[random() % 8] : random();
		if (!vma_parse(line, &v))
			assert_true(v.start < v.end);
	}
}

/* ---- crafted folders ---- */

static char *folder;
static int folder_fd;

static int make_folder(void **state)
{
	static char name[] = "/tmp/elisa-test-XXXXXX";

	strcpy(name, "/tmp/elisa-test-XXXXXX");
	folder = mkdtemp(name);
	assert_non_null(folder);
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
	assert_true(folder_fd >= 0);
	return 0;
}

static int drop_folder(void **state)
{
	char command[64];

	close(folder_fd);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static void write_maps(const char *text)
{
	int fd = openat(folder_fd, "maps", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void test_maps(void **state)
{
	struct vmas v;
	struct vma out;
	char *text = malloc(100000);

	assert_int_equal(vmas_read(folder_fd, &v), -ESRCH);
	write_maps("1000-2000 rw-s 0 0:1 7\n"
		   "2000-4000 rw-s 1000 0:1 7 split\n"
		   "4000-5000 rw-s 8000 0:1 7 elsewhere in the file\n"
		   "5000-6000 rw-s 9000 0:1 8 another file\n"
		   "6000-7000 rw-p 0 0:1 9 private\n"
		   "7000-8000 r--s 0 0:1 9 read-only\n"
		   "8000-9000 rw-s 0 0:1 0 no file\n"
		   "a000-b000 rw-s 0 0:2 7 another device\n");
	assert_int_equal(vmas_read(folder_fd, &v), 0);
	assert_int_equal(v.count, 8);
	assert_int_equal(vmas_resolve(&v, 0x1000, 0x3000, &out), 0);
	assert_int_equal(out.inode, 7);
	assert_int_equal(out.offset, 0);
	assert_int_equal(out.start, 0x1000);
	assert_int_equal(out.end, 0x4000);
	assert_int_equal(out.line_end, 0x2000);
	assert_int_equal(vmas_resolve(&v, 0x3000, 0x1000, &out), 0);
	assert_int_equal(out.offset, 0x2000);
	assert_int_equal(vmas_resolve(&v, 0x3000, 0x2000, &out), -EXDEV);
	assert_int_equal(vmas_resolve(&v, 0x4000, 0x2000, &out), -EXDEV);
	assert_int_equal(vmas_resolve(&v, 0x6000, 0x1000, &out), -EXDEV);
	assert_int_equal(vmas_resolve(&v, 0x7000, 0x1000, &out), -EXDEV);
	assert_int_equal(vmas_resolve(&v, 0x8000, 0x1000, &out), -EXDEV);
	assert_int_equal(vmas_resolve(&v, 0x0, 0x1000, &out), -ENOENT);
	assert_int_equal(vmas_resolve(&v, 0x0, 0x2000, &out), -ENOENT);
	assert_int_equal(vmas_resolve(&v, 0xa000, 0x2000, &out), -ENOENT);
	assert_int_equal(vmas_resolve(&v, 0xc000, 0x1000, &out), -ENOENT);
	assert_int_equal(vmas_resolve(&v, 0xa000, -0x1000, &out), -ENOENT);
	vmas_free(&v);
	/* One line amiss, and nothing is believed. */
	write_maps("1000-2000 rw-s 0 0:1 7\nnonsense\n");
	assert_int_equal(vmas_read(folder_fd, &v), -EPROTO);
	write_maps("2000-3000 rw-s 0 0:1 7\n1000-2000 rw-s 0 0:1 7\n");
	assert_int_equal(vmas_read(folder_fd, &v), -EPROTO);
	write_maps("1000-3000 rw-s 0 0:1 7\n2000-4000 rw-s 0 0:1 7\n");
	assert_int_equal(vmas_read(folder_fd, &v), -EPROTO);
	/* A path as long as they come. */
	strcpy(text, "1000-2000 rw-s 0 0:1 7 /");
	memset(text + 24, 'a', 90000);
	strcpy(text + 24 + 90000, "\n2000-3000 rw-s 0 0:1 7\n");
	write_maps(text);
	assert_int_equal(vmas_read(folder_fd, &v), 0);
	assert_int_equal(v.count, 2);
	vmas_free(&v);
	free(text);
}

/* Names that look like KVM's are not. The process is this one, so that descriptors can be had. */
static void test_kvm_fd(void **state)
{
	struct process p;
	char name[16];
	int a, b, c, fds, fd;
	struct stat st1, st2;

	assert_int_equal(process_open(getpid(), &p), 0);
	close(p.dir);
	p.dir = folder_fd;
	assert_int_equal(process_kvm_fd(&p), -ESRCH);
	assert_int_equal(mkdirat(folder_fd, "fd", 0700), 0);
	fds = openat(folder_fd, "fd", O_RDONLY | O_DIRECTORY);
	a = memfd_create("a", MFD_CLOEXEC);
	b = memfd_create("b", MFD_CLOEXEC);
	c = dup(a);
	assert_int_equal(symlinkat("anon_inode:kvm-vm-not", fds, "0"), 0);
	assert_int_equal(symlinkat("anon_inode:kvm-v", fds, "1"), 0);
	assert_int_equal(symlinkat("anon_inode:kvm-vcpu:0", fds, "3"), 0);
	assert_int_equal(symlinkat("anon_inode:kvm-vm", fds, "12x"), 0);
	assert_int_equal(symlinkat("anon_inode:kvm-vm", fds, "99999999999"), 0);
	assert_int_equal(symlinkat("anon_inode:kvm-vm", fds, "-1"), 0);
	assert_int_equal(process_kvm_fd(&p), -ENOENT);
	snprintf(name, sizeof(name), "%d", a);
	assert_int_equal(symlinkat("anon_inode:kvm-vm", fds, name), 0);
	fd = process_kvm_fd(&p);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st1) | fstat(a, &st2), 0);
	assert_int_equal(st1.st_ino, st2.st_ino);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	/* A second descriptor of the same VM is no second VM. */
	snprintf(name, sizeof(name), "%d", c);
	assert_int_equal(symlinkat("anon_inode:kvm-vm", fds, name), 0);
	fd = process_kvm_fd(&p);
	assert_true(fd >= 0);
	close(fd);
	snprintf(name, sizeof(name), "%d", b);
	assert_int_equal(symlinkat("anon_inode:kvm-vm", fds, name), 0);
	assert_int_equal(process_kvm_fd(&p), -EMLINK);
	close(fds);
	close(a);
	close(b);
	close(c);
	p.dir = -1;
	process_close(&p);
}

static void test_no_process(void **state)
{
	struct process p;
	pid_t child = fork();

	if (!child)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(process_open(child, &p), -ESRCH);
	assert_int_equal(process_open(0, &p), -ESRCH);
	assert_int_equal(process_open(-1, &p), -ESRCH);
}

/* In a child: gives up CAP_KILL, and says what process_open() does with `pid`. */
static int open_without_kill(pid_t pid)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2];
	struct process p;

	if (syscall(SYS_capget, &header, caps))
		return 1;
	caps[0].effective &= ~(1u << CAP_KILL);
	if (syscall(SYS_capset, &header, caps))
		return 2;
	if (!kill(pid, 0) || errno != EPERM)
		return 3;
	if (process_open(pid, &p))
		return 4;
	process_close(&p);
	return 0;
}

/* Another user's process is found by one that may not signal it, as a confined daemon may not. */
static void test_other_user(void **state)
{
	pid_t other = 1, child;
	int status;

	if (!geteuid()) {
		other = fork();
		if (!other) {
			if (setresuid(65534, 65534, 65534))
				_exit(1);
			for (;;)
				pause();
		}
		/* Its user is another one from here on. */
		while (kill(other, 0) == 0) {
			struct stat st;
			char path[32];

			snprintf(path, sizeof(path), "/proc/%d", other);
			assert_int_equal(stat(path, &st), 0);
			if (st.st_uid == 65534)
				break;
			usleep(1000);
		}
	}
	child = fork();
	if (!child)
		_exit(open_without_kill(other));
	assert_int_equal(waitpid(child, &status, 0), child);
	if (other != 1) {
		kill(other, SIGKILL);
		assert_int_equal(waitpid(other, NULL, 0), other);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- RAM: this process plays the VMM ---- */

static struct elisa_host *host;
static struct elisa_ctx *ctx;
static struct process self;

static int64_t entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		     uint64_t a3)
{
	return cookie || op || a1 || ignored || a2 || a3;
}

static int setup(void **state)
{
	model_reset();
	assert_int_equal(elisa_host_open_with(&model_ops, &host), 0);
	assert_int_equal(elisa_ctx_create(host, entry, &ctx), 0);
	assert_int_equal(elisa_ctx_realize(ctx), 0);
	assert_int_equal(process_open(getpid(), &self), 0);
	return 0;
}

static int teardown(void **state)
{
	process_close(&self);
	elisa_ctx_destroy(ctx);
	elisa_host_close(host);
	return 0;
}

/* A backend of the VMM: a memfd of `len`, and where the VMM maps it. */
static char *backend(size_t len, int flags, int *fd)
{
	void *p;

	*fd = memfd_create("ram", MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, len), 0);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, *fd, 0);
	assert_true(p != MAP_FAILED);
	return p;
}

static uint32_t plan(struct ram *ram, struct elisa_slot *slots, uint32_t count,
		     struct elisa_why *why)
{
	memset(ram, 0, sizeof(*ram));
	*why = (struct elisa_why){0};
	if (ram_plan(ram, &self, slots, count, why) == 0)
		return 0;
	ram_release(ram, NULL);
	assert_int_not_equal(why->refusal, 0);
	return why->refusal;
}

static size_t open_files(void)
{
	size_t n = 0;
	int fd;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Maps and exports all of it. */
static int map_all(struct ram *ram)
{
	int rc = ram_map(ram);

	if (rc)
		return rc;
	do
		rc = ram_export_step(ram, ctx);
	while (rc > 0);
	return rc;
}

/* A PC: RAM below and above the VGA hole, ROM, video memory, RAM below and above 4 GiB. */
static void test_pc(void **state)
{
	int fd, vga_fd;
	char *p = backend(8 * MIB, MAP_SHARED, &fd);
	char *vga = backend(4 * MIB, MAP_PRIVATE, &vga_fd);
	struct elisa_slot slots[] = {
		{0x100000000, 4 * MIB, (uintptr_t)p + 4 * MIB, 0, 4},
		{0xfd000000, 4 * MIB, (uintptr_t)vga, 0, 3},
		{0xfffc0000, 256 << 10, (uintptr_t)vga, READONLY, 5},
		{0, 0xa0000, (uintptr_t)p, 0, 0},
		{0xc0000, 0x20000, (uintptr_t)p + 0xc0000, 0, 1},
		{0xe0000, 4 * MIB - 0xe0000, (uintptr_t)p + 0xe0000, 0, 2},
	};
	struct elisa_why why;
	struct ram ram;
	size_t before = open_files(), i;
	uint32_t maps = model.map_count;

	assert_int_equal(plan(&ram, slots, ARRAY_SIZE(slots), &why), 0);
	assert_int_equal(ram.count, 3);
	assert_int_equal(ram.regions[0].gpa, 0);
	assert_int_equal(ram.regions[0].len, 0xa0000);
	assert_int_equal(ram.regions[1].gpa, 0xc0000);
	assert_int_equal(ram.regions[1].len, 4 * MIB - 0xc0000);
	assert_int_equal(ram.regions[2].gpa, 0x100000000);
	assert_int_equal(ram.view_count, 1);
	pthread_mutex_lock(&ctx->lock);
	assert_int_equal(map_all(&ram), 0);
	pthread_mutex_unlock(&ctx->lock);
	/* The hole is not mapped here; the rest is, each byte at base + offset. */
	assert_int_equal(ram.views[0].count, 2);
	assert_int_equal((uintptr_t)ram.views[0].base % GIB, 0);
	assert_true((uintptr_t)ram.views[0].base >= RAM_AREA);
	for (i = 0; i < ram.count; i++) {
		char *there = p + ((char *)ram.regions[i].addr - ram.views[0].base);

		assert_int_equal((uintptr_t)ram.regions[i].addr % (2 * MIB),
				 ram.regions[i].gpa % (2 * MIB));
		there[0] = 'a' + i;
		there[ram.regions[i].len - 1] = 'A' + i;
		assert_int_equal(*(char *)ram.regions[i].addr, 'a' + i);
		assert_int_equal(((char *)ram.regions[i].addr)[ram.regions[i].len - 1], 'A' + i);
	}
	/* Two extents, one table of 512 GiB, and no descriptor kept. */
	assert_int_equal(model.map_count, maps + 3);
	assert_int_equal(open_files(), before);
	ram_release(&ram, ctx);
	assert_int_equal(model.map_count, maps + 1);
	assert_int_equal(msync((void *)RAM_AREA, PAGE, MS_ASYNC), -1);
	munmap(p, 8 * MIB);
	munmap(vga, 4 * MIB);
	close(fd);
	close(vga_fd);
}

/* Two NUMA nodes' backends, and one file seen at two places. */
static void test_views(void **state)
{
	int fd1, fd2;
	char *p1 = backend(4 * MIB, MAP_SHARED, &fd1), *p2 = backend(2 * MIB, MAP_SHARED, &fd2);
	struct elisa_slot slots[] = {
		{0, 4 * MIB, (uintptr_t)p1, 0, 0},
		{4 * MIB, 2 * MIB, (uintptr_t)p2, 0, 1},
		{64 * MIB, MIB, (uintptr_t)p1 + MIB, 0, 2},
	};
	struct elisa_why why;
	struct ram ram;

	assert_int_equal(plan(&ram, slots, 3, &why), 0);
	assert_int_equal(ram.count, 3);
	assert_int_equal(ram.view_count, 2);
	assert_int_equal(map_all(&ram), 0);
	assert_int_equal(ram.views[0].count, 1);
	assert_ptr_equal(ram.regions[2].addr, (char *)ram.regions[0].addr + MIB);
	assert_ptr_not_equal(ram.views[0].base, ram.views[1].base);
	ram_release(&ram, ctx);
	munmap(p1, 4 * MIB);
	munmap(p2, 2 * MIB);
	close(fd1);
	close(fd2);
}

static void test_refusals(void **state)
{
	int fd, fd2;
	char *shared = backend(64 * MIB, MAP_SHARED, &fd);
	char *private = backend(64 * MIB, MAP_PRIVATE, &fd2);
	struct elisa_slot slots[64] = {{MIB, 64 * MIB, (uintptr_t) private, 0, 0}};
	struct elisa_why why;
	struct ram ram;
	size_t before = open_files(), i;

	assert_int_equal(plan(&ram, slots, 1, &why), ELISA_REFUSE_NOT_SHARED);
	assert_int_equal(why.detail, MIB);
	/* Not even beside RAM that is shared. */
	slots[1] = (struct elisa_slot){GIB, 64 * MIB, (uintptr_t)shared, 0, 1};
	assert_int_equal(plan(&ram, slots, 2, &why), ELISA_REFUSE_NOT_SHARED);
	assert_int_equal(why.detail, MIB);
	/* A small one is not RAM beside RAM, but alone it must be. */
	slots[0] = (struct elisa_slot){MIB, 63 * MIB, (uintptr_t) private, 0, 0};
	slots[1] = (struct elisa_slot){GIB, 64 * MIB, (uintptr_t)shared, 0, 1};
	assert_int_equal(plan(&ram, slots, 2, &why), 0);
	assert_int_equal(ram.count, 1);
	ram_release(&ram, NULL);
	slots[0] = (struct elisa_slot){MIB, 63 * MIB, (uintptr_t) private, 0, 0};
	assert_int_equal(plan(&ram, slots, 1, &why), ELISA_REFUSE_NOT_SHARED);
	slots[0].flags = READONLY;
	assert_int_equal(plan(&ram, slots, 1, &why), ELISA_REFUSE_NO_RAM);
	assert_int_equal(plan(&ram, slots, 0, &why), ELISA_REFUSE_NO_RAM);
	/* Shared, but with a hole in it. */
	munmap(shared + 32 * MIB, PAGE);
	slots[0] = (struct elisa_slot){MIB, 64 * MIB, (uintptr_t)shared, 0, 0};
	assert_int_equal(plan(&ram, slots, 1, &why), ELISA_REFUSE_NOT_SHARED);
	for (i = 0; i < ARRAY_SIZE(slots); i++)
		slots[i] =
			(struct elisa_slot){i * 2 * PAGE, PAGE, (uintptr_t)shared + i * PAGE, 0, i};
	assert_int_equal(plan(&ram, slots, 16, &why), 0);
	ram_release(&ram, NULL);
	assert_int_equal(plan(&ram, slots, 17, &why), ELISA_REFUSE_TOO_MANY_SLOTS);
	assert_int_equal(open_files(), before);
	munmap(shared, 64 * MIB);
	munmap(private, 64 * MIB);
	close(fd);
	close(fd2);
}

/* A file that is shorter than its mapping would kill who touches it. */
static void test_short_file(void **state)
{
	int fd;
	char *p = backend(4 * MIB, MAP_SHARED, &fd);
	struct elisa_slot slot = {0, 4 * MIB, (uintptr_t)p, 0, 0};
	struct elisa_why why = {0};
	struct ram ram = {0};

	assert_int_equal(ftruncate(fd, MIB), 0);
	assert_int_equal(ram_plan(&ram, &self, &slot, 1, &why), -ENXIO);
	ram_release(&ram, NULL);
	munmap(p, 4 * MIB);
	close(fd);
}

/* The VMM has closed its descriptor: /proc/PID/map_files leads there, too, for root. */
static void test_closed_file(void **state)
{
	int fd;
	char *p = backend(4 * MIB, MAP_SHARED, &fd);
	struct elisa_slot slot = {0, 4 * MIB, (uintptr_t)p, 0, 0};
	struct elisa_why why = {0};
	struct ram ram = {0};
	int rc;

	close(fd);
	rc = ram_plan(&ram, &self, &slot, 1, &why);
	if (!rc) {
		assert_int_equal(map_all(&ram), 0);
		p[5] = 55;
		assert_int_equal(((char *)ram.regions[0].addr)[5], 55);
		ram_release(&ram, ctx);
	} else {
		assert_int_not_equal(geteuid(), 0);
		assert_int_equal(rc, -EPERM);
		ram_release(&ram, NULL);
	}
	munmap(p, 4 * MIB);
}

/* A failure at any of the module's mappings leaves no mapping and no descriptor. */
static void test_map_failures(void **state)
{
	int fd, i, rc = -ENOMEM;
	char *p = backend(8 * MIB, MAP_SHARED, &fd);
	struct elisa_slot slots[] = {
		{0, MIB, (uintptr_t)p, 0, 0},
		{4 * MIB, MIB, (uintptr_t)p + 4 * MIB, 0, 1},
	};
	size_t before = open_files();
	struct elisa_why why;
	struct ram ram;

	for (i = 0; rc; i++) {
		assert_int_equal(plan(&ram, slots, 2, &why), 0);
		model.fail_after = i;
		model.fail_rc = -ENOMEM;
		rc = map_all(&ram);
		ram_release(&ram, ctx);
		assert_int_equal(open_files(), before);
		assert_int_equal(ctx->book.count, 3);
		assert_true(i < 10);
	}
	assert_true(i > 2);
	munmap(p, 8 * MIB);
	close(fd);
}

/* One chunk a step, both ways, wherever it is broken off. */
static void test_steps(void **state)
{
	int fd, fd2, rc, i, stop, steps = 0;
	char *p = backend(100 * MIB, MAP_SHARED, &fd), *q = backend(MIB, MAP_SHARED, &fd2);
	struct elisa_slot slots[] = {
		/* From 5 MiB of its file, not a chunk's multiple: 5-32, 32-64, 64-95; and 99-100. */
		{0, 90 * MIB, (uintptr_t)p + 5 * MIB, 0, 0},
		{GIB, MIB, (uintptr_t)p + 99 * MIB, 0, 1},
		{2 * GIB, MIB, (uintptr_t)q, 0, 2},
	};
	struct elisa_why why;
	struct ram ram;

	for (stop = 0; stop <= 5; stop++) {
		assert_int_equal(plan(&ram, slots, 3, &why), 0);
		assert_int_equal(ram_map(&ram), 0);
		assert_int_equal(ctx->book.count, 3);
		for (i = 0; i < stop; i++) {
			rc = ram_export_step(&ram, ctx);
			assert_int_equal(rc, 1);
			assert_int_equal(ctx->book.count, 4 + i);
		}
		if (stop == 5)
			assert_int_equal(ram_export_step(&ram, ctx), 0);
		for (i = 0; (size_t)i < ctx->book.count; i++)
			assert_true(ctx->book.all[i].len <= RAM_CHUNK);
		/* Those of views and extents that were begun, and no more. */
		for (steps = 0; ram_unexport_step(&ram, ctx); steps++)
			assert_int_equal(ctx->book.count, 3 + stop - steps - 1);
		assert_int_equal(steps, stop);
		/* And again, all: steps back leave it as it was. */
		for (steps = 0; (rc = ram_export_step(&ram, ctx)) > 0;)
			steps++;
		assert_int_equal(rc, 0);
		assert_int_equal(steps, 5);
		ram_release(&ram, ctx);
		assert_int_equal(ctx->book.count, 3);
	}
	munmap(p, 100 * MIB);
	munmap(q, MIB);
	close(fd);
	close(fd2);
}

/* ---- VMs ---- */

static struct elisa_vm *bare_vm(void)
{
	struct elisa_vm *vm = calloc(1, sizeof(*vm));

	assert_non_null(vm);
	vm->ctx = ctx;
	vm->attached = true;
	vm->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	vm->next = ctx->vms;
	ctx->vms = vm;
	return vm;
}

/* What detach does in steps, from an attach that was not over; and that it is none in between. */
static void test_detach_steps(void **state)
{
	struct elisa_vm *vm = bare_vm();
	int fd, steps;
	char *p = backend(80 * MIB, MAP_SHARED, &fd);
	struct elisa_slot slot = {0, 80 * MIB, (uintptr_t)p, 0, 0};
	struct elisa_why why = {0};

	vm->attached = false;
	assert_int_equal(ram_plan(&vm->ram, &self, &slot, 1, &why), 0);
	assert_int_equal(ram_map(&vm->ram), 0);
	assert_int_equal(elisa_vm_attach_step(vm), 1);
	assert_int_equal(elisa_vm_arm(vm, 0, NULL), -EINVAL);
	assert_int_equal(elisa_vm_attach_step(vm), 1);
	assert_int_equal(elisa_vm_attach_step(vm), 1);
	assert_int_equal(elisa_vm_attach_step(vm), 0);
	assert_int_equal(elisa_vm_arm(vm, 0, NULL), 0);
	assert_int_equal(elisa_vm_detach_step(vm, 10), 1);
	assert_int_equal(model.detached, 1);
	assert_int_equal(elisa_vm_attach_step(vm), -EINVAL);
	assert_int_equal(elisa_vm_arm(vm, 0, NULL), -EINVAL);
	for (steps = 1; elisa_vm_detach_step(vm, 10); steps++)
		;
	assert_int_equal(steps, 3);
	assert_int_equal(ctx->book.count, 3);
	elisa_vm_detach(vm, 10);
	assert_int_equal(model.detached, 1);
	assert_null(ctx->vms);
	munmap(p, 80 * MIB);
	close(fd);
}

static void test_attach_refused(void **state)
{
	struct elisa_why why;
	struct elisa_vm *vm;
	pid_t child = fork();

	if (!child)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(elisa_vm_attach(ctx, child, 0, &why, &vm), -EPERM);
	assert_int_equal(why.refusal, ELISA_REFUSE_NO_PROCESS);
	assert_int_equal(elisa_vm_attach(ctx, getpid(), 0, &why, &vm), -EPERM);
	assert_int_equal(why.refusal, ELISA_REFUSE_NO_KVM);
	assert_null(ctx->vms);
}

static void test_arm(void **state)
{
	uint32_t maps = model.map_count, i;
	struct elisa_vm *vm = bare_vm();
	const struct elisa_vm_arm *a;

	for (i = 0; i < 4; i++)
		assert_int_equal(elisa_vm_arm(vm, i, (void *)(uintptr_t)(100 + i)), 0);
	assert_int_equal(elisa_vm_arm(vm, 2, NULL), -EBUSY);
	assert_int_equal(model.armed_count, 4);
	for (i = 0; i < 4; i++) {
		a = &model.armed[i];
		assert_int_equal(a->vcpu_id, i);
		assert_int_equal(a->cookie, 100 + i);
		assert_int_equal(a->entry, (uintptr_t)entry);
		/* Stack and TLS are exported, the guard page below is not. */
		assert_non_null(book_find(&ctx->book, (uintptr_t)park_shared(vm->vcpus[i].park),
					  park_shared_len(vm->vcpus[i].park)));
		assert_true(a->stack > (uintptr_t)park_shared(vm->vcpus[i].park));
	}
	assert_int_equal(elisa_vm_disarm(vm, 9, 10), -ENOENT);
	assert_int_equal(elisa_vm_disarm(vm, 1, 10), 0);
	assert_int_equal(elisa_vm_disarm(vm, 1, 10), -ENOENT);
	assert_int_equal(model.armed_count, 3);
	assert_int_equal(elisa_vm_arm(vm, 1, NULL), 0);
	assert_int_equal(elisa_vm_disarm_all(vm, 10), 0);
	assert_int_equal(model.armed_count, 0);
	assert_int_equal(ctx->book.count, 3);
	assert_int_equal(elisa_vm_arm(vm, 0, NULL), 0);
	elisa_vm_detach(vm, 10);
	assert_int_equal(model.detached, 1);
	assert_null(ctx->vms);
	assert_int_equal(ctx->book.count, 3);
	assert_in_range(model.map_count, maps, maps + 1);
}

static void test_arm_failures(void **state)
{
	struct elisa_vm *vm = bare_vm();

	model.armed_count = ARRAY_SIZE(model.armed);
	assert_int_equal(elisa_vm_arm(vm, 0, NULL), -ENOMEM);
	assert_int_equal(ctx->book.count, 3);
	model.armed_count = 0;
	model.fail_after = 0;
	model.fail_rc = -ENOMEM;
	assert_int_equal(elisa_vm_arm(vm, 0, NULL), -ENOMEM);
	assert_int_equal(ctx->book.count, 3);
	assert_int_equal(vm->vcpu_count, 0);
	model.fail_after = -1;
	/* One left armed: the context's end takes it along. */
	assert_int_equal(elisa_vm_arm(vm, 0, NULL), 0);
	bare_vm();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_random_lines),
		cmocka_unit_test_setup_teardown(test_maps, make_folder, drop_folder),
		cmocka_unit_test_setup_teardown(test_kvm_fd, make_folder, drop_folder),
		cmocka_unit_test(test_no_process),
		cmocka_unit_test(test_other_user),
		cmocka_unit_test_setup_teardown(test_pc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_views, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_short_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detach_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attach_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_arm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_arm_failures, setup, teardown),
	};

	return cmocka_run_group_tests_name("processes, RAM and VMs", tests, NULL, NULL);
}
