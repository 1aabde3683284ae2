/* Commands: heard by all of a type or by one, obeyed once. A device that is busy obeys when it is done; what it has in
 * memory is lost when it reboots. */
#include "tests/sim/device_inside.h"

#include "tests/sim/fleet.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A command that came by the wrong topic, or whose address is another type's. */
static bool is_for_other_type(const struct device *device, const char *topic, const struct command *command)
{
    static const char update[] = "/update/";
    char own[DEVICE_TOPIC_SIZE], all[DEVICE_TOPIC_SIZE];
    device_topic(device, "update", own);
    snprintf(all, sizeof all, "updraft/%s/update", device->type->name);
    if (strcmp(topic, own) != 0 && strcmp(topic, all) != 0) {
        return true;
    }
    const char *path = command->url.path;
    if (strncmp(path, update, sizeof update - 1) != 0) {
        return false;
    }
    path += sizeof update - 1;
    size_t n = strcspn(path, "/?");
    return n != strlen(device->type->name) || memcmp(path, device->type->name, n) != 0;
}

static bool is_duplicate(const struct device *device, const struct command *command)
{
    for (size_t i = device->command_count; i > 0; i--) {
        if (strcmp(device->commands[i - 1]->id, command->id) == 0) {
            return command->id[0] != '\0';
        }
    }
    return false;
}

static void remember(struct device *device, const struct command *command)
{
    size_t n = device->command_count;
    if ((n & (n - 1)) == 0) { /* room is doubled at each power of two */
        const struct command **larger = realloc(device->commands, (n == 0 ? 1 : 2 * n) * sizeof(void *));
        assert(larger != NULL);
        device->commands = larger;
    }
    device->commands[device->command_count++] = command;
}

static void take_command(struct device *device, const struct command *command)
{
    if (device->misbehaviour == MISBEHAVIOUR_SILENT) {
        device->type->counts.ignored++;
    } else if (device->state == DEVICE_WAITING || (device_state_rests(device->state) && device->state != DEVICE_GONE)) {
        device_obey(device, command);
    } else {
        device->type->counts.lost += device->waiting != NULL;
        device->waiting = command;
    }
}

void device_commanded(struct device *device, const char *topic, const void *payload, size_t n)
{
    struct counts *counts = &device->type->counts;
    struct fleet *fleet = device->fleet;
    const struct command *command = command_read(fleet->book, payload, n);
    fleet_event(fleet);
    if (!command->valid) {
        counts->malformed++;
        return;
    }
    if (is_for_other_type(device, topic, command)) {
        report_violation(device, VIOLATION_OTHER_TYPE, topic);
        return;
    }
    if (is_duplicate(device, command)) {
        counts->duplicates++;
        return;
    }
    counts->commands++;
    fleet->first_command_ms = fleet->first_command_ms != 0 ? fleet->first_command_ms : uv_now(fleet->loop);
    remember(device, command);
    take_command(device, command);
}
