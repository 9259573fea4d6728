/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_dir.c - machines based on images. They are made, started and removed under one lock, that of the folder "vms". The
 * lock of a machine's own file `lock` says whether it runs: the process that runs it holds this lock.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/tools.h"
#include "store/internal.h"

enum { PORT_FIRST = 2222, PORT_LAST = 2999 };

/* The paths of a machine in its folder. */
static int set_paths(struct image_machine *m, struct error *err)
{
    int r = path_join(m->disk, m->dir, "disk.qcow2", err);

    if (!r)
        r = path_join(m->seed, m->dir, "seed.img", err);
    if (!r)
        r = path_join(m->key, m->dir, "id_ed25519", err);
    return r ? r : path_join(m->known_hosts, m->dir, "known_hosts", err);
}

static int load(const char *vms, const char *name, struct image_machine *m, char id[64], struct error *err)
{
    char path[PATH_MAX], conf[2048], value[32];

    memset(m, 0, sizeof(*m));
    m->lock_fd = -1;
    snprintf(m->name, sizeof(m->name), "%s", name);
    int r = path_join(m->dir, vms, name, err);
    if (!r)
        r = set_paths(m, err);
    if (!r)
        r = path_join(path, m->dir, "machine.conf", err);
    if (!r)
        r = read_file(path, conf, sizeof(conf), err);
    if (r)
        return r;
    conf_get(conf, "image", m->image, sizeof(m->image));
    conf_get(conf, "user", m->user, sizeof(m->user));
    conf_get(conf, "id", id, 64);
    m->keep = conf_get(conf, "keep", value, sizeof(value)) && !strcmp(value, "yes");
    conf_get(conf, "port", value, sizeof(value));
    m->ssh_port = (u16)strtoul(value, NULL, 10);
    r = path_join(path, m->dir, "lock", err);
    if (!r && file_locked(path)) {
        r = read_file(path, value, sizeof(value), err);
        m->pid = r ? 0 : MAX(atoi(value), 1); /* 1: the process that runs it has not written its number yet */
    }
    return r;
}

static int save(const struct image_machine *m, const char *id, struct error *err)
{
    char path[PATH_MAX], conf[512];
    int r = path_join(path, m->dir, "machine.conf", err);
    int n = snprintf(conf, sizeof(conf), "image=%s\nkeep=%s\nuser=%s\nid=%s\nport=%u\n", m->image,
                     m->keep ? "yes" : "no", m->user, id, m->ssh_port);

    return r ? r : write_file(path, conf, (size_t)n, 0600, m->keep, err);
}

/* A throw-away machine whose process was killed. The next start removes it; until then it belongs to nobody. */
static bool abandoned(const struct image_machine *m)
{
    return !m->keep && !m->pid;
}

int image_machine_find(const char *name, struct image_machine *m, struct error *err)
{
    char vms[PATH_MAX], dir[PATH_MAX], id[64];
    int r = image_name_valid(name) ? home_folder("vms", vms, err)
                                   : error_set(err, EINVAL, "\"%s\" is no name of a machine", name);

    if (!r)
        r = path_join(dir, vms, name, err);
    const bool there = !r && !access(dir, F_OK);
    if (there)
        r = load(vms, name, m, id, err);
    return !r && (!there || abandoned(m))
               ? error_set(err, ENOENT, "there is no machine %s; \"lodge image ls\" lists them", name)
               : r;
}

int image_machine_each(int (*each)(void *to, const struct image_machine *m), void *to, struct error *err)
{
    char vms[PATH_MAX], id[64];
    struct image_machine *m = malloc(sizeof(*m));
    char **names = NULL;
    int r = m ? home_folder("vms", vms, err) : -ENOMEM;

    if (!r)
        r = dir_names(vms, &names, err);
    for (char **n = names; !r && *n; n++)
        if (!load(vms, *n, m, id, NULL) && !abandoned(m)) /* skips also a machine that is just being removed */
            r = each(to, m);
    names_free(names);
    free(m);
    return r;
}

/* ---- a port for ssh: the ports of running machines count as taken, even if they do not listen yet ---- */

static bool port_free(u16 port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool is_free = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
                   !bind(fd, (struct sockaddr *)&a, sizeof(a)) && !listen(fd, 1);
    if (fd >= 0)
        close(fd);
    return is_free;
}

static int mark_port(void *to, const struct image_machine *m)
{
    bool *taken = to;

    if (m->pid && m->ssh_port >= PORT_FIRST && m->ssh_port <= PORT_LAST)
        taken[m->ssh_port - PORT_FIRST] = true;
    return 0;
}

static int choose_port(u16 wanted, u16 before, u16 *port, struct error *err)
{
    bool taken[PORT_LAST - PORT_FIRST + 1] = { false };
    int r;

    if (wanted && !port_free(wanted))
        return error_set(err, EADDRINUSE, "port %u of 127.0.0.1 is in use", wanted);
    *port = wanted;
    if (wanted)
        return 0;
    if ((r = image_machine_each(mark_port, taken, err)))
        return r;
    for (u32 i = before ? 0 : 1; i <= PORT_LAST - PORT_FIRST + 1; i++) {
        u16 p = i ? (u16)(PORT_FIRST + i - 1) : before;
        if (p >= PORT_FIRST && p <= PORT_LAST && taken[p - PORT_FIRST])
            continue;
        if (port_free(p)) {
            *port = p;
            return 0;
        }
    }
    return error_set(err, EADDRINUSE, "no port from %d to %d of 127.0.0.1 is free for ssh", PORT_FIRST, PORT_LAST);
}

/* ---- making a machine ---- */

static int lock_machine(struct image_machine *m, struct error *err)
{
    char path[PATH_MAX], pid[16];
    int r = path_join(path, m->dir, "lock", err);

    if (r)
        return r;
    m->lock_fd = lock_file(path, false, err);
    if (m->lock_fd == -EBUSY)
        return error_set(err, EBUSY, "the machine %s runs already; \"lodge ssh %s\" goes there", m->name, m->name);
    if (m->lock_fd < 0)
        return m->lock_fd;
    m->pid = getpid();
    int n = snprintf(pid, sizeof(pid), "%d\n", m->pid);
    if (ftruncate(m->lock_fd, 0) || pwrite(m->lock_fd, pid, (size_t)n, 0) != n)
        return error_set(err, errno, "%s cannot be written: %s", path, strerror(errno));
    return 0;
}

/* Both keys are made here. So the guest's first start needs no time for that, and ssh knows the machine from the
   start. */
static int make_keys(const struct image_machine *m, const char *id, struct error *err)
{
    char host[PATH_MAX], public[PATH_MAX + 4], key[4096], host_key[4096], host_public[1024], line[1200];
    struct seed s = { .instance_id = id, .hostname = m->name, .user = m->user };
    int r = path_join(host, m->dir, "host_ed25519", err);

    if (!r)
        r = run_program((const char *const[]){ "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lodge", "-f",
                                               m->key, NULL }, err);
    if (!r)
        r = run_program((const char *const[]){ "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", m->name, "-f",
                                               host, NULL }, err);
    if (r == -ENOENT)
        error_set(err, ENOENT, "ssh-keygen is needed; it is in the package openssh-client");
    if (r)
        return r;
    snprintf(public, sizeof(public), "%s.pub", m->key);
    r = read_file(public, key, sizeof(key), err);
    if (!r)
        r = read_file(host, host_key, sizeof(host_key), err);
    snprintf(public, sizeof(public), "%s.pub", host);
    if (!r)
        r = read_file(public, host_public, sizeof(host_public), err);
    if (r)
        return r;
    key[strcspn(key, "\n")] = 0;
    host_public[strcspn(host_public, "\n")] = 0;
    s.authorized_key = key;
    s.host_key = host_key;
    s.host_key_public = host_public;
    int n = snprintf(line, sizeof(line), "%s %s\n", m->name, host_public);
    r = write_file(m->known_hosts, line, (size_t)n, 0600, false, err);
    return r ? r : seed_write(m->seed, &s, err);
}

static int make(const char *vms, const struct image *image, u64 disk_size, struct image_machine *m, char id[64],
                struct error *err)
{
    struct image_machine *draft = malloc(sizeof(*draft));
    u8 random[8];
    int r = draft ? 0 : -ENOMEM;

    if (!r && getrandom(random, sizeof(random), 0) != sizeof(random))
        r = error_set(err, EIO, "the host has no random numbers");
    if (r)
        goto out;
    snprintf(id, 64, "lodge-%02x%02x%02x%02x%02x%02x%02x%02x", random[0], random[1], random[2], random[3], random[4],
             random[5], random[6], random[7]);
    *draft = *m;
    r = path_join(draft->dir, vms, ".new", err);
    if (!r)
        r = set_paths(draft, err);
    if (!r)
        r = remove_tree(draft->dir, err); /* we have the lock, so a process that was killed left this */
    if (!r)
        r = make_dirs(draft->dir, err);
    if (!r)
        r = lock_machine(draft, err);
    if (!r)
        r = make_keys(draft, id, err);
    if (!r)
        r = block_create(&(struct block_create){ .path = draft->disk, .format = "qcow2", .size = disk_size,
                                                 .backing = image->disk, .backing_format = image->format }, err);
    if (!r)
        r = save(draft, id, err);
    if (!r && m->keep)
        r = sync_tree(draft->dir, err);
    if (!r && rename(draft->dir, m->dir))
        r = error_set(err, errno, "%s cannot be made: %s", m->dir, strerror(errno));
    if (!r && m->keep)
        r = sync_above(m->dir, err);
    m->lock_fd = draft->lock_fd;
    m->pid = draft->pid;
    if (r)
        (void)!remove_tree(draft->dir, NULL);
out:
    free(draft);
    return r;
}

static void clean(const char *vms)
{
    struct image_machine *m = malloc(sizeof(*m));
    char **names = NULL, id[64];

    if (m && !dir_names(vms, &names, NULL))
        for (char **n = names; *n; n++)
            if (!load(vms, *n, m, id, NULL) && abandoned(m))
                (void)!remove_tree(m->dir, NULL);
    names_free(names);
    free(m);
}

static int grow(const struct image_machine *m, u64 size, struct error *err)
{
    char store[PATH_MAX];
    struct block_options o = { .path = m->disk, .format = BLOCK_QCOW2 };

    o.follow.store = image_store(store) ? NULL : store;
    struct block *b = block_open(&o, NULL, err);
    int r = b ? 0 : -EINVAL;

    if (!r && size < block_size(b))
        r = error_set(err, EINVAL, "the disk of %s has %llu bytes; it cannot be made smaller", m->name,
                      (unsigned long long)block_size(b));
    else if (!r && size > block_size(b))
        r = block_resize(b, size, false, err);
    if (b) {
        int closed = block_close(b, r ? NULL : err);
        r = r ? r : closed;
    }
    return r;
}

static int start(const char *vms, const struct image_machine_options *o, struct image_machine *m, struct error *err)
{
    char id[64];
    const char *base = o->keep ? o->keep : o->image->name;
    int r = path_join(m->dir, vms, base, err);

    snprintf(m->name, sizeof(m->name), "%s", base);
    if (!r && o->keep && !access(m->dir, F_OK)) {
        if ((r = load(vms, o->keep, m, id, err)))
            return r;
        if (!m->keep)
            return error_set(err, EEXIST, "%s is the name of a throw-away machine that runs; choose another", m->name);
        if (o->image && strcmp(o->image->name, m->image))
            return error_set(err, EINVAL, "the machine %s is one of the image %s, not of %s", m->name, m->image,
                             o->image->name);
        r = lock_machine(m, err);
        if (!r && o->disk_size)
            r = grow(m, o->disk_size, err);
        if (!r)
            r = choose_port(o->ssh_port, m->ssh_port, &m->ssh_port, err);
        return r ? r : save(m, id, err);
    }
    if (r)
        return r;
    if (!o->image)
        return error_set(err, ENOENT, "there is no machine %s yet; say of which image it is to be made", o->keep);
    if (o->disk_size && o->disk_size < o->image->size)
        return error_set(err, EINVAL, "the image %s has a disk of %llu bytes; it cannot be made smaller",
                         o->image->name, (unsigned long long)o->image->size);
    for (u32 i = 2; !o->keep && !access(m->dir, F_OK); i++) {
        snprintf(m->name, sizeof(m->name), "%.*s-%u", IMAGE_NAME_MAX - 8, base, i);
        if ((r = path_join(m->dir, vms, m->name, err)))
            return r;
    }
    m->keep = o->keep;
    snprintf(m->image, sizeof(m->image), "%s", o->image->name);
    snprintf(m->user, sizeof(m->user), "lodge");
    r = set_paths(m, err);
    if (!r)
        r = choose_port(o->ssh_port, 0, &m->ssh_port, err);
    return r ? r : make(vms, o->image, o->disk_size, m, id, err);
}

int image_machine_start(const struct image_machine_options *o, struct image_machine *m, struct error *err)
{
    char vms[PATH_MAX];
    int r;

    memset(m, 0, sizeof(*m));
    m->lock_fd = -1;
    if (o->keep && !image_name_valid(o->keep))
        return error_set(err, EINVAL, "\"%s\" cannot be a machine's name: up to %d small letters, digits and \"-\"",
                         o->keep, IMAGE_NAME_MAX);
    r = home_folder("vms", vms, err);
    int lock = r ? r : home_lock(vms, err);
    if (lock < 0)
        return lock;
    clean(vms);
    r = start(vms, o, m, err);
    if (r && m->lock_fd >= 0) {
        close(m->lock_fd);
        m->lock_fd = -1;
    }
    close(lock);
    return r;
}

/* A throw-away machine is removed under the folder's lock, so that a process that wants its name for another machine
   does not find half of it. */
int image_machine_end(struct image_machine *m, struct error *err)
{
    char vms[PATH_MAX];
    int r = 0;

    if (m->lock_fd < 0)
        return 0;
    int lock = m->keep || home_folder("vms", vms, NULL) ? -1 : home_lock(vms, NULL);
    if (!m->keep)
        r = remove_tree(m->dir, err);
    close(m->lock_fd);
    if (lock >= 0)
        close(lock);
    m->lock_fd = -1;
    m->pid = 0;
    return r;
}

int image_machine_remove(const char *name, struct error *err)
{
    char vms[PATH_MAX], gone[PATH_MAX];
    struct image_machine *m = malloc(sizeof(*m));
    int r = m ? home_folder("vms", vms, err) : -ENOMEM;
    int lock = r ? r : home_lock(vms, err);

    if (lock < 0) {
        free(m);
        return lock;
    }
    r = image_machine_find(name, m, err);
    if (!r && m->pid)
        r = error_set(err, EBUSY, "the machine %s runs (process %d); end it first", name, m->pid);
    if (!r)
        r = path_join(gone, vms, ".gone", err);
    if (!r)
        r = remove_tree(gone, err);
    if (!r && rename(m->dir, gone))
        r = error_set(err, errno, "%s cannot be removed: %s", m->dir, strerror(errno));
    if (!r)
        r = remove_tree(gone, err);
    close(lock);
    free(m);
    return r;
}
