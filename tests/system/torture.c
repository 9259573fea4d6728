/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture.c - writes that can be checked after the machine was killed.
 *
 *   torture write DEVICE ROUND BYTES         in the guest: writes for ever, on four threads, each in its own quarter
 *   torture check IMAGE ROUND BYTES ACKS     on the host, of a raw copy of the disk
 *
 * Each thread's writes follow from ROUND and its number, so the checker knows them all: where, how long, and which one
 * each was. Every sector names the write it is of. After an fdatasync the guest says "ACK THREAD N": all writes of the
 * thread up to the N-th are durable. So each sector must be of a write that covers it, of this round or (by the number)
 * an earlier one, and no older than the last acknowledged.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, SECTOR = 512, MAX_SECTORS = 256, SYNC_EVERY = 7 };

struct mark { /* at both ends of each sector: half of one of ours and half of another is neither */
    uint64_t magic, sector, write;
};
#define MAGIC 0x6f4c6467654c6f64ull

struct stream { /* of one thread's writes */
    uint64_t random, first, sectors; /* its quarter */
    uint64_t n;                      /* of the write that comes */
    uint64_t last;                   /* where the one before ended, in the quarter */
};

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void begin(struct stream *s, unsigned round, unsigned thread, uint64_t bytes)
{
    s->sectors = bytes / SECTOR / THREADS;
    s->first = thread * s->sectors;
    s->random = (round * 16 + thread + 1) * 0x9e3779b97f4a7c15ull;
    s->n = (uint64_t)round << 32;
    s->last = 0;
}

/* The next write: lengths of all sizes, mostly short; places anywhere, sometimes one after the other. */
static void next(struct stream *s, uint64_t *sector, uint64_t *count)
{
    const uint64_t r = next_random(&s->random);
    *count = 1 + (next_random(&s->random) % (r % 8 ? 16 : MAX_SECTORS));
    *sector = s->first + (r % 5 == 0 ? s->last : next_random(&s->random)) % (s->sectors - *count);
    s->last = *sector - s->first + *count;
    s->n++;
}

/* ---- the guest ---- */

static const char *device;
static unsigned round_number;
static uint64_t size;

static void *writer(void *arg)
{
    const unsigned thread = (unsigned)(uintptr_t)arg;
    struct stream s;
    char *buf;
    const int fd = open(device, O_RDWR | O_DIRECT);
    if (fd < 0 || posix_memalign((void **)&buf, 4096, MAX_SECTORS * SECTOR)) {
        perror(device);
        exit(1);
    }
    begin(&s, round_number, thread, size);
    for (;;) {
        uint64_t sector, count;
        next(&s, &sector, &count);
        for (uint64_t k = 0; k < count; k++) {
            struct mark m = { MAGIC, sector + k, s.n };
            memset(buf + k * SECTOR, (int)s.n, SECTOR);
            memcpy(buf + k * SECTOR, &m, sizeof m);
            memcpy(buf + (k + 1) * SECTOR - sizeof m, &m, sizeof m);
        }
        if (pwrite(fd, buf, count * SECTOR, (off_t)(sector * SECTOR)) != (ssize_t)(count * SECTOR)) {
            printf("WRITE FAILED: %s\n", strerror(errno));
            exit(1);
        }
        if (s.n % SYNC_EVERY == 0) {
            if (fdatasync(fd)) {
                printf("SYNC FAILED: %s\n", strerror(errno));
                exit(1);
            }
            char line[64];
            const int n = snprintf(line, sizeof line, "ACK %u %llu\n", thread, (unsigned long long)s.n);
            if (write(1, line, (size_t)n) != n)
                exit(1);
        }
    }
}

/* ---- the host ---- */

static int check(const char *image, const char *acks)
{
    uint64_t acked[THREADS] = { 0 };
    uint64_t bad = 0, seen = 0;
    char line[256];
    FILE *f = fopen(acks, "r"), *disk = fopen(image, "r");
    if (!f || !disk) {
        perror(f ? image : acks);
        return 2;
    }
    while (fgets(line, sizeof line, f)) {
        unsigned t;
        unsigned long long n;
        char end;
        if (sscanf(line, "ACK %u %llu%c", &t, &n, &end) == 3 && (end == '\n' || end == '\r') && t < THREADS && n > acked[t])
            acked[t] = n;
    }
    for (unsigned t = 0; t < THREADS; t++) {
        struct stream s;
        begin(&s, round_number, t, size);
        const uint64_t first_of_round = s.n;
        /* The last acknowledged write of each sector, from what the round must have done ... */
        uint64_t *least = calloc(s.sectors, sizeof *least);
        struct { uint64_t n, sector, count; } *done = NULL;
        uint64_t ndone = 0, cap = 0;
        while (ndone < 100000 || s.n < acked[t] + 100000) { /* more than can have been under way since */
            uint64_t sector, count;
            next(&s, &sector, &count);
            for (uint64_t k = 0; s.n <= acked[t] && k < count; k++)
                least[sector - s.first + k] = s.n;
            if (ndone == cap) {
                cap = cap ? 2 * cap : 1024;
                done = realloc(done, cap * sizeof *done);
            }
            done[ndone].n = s.n, done[ndone].sector = sector, done[ndone].count = count;
            ndone++;
        }
        /* ... beside what is there. */
        for (uint64_t k = 0; k < s.sectors; k++) {
            char data[SECTOR];
            struct mark a, b;
            if (fseeko(disk, (off_t)((s.first + k) * SECTOR), SEEK_SET) || fread(data, SECTOR, 1, disk) != 1) {
                perror(image);
                return 2;
            }
            memcpy(&a, data, sizeof a);
            memcpy(&b, data + SECTOR - sizeof b, sizeof b);
            const char *why = NULL;
            if (!a.magic && !b.magic && !a.write)
                why = least[k] ? "is empty" : NULL;
            else if (a.magic != MAGIC || memcmp(&a, &b, sizeof a))
                why = "is torn or not ours";
            else if (a.sector != s.first + k)
                why = "is another sector";
            else if (a.write < least[k])
                why = "is older than what was acknowledged";
            else if (a.write > first_of_round) {
                const uint64_t i = a.write - first_of_round - 1;
                seen++;
                if (i >= ndone || done[i].sector > s.first + k || done[i].sector + done[i].count <= s.first + k)
                    why = "is of a write that was never made there";
            }
            if (why && bad++ < 10)
                printf("sector %llu %s (write %llx, acknowledged %llx)\n", (unsigned long long)(s.first + k), why,
                       (unsigned long long)a.write, (unsigned long long)least[k]);
        }
        free(least);
        free(done);
    }
    printf("round %u: %llu acknowledged, %llu sectors of this round, %llu bad\n", round_number,
           (unsigned long long)((acked[0] | acked[1] | acked[2] | acked[3]) ?
               (acked[0] & 0xffffffff) + (acked[1] & 0xffffffff) + (acked[2] & 0xffffffff) + (acked[3] & 0xffffffff) : 0),
           (unsigned long long)seen, (unsigned long long)bad);
    return bad != 0;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    device = argv[2];
    round_number = (unsigned)atoi(argv[3]);
    size = strtoull(argv[4], NULL, 0);
    if (!strcmp(argv[1], "check"))
        return check(argv[2], argv[5]);
    pthread_t thread[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++)
        pthread_create(&thread[t], NULL, writer, (void *)t);
    pthread_join(thread[0], NULL);
    return 0;
}
