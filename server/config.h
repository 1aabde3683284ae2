/* What the operator wants: flags win over the environment, the environment over the file, the file over defaults.
 *
 * One table of keys (config.c) gives the flag, the variable UPDRAFT_…, the key of the file, the default and the help.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "base/log.h"
#include "fleet/assignment.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_LISTEN_MAX 16
#define CONFIG_TEXT_MAX   1024

struct config {
    char config[CONFIG_TEXT_MAX]; /* the file; "" = none */
    char repo[CONFIG_TEXT_MAX];
    char state[CONFIG_TEXT_MAX];
    size_t listen_count;
    char listen[CONFIG_LISTEN_MAX][128];
    uint64_t drain_timeout_ms;
    uint64_t head_timeout_ms, idle_timeout_ms, transfer_timeout_ms;
    uint64_t connections_max; /* 0 = as many as the descriptors allow */
    uint64_t settle_ms, rescan_ms;
    uint64_t image_memory_bytes, image_idle_ms;
    uint64_t loop_guard_max;
    uint64_t fs_gzip; /* 0 or 1 */
    uint64_t log_level, log_format;
    struct assignments *assignments; /* owned */
    const char *sources[32];         /* where each key's value came from, by the table's order */
};

enum config_action { CONFIG_RUN, CONFIG_CHECK, CONFIG_HELP, CONFIG_VERSION };

/* Reads all sources. On failure `message` (of `size` bytes) names the flag, variable or line, the value and the remedy.
 * The result is to be closed in either case. */
enum status config_read(struct config *config, int argc, char *const *argv, enum config_action *action, char *message,
                        size_t size);
void config_close(struct config *config);

/* The effective configuration as a file that config_read would take, each line with its source behind it. */
void config_print(const struct config *config, FILE *to);
void config_print_help(FILE *to);

/* Names, separated by ", ", the keys that differ and take effect only at a start; "" where there are none. */
void config_fixed_differences(const struct config *a, const struct config *b, char *names, size_t size);

#endif
