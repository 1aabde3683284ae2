/* updraft-sim: a fleet of simulated devices in one thread, for tests, benchmarks and capacity planning. Read device.c
 * for what a device does; here is only the frame around the loop. */
#include "tests/sim/fleet.h"

#include <inttypes.h>
#include <mosquitto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>

/* A device holds four descriptors at most: libmosquitto's three, and a download; or two, at a small price. */
static void raise_limit(uint64_t devices)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= 4 * devices + 32) {
        return;
    }
    mqtt_link_save_descriptors();
    if (limit.rlim_cur < 2 * devices + 32) {
        fprintf(stderr,
                "updraft-sim: at most %" PRIu64 " files may be open, %" PRIu64
                " devices may want two each: raise `ulimit -Hn`, or start several simulators with --first\n",
                (uint64_t)limit.rlim_cur, devices);
    }
}

static bool set_seed(struct options *options)
{
    if (!options->has_seed) {
        uint32_t seed; /* short enough to be typed again */
        if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
            perror("updraft-sim: getrandom");
            return false;
        }
        options->seed = seed;
    }
    printf("seed %" PRIu64 "\n", options->seed);
    fflush(stdout);
    return true;
}

static int run(const struct options *options)
{
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct fleet *fleet = fleet_new(options, &loop);
    if (fleet == NULL) {
        uv_loop_close(&loop);
        return 2;
    }
    fleet_start(fleet);
    uv_run(&loop, UV_RUN_DEFAULT); /* until something calls uv_stop */
    fleet->ended_ms = uv_now(&loop);
    if (!options->quiet) {
        report_text(fleet, stdout);
        fflush(stdout);
    }
    bool ok = options->json == NULL || report_json(fleet, options->json);
    ok = ok && fleet->seen_count == 0;
    fleet_stop(fleet);
    uv_run(&loop, UV_RUN_DEFAULT);
    fleet_free(fleet);
    int left = uv_loop_close(&loop);
    return ok && left == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct options options;
    if (!options_parse(&options, argc, argv)) {
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_limit(options.devices);
    if (!set_seed(&options)) {
        return 2;
    }
    mosquitto_lib_init();
    int code = run(&options);
    mosquitto_lib_cleanup();
    return code;
}
