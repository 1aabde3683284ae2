/* What the parts of the verb "devices" share. */
#ifndef CLI_DEVICES_H
#define CLI_DEVICES_H

#include "cli/verb.h"

#define DEVICES "/api/v1/devices"

/* The path of the device that the first word names; false, said, where that is no MAC: bad usage. */
bool device_path(const struct cli *cli, struct api_path *path);

/* "blocked, pin 0.4.9, assigned door/DOOR-7, in kitchen, cellar": what was decided of it; "" = nothing. */
void device_policy_text(const json_t *device, char *to, size_t size);

#endif
