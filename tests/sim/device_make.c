/* A device's birth and end. All that it is comes from its number, its type and its own draws. */
#include "tests/sim/device_inside.h"

#include "base/text.h"
#include "tests/sim/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKETCH_BYTES_MIN 262144

static void set_mac(struct device *device, uint64_t number)
{
    static const uint8_t makers[2][3] = { { 0x5c, 0xcf, 0x7f }, { 0x24, 0x0a, 0xc4 } };
    memcpy(device->mac, makers[device->type->esp32], 3);
    device->mac[3] = (uint8_t)(number >> 16);
    device->mac[4] = (uint8_t)(number >> 8);
    device->mac[5] = (uint8_t)number;
    hex_encode(device->mac, sizeof device->mac, device->mac_text);
}

/* A build that nobody has: whatever the server makes of an unknown digest. */
static void draw_build(struct device *device)
{
    for (size_t i = 0; i < sizeof device->running.md5; i++) {
        device->running.md5[i] = (uint8_t)draw_number(&device->draw);
    }
    for (size_t i = 0; i < sizeof device->running.sha256; i++) {
        device->running.sha256[i] = (uint8_t)draw_number(&device->draw);
    }
    device->running.bytes = SKETCH_BYTES_MIN + 16 * (uint32_t)draw_below(&device->draw, 8192);
}

static void set_build(struct device *device)
{
    const struct image_result *initial = device->type->initial[device->flash_mode];
    draw_build(device);
    if (initial != NULL) {
        memcpy(device->running.md5, initial->md5, sizeof initial->md5);
        memcpy(device->running.sha256, initial->sha256, sizeof initial->sha256);
        device->running.bytes = initial->bytes;
    }
    snprintf(device->running.version, sizeof device->running.version, "%s", device->fleet->options->version);
    memcpy(device->fs_version, device->running.version, sizeof device->fs_version);
}

void device_init(struct device *device, struct fleet *fleet, uint32_t number, struct device_type *type,
                 enum misbehaviour misbehaviour)
{
    const struct options *options = fleet->options;
    device->fleet = fleet;
    device->type = type;
    device->number = number;
    device->draw = draw_of(options->seed, number);
    device->misbehaviour = misbehaviour;
    device->faults_left = options->faults > 0 ? options->faults : UINT64_MAX;
    device_start_life(device);
    unsigned mode = (unsigned)draw_below(&device->draw, 4);
    device->flash_mode = (uint8_t)(options->flash_mode == FLASH_MODE_MIXED ? mode : options->flash_mode);
    device->flash_bytes = options->flash_bytes[draw_below(&device->draw, options->flash_count)];
    device->url = type->has_url ? &type->url : NULL;
    device->link.wanted = options->has_mqtt;
    set_mac(device, options->first + number - 1);
    set_build(device);
    uv_timer_init(fleet->loop, &device->timer);
    uv_timer_init(fleet->loop, &device->poll);
    device->timer.data = device;
    device->poll.data = device;
    type->devices++;
}

void device_close(struct device *device)
{
    if (device->get != NULL) {
        http_abort(device->get);
    }
    device_forget_download(device);
    mqtt_link_cut(device);
    uv_close((uv_handle_t *)&device->timer, NULL);
    uv_close((uv_handle_t *)&device->poll, NULL);
}

void device_free(struct device *device)
{
    free(device->commands);
}
