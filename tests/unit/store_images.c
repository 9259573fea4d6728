/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_images.c - images and machines as folders: what is whole is there, what is in use stays, what was left goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/internal.h"
#include "test.h"

static char home[] = "/tmp/lodge-image-XXXXXX";

static bool there(const char *format, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), format, home, name);
    return !access(path, F_OK);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
    if (!strcmp(name, "disk.raw"))
        CHECK(!truncate(path, 64 << 20));
}

static bool make_image(const char *name, bool replace, struct error *err)
{
    struct image_draft d;
    int r = image_begin(&d, name, replace, err);

    if (!r) {
        put(d.dir, "disk.raw", "");
        put(d.dir, "image.conf", "system=A test\ncmdline=root=/dev/vda3\n");
        r = image_commit(&d, err);
    }
    image_draft_end(&d);
    return !r;
}

TEST(names)
{
    static const char *const good[] = { "debian", "a", "a-1", "12" };
    static const char *const bad[] = { "", "-a", "a-", "A", "a.b", "../a", "a/b", "a b", ".new",
                                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        CHECK(image_name_valid(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CHECK(!image_name_valid(bad[i]));
}

TEST(images)
{
    struct image image;
    struct image_draft d, other;
    struct error err;

    CHECK_EQ(image_find("debian", &image, &err), -ENOENT);
    CHECK(strstr(err.text, "lodge image build debian") != NULL);

    /* One that is not finished is not there, and its name cannot be taken twice. */
    CHECK_EQ(image_begin(&d, "debian", false, &err), 0);
    CHECK_EQ(image_begin(&other, "debian", false, &err), -EBUSY);
    image_draft_end(&other);
    CHECK(there("%s/lodge/images/.%s.new", "debian"));
    CHECK_EQ(image_find("debian", &image, &err), -ENOENT);
    image_draft_end(&d);
    CHECK(!there("%s/lodge/images/.%s.new", "debian"));

    CHECK(make_image("debian", false, &err));
    CHECK(!make_image("debian", false, &err));
    CHECK_EQ(image_find("debian", &image, &err), 0);
    put(image.dir, "of-the-old", "");
    CHECK(make_image("debian", true, &err));
    CHECK(!there("%s/lodge/images/%s/of-the-old", "debian"));
    CHECK(!there("%s/lodge/images/.%s.new", "debian"));
    CHECK(!there("%s/lodge/images/.%s.new.old", "debian"));
    CHECK_EQ(image_find("debian", &image, &err), 0);
    CHECK_EQ(image.size, 64 << 20);
    CHECK_STR(image.cmdline, "root=/dev/vda3");
    CHECK_STR(image.system, "A test");
    CHECK_STR(image.kernel, "");
    CHECK(image.allocated < 1 << 20);
}

/* What a failed removal left goes with the same command once more. */
TEST(removal_goes_on)
{
    struct image image;
    struct error err;
    char gone[PATH_MAX + 32];

    CHECK(make_image("going", false, &err));
    CHECK_EQ(image_find("going", &image, &err), 0);
    snprintf(gone, sizeof(gone), "%s/../.going.gone", image.dir);
    CHECK_EQ(rename(image.dir, gone), 0);
    CHECK_EQ(image_remove("going", false, &err), 0);
    CHECK(!there("%s/lodge/images/.%s.gone", "going"));
    CHECK_EQ(image_remove("going", false, &err), -ENOENT);
}

/* What is said of an image before it is there is what is found then. */
TEST(draft_found)
{
    struct image before, after;
    struct image_draft d;
    struct error err;

    CHECK_EQ(image_begin(&d, "drafted", false, &err), 0);
    put(d.dir, "disk.raw", "");
    put(d.dir, "vmlinuz", "k");
    put(d.dir, "image.conf", "system=A test\n");
    CHECK_EQ(image_draft_find(&d, &before, &err), 0);
    CHECK_EQ(image_commit(&d, &err), 0);
    image_draft_end(&d);
    CHECK_EQ(image_find("drafted", &after, &err), 0);
    CHECK_STR(before.name, after.name);
    CHECK_STR(before.dir, after.dir);
    CHECK_STR(before.disk, after.disk);
    CHECK_STR(before.kernel, after.kernel);
    CHECK_STR(before.initrd, after.initrd);
    CHECK_EQ(before.size, after.size);
    CHECK_EQ(before.allocated, after.allocated);
}

/* Two that make an image of one name: what the other made meanwhile is not replaced unasked. */
TEST(made_meanwhile)
{
    struct image_draft d;
    struct image image;
    struct error err;
    char other[PATH_MAX];

    CHECK_EQ(image_begin(&d, "twice", false, &err), 0);
    put(d.dir, "disk.raw", "");
    put(d.dir, "image.conf", "system=The second\n");
    snprintf(other, sizeof(other), "%s", d.final);
    CHECK_EQ(mkdir(other, 0700), 0);
    put(other, "disk.raw", "");
    put(other, "image.conf", "system=The first\n");
    CHECK_EQ(image_commit(&d, &err), -EEXIST);
    CHECK(strstr(err.text, "there is an image twice already") != NULL);
    image_draft_end(&d);
    CHECK_EQ(image_find("twice", &image, &err), 0);
    CHECK_STR(image.system, "The first");
    CHECK(!there("%s/lodge/images/.%s.new", "twice"));
    CHECK(!there("%s/lodge/images/.%s.new.lock", "twice"));

    CHECK(make_image("twice", true, &err));
    CHECK_EQ(image_find("twice", &image, &err), 0);
    CHECK_STR(image.system, "A test");
    CHECK_EQ(image_remove("twice", false, &err), 0);
    CHECK(!there("%s/lodge/images/.%s.gone", "twice"));
    CHECK_EQ(image_remove("twice", false, &err), -ENOENT);
}

static void *wait_for_lock(void *path)
{
    struct error err;
    return (void *)(intptr_t)lock_file(path, true, &err);
}

static bool waited_for(ino_t ino)
{
    char line[256], want[32];
    FILE *f = fopen("/proc/locks", "r");
    bool found = false;

    snprintf(want, sizeof(want), ":%llu ", (unsigned long long)ino);
    while (f && !found && fgets(line, sizeof(line), f))
        found = strstr(line, "->") && strstr(line, want);
    if (f)
        fclose(f);
    return found;
}

/* Whoever waits for a lock whose file is removed before it is given up has the one that the next finds, not the old. */
TEST(lock_of_a_removed_file)
{
    struct error err;
    struct stat st, named;
    char path[PATH_MAX];
    pthread_t thread;
    void *got;

    snprintf(path, sizeof(path), "%s/a.lock", home);
    const int first = lock_file(path, false, &err);
    REQUIRE(first >= 0 && !fstat(first, &st));
    CHECK_EQ(lock_file(path, false, &err), -EBUSY);
    CHECK(!pthread_create(&thread, NULL, wait_for_lock, path));
    for (int i = 0; i < 2000 && !waited_for(st.st_ino); i++) /* where /proc does not say it, it has begun by then or not */
        usleep(1000);
    unlink(path);
    close(first);
    pthread_join(thread, &got);
    const int second = (int)(intptr_t)got;
    CHECK(second >= 0 && !fstat(second, &st) && !stat(path, &named) && st.st_ino == named.st_ino);
    CHECK_EQ(lock_file(path, false, &err), -EBUSY); /* nobody else has it, too */
    close(second);
    unlink(path);
}

static int lock_vms(void)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/lodge/vms/.lock", home);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && !fcntl(fd, F_OFD_SETLKW, &lock));
    return fd;
}

static void *end_machine(void *m)
{
    CHECK_EQ(image_machine_end(m, NULL), 0);
    return NULL;
}

TEST(machines)
{
    struct image image;
    struct image_machine kept, again, away, second;
    struct error err = { "" };
    struct image_machine_options o = { .keep = "web", .image = &image };

    if (system("ssh-keygen -? 2>/dev/null; test $? != 127")) {
        printf("machines: left out, no ssh-keygen\n");
        return;
    }
    (void)make_image("debian", false, &err);
    REQUIRE(!image_find("debian", &image, &err));

    CHECK_EQ(image_machine_start(&o, &kept, &err), 0);
    CHECK(kept.ssh_port && !access(kept.disk, F_OK) && !access(kept.seed, F_OK) && !access(kept.key, F_OK));
    CHECK_EQ(image_machine_start(&o, &again, &err), -EBUSY);
    CHECK_EQ(image_machine_find("web", &again, &err), 0);
    CHECK_EQ(again.pid, getpid());
    CHECK_STR(again.known_hosts, kept.known_hosts);
    CHECK_EQ(again.ssh_port, kept.ssh_port);

    /* Throw-aways: a name and a port of their own each. */
    o.keep = NULL;
    CHECK_EQ(image_machine_start(&o, &away, &err), 0);
    CHECK_EQ(image_machine_start(&o, &second, &err), 0);
    CHECK_STR(away.name, "debian");
    CHECK_STR(second.name, "debian-2");
    CHECK(away.ssh_port != second.ssh_port && away.ssh_port != kept.ssh_port);
    CHECK_EQ(image_machine_end(&second, NULL), 0);
    CHECK(!there("%s/lodge/vms/%s", "debian-2"));
    CHECK_EQ(image_remove("debian", false, &err), -ENOTEMPTY);
    CHECK(!make_image("debian", true, &err));

    /* One whose process was killed is no machine any more, and is gone when the next one starts. */
    pid_t child = fork();
    if (!child) {
        struct image_machine m;
        _exit(image_machine_start(&o, &m, &err) ? 1 : 0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(there("%s/lodge/vms/%s/disk.qcow2", "debian-2"));
    CHECK_EQ(image_machine_find("debian-2", &second, &err), -ENOENT);
    CHECK_EQ(image_machine_start(&o, &second, &err), 0);
    CHECK_STR(second.name, "debian-2");
    CHECK_EQ(image_machine_end(&second, NULL), 0);

    /* A throw-away goes under the lock of all: who looks with it held finds a whole one or none. */
    pthread_t thread;
    const int lock = lock_vms();
    CHECK(!pthread_create(&thread, NULL, end_machine, &away));
    usleep(20000); /* in which it would go if it did not wait */
    CHECK(there("%s/lodge/vms/%s/machine.conf", "debian"));
    close(lock);
    pthread_join(thread, NULL);
    CHECK(!there("%s/lodge/vms/%s", "debian"));

    /* A kept one keeps its disk, grows it and does not shrink it. */
    CHECK_EQ(image_machine_end(&kept, NULL), 0);
    CHECK(there("%s/lodge/vms/%s/disk.qcow2", "web"));
    o = (struct image_machine_options){ .keep = "web", .disk_size = 128 << 20 };
    CHECK_EQ(image_machine_start(&o, &kept, &err), 0);
    CHECK_EQ(image_machine_end(&kept, NULL), 0);
    o.disk_size = 64 << 20;
    CHECK_EQ(image_machine_start(&o, &kept, &err), -EINVAL);
    o = (struct image_machine_options){ .keep = "nope" };
    CHECK_EQ(image_machine_start(&o, &kept, &err), -ENOENT);

    CHECK_EQ(image_remove("debian", false, &err), -ENOTEMPTY);
    CHECK_EQ(image_machine_remove("web", &err), 0);
    CHECK(!there("%s/lodge/vms/%s", "web"));
    CHECK_EQ(image_remove("debian", false, &err), 0);
    CHECK(!there("%s/lodge/images/%s", "debian"));
}

static void __attribute__((constructor)) make_home(void)
{
    if (mkdtemp(home))
        setenv("XDG_DATA_HOME", home, 1);
}

static void __attribute__((destructor)) remove_home(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", home);
    (void)!system(command);
}
