/* SPDX-License-Identifier: Apache-2.0 */
/* jit_gate.c - the memory behind the translator: code mapped once to write and once to execute, records beside it. */
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/soft/native.h"
#include "engine/soft/translate/translate.h"

static bool host_can(void)
{
    u32 a, b = 0, c, d;
    /* BMI2: the lookup of indirect branches uses shifts that leave the flags alone. LAHF in 64-bit mode comes with it. */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 8 & 1);
}

int soft_jit_new(struct soft_vcpu *v)
{
    const u64 share = v->vm->cfg.code_cache / v->vm->cfg.cpus;
    if (!share || v->vm->vec_eager || !host_can())
        return 0;
    struct soft_jit *j = calloc(1, sizeof *j);
    if (!j)
        return -ENOMEM;
    j->size = align_up(MAX(share, KiB(256)), GUEST_PAGE_SIZE);
    j->data_size = 2 * j->size;
    int fd = memfd_create("translations", MFD_CLOEXEC), r = -errno;
    if (fd < 0 || ftruncate(fd, j->size) < 0)
        goto fail;
    j->rw = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    j->rx = mmap(NULL, j->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    j->data = mmap(NULL, j->data_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (j->rw == MAP_FAILED || j->rx == MAP_FAILED || j->data == MAP_FAILED) {
        r = -errno;
        goto fail;
    }
    close(fd);
    j->hot = (u16)MIN(v->vm->cfg.translate_after, 1000u);
    v->jit = j;
    soft_jit_stubs(v);
    return 0;
fail:
    if (fd >= 0)
        close(fd);
    free(j);
    return r;
}

void soft_jit_free(struct soft_vcpu *v)
{
    struct soft_jit *j = v->jit;
    if (!j)
        return;
    munmap(j->rw, j->size);
    munmap(j->rx, j->size);
    munmap(j->data, j->data_size);
    free(j);
    v->jit = NULL;
}

void soft_jit_thread(struct soft_vcpu *v)
{
    soft_fault_vcpu = v;
    if (v->jit)
        syscall(SYS_arch_prctl, ARCH_SET_GS, v);
}
