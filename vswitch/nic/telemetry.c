/* SPDX-License-Identifier: BSD-3-Clause */
/* The switch's figures among those of DPDK's telemetry, next to its own /ethdev/... */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <rte_eal.h>
#include <rte_telemetry.h>
#include "internal.h"

#define SOCKET "dpdk_telemetry.v2" /* DPDK's name for it */

static int (*figures)(enum nic_figures what, const char *port, nic_put *put, void *to);

static void put_name(void *to, const char *name, const char *text, uint64_t number)
{
	rte_tel_data_add_array_string(to, name);
}

/* What does not fit is left out. */
static void put_figure(void *to, const char *name, const char *text, uint64_t number)
{
	char key[RTE_TEL_MAX_STRING_LEN];
	size_t i;

	for (i = 0; i + 1 < sizeof(key) && name[i]; i++)
		key[i] = isalnum((unsigned char)name[i]) ? name[i] : '_';
	key[i] = '\0';
	if (text)
		rte_tel_data_add_dict_string(to, key, text);
	else
		rte_tel_data_add_dict_u64(to, key, number);
}

static int on_ports(const char *cmd, const char *params, struct rte_tel_data *data)
{
	rte_tel_data_start_array(data, RTE_TEL_STRING_VAL);
	return figures(NIC_PORTS, NULL, put_name, data);
}

static int on_port(const char *cmd, const char *params, struct rte_tel_data *data)
{
	rte_tel_data_start_dict(data);
	return params ? figures(NIC_PORT, params, put_figure, data) : -EINVAL;
}

static int on_switch(const char *cmd, const char *params, struct rte_tel_data *data)
{
	rte_tel_data_start_dict(data);
	return figures(NIC_SWITCH, NULL, put_figure, data);
}

const char *nic_telemetry(int (*f)(enum nic_figures what, const char *port, nic_put *put, void *to),
			  char why[NIC_WHY_LEN])
{
	static char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int error;

	if ((size_t)snprintf(path, sizeof(path), "%s/" SOCKET, rte_eal_get_runtime_dir()) >=
	    sizeof(path)) {
		nic_why(why, -ENAMETOOLONG, "its path is too long for a socket: %s",
			rte_eal_get_runtime_dir());
		return NULL;
	}
	figures = f;
	error = rte_telemetry_register_cmd("/elisa/ports", on_ports,
					   "Names of the switch's ports. No parameters");
	if (!error)
		error = rte_telemetry_register_cmd("/elisa/port", on_port,
						   "Counters of a port. Parameter: its name");
	if (!error)
		error = rte_telemetry_register_cmd("/elisa/switch", on_switch,
						   "Figures of the switch. No parameters");
	if (!error)
		return path;
	nic_why(why, error, "DPDK takes no commands: %s", strerror(-error));
	return NULL;
}
