/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells (elisa/bell.h): QEMU's ivshmem-doorbell, by its register page alone.
 *
 * To ring, the page is mapped from sysfs. To be woken, the device is taken through VFIO: its group,
 * one eventfd for each MSI-X vector, and the register page from there. It makes no DMA but the
 * interrupts' own messages, so that nothing is mapped into the IOMMU.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <elisa/bell.h>

#include "internal.h"

#define PAGE	    4096
#define VECTORS_MAX 64

/* Registers: QEMU, docs/specs/ivshmem-spec. */
#define REG_POSITION 8	/* our id */
#define REG_DOORBELL 12 /* id << 16 | vector */

struct elisa_bell {
	char pci[16];
	int container, group, device; /* VFIO; -1 without `wake` */
	void *page;		      /* NULL: the registers cannot be mapped, device is written */
	volatile uint32_t *regs;
	uint64_t regs_offset; /* of the registers in `device` */
	uint16_t id;
	unsigned int vectors;
	int eventfds[VECTORS_MAX];
};

/* Where /sys and /dev/vfio are: tests have their own. */
const char *bell_root = "";

static _Thread_local char error_text[700];

__attribute__((format(printf, 2, 3))) static int fail(int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error_text, sizeof(error_text), format, args);
	va_end(args);
	return rc;
}

ELISA_PUBLIC const char *elisa_bell_error(void)
{
	return error_text;
}

/* ---- sysfs ---- */

__attribute__((format(printf, 3, 4))) static void device_path(char *path, const char *pci,
							      const char *format, ...)
{
	va_list args;
	int len = snprintf(path, PATH_MAX, "%s/sys/bus/pci/devices/%s/", bell_root, pci);

	va_start(args, format);
	vsnprintf(path + len, PATH_MAX - (size_t)len, format, args);
	va_end(args);
}

/* First number of a file of the device, or -errno. */
static long long read_number(const char *pci, const char *name)
{
	unsigned long long value;
	char path[PATH_MAX];
	FILE *f;
	int n;

	device_path(path, pci, "%s", name);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	n = fscanf(f, "%llx", &value);
	fclose(f);
	return n == 1 && value <= LLONG_MAX ? (long long)value : -EIO;
}

static bool is_doorbell(const char *pci)
{
	return read_number(pci, "vendor") == ELISA_BELL_VENDOR &&
	       read_number(pci, "device") == ELISA_BELL_DEVICE;
}

/* What a link of the device points to, its last part; "" when there is none. */
static void read_link(const char *pci, const char *name, char target[32])
{
	char path[PATH_MAX], full[PATH_MAX];
	const char *slash;
	ssize_t len;

	device_path(path, pci, "%s", name);
	len = readlink(path, full, sizeof(full) - 1);
	full[len < 0 ? 0 : len] = '\0';
	slash = strrchr(full, '/');
	snprintf(target, 32, "%.31s", slash ? slash + 1 : full);
}

/* ---- ringing only ---- */

/* Nobody may have switched the device's memory on, when no driver is bound to it. */
static int enable_memory(const struct elisa_bell *b)
{
	char path[PATH_MAX];
	uint16_t command;
	int fd, rc = 0;

	device_path(path, b->pci, "config");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fail(-errno, "%s: %s", path, strerror(errno));
	if (pread(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		rc = -EIO;
	command |= PCI_COMMAND_MEMORY;
	if (!rc && pwrite(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		rc = -EIO;
	close(fd);
	return rc ? fail(rc, "%s: its command register cannot be set", path) : 0;
}

static int map_sysfs(struct elisa_bell *b)
{
	const long long start = read_number(b->pci, "resource");
	char path[PATH_MAX];
	int fd, rc;

	if (start <= 0)
		return fail(-EIO, "doorbell %s: it has no registers", b->pci);
	rc = enable_memory(b);
	if (rc)
		return rc;
	device_path(path, b->pci, "resource0");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fail(-errno, "%s: %s", path, strerror(errno));
	b->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rc = b->page == MAP_FAILED ? -errno : 0;
	close(fd);
	if (rc) {
		b->page = NULL;
		/* The kernel's answer when a driver has claimed the registers (IO_STRICT_DEVMEM).
		 */
		return rc == -EINVAL ? fail(-EBUSY,
					    "doorbell %s: another process has it: give the "
					    "VM one more ivshmem-doorbell",
					    b->pci)
				     : fail(rc, "%s: cannot be mapped: %s", path, strerror(-rc));
	}
	/* A BAR smaller than a page may start inside of one. */
	b->regs = (volatile uint32_t *)((char *)b->page + start % PAGE);
	return 0;
}

/* ---- VFIO ---- */

static int not_bound(const struct elisa_bell *b)
{
	char group[32];

	read_link(b->pci, "iommu_group", group);
	return fail(-EOPNOTSUPP, "doorbell %s: not bound to vfio-pci%s: run elisa-doorbell bind",
		    b->pci,
		    *group ? ""
			   : ", and this VM has no IOMMU (QEMU: -machine q35 -device "
			     "intel-iommu,intremap=off; kernel: intel_iommu=on)");
}

static int open_vfio(const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/dev/vfio/%s", bell_root, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A group without an IOMMU has another name, and another kind of container. */
static int open_group(struct elisa_bell *b, bool *noiommu)
{
	char number[32], name[48];

	read_link(b->pci, "iommu_group", number);
	*noiommu = false;
	b->group = open_vfio(number);
	if (b->group == -ENOENT) {
		snprintf(name, sizeof(name), "noiommu-%s", number);
		b->group = open_vfio(name);
		*noiommu = true;
	}
	if (b->group == -EBUSY)
		return fail(-EBUSY,
			    "doorbell %s: another process has it: give the VM one more "
			    "ivshmem-doorbell",
			    b->pci);
	if (b->group < 0)
		return fail(b->group, "doorbell %s: its group /dev/vfio/%s: %s", b->pci, number,
			    strerror(-b->group));
	return 0;
}

static int join_container(struct elisa_bell *b, bool noiommu)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};

	b->container = open_vfio("vfio");
	if (b->container < 0)
		return fail(b->container, "/dev/vfio/vfio: %s", strerror(-b->container));
	if (ioctl(b->group, VFIO_GROUP_GET_STATUS, &status))
		return fail(-errno, "doorbell %s: VFIO group: %s", b->pci, strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return fail(-EOPNOTSUPP,
			    "doorbell %s: other devices of its IOMMU group are not bound to "
			    "vfio-pci: see /sys/bus/pci/devices/%s/iommu_group/devices",
			    b->pci, b->pci);
	if (ioctl(b->group, VFIO_GROUP_SET_CONTAINER, &b->container))
		return fail(-errno, "doorbell %s: VFIO container: %s", b->pci, strerror(errno));
	if (noiommu) {
		if (!ioctl(b->container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU))
			return 0;
	} else if (!ioctl(b->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) ||
		   !ioctl(b->container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU)) {
		return 0;
	}
	return fail(-errno, "doorbell %s: VFIO's IOMMU: %s (modprobe vfio_iommu_type1?)", b->pci,
		    strerror(errno));
}

static int map_vfio(struct elisa_bell *b)
{
	struct vfio_region_info region = {.argsz = sizeof(region),
					  .index = VFIO_PCI_BAR0_REGION_INDEX};
	struct vfio_region_info config = {.argsz = sizeof(config),
					  .index = VFIO_PCI_CONFIG_REGION_INDEX};
	uint16_t command;
	off_t at;

	b->device = ioctl(b->group, VFIO_GROUP_GET_DEVICE_FD, b->pci);
	if (b->device < 0)
		return fail(-errno, "doorbell %s: VFIO device: %s", b->pci, strerror(errno));
	if (ioctl(b->device, VFIO_DEVICE_GET_REGION_INFO, &region) ||
	    ioctl(b->device, VFIO_DEVICE_GET_REGION_INFO, &config))
		return fail(-errno, "doorbell %s: VFIO region: %s", b->pci, strerror(errno));
	/* An MSI-X interrupt is a write by the device. */
	at = (off_t)config.offset + PCI_COMMAND;
	if (pread(b->device, &command, sizeof(command), at) != sizeof(command))
		return fail(-EIO, "doorbell %s: its configuration cannot be read", b->pci);
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(b->device, &command, sizeof(command), at) != sizeof(command))
		return fail(-EIO, "doorbell %s: its configuration cannot be written", b->pci);
	b->regs_offset = region.offset;
	/* A small BAR that starts inside a page cannot be mapped: system calls then. */
	if (!(region.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return 0;
	b->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, b->device,
		       (off_t)region.offset);
	if (b->page == MAP_FAILED) {
		b->page = NULL;
		return fail(-errno, "doorbell %s: its registers cannot be mapped: %s", b->pci,
			    strerror(errno));
	}
	b->regs = b->page;
	return 0;
}

static int arm_vectors(struct elisa_bell *b)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX};
	union {
		struct vfio_irq_set set;
		char room[sizeof(struct vfio_irq_set) + sizeof(b->eventfds)];
	} u = {.set = {.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		       .index = VFIO_PCI_MSIX_IRQ_INDEX}};
	unsigned int wanted;

	if (ioctl(b->device, VFIO_DEVICE_GET_IRQ_INFO, &info))
		return fail(-errno, "doorbell %s: VFIO interrupts: %s", b->pci, strerror(errno));
	if (!info.count)
		return fail(-EOPNOTSUPP, "doorbell %s: it has no MSI-X vectors (QEMU: vectors=N)",
			    b->pci);
	wanted = info.count < VECTORS_MAX ? info.count : VECTORS_MAX;
	for (; b->vectors < wanted; b->vectors++) {
		b->eventfds[b->vectors] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (b->eventfds[b->vectors] < 0)
			return fail(-errno, "eventfd: %s", strerror(errno));
	}
	u.set.argsz = (uint32_t)(sizeof(u.set) + b->vectors * sizeof(int));
	u.set.count = b->vectors;
	memcpy(u.set.data, b->eventfds, b->vectors * sizeof(int));
	if (ioctl(b->device, VFIO_DEVICE_SET_IRQS, &u.set))
		return fail(-errno, "doorbell %s: its interrupts cannot be armed: %s", b->pci,
			    strerror(errno));
	return 0;
}

static int take_vfio(struct elisa_bell *b)
{
	char driver[32];
	bool noiommu;
	int rc;

	read_link(b->pci, "driver", driver);
	if (strcmp(driver, "vfio-pci"))
		return not_bound(b);
	rc = open_group(b, &noiommu);
	if (!rc)
		rc = join_container(b, noiommu);
	if (!rc)
		rc = map_vfio(b);
	return rc ? rc : arm_vectors(b);
}

/* ---- opening ---- */

static int read_id(struct elisa_bell *b)
{
	uint32_t id = 0;

	if (b->regs)
		id = b->regs[REG_POSITION / 4];
	else if (pread(b->device, &id, sizeof(id), (off_t)b->regs_offset + REG_POSITION) !=
		 sizeof(id))
		return fail(-EIO, "doorbell %s: its registers cannot be read", b->pci);
	/* The service counts from 1. */
	if (!id || id > UINT16_MAX)
		return fail(-EAGAIN, "doorbell %s: its server has not given it an id yet", b->pci);
	b->id = (uint16_t)id;
	return 0;
}

static int open_one(const char *pci, bool wake, struct elisa_bell **bell)
{
	struct elisa_bell *b;
	int rc;

	if (strlen(pci) >= sizeof(b->pci) || strchr(pci, '/') || !is_doorbell(pci))
		return fail(-ENODEV, "%s is no ivshmem-doorbell (PCI %04x:%04x)", pci,
			    ELISA_BELL_VENDOR, ELISA_BELL_DEVICE);
	b = calloc(1, sizeof(*b));
	if (!b)
		return fail(-ENOMEM, "out of memory");
	strcpy(b->pci, pci);
	b->container = b->group = b->device = -1;
	rc = wake ? take_vfio(b) : map_sysfs(b);
	if (!rc)
		rc = read_id(b);
	if (rc) {
		elisa_bell_close(b);
		return rc;
	}
	*bell = b;
	return 0;
}

ELISA_PUBLIC int elisa_bell_open(const char *pci, bool wake, struct elisa_bell **bell)
{
	struct dirent **entries;
	char path[PATH_MAX];
	int n, rc;

	if (pci)
		return open_one(pci, wake, bell);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices", bell_root);
	n = scandir(path, &entries, NULL, alphasort);
	rc = fail(-ENODEV, "this VM has no doorbell device (QEMU: -device ivshmem-doorbell)");
	for (int i = 0; i < n; i++) {
		/* The last one's error is what is told when none can be had. */
		if (rc && is_doorbell(entries[i]->d_name))
			rc = open_one(entries[i]->d_name, wake, bell);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return rc;
}

ELISA_PUBLIC void elisa_bell_close(struct elisa_bell *bell)
{
	if (!bell)
		return;
	if (bell->page)
		munmap(bell->page, PAGE);
	/* The kernel disarms the interrupts with the device's last descriptor. */
	if (bell->device >= 0)
		close(bell->device);
	if (bell->group >= 0)
		close(bell->group);
	if (bell->container >= 0)
		close(bell->container);
	for (unsigned int i = 0; i < bell->vectors; i++)
		close(bell->eventfds[i]);
	free(bell);
}

ELISA_PUBLIC uint16_t elisa_bell_id(const struct elisa_bell *bell)
{
	return bell->id;
}

ELISA_PUBLIC int elisa_bell_eventfd(struct elisa_bell *bell, unsigned int vector)
{
	if (bell->device < 0)
		return -EOPNOTSUPP;
	return vector < bell->vectors ? bell->eventfds[vector] : -EINVAL;
}

ELISA_PUBLIC void elisa_bell_ring(const struct elisa_bell *bell, uint32_t value)
{
	if (bell->regs)
		bell->regs[REG_DOORBELL / 4] = value;
	else if (pwrite(bell->device, &value, sizeof(value),
			(off_t)bell->regs_offset + REG_DOORBELL) < 0)
		return; /* the device is gone: nobody is to be woken by it */
}
