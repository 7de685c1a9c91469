/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instructions that must not be met inside: those that leave the VM whatever KVM says (SDM vol. 3,
 * 26.1.2), those that KVM or we make leave it or fault, those that need more state than AVX, and
 * those that look into descriptor tables, which are the guest's and not there inside.
 */
#include <stdbool.h>

#include "tracee.h"

enum map { ONE, M0F, M0F38, M0F3A };
enum prefix { ANY, P66, PF3, PF2 };
/* What of ModRM is looked at. */
enum form {
	NO,	/* nothing, and there is none */
	BYTE,	/* all: `modrm` */
	REG,	/* the middle field, of a register operand: `modrm` is its value */
	MEM,	/* ... of a memory operand */
	EITHER, /* ... of both */
	ALL,	/* there is one, with any value */
};

struct rule {
	const char *name;
	uint8_t map, opcode, count; /* count: opcodes that follow and are meant, too */
	uint8_t form, modrm, prefix;
	uint8_t immediate; /* bytes after the opcode */
};

static const struct rule rules[] = {
	{"ins/outs", ONE, 0x6c, 3, NO, 0, ANY, 0},
	{"mov to a segment", ONE, 0x8e, 0, ALL, 0, ANY, 0},
	{"retf", ONE, 0xca, 0, NO, 0, ANY, 2},
	{"retf", ONE, 0xcb, 0, NO, 0, ANY, 0},
	{"int3", ONE, 0xcc, 0, NO, 0, ANY, 0},
	{"int", ONE, 0xcd, 0, NO, 0, ANY, 1},
	{"iret", ONE, 0xcf, 0, NO, 0, ANY, 0},
	{"in/out", ONE, 0xe4, 3, NO, 0, ANY, 1},
	{"in/out", ONE, 0xec, 3, NO, 0, ANY, 0},
	{"int1", ONE, 0xf1, 0, NO, 0, ANY, 0},
	{"hlt", ONE, 0xf4, 0, NO, 0, ANY, 0},
	{"cli/sti", ONE, 0xfa, 1, NO, 0, ANY, 0},
	{"far call", ONE, 0xff, 0, MEM, 3, ANY, 0},
	{"far jmp", ONE, 0xff, 0, MEM, 5, ANY, 0},
	{"xabort", ONE, 0xc6, 0, BYTE, 0xf8, ANY, 1},
	{"xbegin", ONE, 0xc7, 0, BYTE, 0xf8, ANY, 4},

	{"sldt/str/lldt/ltr/verr", M0F, 0x00, 0, ALL, 0, ANY, 0},
	{"vmcall", M0F, 0x01, 0, BYTE, 0xc1, ANY, 0},
	{"vmlaunch", M0F, 0x01, 0, BYTE, 0xc2, ANY, 0},
	{"vmresume", M0F, 0x01, 0, BYTE, 0xc3, ANY, 0},
	{"vmxoff", M0F, 0x01, 0, BYTE, 0xc4, ANY, 0},
	{"monitor", M0F, 0x01, 0, BYTE, 0xc8, ANY, 0},
	{"mwait", M0F, 0x01, 0, BYTE, 0xc9, ANY, 0},
	{"clac", M0F, 0x01, 0, BYTE, 0xca, ANY, 0},
	{"stac", M0F, 0x01, 0, BYTE, 0xcb, ANY, 0},
	{"xsetbv", M0F, 0x01, 0, BYTE, 0xd1, ANY, 0},
	{"vmfunc", M0F, 0x01, 0, BYTE, 0xd4, ANY, 0},
	{"xend", M0F, 0x01, 0, BYTE, 0xd5, ANY, 0},
	{"xtest", M0F, 0x01, 0, BYTE, 0xd6, ANY, 0},
	{"vmmcall", M0F, 0x01, 0, BYTE, 0xd9, ANY, 0},
	{"rdpkru", M0F, 0x01, 0, BYTE, 0xee, ANY, 0},
	{"wrpkru", M0F, 0x01, 0, BYTE, 0xef, ANY, 0},
	{"swapgs", M0F, 0x01, 0, BYTE, 0xf8, ANY, 0},
	{"monitorx", M0F, 0x01, 0, BYTE, 0xfa, ANY, 0},
	{"mwaitx", M0F, 0x01, 0, BYTE, 0xfb, ANY, 0},
	{"sgdt", M0F, 0x01, 0, MEM, 0, ANY, 0},
	{"sidt", M0F, 0x01, 0, MEM, 1, ANY, 0},
	{"lgdt", M0F, 0x01, 0, MEM, 2, ANY, 0},
	{"lidt", M0F, 0x01, 0, MEM, 3, ANY, 0},
	{"smsw", M0F, 0x01, 0, EITHER, 4, ANY, 0},
	{"lmsw", M0F, 0x01, 0, EITHER, 6, ANY, 0},
	{"invlpg", M0F, 0x01, 0, MEM, 7, ANY, 0},
	{"lar/lsl", M0F, 0x02, 1, ALL, 0, ANY, 0},
	{"syscall", M0F, 0x05, 0, NO, 0, ANY, 0},
	{"clts", M0F, 0x06, 0, NO, 0, ANY, 0},
	{"sysret", M0F, 0x07, 0, NO, 0, ANY, 0},
	{"invd/wbinvd", M0F, 0x08, 1, NO, 0, ANY, 0},
	{"ud2", M0F, 0x0b, 0, NO, 0, ANY, 0},
	{"mov of a control or debug register", M0F, 0x20, 3, ALL, 0, ANY, 0},
	{"wrmsr", M0F, 0x30, 0, NO, 0, ANY, 0},
	{"rdmsr", M0F, 0x32, 0, NO, 0, ANY, 0},
	{"rdpmc", M0F, 0x33, 0, NO, 0, ANY, 0},
	{"sysenter", M0F, 0x34, 1, NO, 0, ANY, 0},
	{"getsec", M0F, 0x37, 0, NO, 0, ANY, 0},
	{"vmread", M0F, 0x78, 0, ALL, 0, ANY, 0},
	{"vmwrite", M0F, 0x79, 0, ALL, 0, ANY, 0},
	{"pop to a segment", M0F, 0xa1, 0, NO, 0, ANY, 0},
	{"cpuid", M0F, 0xa2, 0, NO, 0, ANY, 0},
	{"pop to a segment", M0F, 0xa9, 0, NO, 0, ANY, 0},
	{"rdfsbase", M0F, 0xae, 0, REG, 0, PF3, 0},
	{"rdgsbase", M0F, 0xae, 0, REG, 1, PF3, 0},
	{"wrfsbase", M0F, 0xae, 0, REG, 2, PF3, 0},
	{"wrgsbase", M0F, 0xae, 0, REG, 3, PF3, 0},
	{"umonitor", M0F, 0xae, 0, REG, 6, PF3, 0},
	{"umwait", M0F, 0xae, 0, REG, 6, PF2, 0},
	{"tpause", M0F, 0xae, 0, REG, 6, P66, 0},
	{"lss/lfs/lgs", M0F, 0xb2, 0, ALL, 0, ANY, 0},
	{"lss/lfs/lgs", M0F, 0xb4, 1, ALL, 0, ANY, 0},
	{"ud1", M0F, 0xb9, 0, ALL, 0, ANY, 0},
	{"xrstors", M0F, 0xc7, 0, MEM, 3, ANY, 0},
	{"xsaves", M0F, 0xc7, 0, MEM, 5, ANY, 0},
	{"ud0", M0F, 0xff, 0, ALL, 0, ANY, 0},
};

/* With a VEX prefix these opcodes are of mask registers (AVX-512), and of tiles (AMX). */
static const char *vex_forbidden(unsigned int map, uint8_t opcode)
{
	if (map == M0F && (opcode == 0x41 || opcode == 0x42 || (opcode >= 0x44 && opcode <= 0x47) ||
			   opcode == 0x4a || opcode == 0x4b || (opcode >= 0x90 && opcode <= 0x93) ||
			   opcode == 0x98 || opcode == 0x99))
		return "AVX-512";
	if (map == M0F3A && opcode >= 0x30 && opcode <= 0x33)
		return "AVX-512";
	if (map == M0F38 && (opcode == 0x49 || opcode == 0x4b || opcode == 0x5c || opcode == 0x5e))
		return "AMX";
	return NULL;
}

/* Bytes of ModRM, SIB and displacement (SDM vol. 2, 2.1.5), with 64-bit addresses. */
static size_t operand_size(const uint8_t *code, size_t len)
{
	uint8_t modrm = code[0], mod = modrm >> 6, rm = modrm & 7;
	size_t size = 1;

	if (mod == 3)
		return 1;
	if (rm == 4) {
		if (len < 2)
			return 0;
		size = 2;
		if (!mod && (code[1] & 7) == 5)
			return 6;
	}
	if (!mod)
		return rm == 5 ? 5 : size;
	return size + (mod == 1 ? 1 : 4);
}

static bool matches(const struct rule *r, unsigned int map, uint8_t opcode, enum prefix prefix,
		    const uint8_t *modrm)
{
	uint8_t reg;

	if (r->map != map || opcode < r->opcode || opcode > r->opcode + r->count)
		return false;
	if (r->prefix != ANY && r->prefix != prefix)
		return false;
	if (r->form == NO)
		return true;
	if (!modrm)
		return false;
	reg = *modrm >> 3 & 7;
	switch (r->form) {
	case BYTE:
		return *modrm == r->modrm;
	case REG:
		return *modrm >= 0xc0 && reg == r->modrm;
	case MEM:
		return *modrm < 0xc0 && reg == r->modrm;
	case EITHER:
		return reg == r->modrm;
	default:
		return true;
	}
}

/* Length of the prefixes; `prefix` is the last of those that change what opcodes mean. */
static size_t prefixes(const uint8_t *code, size_t len, enum prefix *prefix)
{
	size_t i;

	*prefix = ANY;
	for (i = 0; i < len; i++) {
		switch (code[i]) {
		case 0x66:
			/* With F3 or F2 it is no more than an operand size. */
			if (*prefix == ANY)
				*prefix = P66;
			break;
		case 0xf3:
			*prefix = PF3;
			break;
		case 0xf2:
			*prefix = PF2;
			break;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x64:
		case 0x65:
		case 0x67:
		case 0xf0:
			break;
		default:
			/* REX, only as the last one. */
			return (code[i] & 0xf0) == 0x40 ? i + 1 : i;
		}
	}
	return len;
}

static const char *look_up(const uint8_t *code, size_t len, size_t at, unsigned int map,
			   enum prefix prefix, size_t *size)
{
	uint8_t opcode = code[at++];
	const uint8_t *modrm = at < len ? &code[at] : NULL;
	size_t i, more;

	for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		const struct rule *r = &rules[i];

		if (!matches(r, map, opcode, prefix, modrm))
			continue;
		more = r->form == NO ? 0 : operand_size(modrm, len - at);
		if (at + more + r->immediate <= len && (r->form == NO || more))
			*size = at + more + r->immediate;
		return r->name;
	}
	return NULL;
}

const char *insn_forbidden(const uint8_t *code, size_t len, size_t *size)
{
	enum prefix prefix;
	size_t at = prefixes(code, len, &prefix);
	unsigned int map = ONE;

	*size = 0;
	if (at >= len)
		return NULL;
	if (code[at] == 0x62)
		return "AVX-512";
	if (code[at] == 0xc5)
		return at + 2 < len ? vex_forbidden(M0F, code[at + 2]) : NULL;
	if (code[at] == 0xc4)
		return at + 3 < len ? vex_forbidden(code[at + 1] & 0x1f, code[at + 3]) : NULL;
	if (code[at] == 0x0f) {
		map = M0F;
		at++;
		if (at < len && (code[at] == 0x38 || code[at] == 0x3a))
			return NULL;
	}
	return at < len ? look_up(code, len, at, map, prefix, size) : NULL;
}
