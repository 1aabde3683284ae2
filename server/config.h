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
    char public_url[CONFIG_TEXT_MAX];   /* "" = worked out */
    char admin_socket[CONFIG_TEXT_MAX]; /* "" = STATE/admin.sock */
    char admin_listen[CONFIG_TEXT_MAX]; /* "" = off */
    char mqtt[CONFIG_TEXT_MAX];         /* "" = pull only */
    char mqtt_user[CONFIG_TEXT_MAX], mqtt_password[CONFIG_TEXT_MAX];
    char mqtt_ca[CONFIG_TEXT_MAX], mqtt_cert[CONFIG_TEXT_MAX], mqtt_key[CONFIG_TEXT_MAX];
    char mqtt_client_id[CONFIG_TEXT_MAX];
    uint64_t mqtt_version; /* enum session_version */
    uint64_t mqtt_keep_alive_ms;
    uint64_t mqtt_in_flight, mqtt_queue;
    char mqtt_preset[CONFIG_TEXT_MAX];
    char command_topic[CONFIG_TEXT_MAX], device_command_topic[CONFIG_TEXT_MAX], command_payload[CONFIG_TEXT_MAX];
    char status_topic[CONFIG_TEXT_MAX], online_topic[CONFIG_TEXT_MAX]; /* "" = as the preset has them */
    uint64_t command_retain;                                           /* 0 or 1 */
    uint64_t command_expiry_ms;
    struct assignments *assignments; /* owned */
    const char *sources[64];         /* where each key's value came from, by the table's order */
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

/* After a reload: keys that take effect only at a start keep their values of `before`; `names` lists those that were
 * to change, separated by ", ". */
void config_keep_fixed(struct config *config, const struct config *before, char *names, size_t size);

#endif
