/* What the files of a device share among themselves: device.c has the ring of states, device_update.c the asking and
 * downloading, device_command.c the commands, device_make.c birth and end. */
#ifndef TESTS_SIM_DEVICE_INSIDE_H
#define TESTS_SIM_DEVICE_INSIDE_H

#include "tests/sim/device.h"

/* device.c */
void device_set_state(struct device *device, enum device_state state, const char *detail); /* NULL = no detail */
void device_set_state_for(struct device *device, enum device_state state, double ms);      /* one that ends by itself */
double device_scaled(const struct device *device, uint64_t ms);
void device_tell(struct device *device, const char *state, const char *version, const char *error);
bool device_has_fault(const struct device *device, enum misbehaviour misbehaviour);
bool device_use_fault(struct device *device, enum misbehaviour misbehaviour); /* it misbehaves now, if it does at all */
void device_start_life(struct device *device);
void device_obey(struct device *device, const struct command *command);
void device_begin(struct device *device);  /* its first check is answered, or none is made */
void device_settle(struct device *device); /* the server said 304 */
void device_fail(struct device *device, const char *error);

/* device_update.c */
void device_ask(struct device *device);
void device_forget_download(struct device *device); /* does not end it */
void device_stall_over(struct device *device);

#endif
