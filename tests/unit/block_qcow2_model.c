/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_qcow2_model.c - random use of qcow2 images against a model, on a simulated disk whose power is cut.
 *
 * The qcow2 driver is real; the file below it, the worker threads and the backing file are the test's (qcow2_model_*.c
 * define the functions of internal.h, so that file.c and aio.c are not linked). A case: an image made by us or by
 * qemu-img; requests, many in flight, snapshots, resizes; the power cut at some access, when of what was written since
 * the last flush any sectors may be there; then the image is opened again. It must be free of errors (leaks are allowed
 * before a repair), hold what was flushed, and elsewhere what was written since. qemu-img judges a part of the images.
 *
 * This file has the cases, and looks at the image after each power cut.
 *
 *   LODGE_TEST_SECONDS=600 goes on for that long; LODGE_TEST_SEED=N repeats the case N that a failure names.
 */
#include "qcow2_model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum { CASES = 1500 };

static u64 rng_state;
static u64 case_seed;

static u64 rng(void)
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return rng_state * 0x2545f4914f6cdd1dull >> 8;
}

u64 below(u64 n)
{
    return n ? rng() % n : 0;
}

bool one_in(u64 n)
{
    return !below(n);
}

void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nLODGE_TEST_SEED=%llu repeats it; images are in %s\n", (unsigned long long)case_seed, image_dir);
    exit(1);
}

static void check_image(enum block_repair repair, bool leaks)
{
    struct block_check c = { 0 };
    struct error err;
    int r = block_qcow2.check(&top, repair, &c, &err);
    if (r || c.errors || (c.leaks && !leaks))
        die("check: %s, %llu errors, %llu leaks", r ? err.text : "done", (unsigned long long)c.errors,
            (unsigned long long)c.leaks);
}

/* The snapshots are those of the model, with their content. Changes the image. */
static void check_snapshots(void)
{
    struct error err;
    for (u32 s = 0; s < nsnapshots; s++) {
        int r = block_qcow2.snapshot(&top, BLOCK_SNAPSHOT_APPLY, snapshot_names[s], &err);
        if (r == -ERANGE)
            continue;
        if (r || top.size != tags_size[s])
            die("snapshot %s: %s", snapshot_names[s], r ? err.text : "another size");
        read_sectors(&top, 0, top.size / SECTOR, scratch);
        for (u64 i = 0; i < top.size / SECTOR; i++)
            if (tag_of(scratch + i * SECTOR, i) != tags[s][i])
                die("snapshot %s: sector %llu reads as write %x, not %x", snapshot_names[s], (unsigned long long)i,
                    tag_of(scratch + i * SECTOR, i), tags[s][i]);
    }
    check_image(BLOCK_REPAIR_NONE, true);
}

/* An operation that the power cut happened as a whole or not at all. */
static void decide(const u8 *content)
{
    struct block_info info = { 0 };
    struct error err;

    if (block_qcow2.info(&top, &info, &err))
        die("info: %s", err.text);
    u32 n = info.nsnapshots;
    free(info.snapshots);
    if (unfinished.is) {
        bool happened;
        switch (unfinished.kind) {
        case TAKE:
        case DELETE:
            happened = n != nsnapshots;
            break;
        case RESIZE:
            happened = top.size == unfinished.size;
            break;
        default:
            happened = wrong_sector(content, top.size, 0) != ~0ull;
        }
        if (happened)
            finish_kind(&unfinished);
    }
    unfinished.is = false;
    if (n != nsnapshots)
        die("%u snapshots, not %u", n, nsnapshots);
}

static u8 *content, *crashed, *kept;

/* disk holds an image that is not in use. */
static void check_closed(bool last, bool leaks)
{
    struct error err;
    u64 length = disk->size;

    memcpy(crashed, disk->now, length);
    if (open_top(&err))
        die("the image cannot be opened: %s", err.text);
    check_image(BLOCK_REPAIR_NONE, leaks);
    read_sectors(&top, 0, top.size / SECTOR, content);
    decide(content);
    u64 wrong = wrong_sector(content, top.size, 0);
    if (wrong != ~0ull)
        die("sector %llu reads as write %x", (unsigned long long)wrong, tag_of(content + wrong * SECTOR, wrong));
    if (one_in(12) && have_qemu)
        judge(crashed, length, content, top.size);
    if (last) {
        check_snapshots();
        check_image(BLOCK_REPAIR_LEAKS, false);
    } else {
        for (u64 i = 0; i < SECTORS; i++)
            set_sector(i, i < top.size / SECTOR ? tag_of(content + i * SECTOR, i) : 0);
    }
    if (block_qcow2.close(&top, &err))
        die("close: %s", err.text);
    if (last && one_in(24) && have_qemu)
        judge(disk->now, disk->size, NULL, 0);
}

/* Another outcome of the same cut, looked at only. */
static void look_at_another_outcome(void)
{
    struct sector *saved = malloc(SECTORS * sizeof(*saved));
    struct file *other = disk_new(), *mine = disk;

    if (!unfinished.is) {
        memcpy(saved, model, live * sizeof(*saved));
        disk = other;
        disk_load(disk, scratch, disk_after_cut(mine, scratch));
        check_closed(false, true);
        disk = mine;
        memcpy(model, saved, live * sizeof(*saved));
    }
    disk_free(other);
    free(saved);
}

/* When the power is to go: soon after some flush, at some access, or never. */
static void plan_cut(void)
{
    disk->accesses = disk->cut_at = 0;
    disk->flushes_to_cut = 0;
    if (one_in(2))
        disk->flushes_to_cut = 1 + (u32)below(one_in(2) ? 5 : 30);
    else if (!one_in(4))
        disk->cut_at = 1 + below(one_in(3) ? 30 : 500);
}

/* Did the power go? */
static bool generation(void)
{
    struct error err;
    u64 steps = 20 + below(one_in(4) ? 1500 : 300);

    plan_cut();
    int r = open_top(&err);
    if (r && !disk->cut)
        die("the image cannot be opened: %s", err.text);
    if (!r) {
        disk->full = one_in(4) ? 3 + (u32)below(40) : 0;
        for (u64 i = 0; i < steps && !disk->cut; i++) {
            if (under_way < FLIGHT && one_in(6))
                submit();
            else if (one_in(150))
                whole();
            else
                step();
        }
        drain();
        disk->full = 0;
        r = block_qcow2.close(&top, &err);
        if (r && !disk->cut)
            die("close: %s", err.text);
        if (!r && !disk->cut)
            flushed(now + 1);
    }
    u64 length = disk_after_cut(disk, kept);
    if (disk->cut && one_in(2))
        look_at_another_outcome();
    bool cut = disk->cut;
    if (cut)
        disk_load(disk, kept, length);
    else
        disk_load(disk, memcpy(scratch, disk->now, disk->size), disk->size);
    return cut;
}

static void one_case(u64 seed)
{
    case_seed = seed;
    rng_state = (seed + 1) * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < 8; i++)
        rng();
    bool leaks = false; /* only a power cut may leave any */
    unfinished.is = false;
    make_image();
    for (u64 n = 1 + below(3); n; n--) {
        if (one_in(10))
            make_dirty();
        leaks |= generation();
        check_closed(n == 1, leaks);
    }
    for (u32 s = 0; s < nsnapshots; s++)
        free(tags[s]);
    nsnapshots = 0;
}

int main(void)
{
    const char *seconds = getenv("LODGE_TEST_SECONDS"), *seed = getenv("LODGE_TEST_SEED");
    time_t end = time(NULL) + (seconds ? atol(seconds) : 0);
    u64 cases = 0, first = seed ? strtoull(seed, NULL, 0) : seconds ? (u64)time(NULL) << 20 : 1;

#ifdef __SANITIZE_THREAD__
    printf("coroutines are more than the thread sanitizer understands\n");
    return TEST_SKIP;
#endif
    if (!mkdtemp(image_dir))
        die("no directory in /dev/shm");
    log_set_level(LOG_ERROR);
    model = calloc(SECTORS, sizeof(*model));
    base_tags = calloc(SECTORS, sizeof(*base_tags));
    scratch = file_room();
    content = file_room();
    crashed = file_room();
    kept = file_room();
    disk = disk_new();
    have_qemu = !run_program((const char *[]){ "qemu-img", "--version", NULL }, true);
    if (!have_qemu)
        printf("qemu-img is not here: its judgement is left out\n");
    do {
        one_case(first + cases++);
    } while (seed ? false : seconds ? time(NULL) < end : cases < CASES);
    printf("%llu cases, %llu images judged by qemu-img\n", (unsigned long long)cases, (unsigned long long)judged);
    run_program((const char *[]){ "rm", "-rf", image_dir, NULL }, true);
    return 0;
}
