/* SPDX-License-Identifier: BSD-3-Clause */
#include "ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COLUMNS_MAX 16

struct table {
	char *heads[COLUMNS_MAX];
	bool right[COLUMNS_MAX];
	int width[COLUMNS_MAX];
	unsigned int columns;
	char **cells;
	size_t rows;
};

static void *must(void *p)
{
	if (p)
		return p;
	fprintf(stderr, "elisactl: out of memory\n");
	exit(CTL_REFUSED);
}

struct table *table_new(const char *heads)
{
	struct table *t = must(calloc(1, sizeof(*t)));

	for (const char *p = heads; *p && t->columns < COLUMNS_MAX;) {
		size_t len = strcspn(p, "|");
		unsigned int c = t->columns++;

		t->right[c] = *p == '>';
		t->heads[c] = must(strndup(p + t->right[c], len - t->right[c]));
		t->width[c] = (int)strlen(t->heads[c]);
		p += len;
		p += *p == '|';
	}
	return t;
}

void table_row(struct table *t, ...)
{
	va_list ap;

	t->cells = must(reallocarray(t->cells, (t->rows + 1) * t->columns, sizeof(*t->cells)));
	va_start(ap, t);
	for (unsigned int c = 0; c < t->columns; c++) {
		const char *text = va_arg(ap, const char *);
		char *copy = must(strdup(text ? text : ""));

		t->cells[t->rows * t->columns + c] = copy;
		if ((int)strlen(copy) > t->width[c])
			t->width[c] = (int)strlen(copy);
	}
	va_end(ap);
	t->rows++;
}

static void print_cells(struct table *t, char **cells)
{
	for (unsigned int c = 0; c < t->columns; c++) {
		bool last = c + 1 == t->columns;

		if (t->right[c])
			printf("%*s%s", t->width[c], cells[c], last ? "" : "  ");
		else if (last)
			printf("%s", cells[c]);
		else
			printf("%-*s  ", t->width[c], cells[c]);
	}
}

void table_print(struct table *t)
{
	bool bold = isatty(STDOUT_FILENO);

	printf("%s", bold ? "\033[1m" : "");
	print_cells(t, t->heads);
	printf("%s\n", bold ? "\033[0m" : "");
	for (size_t r = 0; r < t->rows; r++) {
		print_cells(t, t->cells + r * t->columns);
		putchar('\n');
	}
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	for (unsigned int c = 0; c < t->columns; c++)
		free(t->heads[c]);
	free(t->cells);
	free(t);
}

const char *cell(const char *fmt, ...)
{
	static char ring[32][512];
	static unsigned int next;
	char *text = ring[next++ % 32];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(ring[0]), fmt, ap);
	va_end(ap);
	return text;
}
