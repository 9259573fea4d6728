/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_model_qemu.c - qemu-img as the judge of images: programs that are run, and the files that they look at. */
#include "qcow2_model.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

char image_dir[] = "/dev/shm/lodge-qcow2-XXXXXX";
bool have_qemu;
u64 judged;

int run_program(const char *const *argv, bool quiet)
{
    extern char **environ;
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int status;

    posix_spawn_file_actions_init(&fa);
    if (quiet) {
        posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
    }
    int r = posix_spawnp(&pid, argv[0], &fa, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (r || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void save_file(const char *name, const u8 *data, u64 size)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", image_dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd))
        die("cannot write %s", path);
}

u64 load_file(const char *name, u8 *data)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", image_dir, name);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, data, FILE_MAX);
    if (n < 0 || close(fd))
        die("cannot read %s", path);
    return (u64)n;
}

const char *in_dir(const char *name, char *path)
{
    snprintf(path, 128, "%s/%s", image_dir, name);
    return path;
}

void judge(const u8 *image, u64 size, const u8 *content, u64 content_size)
{
    char a[128], b[128];

    save_file("judged.qcow2", image, size);
    in_dir("judged.qcow2", a);
    bool dirty = image[7] == 3 && image[79] & 1; /* refcounts need not be right then: it may repair them */
    int r = run_program((const char *[]){ "qemu-img", "check", "-q", dirty ? "-rall" : "-q", a, NULL }, true);
    if (r && r != 3) {
        run_program((const char *[]){ "qemu-img", "check", a, NULL }, false);
        die("qemu-img check: %d", r);
    }
    judged++;
    if (!content || !one_in(4))
        return;
    save_file("judged.raw", content, content_size);
    in_dir("judged.raw", b);
    r = run_program((const char *[]){ "qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", a, b, NULL }, true);
    if (r)
        die("qemu-img compare: %d", r);
}
