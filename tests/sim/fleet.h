/* All devices: who they are, whose turn it is to connect, what they saw, and when it is over.
 *
 * One thread, one loop. Devices are there from fleet_new to fleet_free.
 */
#ifndef TESTS_SIM_FLEET_H
#define TESTS_SIM_FLEET_H

#include "tests/sim/command.h"
#include "tests/sim/device.h"
#include "tests/sim/image_stream.h"
#include "tests/sim/options.h"
#include "tests/sim/report.h"

#include <uv.h>

#define CHANGES_SHOWN_DEVICES 20 /* with more, a line for each change would hide the summary */

struct device_type {
    char name[TYPE_NAME_MAX + 1];
    bool esp32;
    bool has_url; /* of --server */
    struct url url;
    const char *image;               /* file that its devices run at the start; NULL = a build nobody knows */
    struct image_result *initial[4]; /* of that file, by flash mode; made when first needed */
    size_t devices;
    struct counts counts;
};

/* An image that was taken: what a device of that flash mode reports of it. */
struct known_image {
    struct image_taker taker;
    struct image_result result;
    const struct device_type *type; /* whose device got it first */
};

struct violation_seen {
    enum violation violation;
    char mac[13];
    char type[TYPE_NAME_MAX + 1];
    char detail[120];
};

struct fleet {
    const struct options *options;
    uv_loop_t *loop;
    struct device *devices;
    size_t count;
    struct device_type types[OPTIONS_TYPES_MAX];
    size_t type_count;
    struct command_book *book;
    struct known_image *images;
    size_t image_count;

    struct {
        uint64_t connected, connects, lost, refused;
    } mqtt;
    uint64_t violations[VIOLATION_COUNT];
    struct violation_seen seen[VIOLATIONS_KEPT_MAX];
    size_t seen_count;
    size_t confirmed, busy, ready;                                                                  /* devices */
    uint64_t started_ms, ready_ms, first_command_ms, last_confirmation_ms, last_event_ms, ended_ms; /* 0 = not yet */

    struct device *turn_first, *turn_last; /* who waits to connect */
    size_t turns_taken;
    bool giving_turns, stopping;
    unsigned phase;
    uv_timer_t tick, duration;
    uv_signal_t on_int, on_term;
};

/* Returns NULL, having said why on stderr. */
struct fleet *fleet_new(const struct options *options, uv_loop_t *loop);
void fleet_start(struct fleet *fleet);
void fleet_free(struct fleet *fleet); /* when the loop has ended */

void fleet_stop(struct fleet *fleet); /* closes all handles, so that the loop ends */

/* Turns: device_turn is called, perhaps at once, and keeps its slot until fleet_turn_over. */
void fleet_want_turn(struct device *device);
void fleet_turn_over(struct device *device);

/* What devices tell. */
void fleet_event(struct fleet *fleet);
void fleet_device_ready(struct fleet *fleet);
void fleet_refused(struct fleet *fleet, const char *what);
void fleet_unreached(struct fleet *fleet); /* a link that could not be made was counted as lost */
void fleet_state_changed(struct device *device, enum device_state from, const char *detail);

/* The outcome of an image with this MD5 for such a device, or NULL; and an outcome to remember. */
const struct image_result *fleet_known_image(const struct fleet *fleet, const uint8_t md5[16],
                                             const struct image_taker *taker);
void fleet_image_taken(struct device *device, const struct image_taker *taker, const struct image_result *result);

#endif
