/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clocks.c - for the test clocks, in the guest: interrupts of /dev/rtc and /dev/hpet arrive, and when they are due by another
 * clock.  Linked statically.
 *
 *   clocks rtc      update interrupts, an alarm
 *   clocks hpet     periodic interrupts of a timer
 */
#include <fcntl.h>
#include <linux/hpet.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int rtc(void)
{
    const int fd = open("/dev/rtc0", O_RDONLY);
    unsigned long data;
    struct rtc_time t;
    struct tm tm;
    double at = 0;

    must(fd >= 0, "/dev/rtc0");
    const double start = now(); /* before it: we may be late, which must not make the time shorter */
    must(!ioctl(fd, RTC_UIE_ON), "RTC_UIE_ON");
    for (int i = 0; i < 3; i++) {
        must(read(fd, &data, sizeof data) == sizeof data, "update");
        at = now();
    }
    must(!ioctl(fd, RTC_UIE_OFF), "RTC_UIE_OFF");
    /* Two seconds, and what was left of one. */
    printf("rtc: updates %s\n", at - start > 1.9 ? "each second" : "too early");
    must(!ioctl(fd, RTC_RD_TIME, &t), "RTC_RD_TIME");
    memset(&tm, 0, sizeof tm);
    tm = (struct tm){ .tm_year = t.tm_year, .tm_mon = t.tm_mon, .tm_mday = t.tm_mday, .tm_hour = t.tm_hour,
                      .tm_min = t.tm_min, .tm_sec = t.tm_sec + 2 };
    const time_t due = timegm(&tm);
    gmtime_r(&due, &tm);
    struct rtc_wkalrm w = { .enabled = 1, .time = { .tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday,
                                                    .tm_hour = tm.tm_hour, .tm_min = tm.tm_min, .tm_sec = tm.tm_sec } };
    must(!ioctl(fd, RTC_WKALM_SET, &w), "RTC_WKALM_SET");
    must(read(fd, &data, sizeof data) == sizeof data, "alarm");
    must(!ioctl(fd, RTC_RD_TIME, &t), "RTC_RD_TIME");
    struct tm after = { .tm_year = t.tm_year, .tm_mon = t.tm_mon, .tm_mday = t.tm_mday, .tm_hour = t.tm_hour,
                        .tm_min = t.tm_min, .tm_sec = t.tm_sec };
    printf("rtc: alarm %s\n", data & RTC_AF && timegm(&after) >= due ? "at its time" : "too early");
    printf("rtc: %s the system's clock\n", llabs((long long)timegm(&after) - time(NULL)) <= 5 ? "as" : "other than");
    return 0;
}

static int hpet(void)
{
    const int fd = open("/dev/hpet", O_RDONLY);
    struct hpet_info info;
    unsigned long count, all = 0;

    must(fd >= 0, "/dev/hpet");
    must(!ioctl(fd, HPET_IRQFREQ, 50ul), "HPET_IRQFREQ");
    must(!ioctl(fd, HPET_INFO, &info), "HPET_INFO");
    must(!ioctl(fd, HPET_EPI), "HPET_EPI");
    const double start = now();
    must(!ioctl(fd, HPET_IE_ON), "HPET_IE_ON");
    while (all < 25) {
        must(read(fd, &count, sizeof count) == sizeof count, "read");
        all += count;
    }
    printf("hpet: timer %u, %lu Hz, %s\n", info.hi_timer, info.hi_ireqfreq, now() - start > 0.45 ? "in time" : "too fast");
    return 0;
}

int main(int argc, char **argv)
{
    return argc > 1 && !strcmp(argv[1], "rtc") ? rtc() : hpet();
}
