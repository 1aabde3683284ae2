/* A device's life is a ring: rest, (window,) ask, download, flash, reboot, ask again. One timer serves all waiting: the
 * state says what its end means. What makes it hard is that a misbehaviour may leave the ring at any point, and that
 * the hooks of a download are called in the middle of the client's work: whatever ends the download forgets it first.
 */
#include "tests/sim/device.h"

#include "tests/sim/device_inside.h"
#include "tests/sim/fleet.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EAGER_CHECKS 20
#define RETRIES_MAX  5
#define FLASHES_MAX  10 /* without a confirmation: real ones would go on until the flash wears out */

static void on_window_over(struct device *device);
static void on_flashed(struct device *device);
static void on_booted(struct device *device);
static void on_retry(struct device *device);

static const struct {
    const char *word;
    bool rests;
} state_facts[] = {
#define X(name, word, rests) { word, rests },
    DEVICE_STATE_LIST(X)
#undef X
};

/* What the timer's end means; where it is missing, no timer runs. */
static void (*const on_time[DEVICE_STATE_COUNT])(struct device *device) = {
    [DEVICE_WAITING] = on_window_over, [DEVICE_STALLED] = device_stall_over, [DEVICE_FLASHING] = on_flashed,
    [DEVICE_REBOOTING] = on_booted,    [DEVICE_FAILED] = on_retry,
};

const char *device_state_word(enum device_state state)
{
    assert(state < DEVICE_STATE_COUNT);
    return state_facts[state].word;
}

bool device_state_rests(enum device_state state)
{
    assert(state < DEVICE_STATE_COUNT);
    return state_facts[state].rests;
}

static void on_timer(uv_timer_t *timer)
{
    struct device *device = timer->data;
    assert(on_time[device->state] != NULL);
    on_time[device->state](device);
}

void device_set_state(struct device *device, enum device_state state, const char *detail)
{
    enum device_state from = device->state;
    uv_timer_stop(&device->timer);
    device->state = state;
    fleet_state_changed(device, from, detail);
}

/* A state that ends by itself. Waiting that belongs to the device is scaled, what belongs to a socket is not. */
void device_set_state_for(struct device *device, enum device_state state, double ms)
{
    device_set_state(device, state, NULL);
    uv_timer_start(&device->timer, on_timer, (uint64_t)ms, 0);
}

double device_scaled(const struct device *device, uint64_t ms)
{
    return (double)ms * device->fleet->options->time_scale;
}

/* --- what it tells over MQTT -------------------------------------------------------------------------------------- */

void device_topic(const struct device *device, const char *last, char to[DEVICE_TOPIC_SIZE])
{
    snprintf(to, DEVICE_TOPIC_SIZE, "updraft/%s/%s/%s", device->type->name, device->mac_text, last);
}

void device_tell(struct device *device, const char *state, const char *version, const char *error)
{
    char topic[DEVICE_TOPIC_SIZE];
    if (!device->fleet->options->report) {
        return;
    }
    json_t *object = json_pack("{s:s, s:s*, s:s*}", "state", state, "version", version, "error", error);
    char *payload = json_dumps(object, JSON_COMPACT);
    device_topic(device, "status", topic);
    if (payload != NULL) { /* a label that is no UTF-8 cannot be told */
        mqtt_link_publish(device, topic, payload, false);
    }
    free(payload);
    json_decref(object);
}

/* --- rest --------------------------------------------------------------------------------------------------------- */

bool device_has_fault(const struct device *device, enum misbehaviour misbehaviour)
{
    return device->misbehaviour == misbehaviour && device->faults_left > 0;
}

bool device_use_fault(struct device *device, enum misbehaviour misbehaviour)
{
    bool has = device_has_fault(device, misbehaviour);
    device->faults_left -= has;
    return has;
}

static void start_round(struct device *device)
{
    device->rolled_back = false;
    device->flashes = 0;
    device->eager_left = EAGER_CHECKS;
    device->retries_left = RETRIES_MAX;
}

void device_start_life(struct device *device)
{
    device->state = DEVICE_STARTING;
    start_round(device);
}

void device_obey(struct device *device, const struct command *command)
{
    device->command = command;
    device->waiting = NULL;
    device->url = &command->url;
    device->fs = command->fs;
    start_round(device);
    if (command->window_ms == 0) {
        device_ask(device);
    } else {
        device_set_state_for(device, DEVICE_WAITING,
                             device_scaled(device, draw_below(&device->draw, command->window_ms + 1)));
    }
}

/* A round is over. A command that came meanwhile is next. */
static void rest(struct device *device, enum device_state state, const char *detail)
{
    device->command = NULL;
    device_set_state(device, state, detail);
    if (device->waiting != NULL) {
        device_obey(device, device->waiting);
    }
}

/* "runs 0_4_10 (same-digest)" */
static void rest_running(struct device *device, enum device_state state, const char *why)
{
    char detail[128];
    const char *version = device->fs ? device->fs_version : device->running.version;
    snprintf(detail, sizeof detail, "runs %s%s%s%s%s", device->fs ? "file system " : "",
             version[0] != '\0' ? version : "a sketch without version", why[0] != '\0' ? " (" : "", why,
             why[0] != '\0' ? ")" : "");
    rest(device, state, detail);
}

void device_fail(struct device *device, const char *error)
{
    const struct options *options = device->fleet->options;
    snprintf(device->error, sizeof device->error, "%s", error);
    device_tell(device, "failed", NULL, error);
    const struct command *command = device->command;
    rest(device, DEVICE_FAILED, error);
    if (device->state == DEVICE_FAILED && options->retry_ms > 0 && device->retries_left > 0) {
        device->retries_left--;
        device->command = command; /* it is that one's label that the next attempt may bring */
        uv_timer_start(&device->timer, on_timer, (uint64_t)device_scaled(device, options->retry_ms), 0);
    }
}

static void on_window_over(struct device *device)
{
    device_ask(device);
}

static void on_retry(struct device *device)
{
    device_ask(device);
}

static void on_poll(uv_timer_t *timer)
{
    struct device *device = timer->data;
    if (device_state_rests(device->state) && device->state != DEVICE_GONE) {
        device->fs = false;
        device->url = device->type->has_url ? &device->type->url : device->url; /* a command's is for that command */
        start_round(device);
        device_ask(device);
    }
}

/* The first turn ends when the server has answered the first check, or where none is made. */
void device_begin(struct device *device)
{
    const struct options *options = device->fleet->options;
    if (device->began) {
        return;
    }
    device->began = true;
    fleet_turn_over(device);
    if (options->poll_ms > 0) {
        uint64_t every_ms = (uint64_t)device_scaled(device, options->poll_ms);
        every_ms = every_ms > 0 ? every_ms : 1;
        uv_timer_start(&device->poll, on_poll, draw_below(&device->draw, every_ms), every_ms);
    }
    if (device->state == DEVICE_STARTING) {
        rest_running(device, DEVICE_IDLE, "");
    }
    fleet_device_ready(device->fleet);
}

/* A 304 says either that the device runs the right image, or why it gets none. A server without reasons says the
 * former. */
static bool runs_the_right_one(const struct device *device)
{
    static const char *const words[] = { "", "same-digest", "up-to-date", "device-newer", "not-modified" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(device->last_reason, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* 304: nothing newer, or not now. */
void device_settle(struct device *device)
{
    bool right = runs_the_right_one(device);
    if (device->unconfirmed && right) {
        device->unconfirmed = false;
        device->confirmations++;
        device->type->counts.confirmations++;
        device->fleet->last_confirmation_ms = uv_now(device->fleet->loop);
    }
    if (device_has_fault(device, MISBEHAVIOUR_EAGER) && device->eager_left > 0) {
        device->eager_left--;
        device_ask(device);
    } else if (device->rolled_back) {
        device_fail(device, "runs the old image again (--old-image)");
    } else if (!right) {
        rest(device, DEVICE_HELD, device->last_reason);
    } else {
        rest_running(device, device->confirmations > 0 ? DEVICE_CONFIRMED : DEVICE_IDLE, device->last_reason);
    }
}

/* --- flashing and rebooting --------------------------------------------------------------------------------------- */

static void on_flashed(struct device *device)
{
    device_tell(device, "flashed", device->next.version, NULL);
    if (device_use_fault(device, MISBEHAVIOUR_NEVER_REBOOT)) {
        mqtt_link_cut(device);
        device_set_state(device, DEVICE_GONE, "does not start again (--never-reboot)");
        return;
    }
    mqtt_link_cut(device);
    fleet_turn_over(device);
    device->type->counts.lost += device->waiting != NULL; /* what was in its memory is gone */
    device->waiting = NULL;
    device_set_state_for(device, DEVICE_REBOOTING, device_scaled(device, device->fleet->options->reboot_ms));
}

static void start_next(struct device *device)
{
    if (device->fs) {
        memcpy(device->fs_version, device->next.version, sizeof device->fs_version);
    } else {
        device->running = device->next;
    }
    device->unconfirmed = true;
}

static void on_booted(struct device *device)
{
    device->command = NULL;
    device->rolled_back = device_use_fault(device, MISBEHAVIOUR_OLD_IMAGE);
    if (!device->rolled_back) {
        start_next(device);
    }
    if (device->fleet->options->has_mqtt) {
        device->link.wanted = true;
        fleet_want_turn(device);
    }
    if (++device->flashes > FLASHES_MAX) {
        device_fail(device, "flashed too often");
        return;
    }
    device_ask(device);
}

/* --- the link ----------------------------------------------------------------------------------------------------- */

/* The first turn goes on until the server has answered, where it is asked at the start. */
static void begin_asking(struct device *device)
{
    if (!device->began && device->fleet->options->check_in) {
        if (device->state == DEVICE_STARTING) {
            device_ask(device);
        }
        return;
    }
    device_begin(device);
    fleet_turn_over(device);
}

void device_turn(struct device *device)
{
    if (!device->fleet->options->has_mqtt) {
        begin_asking(device);
    } else if (device->link.wanted && device->link.session == NULL) {
        mqtt_link_connect(device);
    } else {
        fleet_turn_over(device);
    }
}

void device_linked(struct device *device)
{
    char topic[DEVICE_TOPIC_SIZE];
    fleet_event(device->fleet);
    if (device->fleet->options->report) {
        device_topic(device, "online", topic);
        mqtt_link_publish(device, topic, "1", true);
        device_tell(device, "running", device->running.version, NULL);
    }
    begin_asking(device);
}

void device_unlinked(struct device *device)
{
    fleet_turn_over(device);
}
