/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_print.c - prints what "lodge disk" says about an image, for people and for programs.
 */
#include "cli/disk_print.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

void disk_print_snapshots_text(const struct block_info *i)
{
    char a[32];

    if (i->nsnapshots)
        printf("Snapshot list:\n%-8s %-16s %8s %20s %12s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK");
    for (u32 n = 0; n < i->nsnapshots; n++) {
        const struct block_snapshot_info *s = &i->snapshots[n];
        time_t when = (time_t)s->time_s;
        u64 clock_s = s->clock_ns / 1000000000;
        struct tm tm;
        char date[40] = "?";
        if (localtime_r(&when, &tm))
            strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
        print_plain(s->id);
        printf("%*s", (int)MAX(1, 9 - (int)strlen(s->id)), "");
        print_plain(s->name);
        printf("%*s", (int)MAX(1, 17 - (int)strlen(s->name)), "");
        printf("%8s %20s %02llu:%02llu:%02llu.%03llu\n", size_text(s->state_size, a), date, (unsigned long long)clock_s / 3600,
               (unsigned long long)clock_s / 60 % 60, (unsigned long long)clock_s % 60,
               (unsigned long long)(s->clock_ns / 1000000 % 1000));
    }
}

void disk_print_info_text(struct block *b, const struct block_info *i)
{
    char a[32];

    printf("image: ");
    print_plain(block_path(b));
    printf("\nfile format: %s\nvirtual size: %s (%llu bytes)\n", i->format, size_text(i->size, a), (unsigned long long)i->size);
    printf("disk size: %s\n", size_text(i->allocated, a));
    if (i->encrypted)
        puts("encrypted: yes");
    if (i->cluster_size)
        printf("cluster_size: %u\n", i->cluster_size);
    if (i->dirty)
        puts("cleanly shut down: no");
    if (i->backing[0]) {
        printf("backing file: ");
        print_plain(i->backing);
        if (i->backing_path[0] && strcmp(i->backing, i->backing_path)) {
            printf(" (actual path: ");
            print_plain(i->backing_path);
            putchar(')');
        }
        putchar('\n');
    }
    if (i->backing_format[0]) {
        printf("backing file format: ");
        print_plain(i->backing_format);
        putchar('\n');
    }
    disk_print_snapshots_text(i);
    if (i->compat[0])
        printf("Format specific information:\n    compat: %s\n    compression type: %s\n    lazy refcounts: %s\n"
               "    refcount bits: %u\n    corrupt: %s\n    extended l2: %s\n", i->compat,
               i->compressed_zstd ? "zstd" : "zlib", i->lazy_refcounts ? "true" : "false", i->refcount_bits,
               i->corrupt ? "true" : "false", i->extended_l2 ? "true" : "false");
}

void disk_print_snapshots_json(const struct block_info *i)
{
    printf("[");
    for (u32 n = 0; n < i->nsnapshots; n++) {
        const struct block_snapshot_info *s = &i->snapshots[n];
        printf("%s{\"id\": ", n ? ", " : "");
        json_quoted(s->id);
        printf(", \"name\": ");
        json_quoted(s->name);
        printf(", \"vm-state-size\": %llu, \"date-sec\": %llu, \"date-nsec\": 0, \"vm-clock-sec\": %llu, \"vm-clock-nsec\": "
               "%llu}", (unsigned long long)s->state_size, (unsigned long long)s->time_s,
               (unsigned long long)(s->clock_ns / 1000000000), (unsigned long long)(s->clock_ns % 1000000000));
    }
    printf("]");
}

void disk_print_info_json(struct block *b, const struct block_info *i)
{
    printf("{\"filename\": ");
    json_quoted(block_path(b));
    printf(", \"format\": \"%s\", \"virtual-size\": %llu, \"actual-size\": %llu, \"dirty-flag\": %s", i->format,
           (unsigned long long)i->size, (unsigned long long)i->allocated, i->dirty ? "true" : "false");
    if (i->encrypted)
        printf(", \"encrypted\": true");
    if (i->cluster_size)
        printf(", \"cluster-size\": %u", i->cluster_size);
    if (i->backing[0]) {
        printf(", \"backing-filename\": ");
        json_quoted(i->backing);
    }
    if (i->backing_path[0]) {
        printf(", \"full-backing-filename\": ");
        json_quoted(i->backing_path);
    }
    if (i->backing_format[0]) {
        printf(", \"backing-filename-format\": ");
        json_quoted(i->backing_format);
    }
    if (i->nsnapshots) {
        printf(", \"snapshots\": ");
        disk_print_snapshots_json(i);
    }
    if (i->compat[0])
        printf(", \"format-specific\": {\"type\": \"%s\", \"data\": {\"compat\": \"%s\", \"compression-type\": \"%s\", "
               "\"lazy-refcounts\": %s, \"refcount-bits\": %u, \"corrupt\": %s, \"extended-l2\": %s}}", i->format, i->compat,
               i->compressed_zstd ? "zstd" : "zlib", i->lazy_refcounts ? "true" : "false", i->refcount_bits,
               i->corrupt ? "true" : "false", i->extended_l2 ? "true" : "false");
    printf("}");
}

void disk_print_check_text(const struct block_check *c)
{
    if (c->errors_fixed || c->leaks_fixed)
        printf("The following inconsistencies were found and repaired:\n\n    %llu leaked clusters\n    %llu corruptions\n\n",
               (unsigned long long)c->leaks_fixed, (unsigned long long)c->errors_fixed);
    if (!c->errors && !c->leaks)
        puts("No errors were found on the image.");
    if (c->errors)
        printf("%llu errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n",
               (unsigned long long)c->errors);
    if (c->leaks)
        printf("%llu leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n",
               (unsigned long long)c->leaks);
    if (c->clusters)
        printf("%llu/%llu = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
               (unsigned long long)c->allocated, (unsigned long long)c->clusters,
               100.0 * (double)c->allocated / (double)c->clusters,
               100.0 * (double)c->fragmented / (double)MAX(c->allocated, 1),
               100.0 * (double)c->compressed / (double)MAX(c->allocated, 1));
    if (c->end)
        printf("Image end offset: %llu\n", (unsigned long long)c->end);
}

void disk_print_check_json(const char *file, const struct block_check *c)
{
    printf("{\"filename\": ");
    json_quoted(file);
    printf(", \"format\": \"qcow2\", \"check-errors\": 0, \"corruptions\": %llu, \"leaks\": %llu, \"corruptions-fixed\": %llu, "
           "\"leaks-fixed\": %llu, \"image-end-offset\": %llu, \"total-clusters\": %llu, \"allocated-clusters\": %llu, "
           "\"fragmented-clusters\": %llu, \"compressed-clusters\": %llu}\n", (unsigned long long)c->errors,
           (unsigned long long)c->leaks, (unsigned long long)c->errors_fixed, (unsigned long long)c->leaks_fixed,
           (unsigned long long)c->end, (unsigned long long)c->clusters, (unsigned long long)c->allocated,
           (unsigned long long)c->fragmented, (unsigned long long)c->compressed);
}
