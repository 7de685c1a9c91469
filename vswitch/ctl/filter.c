/* SPDX-License-Identifier: BSD-3-Clause */
#include "filter.h"
#include "ctl.h"

#include <dlfcn.h>
#include <pcap/pcap.h>

#define LIBRARY "libpcap.so.0.8"

static struct {
	void *library;
	bool compiled;
	struct bpf_program program;
	__typeof__(pcap_open_dead) *open_dead;
	__typeof__(pcap_compile) *compile;
	__typeof__(pcap_geterr) *geterr;
	__typeof__(pcap_close) *close;
	__typeof__(pcap_offline_filter) *offline_filter;
	__typeof__(pcap_freecode) *freecode;
} lib;

static bool load(void)
{
	static const struct {
		const char *name;
		void *to;
	} symbols[] = {
		{"pcap_open_dead", &lib.open_dead}, {"pcap_compile", &lib.compile},
		{"pcap_geterr", &lib.geterr},	    {"pcap_close", &lib.close},
		{"pcap_freecode", &lib.freecode},   {"pcap_offline_filter", &lib.offline_filter},
	};

	lib.library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	for (size_t i = 0; lib.library && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void **to = symbols[i].to;

		*to = dlsym(lib.library, symbols[i].name);
		if (!*to)
			return false;
	}
	return lib.library;
}

int filter_compile(const char *text)
{
	pcap_t *pcap;

	if (!*text)
		return CTL_OK;
	if (!load()) {
		fprintf(stderr, "elisactl: filters need " LIBRARY " (package libpcap0.8): %s\n",
			dlerror());
		return CTL_REFUSED;
	}
	pcap = lib.open_dead(DLT_EN10MB, 65535);
	lib.compiled = pcap && !lib.compile(pcap, &lib.program, text, 1, PCAP_NETMASK_UNKNOWN);
	if (!lib.compiled)
		fprintf(stderr, "elisactl: the filter \"%s\": %s: see pcap-filter(7)\n", text,
			pcap ? lib.geterr(pcap) : "out of memory");
	if (pcap)
		lib.close(pcap);
	return lib.compiled ? CTL_OK : CTL_USAGE;
}

bool filter_takes(const void *frame, uint32_t captured, uint32_t length)
{
	const struct pcap_pkthdr head = {.caplen = captured, .len = length};

	return !lib.compiled || lib.offline_filter(&lib.program, &head, frame);
}

void filter_free(void)
{
	if (lib.compiled)
		lib.freecode(&lib.program);
	if (lib.library)
		dlclose(lib.library);
}
