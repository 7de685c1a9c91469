/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells on made-up devices: a tree of files in the place of sysfs and /dev/vfio, ioctl(2),
 * open(2) and mmap(2) of the linked sources wrapped to play VFIO. The real device is the lab's.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <elisa/bell.h>

#define BAR_OFFSET    8192 /* in the device's file */
#define CONFIG_OFFSET 0

extern const char *bell_root;

static char root[] = "/tmp/elisa-bell-XXXXXX";

/* What the made-up VFIO does, and what it was asked. */
static struct {
	int group_errno, mmap_errno;
	bool not_viable, no_mmap, only_v1;
	unsigned int vectors;
	unsigned long iommu;
	int eventfds[64];
	unsigned int armed;
	char device[64];
} vfio;

/* ---- wrapped calls ---- */

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
void *__real_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_open64(const char *path, int flags, ...)
{
	const char *group = strstr(path, "/dev/vfio/");

	if (group && strcmp(group, "/dev/vfio/vfio") && vfio.group_errno) {
		errno = vfio.group_errno;
		return -1;
	}
	return __real_open64(path, flags, 0600);
}

void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (fd >= 0 && vfio.mmap_errno) {
		errno = vfio.mmap_errno;
		return MAP_FAILED;
	}
	return __real_mmap64(addr, len, prot, flags, fd, offset);
}

static void path_of(char *path, const char *name)
{
	snprintf(path, 300, "%s/%s", root, name);
}

static int set_iommu(unsigned long type)
{
	vfio.iommu = type;
	if (type == VFIO_TYPE1v2_IOMMU && vfio.only_v1) {
		errno = EINVAL;
		return -1;
	}
	return 0;
}

static int set_irqs(const struct vfio_irq_set *set)
{
	assert_int_equal(set->flags, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER);
	assert_int_equal(set->index, VFIO_PCI_MSIX_IRQ_INDEX);
	assert_int_equal(set->argsz, sizeof(*set) + set->count * sizeof(int));
	memcpy(vfio.eventfds, set->data, set->count * sizeof(int));
	vfio.armed = set->count;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct vfio_region_info *region;
	char path[300];
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	assert_true(fd >= 0);
	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)arg)->flags =
			vfio.not_viable ? 0 : VFIO_GROUP_FLAGS_VIABLE;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		return 0;
	case VFIO_SET_IOMMU:
		return set_iommu((unsigned long)arg);
	case VFIO_GROUP_GET_DEVICE_FD:
		snprintf(vfio.device, sizeof(vfio.device), "%s", (char *)arg);
		path_of(path, "device");
		return __real_open64(path, O_RDWR | O_CLOEXEC);
	case VFIO_DEVICE_GET_REGION_INFO:
		region = arg;
		region->offset = region->index ? CONFIG_OFFSET : BAR_OFFSET;
		region->size = 256;
		region->flags = vfio.no_mmap ? 0 : VFIO_REGION_INFO_FLAG_MMAP;
		return 0;
	case VFIO_DEVICE_GET_IRQ_INFO:
		((struct vfio_irq_info *)arg)->count = vfio.vectors;
		return 0;
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(arg);
	default:
		fail_msg("an ioctl that nobody expects: %#lx", request);
		return -1;
	}
}

/* ---- the tree ---- */

static void make(const char *name, const void *data, size_t len, size_t size)
{
	char path[300], *slash;
	int fd;

	path_of(path, name);
	for (slash = path + strlen(root); (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	fd = __real_open64(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	if (size)
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void make_text(const char *pci, const char *name, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/%s", pci, name);
	make(path, text, strlen(text), 0);
}

static void put(const char *name, off_t at, uint32_t value)
{
	char path[300];
	int fd;

	path_of(path, name);
	fd = __real_open64(path, O_RDWR);
	assert_int_equal(pwrite(fd, &value, sizeof(value), at), sizeof(value));
	close(fd);
}

static uint32_t get(const char *name, off_t at)
{
	char path[300];
	uint32_t value;
	int fd;

	path_of(path, name);
	fd = __real_open64(path, O_RDWR);
	assert_int_equal(pread(fd, &value, sizeof(value), at), sizeof(value));
	close(fd);
	return value;
}

/* A device with id `id`, whose registers start `at` in their page. */
static void make_device(const char *pci, const char *device, uint32_t id, unsigned int at)
{
	char name[200], text[100];

	make_text(pci, "vendor", "0x1af4\n");
	make_text(pci, "device", device);
	snprintf(text, sizeof(text), "0x%016x 0x%016x 0x40200\n", 0xfebf1000 + at, 0xfebf10ff + at);
	make_text(pci, "resource", text);
	snprintf(name, sizeof(name), "sys/bus/pci/devices/%s/resource0", pci);
	make(name, "", 0, 4096);
	put(name, at + 8, id);
	snprintf(name, sizeof(name), "sys/bus/pci/devices/%s/config", pci);
	make(name, "", 0, 256);
	put(name, 4, 0x00100100);
}

static void make_link(const char *pci, const char *name, const char *target)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/%s", root, pci, name);
	unlink(path);
	assert_int_equal(symlink(target, path), 0);
}

#define PCI "0000:00:02.0"
#define DEV "sys/bus/pci/devices/" PCI "/"

static void bind_vfio(const char *group)
{
	make_link(PCI, "driver", "../../../../bus/pci/drivers/vfio-pci");
	make_link(PCI, "iommu_group", "../../../../kernel/iommu_groups/7");
	make("dev/vfio/vfio", "", 0, 0);
	make(group, "", 0, 0);
	make("device", "", 0, 16384);
	put("device", BAR_OFFSET + 8, 5);
}

static int set_up(void **state)
{
	char command[64];

	strcpy(root + sizeof(root) - 7, "XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(command, sizeof(command), "mkdir -p %s/sys/bus/pci/devices", root);
	if (system(command))
		return -1;
	bell_root = root;
	memset(&vfio, 0, sizeof(vfio));
	vfio.vectors = 4;
	return 0;
}

static int tear_down(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

/* ---- ringing ---- */

static void none_is_told(void **state)
{
	struct elisa_bell *bell;

	assert_int_equal(elisa_bell_open(NULL, false, &bell), -ENODEV);
	assert_non_null(strstr(elisa_bell_error(), "-device ivshmem-doorbell"));
	make_device(PCI, "0x1000\n", 1, 0);
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -ENODEV);
	assert_int_equal(elisa_bell_open(PCI, false, &bell), -ENODEV);
	assert_non_null(strstr(elisa_bell_error(), PCI));
	assert_int_equal(elisa_bell_open("../../etc", false, &bell), -ENODEV);
	assert_int_equal(elisa_bell_open("0000:00:02.0000000", false, &bell), -ENODEV);
}

static void rings(void **state)
{
	struct elisa_bell *bell;

	make_device("0000:00:01.0", "0x1000\n", 9, 0);
	make_device(PCI, "0x1110\n", 3, 0);
	assert_int_equal(elisa_bell_open(NULL, false, &bell), 0);
	assert_int_equal(elisa_bell_id(bell), 3);
	/* Memory was switched on, and nothing else changed. */
	assert_int_equal(get(DEV "config", 4), 0x00100102);
	assert_int_equal(get(DEV "resource0", 12), 0);
	elisa_bell_ring(bell, 7 << 16 | 2);
	assert_int_equal(get(DEV "resource0", 12), 7 << 16 | 2);
	assert_int_equal(elisa_bell_eventfd(bell, 0), -EOPNOTSUPP);
	elisa_bell_close(bell);
}

static void registers_may_start_inside_a_page(void **state)
{
	struct elisa_bell *bell;

	make_device(PCI, "0x1110\n", 4, 0x300);
	assert_int_equal(elisa_bell_open(PCI, false, &bell), 0);
	assert_int_equal(elisa_bell_id(bell), 4);
	elisa_bell_ring(bell, 1 << 16);
	assert_int_equal(get(DEV "resource0", 0x30c), 1 << 16);
	elisa_bell_close(bell);
}

static void without_an_id_it_is_no_use(void **state)
{
	struct elisa_bell *bell;

	make_device(PCI, "0x1110\n", 0, 0);
	assert_int_equal(elisa_bell_open(NULL, false, &bell), -EAGAIN);
	put(DEV "resource0", 8, UINT32_MAX);
	assert_int_equal(elisa_bell_open(NULL, false, &bell), -EAGAIN);
	assert_non_null(strstr(elisa_bell_error(), "id"));
	/* The next one is taken then. */
	make_device("0000:00:03.0", "0x1110\n", 6, 0);
	assert_int_equal(elisa_bell_open(NULL, false, &bell), 0);
	assert_int_equal(elisa_bell_id(bell), 6);
	elisa_bell_close(bell);
}

static void claimed_registers_are_busy(void **state)
{
	struct elisa_bell *bell;

	make_device(PCI, "0x1110\n", 2, 0);
	vfio.mmap_errno = EINVAL;
	assert_int_equal(elisa_bell_open(NULL, false, &bell), -EBUSY);
	assert_non_null(strstr(elisa_bell_error(), "another process"));
	vfio.mmap_errno = EPERM;
	assert_int_equal(elisa_bell_open(NULL, false, &bell), -EPERM);
}

/* ---- being woken ---- */

static void unbound_says_how_to_bind(void **state)
{
	struct elisa_bell *bell;

	make_device(PCI, "0x1110\n", 2, 0);
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -EOPNOTSUPP);
	assert_non_null(strstr(elisa_bell_error(), "run elisa-doorbell bind"));
	assert_non_null(strstr(elisa_bell_error(), "intel-iommu,intremap=off"));
	make_link(PCI, "iommu_group", "../../../../kernel/iommu_groups/7");
	make_link(PCI, "driver", "../../../../bus/pci/drivers/uio_pci_generic");
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -EOPNOTSUPP);
	assert_non_null(strstr(elisa_bell_error(), "run elisa-doorbell bind"));
	assert_null(strstr(elisa_bell_error(), "IOMMU"));
}

static void is_woken(void **state)
{
	struct elisa_bell *bell;
	uint64_t count = 1;

	make_device(PCI, "0x1110\n", 2, 0);
	bind_vfio("dev/vfio/7");
	put("device", CONFIG_OFFSET + 4, 0x00100000);
	assert_int_equal(elisa_bell_open(NULL, true, &bell), 0);
	assert_string_equal(vfio.device, PCI);
	assert_int_equal(vfio.iommu, VFIO_TYPE1v2_IOMMU);
	assert_int_equal(get("device", CONFIG_OFFSET + 4), 0x00100006);
	assert_int_equal(elisa_bell_id(bell), 5);
	assert_int_equal(vfio.armed, 4);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(elisa_bell_eventfd(bell, i), vfio.eventfds[i]);
	assert_int_equal(elisa_bell_eventfd(bell, 4), -EINVAL);
	assert_int_equal(read(vfio.eventfds[2], &count, sizeof(count)), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(write(vfio.eventfds[2], &count, sizeof(count)), sizeof(count));
	assert_int_equal(read(elisa_bell_eventfd(bell, 2), &count, sizeof(count)), sizeof(count));
	elisa_bell_ring(bell, 9 << 16);
	assert_int_equal(get("device", BAR_OFFSET + 12), 9 << 16);
	elisa_bell_close(bell);
	assert_int_equal(fcntl(vfio.eventfds[2], F_GETFD), -1);
}

static void registers_need_not_be_mapped(void **state)
{
	struct elisa_bell *bell;

	make_device(PCI, "0x1110\n", 2, 0);
	bind_vfio("dev/vfio/7");
	vfio.no_mmap = true;
	vfio.mmap_errno = EINVAL;
	assert_int_equal(elisa_bell_open(PCI, true, &bell), 0);
	assert_int_equal(elisa_bell_id(bell), 5);
	elisa_bell_ring(bell, 8 << 16 | 1);
	assert_int_equal(get("device", BAR_OFFSET + 12), 8 << 16 | 1);
	elisa_bell_close(bell);
}

static void kinds_of_iommu(void **state)
{
	struct elisa_bell *bell;

	make_device(PCI, "0x1110\n", 2, 0);
	bind_vfio("dev/vfio/7");
	vfio.only_v1 = true;
	assert_int_equal(elisa_bell_open(PCI, true, &bell), 0);
	assert_int_equal(vfio.iommu, VFIO_TYPE1_IOMMU);
	elisa_bell_close(bell);
	make("dev/vfio/noiommu-7", "", 0, 0);
	{
		char path[300];

		path_of(path, "dev/vfio/7");
		unlink(path);
	}
	assert_int_equal(elisa_bell_open(PCI, true, &bell), 0);
	assert_int_equal(vfio.iommu, VFIO_NOIOMMU_IOMMU);
	elisa_bell_close(bell);
}

static void refusals_of_vfio(void **state)
{
	struct elisa_bell *bell;
	int before = dup(0), after;

	make_device(PCI, "0x1110\n", 2, 0);
	bind_vfio("dev/vfio/7");
	vfio.group_errno = EBUSY;
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -EBUSY);
	assert_non_null(strstr(elisa_bell_error(), "another process"));
	vfio.group_errno = EACCES;
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -EACCES);
	vfio.group_errno = 0;
	vfio.not_viable = true;
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -EOPNOTSUPP);
	assert_non_null(strstr(elisa_bell_error(), "iommu_group/devices"));
	vfio.not_viable = false;
	vfio.vectors = 0;
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -EOPNOTSUPP);
	assert_non_null(strstr(elisa_bell_error(), "vectors=N"));
	vfio.vectors = 4;
	put("device", BAR_OFFSET + 8, 0);
	assert_int_equal(elisa_bell_open(NULL, true, &bell), -EAGAIN);
	/* None of them left a descriptor behind. */
	after = dup(0);
	assert_int_equal(after, before + 1);
	close(after);
	close(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(none_is_told),
		TEST(rings),
		TEST(registers_may_start_inside_a_page),
		TEST(without_an_id_it_is_no_use),
		TEST(claimed_registers_are_busy),
		TEST(unbound_says_how_to_bind),
		TEST(is_woken),
		TEST(registers_need_not_be_mapped),
		TEST(kinds_of_iommu),
		TEST(refusals_of_vfio),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
