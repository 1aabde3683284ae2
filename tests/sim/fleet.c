/* All devices together. What makes it hard is the start: 5,000 connections at once overrun a broker's listen queue and
 * then wait for the kernel's retries, so connections are made in turns, `ramp` of them under way at a time. */
#include "tests/sim/fleet.h"

#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS     100
#define TICK_PHASES 10 /* each device is ticked once a second */
#define IMAGES_MAX  512

/* --- turns -------------------------------------------------------------------------------------------------------- */

/* Flat, however many turns end at once: a connection that fails on the spot gives its turn back before device_turn
 * returns. */
static void give_turns(struct fleet *fleet)
{
    if (fleet->giving_turns || fleet->stopping) {
        return;
    }
    fleet->giving_turns = true;
    while (fleet->turn_first != NULL && fleet->turns_taken < fleet->options->ramp) {
        struct device *device = fleet->turn_first;
        fleet->turn_first = device->turn_next;
        device->turn_wanted = false;
        device->turn_taken = true;
        fleet->turns_taken++;
        device_turn(device);
    }
    fleet->giving_turns = false;
}

void fleet_want_turn(struct device *device)
{
    struct fleet *fleet = device->fleet;
    if (!device->turn_wanted && !device->turn_taken) {
        device->turn_wanted = true;
        device->turn_next = NULL;
        if (fleet->turn_first == NULL) {
            fleet->turn_first = device;
        } else {
            fleet->turn_last->turn_next = device;
        }
        fleet->turn_last = device;
    }
    give_turns(fleet);
}

void fleet_turn_over(struct device *device)
{
    if (device->turn_taken) {
        device->turn_taken = false;
        device->fleet->turns_taken--;
        give_turns(device->fleet);
    }
}

/* --- what devices tell -------------------------------------------------------------------------------------------- */

void fleet_event(struct fleet *fleet)
{
    fleet->last_event_ms = uv_now(fleet->loop);
}

void fleet_device_ready(struct fleet *fleet)
{
    fleet_event(fleet);
    if (++fleet->ready == fleet->count) {
        fleet->ready_ms = uv_now(fleet->loop);
        printf("ready %zu devices%s\n", fleet->count, fleet->options->has_mqtt ? " connected" : "");
        fflush(stdout);
    }
}

void fleet_refused(struct fleet *fleet, const char *what)
{
    if (fleet->mqtt.refused++ == 0) { /* the others will be refused for the same reason */
        fprintf(stderr, "updraft-sim: the broker refuses: %s; see its log, and user and password in --mqtt\n", what);
    }
}

void fleet_unreached(struct fleet *fleet)
{
    const struct url *broker = &fleet->options->mqtt;
    if (fleet->mqtt.connects == 0 && fleet->mqtt.lost == 1 && fleet->mqtt.refused == 0) {
        fprintf(stderr, "updraft-sim: no connection to the broker at %s port %u: is it there? (--mqtt) Trying on.\n",
                broker->host, (unsigned)broker->port);
    }
}

static void show_change(const struct device *device, const char *detail)
{
    const struct fleet *fleet = device->fleet;
    bool has_detail = detail != NULL && detail[0] != '\0';
    if (fleet->count <= CHANGES_SHOWN_DEVICES && !fleet->options->quiet) {
        char shown[512];
        text_escape(slice_of(has_detail ? detail : ""), shown, sizeof shown); /* names and labels are foreign */
        printf("%s %s %s%s%s\n", device->mac_text, device->type->name, device_state_word(device->state),
               has_detail ? ": " : "", shown);
        fflush(stdout);
    }
}

void fleet_state_changed(struct device *device, enum device_state from, const char *detail)
{
    struct fleet *fleet = device->fleet;
    fleet_event(fleet);
    fleet->busy += device_state_rests(from);
    fleet->busy -= device_state_rests(device->state);
    fleet->confirmed -= from == DEVICE_CONFIRMED;
    fleet->confirmed += device->state == DEVICE_CONFIRMED;
    show_change(device, detail);
    if (fleet->options->until == UNTIL_CONFIRMED && fleet->confirmed >= fleet->options->until_count) {
        uv_stop(fleet->loop); /* not now: a device is in the middle of something */
    }
}

/* --- images ------------------------------------------------------------------------------------------------------- */

static bool takes_alike(const struct image_taker *one, const struct image_taker *other)
{
    return one->esp32 == other->esp32 && one->fs == other->fs && one->flash_mode == other->flash_mode;
}

const struct image_result *fleet_known_image(const struct fleet *fleet, const uint8_t md5[16],
                                             const struct image_taker *taker)
{
    for (size_t i = 0; i < fleet->image_count; i++) {
        const struct known_image *image = &fleet->images[i];
        if (takes_alike(&image->taker, taker) && memcmp(image->result.sent_md5, md5, 16) == 0) {
            return &image->result;
        }
    }
    return NULL;
}

/* The bytes tell no type. But two types have two images, unless said otherwise. */
static void check_type(struct device *device, const struct image_result *result)
{
    const struct fleet *fleet = device->fleet;
    char detail[120];
    for (size_t i = 0; i < fleet->image_count && !fleet->options->same_images; i++) {
        const struct known_image *image = &fleet->images[i];
        if (image->type != device->type && memcmp(image->result.sent_md5, result->sent_md5, 16) == 0) {
            snprintf(detail, sizeof detail, "%.60s, had by %.40s too", device->body_file, image->type->name);
            report_violation(device, VIOLATION_OTHERS_IMAGE, detail);
            return;
        }
    }
}

void fleet_image_taken(struct device *device, const struct image_taker *taker, const struct image_result *result)
{
    struct fleet *fleet = device->fleet;
    check_type(device, result);
    if (fleet_known_image(fleet, result->sent_md5, taker) == NULL && fleet->image_count < IMAGES_MAX) {
        fleet->images[fleet->image_count++] = (struct known_image){ *taker, *result, device->type };
    }
}

/* --- beginning ---------------------------------------------------------------------------------------------------- */

static bool is_esp32(const struct options *options, size_t type)
{
    bool named = false;
    for (size_t i = 0; i < options->type_count; i++) {
        named = named || strstr(options->types[i].name, "32") != NULL;
    }
    bool mixed = named ? strstr(options->types[type].name, "32") != NULL : type % 2 == 1;
    return options->family == FAMILY_ESP32 || (options->family == FAMILY_MIXED && mixed);
}

/* What a device of that flash mode reports once this file runs on it. Returns NULL, with errno, where it cannot be
 * read. */
static struct image_result *digest_file(const char *path, const struct image_taker *taker)
{
    uint8_t bytes[16384];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    struct image_result *result = calloc(1, sizeof *result);
    struct image_stream *stream = image_stream_new(taker, NULL);
    size_t n;
    assert(result != NULL);
    do {
        n = fread(bytes, 1, sizeof bytes, file);
        image_stream_add(stream, bytes, n);
    } while (n == sizeof bytes);
    if (ferror(file)) { /* a folder, too, is opened without complaint */
        free(result);
        result = NULL;
    } else {
        image_stream_result(stream, result);
    }
    image_stream_free(stream);
    int error = errno;
    fclose(file);
    errno = error;
    return result;
}

static bool read_initial(struct device_type *type, const char *path)
{
    for (unsigned mode = 0; mode < 4; mode++) {
        struct image_taker taker = { type->esp32, false, (uint8_t)mode };
        free(type->initial[mode]);
        type->initial[mode] = digest_file(path, &taker);
        if (type->initial[mode] == NULL) {
            fprintf(stderr, "updraft-sim: --image %s: %s\n", path, strerror(errno));
            return false;
        }
    }
    enum image_family family = type->initial[0]->family;
    bool fits = family == IMAGE_FAMILY_UNKNOWN || (family == IMAGE_FAMILY_ESP32) == type->esp32;
    if (!fits) {
        fprintf(stderr, "updraft-sim: --image %s is for an %s, but %s is of the other family; see --family\n", path,
                type->esp32 ? "ESP8266" : "ESP32", type->name);
    }
    return fits;
}

/* --image FILE for all, --image TYPE=FILE for one; the last word counts. */
static bool read_images(struct fleet *fleet)
{
    const struct options *options = fleet->options;
    for (size_t i = 0; i < options->image_count; i++) {
        const char *equals = strchr(options->images[i], '=');
        size_t n = equals != NULL ? (size_t)(equals - options->images[i]) : 0;
        bool found = false;
        for (size_t t = 0; t < fleet->type_count; t++) {
            struct device_type *type = &fleet->types[t];
            bool meant = equals == NULL || (strlen(type->name) == n && memcmp(type->name, options->images[i], n) == 0);
            found = found || meant;
            if (meant && !read_initial(type, equals != NULL ? equals + 1 : options->images[i])) {
                return false;
            }
        }
        if (!found) {
            fprintf(stderr, "updraft-sim: --image %s: no such type among --types\n", options->images[i]);
            return false;
        }
    }
    return true;
}

static bool make_types(struct fleet *fleet)
{
    const struct options *options = fleet->options;
    for (size_t i = 0; i < options->type_count; i++) {
        struct device_type *type = &fleet->types[fleet->type_count++];
        char url[sizeof options->server + TYPE_NAME_MAX + 16];
        memcpy(type->name, options->types[i].name, sizeof type->name);
        type->esp32 = is_esp32(options, i);
        snprintf(url, sizeof url, "%s/update/%s", options->server, type->name);
        type->has_url = options->server[0] != '\0' && url_parse(url, "http", 80, &type->url);
        if (options->server[0] != '\0' && !type->has_url) {
            fprintf(stderr, "updraft-sim: --server %s: http://HOST[:PORT] is wanted\n", options->server);
            return false;
        }
    }
    return read_images(fleet);
}

/* Round robin, each type as often in a round as its weight says. */
static struct device_type *type_of(struct fleet *fleet, size_t index)
{
    uint64_t round = 0;
    for (size_t i = 0; i < fleet->type_count; i++) {
        round += fleet->options->types[i].weight;
    }
    assert(round > 0);
    uint64_t place = index % round;
    size_t type = 0;
    while (place >= fleet->options->types[type].weight) {
        place -= fleet->options->types[type++].weight;
    }
    return &fleet->types[type];
}

/* Of each pair of one type, the second takes the first's MAC. One without a partner is an ordinary device. */
static void pair_twins(struct fleet *fleet)
{
    for (size_t t = 0; t < fleet->type_count; t++) {
        struct device *first = NULL;
        for (size_t i = 0; i < fleet->count; i++) {
            struct device *device = &fleet->devices[i];
            if (device->misbehaviour != MISBEHAVIOUR_TWINS || device->type != &fleet->types[t]) {
                continue;
            }
            if (first != NULL) {
                memcpy(device->mac, first->mac, sizeof device->mac);
                memcpy(device->mac_text, first->mac_text, sizeof device->mac_text);
            }
            first = first == NULL ? device : NULL;
        }
        if (first != NULL) {
            first->misbehaviour = MISBEHAVIOUR_NONE;
        }
    }
}

static void make_devices(struct fleet *fleet)
{
    const struct options *options = fleet->options;
    enum misbehaviour *chosen = calloc(fleet->count, sizeof *chosen);
    fleet->devices = calloc(fleet->count, sizeof *fleet->devices);
    assert(chosen != NULL && fleet->devices != NULL);
    misbehaviour_choose(options->shares, options->seed, chosen, fleet->count);
    for (size_t i = 0; i < fleet->count; i++) {
        device_init(&fleet->devices[i], fleet, (uint32_t)(i + 1), type_of(fleet, i), chosen[i]);
    }
    free(chosen);
    pair_twins(fleet);
    fleet->busy = fleet->count;
}

struct fleet *fleet_new(const struct options *options, uv_loop_t *loop)
{
    struct fleet *fleet = calloc(1, sizeof *fleet);
    assert(fleet != NULL);
    fleet->options = options;
    fleet->loop = loop;
    fleet->book = command_book_new();
    fleet->images = calloc(IMAGES_MAX, sizeof *fleet->images);
    assert(fleet->images != NULL);
    if (!make_types(fleet)) {
        fleet_free(fleet);
        return NULL;
    }
    fleet->count = (size_t)options->devices;
    make_devices(fleet);
    return fleet;
}

void fleet_free(struct fleet *fleet)
{
    for (size_t i = 0; i < fleet->count; i++) {
        device_free(&fleet->devices[i]);
    }
    for (size_t t = 0; t < fleet->type_count; t++) {
        for (unsigned mode = 0; mode < 4; mode++) {
            free(fleet->types[t].initial[mode]);
        }
    }
    command_book_free(fleet->book);
    free(fleet->images);
    free(fleet->devices);
    free(fleet);
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void tick_device(struct device *device, uint64_t now_ms)
{
    mqtt_link_tick(device);
    if (device->link.wanted && device->link.session == NULL && device->link.retry_at_ms != 0 &&
        device->link.retry_at_ms <= now_ms) {
        device->link.retry_at_ms = 0;
        fleet_want_turn(device);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct fleet *fleet = timer->data;
    const struct options *options = fleet->options;
    uint64_t now_ms = uv_now(fleet->loop);
    fleet->phase = (fleet->phase + 1) % TICK_PHASES;
    for (size_t i = fleet->phase; i < fleet->count; i += TICK_PHASES) {
        tick_device(&fleet->devices[i], now_ms);
    }
    bool idle = fleet->ready == fleet->count && fleet->busy == 0 && now_ms - fleet->last_event_ms >= options->idle_ms;
    if (options->until == UNTIL_IDLE && idle) {
        uv_stop(fleet->loop);
    }
}

static void on_duration(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    uv_stop(signal->loop);
}

void fleet_start(struct fleet *fleet)
{
    uv_loop_t *loop = fleet->loop;
    uv_timer_init(loop, &fleet->tick);
    uv_timer_init(loop, &fleet->duration);
    uv_signal_init(loop, &fleet->on_int);
    uv_signal_init(loop, &fleet->on_term);
    fleet->tick.data = fleet;
    uv_timer_start(&fleet->tick, on_tick, TICK_MS, TICK_MS);
    if (fleet->options->duration_ms > 0) {
        uv_timer_start(&fleet->duration, on_duration, fleet->options->duration_ms, 0);
    }
    uv_signal_start(&fleet->on_int, on_signal, SIGINT);
    uv_signal_start(&fleet->on_term, on_signal, SIGTERM);
    uv_update_time(loop);
    fleet->started_ms = uv_now(loop);
    fleet_event(fleet);
    for (size_t i = 0; i < fleet->count; i++) {
        fleet_want_turn(&fleet->devices[i]);
    }
}

void fleet_stop(struct fleet *fleet)
{
    fleet->stopping = true;
    for (size_t i = 0; i < fleet->count; i++) {
        device_close(&fleet->devices[i]);
    }
    uv_close((uv_handle_t *)&fleet->tick, NULL);
    uv_close((uv_handle_t *)&fleet->duration, NULL);
    uv_close((uv_handle_t *)&fleet->on_int, NULL);
    uv_close((uv_handle_t *)&fleet->on_term, NULL);
}
