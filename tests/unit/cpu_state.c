/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_state.c - RESET and INIT as the manual's table says, and states no processor can be in. */
#include "test.h"

#include "cpu/cpu.h"

TEST(reset)
{
    static struct cpu_state s, i;
    struct error err;
    cpu_reset(&s, true);
    CHECK_EQ(cpu_state_check(&s, &err), 0);
    CHECK_EQ(s.seg[CS].base + s.rip, 0xfffffff0);
    CHECK_EQ(s.cr0, 0x60000010);
    CHECK_EQ(s.dr6, 0xffff0ff0);
    CHECK_EQ(s.activity, CPU_RUNNING);
    CHECK_EQ(s.xsave[0], 0x40);
    CHECK_EQ(s.apic_base, 0xfee00900);
    cpu_reset(&s, false);
    CHECK_EQ(s.activity, CPU_WAIT_SIPI);

    s.cr0 = CR0_PE | CR0_CD | CR0_ET;
    s.pat = 0x0606060606060606;
    s.xcr0 = 7;
    s.xsave[0] = 0x7f;
    s.tsc = 5;
    s.lstar = 0x1234;
    s.efer = EFER_SCE;
    i = s;
    cpu_init_signal(&i, true);
    CHECK_EQ(i.cr0, CR0_CD | CR0_ET);
    CHECK_EQ(i.pat, s.pat);
    CHECK_EQ(i.xcr0, 7);
    CHECK_EQ(i.xsave[0], 0x7f);
    CHECK_EQ(i.tsc, 5);
    CHECK_EQ(i.lstar, 0x1234);
    CHECK_EQ(i.efer, 0);
}

#define REFUSED(change)                            \
    do {                                           \
        cpu_reset(&s, true);                       \
        change;                                    \
        CHECK(cpu_state_check(&s, &err) < 0);      \
        CHECK(err.text[0]);                        \
    } while (0)

TEST(check)
{
    static struct cpu_state s;
    struct error err;
    REFUSED(s.rflags = 0);
    REFUSED(s.rflags |= 1 << 3);
    REFUSED(s.cr0 |= CR0_PG);
    REFUSED(s.cr0 = CR0_NW);
    REFUSED(s.cr4 |= CR4_LA57);
    REFUSED(s.efer |= EFER_LMA);
    REFUSED(s.rip = 0x100000000);
    REFUSED(s.seg[FS].base = 1ull << 60);
    REFUSED(s.lstar = 1ull << 60);
    REFUSED(s.xcr0 = 0);
    REFUSED(s.xcr0 = 5);
    REFUSED(s.xcr0 = 0x27);
    REFUSED(s.xsave[520] = 1);
    REFUSED(s.xsave[26] = 1);
    REFUSED(s.activity = 4);
    REFUSED(s.pat = 2);
    REFUSED(s.dr7 = 1ull << 32);
}

static void cover(u8 *seen, const struct state_field *f, size_t base)
{
    for (; f->name; f++) {
        for (u32 i = 0; i < f->count; i++) {
            size_t at = base + f->offset + (size_t)i * f->elem;
            if (f->nested) {
                cover(seen, f->nested, at);
                continue;
            }
            for (u32 b = 0; b < f->elem; b++) {
                if (seen[at + b]++)
                    test_fail(__FILE__, __LINE__, "%s lies over another field", f->name);
            }
        }
    }
}

/* Every byte of the struct is in the table but for padding, which is shorter than what it aligns. */
TEST(table_is_complete)
{
    static u8 seen[sizeof(struct cpu_state)];
    size_t hole = 0;
    cover(seen, cpu_state_desc.fields, 0);
    for (size_t i = 0; i < sizeof(seen); i++) {
        hole = seen[i] ? 0 : hole + 1;
        if (hole >= (i < offsetof(struct cpu_state, xsave) && i + 64 >= offsetof(struct cpu_state, xsave) ? 64 : 5))
            test_fail(__FILE__, __LINE__, "byte %zu of struct cpu_state is not in its table", i);
    }
}

TEST(saved_and_loaded)
{
    static struct cpu_state a, b;
    struct state_buf buf = { 0 };
    struct error err = { "" };
    struct state_list *from = state_list_new(), *to = state_list_new();

    cpu_reset(&a, true);
    for (u64 i = 0; i < 16; i++)
        a.gpr[i] = 0x0102030405060708u * (i + 1);
    for (u32 i = 160; i < 416; i++)
        a.xsave[i] = (u8)i;
    a.mtrr_fixed[10] = 0x0606060606060606;
    a.exception_error = 0x12345678;
    CHECK_EQ(state_add(from, &cpu_state_desc, 3, &a), 0);
    CHECK_EQ(state_add(to, &cpu_state_desc, 3, &b), 0);
    CHECK_EQ(state_save(from, &buf, &err), 0);
    CHECK_EQ(state_load(to, buf.data, buf.len, &err), 0);
    CHECK(!memcmp(&a, &b, sizeof(a)));

    a.cr0 |= CR0_PG; /* PG without PE: the check behind the load must see it */
    state_buf_free(&buf);
    CHECK_EQ(state_save(from, &buf, &err), 0);
    CHECK(state_load(to, buf.data, buf.len, &err) < 0);
    CHECK(strstr(err.text, "CR0.PG"));
    state_buf_free(&buf);
    state_list_free(from);
    state_list_free(to);
}
