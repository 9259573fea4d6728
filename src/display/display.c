/* SPDX-License-Identifier: Apache-2.0 */
/* display.c - see display.h. */
#include "display/display.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct display {
    const struct display_ops *ops;
    void *dev;
    struct loop *loop;
    struct timer timer;
    u64 refreshed; /* clock_ns() of the last refresh for viewers */
    int memfd;
    u32 *pixels;
    u32 width, height;
    bool resized;
    u32 nrects;
    struct display_rect rect[DISPLAY_MAX_RECTS]; /* changed, and the viewers have not been told yet */
    struct display_viewer *viewers;
};

bool display_plugged(const struct display *d) { return d->ops != NULL; }
u32 *display_pixels(struct display *d) { return d->pixels; }
int display_memfd(const struct display *d) { return d->memfd; }

void display_size(const struct display *d, u32 *width, u32 *height)
{
    *width = d->width;
    *height = d->height;
}

void display_resize(struct display *d, u32 width, u32 height)
{
    width = MIN(MAX(width, 1u), (u32)DISPLAY_MAX_WIDTH);
    height = MIN(MAX(height, 1u), (u32)DISPLAY_MAX_HEIGHT);
    if (width == d->width && height == d->height)
        return;
    d->width = width;
    d->height = height;
    memset(d->pixels, 0, (size_t)width * height * 4);
    d->resized = true;
    d->nrects = 1;
    d->rect[0] = (struct display_rect){ 0, 0, width, height };
}

/* The smallest rectangle that holds both. */
static struct display_rect joined(struct display_rect a, struct display_rect b)
{
    const u32 x = MIN(a.x, b.x), y = MIN(a.y, b.y);
    return (struct display_rect){ x, y, MAX(a.x + a.w, b.x + b.w) - x, MAX(a.y + a.h, b.y + b.h) - y };
}

static u64 area(struct display_rect r) { return (u64)r.w * r.h; }

/* The rectangle is joined with the one that is cheapest to join with. That happens if it adds almost nothing to what
   is sent, or if there is no room for one more rectangle. */
void display_changed(struct display *d, u32 x, u32 y, u32 width, u32 height)
{
    if (x >= d->width || y >= d->height || !width || !height)
        return;
    struct display_rect r = { x, y, MIN(width, d->width - x), MIN(height, d->height - y) };
    for (;;) {
        u64 least = UINT64_MAX;
        u32 best = 0;
        for (u32 i = 0; i < d->nrects; i++) {
            const u64 both = area(joined(d->rect[i], r)), sum = area(d->rect[i]) + area(r);
            const u64 cost = both > sum ? both - sum : 0;
            if (cost < least) {
                least = cost;
                best = i;
            }
        }
        if (d->nrects < DISPLAY_MAX_RECTS && least > area(r) / 4) {
            d->rect[d->nrects++] = r;
            return;
        }
        r = joined(d->rect[best], r);
        d->rect[best] = d->rect[--d->nrects];
        if (!d->nrects) {
            d->rect[d->nrects++] = r;
            return;
        }
    }
}

static void tell(struct display *d)
{
    struct display_rect rect[DISPLAY_MAX_RECTS];
    const u32 n = d->nrects;
    const bool resized = d->resized;

    if (!n)
        return;
    memcpy(rect, d->rect, n * sizeof rect[0]);
    d->nrects = 0;
    d->resized = false;
    for (struct display_viewer *v = d->viewers, *next; v; v = next) {
        next = v->next;
        v->changed(v, rect, n, resized);
    }
}

void display_refresh(struct display *d)
{
    if (d->ops)
        d->ops->refresh(d->dev);
    d->refreshed = clock_ns();
    tell(d);
}

static void next_refresh(struct display *d)
{
    if (d->viewers && d->ops && d->loop)
        timer_arm(&d->timer, d->refreshed + 1000000000ull / DISPLAY_RATE);
}

static void fire(struct timer *t)
{
    struct display *d = container_of(t, struct display, timer);
    if (d->viewers)
        display_refresh(d);
    next_refresh(d);
}

void display_plug(struct display *d, const struct display_ops *ops, void *dev)
{
    d->ops = ops;
    d->dev = dev;
    next_refresh(d);
}

bool display_text(struct display *d, struct display_text *t)
{
    return d->ops && d->ops->text && d->ops->text(d->dev, t);
}

void display_look(struct display *d, struct display_viewer *v)
{
    v->next = d->viewers;
    d->viewers = v;
    next_refresh(d);
}

void display_look_away(struct display *d, struct display_viewer *v)
{
    struct display_viewer **p = &d->viewers;
    while (*p && *p != v)
        p = &(*p)->next;
    if (*p)
        *p = v->next;
    if (!d->viewers && d->loop)
        timer_disarm(&d->timer);
}

struct display *display_new(struct loop *loop, struct error *err)
{
    struct display *d = calloc(1, sizeof *d);
    if (!d) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    d->pixels = MAP_FAILED;
    d->memfd = memfd_create("lodge-picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (d->memfd >= 0 && !ftruncate(d->memfd, DISPLAY_BYTES) &&
        !fcntl(d->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
        d->pixels = mmap(NULL, DISPLAY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, d->memfd, 0);
    if (d->pixels == MAP_FAILED) {
        /* the picture is a file in memory, so RLIMIT_FSIZE limits it */
        error_set(err, errno, "no memory for the screen: %s",
                  errno == EFBIG ? "the limit on the size of files (ulimit -f) is too low; raise it" : strerror(errno));
        if (d->memfd >= 0)
            close(d->memfd);
        free(d);
        return NULL;
    }
    d->loop = loop;
    if (loop)
        timer_init(&d->timer, loop, fire);
    d->width = 640; /* a new memfd is black */
    d->height = 480;
    return d;
}

void display_free(struct display *d)
{
    if (!d)
        return;
    if (d->loop)
        timer_disarm(&d->timer);
    munmap(d->pixels, DISPLAY_BYTES);
    close(d->memfd);
    free(d);
}
