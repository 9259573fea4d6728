/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reread.c - runs in a guest: reads code from a file into one page again and again, without a copy in the page cache, and
 * calls it often enough to be translated. The file has a function a page; each returns its page's number.
 *
 *   reread FILE PAGES
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, CALLS = 20000, ROUNDS = 20 };

int main(int argc, char **argv)
{
    const int fd = argc == 3 ? open(argv[1], O_RDONLY | O_DIRECT) : -1, pages = argc == 3 ? atoi(argv[2]) : 0;
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int (*const volatile function)(void) = (int (*)(void))page;
    int stale = 0;

    if (fd < 0 || page == MAP_FAILED) {
        perror("reread");
        return 1;
    }
    for (int i = 0; i < ROUNDS * pages; i++) {
        if (pread(fd, page, PAGE, (off_t)(i % pages) * PAGE) != PAGE) {
            perror("reread: pread");
            return 1;
        }
        for (int k = 0; k < CALLS; k++)
            stale += function() != i % pages;
    }
    printf("reread: %d stale\n", stale);
    return stale != 0;
}
