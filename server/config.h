/* What the operator wants: flags win over the environment, the environment over the file, the file over defaults.
 *
 * One table of keys (config.c) gives the flag, the variable UPDRAFT_…, the key of the file, the default and the help.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "base/log.h"
#include "fleet/assignment.h"
#include "fleet/offering.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_LISTEN_MAX 16
#define CONFIG_LIST_MAX   64 /* the longest list of any key */
#define CONFIG_TEXT_MAX   1024

/* By the order of their words in the table. */
enum config_unknown { CONFIG_UNKNOWN_ALLOWED, CONFIG_UNKNOWN_HELD, CONFIG_UNKNOWN_REFUSED };
enum config_tls_client { CONFIG_TLS_CLIENT_REQUIRED, CONFIG_TLS_CLIENT_OPTIONAL };
enum config_tls_mac { CONFIG_TLS_MAC_NAMED, CONFIG_TLS_MAC_REQUIRED, CONFIG_TLS_MAC_ANY };
enum config_sandbox { CONFIG_SANDBOX_AUTO, CONFIG_SANDBOX_ON, CONFIG_SANDBOX_OFF };
enum config_store { CONFIG_STORE_SQLITE, CONFIG_STORE_NONE };

/* Where a value came from. */
enum config_origin {
    CONFIG_OF_DEFAULT,
    CONFIG_OF_FILE,
    CONFIG_OF_VARIABLE,
    CONFIG_OF_SECRET_FILE, /* that a variable UPDRAFT_…_FILE names */
    CONFIG_OF_FLAG,
};

struct config_source {
    enum config_origin origin;
    unsigned long line; /* of the file; of a list: of its last */
};

/* What a key says that may be given several times. */
struct config_list {
    size_t count;
    char texts[CONFIG_LIST_MAX][128];
    unsigned long lines[CONFIG_LIST_MAX]; /* of the file */
};

struct config {
    char config[CONFIG_TEXT_MAX]; /* the file; "" = none */
    char repo[CONFIG_TEXT_MAX];
    char state[CONFIG_TEXT_MAX];
    struct config_list listen;
    struct config_list tls_listen;
    struct config_list tls_certs, tls_keys; /* in pairs */
    char tls_client_ca[CONFIG_TEXT_MAX];    /* "" = nobody is asked for a certificate */
    uint64_t tls_client;                    /* enum config_tls_client */
    uint64_t tls_client_mac;                /* enum config_tls_mac */
    char tls_ciphers[CONFIG_TEXT_MAX];
    uint64_t tls_record_bytes, tls_handshakes_max;
    char device_passwords[CONFIG_TEXT_MAX]; /* the file of their users; "" = none is asked for one */
    struct config_list signing_keys;        /* files; none = no signature is asked for */
    char user[CONFIG_TEXT_MAX];             /* "" = who starts us */
    uint64_t sandbox;                       /* enum config_sandbox */
    struct config_list sandbox_read;        /* folders */
    struct config_list trusted_proxies;     /* addresses and networks */
    struct config_list block_networks, allow_networks;
    struct config_list block_macs, allow_macs; /* whole MACs, and prefixes of them */
    uint64_t drain_timeout_ms;
    uint64_t head_timeout_ms, idle_timeout_ms, transfer_timeout_ms;
    uint64_t connections_max;      /* 0 = as many as the descriptors allow */
    uint64_t peer_connections_max; /* as asked for: config_peer_max; 0 = any number */
    uint64_t settle_ms, rescan_ms;
    uint64_t image_memory_bytes, image_idle_ms;
    uint64_t loop_guard_max;
    uint64_t offer;           /* enum offering, of the types that [offer] does not name */
    uint64_t unknown_devices; /* enum config_unknown */
    uint64_t store;           /* enum config_store */
    uint64_t reboot_timeout_ms;
    uint64_t site_in_flight; /* 0 = no cap */
    uint64_t max_failures_percent;
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
    struct assignments *assignments;  /* owned */
    struct offerings *offerings;      /* owned */
    size_t file_assignments;          /* how many of them are the file's: the first; the others are STATE's */
    struct config_source sources[96]; /* by the table's order */
};

enum config_action { CONFIG_RUN, CONFIG_CHECK, CONFIG_HELP, CONFIG_VERSION };

#define CONFIG_MESSAGE_MAX 2048 /* the longest complaint */

/* Reads all sources. On failure `message` (of `size` bytes) names the flag, variable or line, the value and the remedy.
 * The result is to be closed in either case. */
enum status config_read(struct config *config, int argc, char *const *argv, enum config_action *action, char *message,
                        size_t size);
void config_close(struct config *config);

/* Whether devices have a plain door: false with --listen none. */
bool config_is_plain(const struct config *config);

/* How many of a door's `connections` one address may have: a quarter is for others. 0 = any number. */
uint64_t config_peer_max(const struct config *config, uint64_t connections);

/* What is taken and yet looks like a mistake, a sentence each: settings without effect, times that do not fit together,
 * and variables UPDRAFT_… that nobody reads (`is_mistake`: --check-config fails over it). */
typedef void (*config_doubt_fn)(void *owner, bool is_mistake, const char *text);
void config_doubts(const struct config *config, config_doubt_fn on_doubt, void *owner);
void config_log_doubts(const struct config *config);

/* What a complaint of a key begins with, so that its reader finds the value: "--config u.ini: line 3: mqtt",
 * "UPDRAFT_MQTT_FILE: mqtt", "--mqtt". Holds no value. `to` has room for CONFIG_BLAME_MAX bytes. */
#define CONFIG_BLAME_MAX 400
void config_blame(const struct config *config, const char *name, char *to, size_t size);

/* The effective configuration as a file that config_read would take, each line with its source behind it. A secret,
 * and a value of a flag or variable that no line of a file can say, are named in a comment. */
void config_print(const struct config *config, FILE *to);
void config_print_help(FILE *to);

/* The files that it names, which are read again on SIGHUP or by the broker's connections: itself, certificates, keys,
 * secrets. Those that are not there among them. */
typedef void (*config_file_fn)(void *owner, const char *path);
void config_each_file(const struct config *config, config_file_fn on_file, void *owner);

/* After a reload: keys that take effect only at a start keep their values of `before`; `names` lists those that were
 * to change, separated by ", ". */
void config_keep_fixed(struct config *config, const struct config *before, char *names, size_t size);

#endif
