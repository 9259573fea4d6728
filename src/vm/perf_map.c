/* SPDX-License-Identifier: Apache-2.0 */
/* perf_map.c - translated code by name, for perf. */
#include "vm/perf_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"
#include "base/patience.h"

enum { NAME_MAX_LEN = 63, FAR = 1 << 20 /* from a symbol: it is not of that function */ };
struct symbol {
    u64 at;
    char name[NAME_MAX_LEN + 1];
};
struct perf_map {
    FILE *out;
    struct symbol *symbol; /* by address */
    size_t nsymbols;
};

static int by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Lines "ADDRESS TYPE NAME"; what is no code (of types t, T, w, W) is left out. */
static int read_symbols(struct perf_map *p, const char *path, struct error *err)
{
    char *text = NULL, *line = NULL;
    size_t size = 0, room = 0, most = 0;
    int rc = patience_read(OPENER_REPORT, path, false, MiB(256), "", &text, &size, err);
    FILE *f = rc || !size ? NULL : fmemopen(text, size, "r");

    if (!rc && size && !f)
        rc = error_set(err, ENOMEM, "out of memory");
    else if (!rc && !size)
        rc = error_set(err, EINVAL, "%s: no System.map: it holds no symbols", path);
    if (rc) {
        free(text);
        return rc;
    }
    while (!rc && getline(&line, &room, f) > 0) {
        struct symbol s;
        unsigned long long at;
        char type;
        const size_t digits = strspn(line, "0123456789abcdef");
        if ((digits != 8 && digits != 16) || line[digits] != ' ' || sscanf(line, "%llx %c %63s", &at, &type, s.name) != 3 ||
            !strchr("tTwW", type))
            continue;
        if (p->nsymbols == most) {
            most = most ? 2 * most : 1 << 16;
            struct symbol *more = realloc(p->symbol, most * sizeof s);
            if (!more) {
                rc = error_set(err, ENOMEM, "out of memory");
                break;
            }
            p->symbol = more;
        }
        s.at = at;
        p->symbol[p->nsymbols++] = s;
    }
    if (!rc && ferror(f))
        rc = error_set(err, EIO, "%s: cannot be read", path);
    else if (!rc && !p->nsymbols)
        rc = error_set(err, EINVAL, "%s: no System.map: it holds no symbols", path);
    free(line);
    fclose(f);
    free(text);
    if (!rc)
        qsort(p->symbol, p->nsymbols, sizeof *p->symbol, by_address);
    return rc;
}

int perf_map_open(struct perf_map **out, const char *system_map, struct error *err)
{
    struct perf_map *p = calloc(1, sizeof *p);
    char path[40];
    int rc = 0, fd;

    if (!p)
        return error_set(err, ENOMEM, "out of memory");
    if (system_map)
        rc = read_symbols(p, system_map, err);
    if (!rc) {
        /* Where everybody may write: what lies there already is nobody's we trust. */
        snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
        opener_remove(OPENER_REPORT, path);
        fd = opener_file(OPENER_REPORT, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
        p->out = fd < 0 ? NULL : fdopen(fd, "w");
        if (!p->out) {
            rc = error_set(err, errno, "cannot write %s: %s", path, strerror(errno));
            if (fd >= 0)
                close(fd);
        }
    }
    if (rc) {
        perf_map_close(p);
        return rc;
    }
    log_info("perf finds the names of translated code in %s", path);
    *out = p;
    return 0;
}

void perf_map_close(struct perf_map *p)
{
    if (!p)
        return;
    if (p->out)
        fclose(p->out);
    free(p->symbol);
    free(p);
}

void perf_map_add(struct perf_map *p, const struct engine_translation *t)
{
    size_t low = 0, high = p->nsymbols; /* the last one at or below */

    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (p->symbol[mid].at <= t->rip)
            low = mid + 1;
        else
            high = mid;
    }
    fprintf(p->out, "%llx %x ", (unsigned long long)t->host_at, t->host_size);
    if (low && t->rip - p->symbol[low - 1].at < FAR)
        fprintf(p->out, "guest:%s+0x%llx\n", p->symbol[low - 1].name, (unsigned long long)(t->rip - p->symbol[low - 1].at));
    else
        fprintf(p->out, "guest:0x%llx\n", (unsigned long long)t->rip);
}

void perf_map_stub(struct perf_map *p, const struct engine_stub *s)
{
    fprintf(p->out, "%llx %x lodge:%s\n", (unsigned long long)s->host_at, s->host_size, s->name);
}
