/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Takes all memory of its host, and keeps it: processes of --piece MiB each, one more as soon as
 * the last has its piece, another one for each that the kernel killed. All write to all of theirs
 * again and again.
 *
 *	memory-eater [--piece MIB] [--score N] [FILE...]
 *
 * ends with SIGTERM: all is given back, and JSON printed. What is in memory of FILEs stays there: as
 * long as there is a program to read again, the kernel rather does that than kill.
 *
 * --score: oom_score_adj of the pieces, 0 unless said: the kernel's OOM killer then compares their
 * size with that of all others. Exit status 0: the kernel killed a piece at least once.
 */
#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIECES	  256
#define PAGE	  4096u
#define AT_A_TIME 256u /* pages between two looks at the clock */
#define FILL_US	  100
#define LOOK_US	  20000
#define AGAIN_US  200000

struct piece {
	_Atomic uint64_t pages; /* that it has; written by it, read by the parent */
	pid_t pid;
};

static struct piece *pieces;
static uint64_t piece_pages = 64 * 256;
static int score;
static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static void pause_us(long us)
{
	const struct timespec t = {.tv_nsec = us * 1000};

	nanosleep(&t, NULL);
}

static void set_score(int value)
{
	FILE *f = fopen("/proc/self/oom_score_adj", "w");

	if (!f || fprintf(f, "%d", value) < 0 || fclose(f))
		err(1, "/proc/self/oom_score_adj");
}

/* What of it is in memory now. */
static void keep_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *there;
	volatile char *mem;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || !st.st_size)
		err(1, "%s", path);
	mem = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	there = malloc(st.st_size / PAGE + 1);
	if (mem == MAP_FAILED || !there || mincore((void *)mem, st.st_size, there) ||
	    mlock2((void *)mem, st.st_size, MLOCK_ONFAULT))
		err(1, "%s is not kept", path);
	for (off_t i = 0; i < st.st_size; i += PAGE)
		if (there[i / PAGE] & 1)
			(void)mem[i];
	free(there);
	close(fd);
}

/* Never returns. What it writes differs from page to page, as nothing may make one of two. */
static void be_piece(struct piece *p)
{
	uint64_t *mem, round = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	set_score(score);
	mem = mmap(NULL, piece_pages * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		err(1, "a piece");
	madvise(mem, piece_pages * PAGE, MADV_NOHUGEPAGE);
	for (;; round++) {
		for (uint64_t i = 0; i < piece_pages; i++) {
			mem[i * (PAGE / sizeof(*mem))] = round << 40 ^ i;
			if (round == 1)
				atomic_store_explicit(&p->pages, i + 1, memory_order_relaxed);
			if (i % AT_A_TIME == AT_A_TIME - 1)
				pause_us(FILL_US);
		}
		pause_us(AGAIN_US);
	}
}

static void start_piece(struct piece *p)
{
	pid_t pid;

	atomic_store(&p->pages, 0);
	pid = fork();
	if (!pid)
		be_piece(p);
	p->pid = pid > 0 ? pid : 0; /* none: no memory for it just now */
}

/* Those that ended; how many of them were killed. */
static uint64_t bury(void)
{
	uint64_t killed = 0;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < PIECES; i++) {
			if (pieces[i].pid != pid)
				continue;
			pieces[i].pid = 0;
			atomic_store(&pieces[i].pages, 0);
		}
		killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	}
	return killed;
}

/* A new one if all have what they want. Returns what they have, in pages. */
static uint64_t look(void)
{
	struct piece *unused = NULL;
	uint64_t all = 0;
	int growing = 0;

	for (int i = 0; i < PIECES; i++) {
		uint64_t has = atomic_load_explicit(&pieces[i].pages, memory_order_relaxed);

		all += has;
		if (!pieces[i].pid)
			unused = &pieces[i];
		else
			growing += has < piece_pages;
	}
	if (!growing && unused)
		start_piece(unused);
	return all;
}

static void eat(void)
{
	uint64_t deaths = 0, most = 0, now = 0, looks = 0;

	while (!stop) {
		deaths += bury();
		now = look();
		if (now > most)
			most = now;
		looks++;
		pause_us(LOOK_US);
	}
	for (int i = 0; i < PIECES; i++)
		if (pieces[i].pid)
			kill(pieces[i].pid, SIGKILL);
	while (wait(NULL) > 0)
		;
	printf("{\"killed\": %lu, \"most_mib\": %lu, \"last_mib\": %lu, \"looks\": %lu}\n", deaths,
	       most / 256, now / 256, looks);
	exit(deaths ? 0 : 1);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"piece", required_argument, NULL, 'p'},
						{"score", required_argument, NULL, 's'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'p')
			piece_pages = strtoul(optarg, NULL, 0) * 256;
		else if (c == 's')
			score = atoi(optarg);
		else
			return 2;
	}
	if (!piece_pages)
		return 2;
	pieces = mmap(NULL, PIECES * sizeof(*pieces), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pieces == MAP_FAILED)
		err(1, "memory for itself");
	signal(SIGTERM, on_term);
	set_score(-1000);
	for (; optind < argc; optind++)
		keep_file(argv[optind]);
	if (mlockall(MCL_CURRENT))
		err(1, "mlockall");
	eat();
}
