/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells: how a VM wakes another VM that sleeps, with one VM exit, and how it is woken. The
 * device is QEMU's stock ivshmem-doorbell (PCI 1af4:1110), the service's host program is its server.
 * Its shared memory is not used. No packet here; who sleeps is the service's affair.
 *
 * To ring needs access to the device's register page only: sysfs, root. To be woken needs the device
 * bound to vfio-pci (with its no-IOMMU mode in a VM without one), since it speaks MSI-X only; then
 * one process has the device, and other processes of the VM need another one.
 */
#ifndef ELISA_BELL_H
#define ELISA_BELL_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ELISA_BELL_VENDOR	0x1af4
#define ELISA_BELL_DEVICE	0x1110

struct elisa_bell;

/*
 * `pci`: "0000:00:02.0", or NULL: the first device that is free. `wake`: to be woken, too.
 * ENODEV: there is none; EBUSY: another process has it; EACCES, EPERM; EOPNOTSUPP: `wake` and it is
 * not bound to vfio-pci; EAGAIN: the server has not given it an id yet.
 */
int elisa_bell_open(const char *pci, bool wake, struct elisa_bell **bell);
/* One sentence on why this thread's last elisa_bell_open() failed, and what to do. */
const char *elisa_bell_error(void);
void elisa_bell_close(struct elisa_bell *bell);
/* Its id among all doorbells of this service: the high half of values that reach it. */
uint16_t elisa_bell_id(const struct elisa_bell *bell);
/*
 * Descriptor that becomes readable when `vector` is rung (an eventfd; read 8 bytes to clear it).
 * Owned by `bell`. -EINVAL: no such vector; -EOPNOTSUPP: opened without `wake`.
 */
int elisa_bell_eventfd(struct elisa_bell *bell, unsigned int vector);
/* Writes what the service said to the register. Any thread. One VM exit. */
void elisa_bell_ring(const struct elisa_bell *bell, uint32_t value);

#ifdef __cplusplus
}
#endif
#endif
