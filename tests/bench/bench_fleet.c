/* What the fleet's memory costs: bytes a device, a check-in among a thousand devices and among a million, the start
 * with a million, and check-ins with and without a store behind them. `script/bench fleet` builds and runs it;
 * docs/performance.md explains the tables. Nothing is judged here.
 *
 *   bench_fleet [--devices N] [--checkins N] [--runs N] [--folder DIR]
 *   bench_fleet make [--devices N] [--folder DIR]     only writes their database into DIR, for tests/bench/growth.py
 */
#include "fleet/fleet.h"
#include "fleet/seen.h"
#include "tests/bench/bench_devices.h"
#include "tests/support/no_effects.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FEW      1000
#define RUNS_MAX 31
#define FLUSH_MS 500
#define TYPES    8

static struct {
    size_t devices, checkins, runs;
    const char *folder;
    bool makes; /* a database: of devices as they ask in tests/bench/growth_servers.py, from this machine */
} options = { .devices = 1000000, .checkins = 1000000, .runs = 5, .folder = "/tmp" };

/* --- a fleet ------------------------------------------------------------------------------------------------------*/

struct bench {
    uv_loop_t loop;
    struct moment now;
    struct fleet fleet;
    struct assignments *assignments;
    struct offerings *offerings;
    struct store_queue *queue;
    double flush_worst_ms;
    bool closed;
};

static uint64_t spent_ns(clockid_t of)
{
    struct timespec spent;
    (void)clock_gettime(of, &spent);
    return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

/* Of this thread: other programs on the machine cost less of it than of the wall's. */
static uint64_t cpu_ns(void)
{
    return spent_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* What the loop does not answer in. */
static void flush(struct bench *bench)
{
    uint64_t began_ns = cpu_ns();
    journal_flush(bench->fleet.journal, bench->fleet.rollouts);
    double ms = (double)(cpu_ns() - began_ns) / 1e6;
    bench->flush_worst_ms = ms > bench->flush_worst_ms ? ms : bench->flush_worst_ms;
}

static void on_written(void *owner, uint64_t ticket)
{
    (void)ticket;
    flush(owner);
}

/* With the store in `folder`, read at once; NULL: without. Returns how many rows were read. */
static size_t bench_open(struct bench *bench, const char *folder)
{
    struct fleet *fleet = &bench->fleet;
    memset(bench, 0, sizeof *bench);
    int error = uv_loop_init(&bench->loop);
    assert(error == 0);
    bench->now = (struct moment){ 1000, 1700000000 };
    fleet_init(fleet, 2000000, &no_effects);
    fleet->settings.assignments = bench->assignments = assignments_new();
    fleet->settings.offerings = bench->offerings = offerings_new(OFFER_NEWEST_TO_ALL);
    fleet->settings.loop_guard_max = 3;
    struct recall recall = fleet_recall(fleet, &bench->now);
    if (folder != NULL) {
        char message[600];
        struct store_queue_events events = { NULL, on_written, bench };
        bench->queue = store_queue_open(&bench->loop, &store_sqlite, folder, &events, recall_row, &recall, message,
                                        sizeof message);
        if (bench->queue == NULL) {
            (void)fprintf(stderr, "bench_fleet: %s\n", message);
            exit(1);
        }
        fleet->journal = journal_new(fleet->devices, fleet->policies, fleet->never_again, bench->queue);
    }
    return recall.rows;
}

static void on_closed(void *owner)
{
    ((struct bench *)owner)->closed = true;
}

static bool is_written(const struct bench *bench)
{
    return devices_dirty_count(bench->fleet.devices) == 0 && store_queue_view(bench->queue)->backlog == 0;
}

static void write_all(struct bench *bench)
{
    while (!is_written(bench)) {
        flush(bench);
        (void)uv_run(&bench->loop, UV_RUN_ONCE);
    }
}

static void bench_close(struct bench *bench)
{
    if (bench->queue != NULL) {
        store_queue_close(bench->queue, 60000, on_closed, bench);
        while (!bench->closed) {
            (void)uv_run(&bench->loop, UV_RUN_ONCE);
        }
    }
    fleet_close(&bench->fleet);
    offerings_free(bench->offerings);
    assignments_free(bench->assignments);
    (void)uv_loop_close(&bench->loop);
}

/* --- check-ins ----------------------------------------------------------------------------------------------------*/

/* All that fleet/ does for one update check that is answered "up to date". */
static void check_in(struct bench *bench, uint32_t number)
{
    static const char *const types[TYPES] = { "d1_mini",  "nodemcu", "sonoff-basic", "esp32dev",
                                              "garden-1", "door",    "lolin32",      "huzzah" };
    struct device_request request = { .client = CLIENT_ESP8266,
                                      .has_mac = true,
                                      .has_md5 = true,
                                      .mac = bench_mac(number),
                                      .chip = CHIP_ESP8266,
                                      .flash_bytes = 4194304,
                                      .free_bytes = 3000000,
                                      .sketch_bytes = 44304,
                                      .label = slice_of("0.4.9"),
                                      .sdk = slice_of("2.2.2-dev(38a443e)") };
    struct slice type = slice_of(types[number % TYPES]);
    uint8_t build[16] = { (uint8_t)(number % TYPES) };
    struct direction direction;
    struct permission permission;
    struct outcome_verdict verdict;
    memcpy(request.sketch_md5, build, sizeof build);
    struct checkin checkin = { .request = &request,
                               .type = type,
                               .reason = REASON_UP_TO_DATE,
                               .detail = "",
                               .flash_mode = 2,
                               .chip = CHIP_ESP8266,
                               .address = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, (uint8_t)(number >> 16),
                                            (uint8_t)(number >> 8), (uint8_t)number } };
    if (options.makes) {
        static const uint8_t loopback[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };
        memcpy(checkin.address, loopback, sizeof loopback);
    }
    struct candidate candidate = {
        .type = type, .form_count = 1, .file_md5 = { build }, .run_md5 = build, .served_max = 3
    };
    fleet_direct(&bench->fleet, &request.mac, type, false, NULL, &direction);
    fleet_permit(&bench->fleet, &request.mac, 1, &direction, &candidate, &bench->now, &permission);
    struct device *device = fleet_checked_in(&bench->fleet, &checkin, &bench->now, &verdict);
    assert(device != NULL);
}

static uint64_t random_state = 88172645463325252u;

/* Seconds of the loop's thread for so many check-ins of devices in any order. */
static double time_checkins(struct bench *bench, size_t devices, size_t checkins)
{
    uint32_t *order = malloc(checkins * sizeof *order);
    assert(order != NULL);
    for (size_t i = 0; i < checkins; i++) {
        order[i] = bench_below(&random_state, (uint32_t)devices);
    }
    uint64_t began_ns = cpu_ns(), flushed_ns = uv_hrtime();
    for (size_t i = 0; i < checkins; i++) {
        check_in(bench, order[i]);
        if (bench->queue != NULL && i % 64 == 0) { /* a turn of the loop takes so many connections */
            uint64_t now_ns = uv_hrtime();
            if (now_ns - flushed_ns > (uint64_t)FLUSH_MS * 1000000) {
                flush(bench);
                flushed_ns = now_ns;
            }
            (void)uv_run(&bench->loop, UV_RUN_NOWAIT);
        }
    }
    double seconds = (double)(cpu_ns() - began_ns) / 1e9;
    free(order);
    return seconds;
}

static void meet_all(struct bench *bench, size_t devices)
{
    for (size_t i = 0; i < devices; i++) {
        check_in(bench, (uint32_t)i);
    }
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

/* --- what is measured ---------------------------------------------------------------------------------------------*/

static double resident_bytes(void)
{
    char line[200] = "", *rest = line;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        rest = fgets(line, sizeof line, file);
        (void)fclose(file);
    }
    if (rest == NULL) {
        return 0;
    }
    (void)strtol(rest, &rest, 10); /* the whole address space */
    return (double)strtol(rest, NULL, 10) * (double)sysconf(_SC_PAGESIZE);
}

static void print_size(void)
{
    struct bench bench;
    double before = resident_bytes();
    (void)bench_open(&bench, NULL);
    meet_all(&bench, options.devices);
    double grown = resident_bytes() - before;
    printf("| bytes a device, of %zu: the table's own count | %.0f |\n", options.devices,
           (double)devices_bytes(bench.fleet.devices) / (double)options.devices);
    printf("| bytes a device: what the process grew by | %.0f |\n", grown / (double)options.devices);
    bench_close(&bench);
}

static void print_checkins(void)
{
    double few[RUNS_MAX], many[RUNS_MAX], ratio[RUNS_MAX];
    struct bench small, large;
    (void)bench_open(&small, NULL);
    (void)bench_open(&large, NULL);
    meet_all(&small, FEW);
    meet_all(&large, options.devices);
    for (size_t i = 0; i < options.runs; i++) { /* in turns: the machine's drift touches both */
        few[i] = time_checkins(&small, FEW, options.checkins) / (double)options.checkins * 1e9;
        many[i] = time_checkins(&large, options.devices, options.checkins) / (double)options.checkins * 1e9;
        ratio[i] = many[i] / few[i];
    }
    printf("| a check-in among %d devices | %.0f ns |\n", FEW, median(few, options.runs));
    printf("| a check-in among %zu devices | %.0f ns |\n", options.devices, median(many, options.runs));
    printf("| that divided by this | %.2f |\n", median(ratio, options.runs));
    bench_close(&small);
    bench_close(&large);
}

/* All have come, and nothing else changed: what a minute's writing of that costs. */
static void print_seen(struct bench *bench)
{
    uint64_t all_ns = spent_ns(CLOCK_PROCESS_CPUTIME_ID), loop_ns = 0, worst_ns = 0;
    for (unsigned second = 0; second < SEEN_WRITTEN_S; second++) {
        uint64_t began_ns = cpu_ns();
        journal_tick(bench->fleet.journal);
        uint64_t took_ns = cpu_ns() - began_ns;
        loop_ns += took_ns;
        worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
        write_all(bench);
    }
    all_ns = spent_ns(CLOCK_PROCESS_CPUTIME_ID) - all_ns;
    printf("| all were seen: CPU of a minute's writing, all threads | %.0f ms |\n", (double)all_ns / 1e6);
    printf("| of that the loop's | %.0f ms |\n", (double)loop_ns / 1e6);
    printf("| the longest turn of it | %.1f ms |\n", (double)worst_ns / 1e6);
}

static void print_start(const char *folder)
{
    struct bench bench;
    double seconds[RUNS_MAX];
    struct stat file;
    char path[400];
    snprintf(path, sizeof path, "%s/updraft.db", folder);
    (void)bench_open(&bench, folder);
    meet_all(&bench, options.devices);
    uint64_t began_ns = uv_hrtime();
    write_all(&bench);
    double written = (double)(uv_hrtime() - began_ns) / 1e9;
    uint64_t worst_ms = store_queue_view(bench.queue)->worst_ms;
    double flush_ms = bench.flush_worst_ms;
    print_seen(&bench);
    bench_close(&bench);
    for (size_t i = 0; i < options.runs; i++) {
        began_ns = uv_hrtime();
        size_t rows = bench_open(&bench, folder);
        seconds[i] = (double)(uv_hrtime() - began_ns) / 1e9;
        assert(rows >= options.devices);
        bench_close(&bench);
    }
    int found = stat(path, &file);
    printf("| %zu new devices written down | %.1f s |\n", options.devices, written);
    printf("| the longest batch meanwhile, on the writer's thread | %" PRIu64 " ms |\n", worst_ms);
    printf("| the longest turn to give rows to it, on the loop | %.1f ms |\n", flush_ms);
    printf("| their file | %.0f MB |\n", found == 0 ? (double)file.st_size / 1e6 : 0);
    printf("| a start with %zu devices, the file in the cache | %.2f s |\n", options.devices,
           median(seconds, options.runs));
}

static void print_rates(const char *folder)
{
    double off[RUNS_MAX], on[RUNS_MAX];
    struct bench without, with;
    (void)bench_open(&without, NULL);
    (void)bench_open(&with, folder);
    meet_all(&without, options.devices);
    uint64_t before = store_queue_view(with.queue)->written;
    for (size_t i = 0; i < options.runs; i++) {
        off[i] = (double)options.checkins / time_checkins(&without, options.devices, options.checkins);
        on[i] = (double)options.checkins / time_checkins(&with, options.devices, options.checkins);
    }
    printf("| check-ins a second of the loop's CPU, no store | %.0f |\n", median(off, options.runs));
    printf("| check-ins a second of the loop's CPU, SQLite behind | %.0f |\n", median(on, options.runs));
    printf("| of these written meanwhile | %.0f %% |\n", 100.0 *
                                                             (double)(store_queue_view(with.queue)->written - before) /
                                                             (double)(options.checkins * options.runs));
    write_all(&with);
    bench_close(&without);
    bench_close(&with);
}

/* A fleet's database, for others to begin with. */
static int make(const char *folder)
{
    struct bench bench;
    (void)bench_open(&bench, folder);
    meet_all(&bench, options.devices);
    write_all(&bench);
    bench_close(&bench);
    return 0;
}

/* --- main ---------------------------------------------------------------------------------------------------------*/

static void remove_folder(const char *folder)
{
    static const char *const names[] = { "updraft.db", "updraft.db-wal", "updraft.db-shm" };
    char path[400];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: bench_fleet [--devices N] [--checkins N] [--runs N] [--folder DIR]\n"
                          "       bench_fleet make [--devices N] [--folder DIR]\n");
    return 2;
}

static bool parse(int argc, char **argv)
{
    struct {
        const char *name;
        size_t *value;
        size_t max;
    } const numbers[] = { { "--devices", &options.devices, 2000000 },
                          { "--checkins", &options.checkins, 100000000 },
                          { "--runs", &options.runs, RUNS_MAX } };
    for (int i = 1; i < argc; i += 2) {
        bool taken = i + 1 < argc && strcmp(argv[i], "--folder") == 0;
        if (taken) {
            options.folder = argv[i + 1];
        }
        for (size_t k = 0; i + 1 < argc && k < sizeof numbers / sizeof numbers[0]; k++) {
            if (strcmp(argv[i], numbers[k].name) == 0) {
                *numbers[k].value = strtoul(argv[i + 1], NULL, 10);
                taken = *numbers[k].value > 0 && *numbers[k].value <= numbers[k].max;
            }
        }
        if (!taken) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    char folder[300];
    options.makes = argc > 1 && strcmp(argv[1], "make") == 0;
    if (!parse(argc - options.makes, argv + options.makes)) {
        return usage();
    }
    if (options.makes) {
        return make(options.folder);
    }
    snprintf(folder, sizeof folder, "%s/updraft-bench-XXXXXX", options.folder);
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    printf("| what | medians of %zu |\n| --- | ---: |\n", options.runs);
    print_size();
    print_checkins();
    print_start(folder);
    print_rates(folder);
    remove_folder(folder);
    return 0;
}
