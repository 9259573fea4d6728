/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's life: its states, being booted again, and two of them in one process, each on a thread of its own. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "test.h"
#include "vm/vm.h"

/*
 * The guest, loaded at 1 MiB and entered without paging: prints its letter a number of times, computes in between and reads a
 * register of the local APIC (which is a fault of the host's in generated code), and leaves with its letter by the debug exit;
 * with a count of 0 it prints for ever.
 */
extern const u8 guest_begin[], guest_letter[], guest_count[], guest_end[];
asm(".pushsection .rodata\n"
    ".code32\n"
    "guest_begin:\n"
    "  mov 0x100020 + guest_count - guest_begin, %edi\n"
    "1: mov $200000, %ecx\n"
    "2: add %ecx, %ebx\n"
    "  dec %ecx\n"
    "  jnz 2b\n"
    "  mov 0xfee00030, %eax\n"
    "  mov $0x3f8, %dx\n"
    "  mov 0x100020 + guest_letter - guest_begin, %al\n"
    "  outb %al, %dx\n"
    "  dec %edi\n"
    "  jnz 1b\n"
    "  outb %al, $0xf4\n"
    "  hlt\n"
    "guest_letter: .byte 0\n"
    "guest_count: .long 0\n"
    "guest_end:\n"
    ".code64\n"
    ".popsection\n");

struct life {
    struct vm_config c;
    struct vm *vm;
    int kernel, out;
    int status;
    struct error err;
};

static int image(u8 letter, u32 count)
{
    static const u32 header[8] = { 0x1badb002, 0x10000, -(0x1badb002u + 0x10000), 0x100000, 0x100000, 0, 0, 0x100020 };
    u8 code[256];
    const size_t len = (size_t)(guest_end - guest_begin);
    const int fd = memfd_create("kernel", MFD_CLOEXEC);

    memcpy(code, guest_begin, len);
    code[guest_letter - guest_begin] = letter;
    memcpy(code + (guest_count - guest_begin), &count, sizeof count);
    if (write(fd, header, sizeof header) != sizeof header || write(fd, code, len) != (ssize_t)len)
        abort();
    return fd;
}

static void begin(struct life *l, char letter, u32 count)
{
    static const struct vm_run run;

    memset(l, 0, sizeof *l);
    l->kernel = image((u8)letter, count);
    l->out = memfd_create("out", MFD_CLOEXEC);
    if (config_init(&l->c))
        abort();
    l->c.engine = CONFIG_ENGINE_SOFT;
    l->c.memory = MiB(16);
    l->c.ndevices = 1;
    l->c.nserial = 1;
    if (config_text(&l->c.kernel, "/proc/self/fd/%d", l->kernel) || config_text(&l->c.device[0].type, "testdev") ||
        config_text(&l->c.serial[0], "file:/proc/self/fd/%d", l->out))
        abort();
    l->vm = vm_new(&l->c, &run, &l->err);
}

static void end(struct life *l)
{
    vm_free(l->vm);
    config_free(&l->c);
    close(l->kernel);
    close(l->out);
}

static void *boot_and_run(void *p)
{
    struct life *l = p;

    l->status = vm_boot(l->vm, &l->err);
    if (!l->status)
        l->status = vm_run(l->vm, &l->err);
    return NULL;
}

static bool printed(const struct life *l, char letter, u32 count)
{
    char text[4096];
    const ssize_t n = pread(l->out, text, sizeof text, 0);

    for (ssize_t i = 0; i < n; i++)
        if (text[i] != letter)
            return false;
    return n == (ssize_t)count;
}

TEST(states)
{
    struct life l;

    begin(&l, 'a', 3);
    CHECK_EQ(vm_state(l.vm), VM_CREATED);
    CHECK_EQ(vm_run(l.vm, &l.err), -EINVAL);
    CHECK_STR(l.err.text, "the machine is created");
    vm_quit(l.vm, SIGTERM); /* there is no machine to end */
    CHECK_EQ(vm_boot(l.vm, &l.err), 0);
    CHECK_EQ(vm_state(l.vm), VM_BOOTING);
    CHECK_EQ(vm_boot(l.vm, &l.err), -EINVAL);
    CHECK_EQ(vm_run(l.vm, &l.err), 'a' << 1 | 1);
    CHECK_EQ(vm_state(l.vm), VM_STOPPED);
    CHECK(printed(&l, 'a', 3));
    CHECK_EQ(vm_run(l.vm, &l.err), -EINVAL);
    end(&l);
}

TEST(it_can_be_booted_again)
{
    struct life l;

    begin(&l, 'b', 2);
    for (u32 i = 0; i < 5; i++) {
        boot_and_run(&l);
        CHECK_EQ(l.status, 'b' << 1 | 1);
        CHECK_EQ(vm_state(l.vm), VM_STOPPED);
        CHECK(printed(&l, 'b', 2));
    }
    end(&l);
}

TEST(what_cannot_be_started_is_created)
{
    struct life l;

    begin(&l, 'c', 1);
    CHECK_EQ(config_text(&l.c.device[0].type, "no-such"), 0);
    CHECK(vm_boot(l.vm, &l.err) < 0);
    CHECK_EQ(vm_state(l.vm), VM_CREATED);
    CHECK_EQ(config_text(&l.c.device[0].type, "testdev"), 0);
    CHECK_EQ(config_text(&l.c.kernel, "/no/such/file"), 0);
    CHECK(vm_boot(l.vm, &l.err) < 0);
    CHECK_EQ(vm_state(l.vm), VM_CREATED);
    CHECK_EQ(config_text(&l.c.kernel, "/proc/self/fd/%d", l.kernel), 0);
    boot_and_run(&l);
    CHECK_EQ(l.status, 'c' << 1 | 1);
    end(&l);
}

TEST(freed_between_boot_and_run)
{
    struct life l;

    begin(&l, 'd', 1);
    CHECK_EQ(vm_boot(l.vm, &l.err), 0);
    end(&l);
}

TEST(quit_before_it_runs_ends_it_at_once)
{
    struct life l;

    begin(&l, 'e', 0);
    CHECK_EQ(vm_boot(l.vm, &l.err), 0);
    vm_quit(l.vm, SIGTERM);
    CHECK_EQ(vm_run(l.vm, &l.err), 128 + SIGTERM);
    end(&l);
}

/* Both at once, again and again; what one prints and leaves with is never the other's. */
TEST(two_in_one_process)
{
    for (u32 round = 0; round < 8; round++) {
        struct life l[2];
        pthread_t thread[2];
        const u32 count[2] = { 40 + round, 25 };

        for (u32 i = 0; i < 2; i++) {
            begin(&l[i], (char)('p' + i), count[i]);
            l[i].c.cpus = 1 + i;
            CHECK_EQ(pthread_create(&thread[i], NULL, boot_and_run, &l[i]), 0);
        }
        for (u32 i = 0; i < 2; i++) {
            pthread_join(thread[i], NULL);
            CHECK_EQ(l[i].status, ('p' + i) << 1 | 1);
            CHECK(printed(&l[i], (char)('p' + i), count[i]));
            end(&l[i]);
        }
    }
}

/* One that ends leaves the other as it is; and from a thread that is neither's it is ended in order. */
TEST(one_goes_the_other_stays)
{
    struct life stays, goes;
    pthread_t thread;

    begin(&stays, 's', 0);
    CHECK_EQ(pthread_create(&thread, NULL, boot_and_run, &stays), 0);
    for (u32 i = 0; i < 4; i++) {
        begin(&goes, 'g', 5);
        boot_and_run(&goes);
        CHECK_EQ(goes.status, 'g' << 1 | 1);
        end(&goes);
    }
    for (off_t before = -1, n; before < 3; before = n) { /* it goes on printing */
        while ((n = lseek(stays.out, 0, SEEK_END)) <= before)
            usleep(1000);
    }
    CHECK_EQ(vm_state(stays.vm), VM_RUNNING);
    vm_quit(stays.vm, 0);
    pthread_join(thread, NULL);
    CHECK_EQ(stays.status, VM_EXIT_OK);
    CHECK_EQ(vm_state(stays.vm), VM_STOPPED);
    end(&stays);
}
