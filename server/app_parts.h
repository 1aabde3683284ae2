/* What the rooms of the running server share; nobody else's. */
#ifndef SERVER_APP_PARTS_H
#define SERVER_APP_PARTS_H

#include "base/heap.h"
#include "fleet/fleet.h"
#include "repo/blob.h"
#include "repo/watch.h"
#include "server/admin_api.h"
#include "server/audit.h"
#include "server/broker.h"
#include "server/device_api.h"
#include "server/held_answers.h"
#include "server/http_server.h"
#include "server/listener.h"
#include "server/password_checks.h"
#include "server/public_url.h"
#include "server/stream_tls.h"
#include "server/tokens.h"
#include "server/trigger.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define ADMIN_CONNECTIONS_MAX 64
#define ADMIN_PEER_MAX        (ADMIN_CONNECTIONS_MAX / 2)
#define ADMIN_FIRST_HEAD_MS   3000
#define ADMIN_HELD_MAX        24 /* refusals held back: connections are left for those who come with a token */
#define ADMIN_HELD_PEER_MAX   4
#define MACHINE_ADDRESSES_MAX 64
#define TICK_MS               1000
#define STOPPING_TICK_MS      20

/* One way in for the operator. */
struct admin_entry {
    struct admin_door door; /* first: what the http_server's callbacks get */
    struct app *app;
    struct http_server http;
    struct listener listener;
    bool used;
};

enum { ADMIN_UNIX, ADMIN_TCP, ADMIN_ENTRIES };

/* What is in force; an empty `…_why` says that it is. */
struct app_sandbox {
    char user[128]; /* who we are */
    bool no_new_privileges;
    char capabilities_why[100];
    int abi; /* of Landlock */
    char files_why[300];
    char calls_why[100];
};

struct app {
    uv_loop_t loop;
    struct config config;
    int argc;
    char *const *argv;
    int exit_code;
    bool stopping;
    uv_signal_t signals[3];
    uv_timer_t drain_timer;
    size_t listener_count;
    struct listener listeners[2 * CONFIG_LISTEN_MAX]; /* plain ones, then those of TLS */
    bool has_tls;
    struct tls_room tls_room; /* where has_tls */
    int64_t tls_warned_s;     /* when the end of its certificates was last looked at */
    struct blob_store blobs;
    struct http_server http;
    struct watch *watch;
    struct catalog *catalog;
    struct device_api device_api;
    struct fleet fleet;
    struct store_queue *store; /* NULL = nothing is written down */
    uv_timer_t flush;
    uint64_t last_ticket; /* of what a rollout wrote */
    struct metrics metrics;
    struct broker broker;
    struct trigger trigger;
    struct admin_api admin;
    struct admin_entry entries[ADMIN_ENTRIES];
    struct tokens *tokens;
    struct attempts *failed_logins; /* of operators */
    struct held_answers held;       /* to them */
    struct audit *audit;
    char admin_socket[CONFIG_TEXT_MAX + 32];
    char first_listener[128]; /* as it was bound: what the public URL is worked out from */
    struct machine_address addresses[MACHINE_ADDRESSES_MAX];
    size_t address_count;
    bool in_container;
    bool url_said, url_warned;         /* in the log: the public URL, and what speaks against it */
    char said_url[PUBLIC_URL_MAX + 1]; /* which */
    uv_timer_t tick;
    uint64_t idle_ns, looked_ns; /* of the loop, when its busy share was last worked out */
    struct heap_trim heap;
    struct app_sandbox sandbox;
    unsigned parts_open;  /* of what talks to the outside, while stopping */
    bool fleet_stopped;   /* its store is closed, or closing */
    bool changes_awaited; /* one of them: changes of the repository under way */
};

/* Says it on stderr; returns 1, the exit code. */
int app_say_error(const char *message);

/* In the log, where it is another than was said, or something speaks against it that did not: devices may come to
 * another address than was thought at the start. */
void app_say_public_url(struct app *app);

/* --- app_doors: where devices and the operator come in ------------------------------------------------------------ */

/* Take the addresses, for which it may need root, and the operator's socket, whose file is the user's; so a mistake
 * shows before anything runs. Return 0, or 1 having said what. */
int app_bind_addresses(struct app *app);
int app_bind_socket(struct app *app);

/* Lets them in, and says so on stdout, a line a listener (flushed by the caller). Returns false where another program
 * was faster: then everything stops. */
bool app_open_doors(struct app *app);

/* There is room for connections again. */
void app_on_room(void *owner);

/* --- app_sandbox: what the process may do --------------------------------------------------------------------------
 */

/* Before the loop is made. */
void app_begin_sandbox(struct app *app);

/* Each returns 0, or 1 having said what. No thread may be running. */
int app_become_user(struct app *app);
int app_confine(struct app *app);
void app_say_sandbox(const struct app *app);

/* --- app_settings: what the configuration says, at the start and on SIGHUP ---------------------------------------- */

struct http_limits app_http_limits(const struct app *app); /* of the devices' door */
void app_apply_settings(struct app *app);
void app_reload(struct app *app);

/* --- app_tls: certificates ---------------------------------------------------------------------------------------- */

int app_tls_open(struct app *app); /* 0, or 1 having said what */
void app_tls_reload(struct app *app);
void app_tls_tick(struct app *app);

/* --- app_passwords: of devices ------------------------------------------------------------------------------------ */

int app_passwords_open(struct app *app); /* 0, or 1 having said what */
/* The users that `config` names, the caller's; NULL = it names none. On failure `message` says what is wrong. */
enum status app_passwords_load(const struct app *app, const struct config *config, struct device_users **users,
                               char *message, size_t size);
void app_passwords_use(struct app *app, struct device_users *users); /* takes them */

/* --- app_signing: whose signatures make a file an image ----------------------------------------------------------- */

int app_signing_open(struct app *app);                              /* 0, or 1 having said what */
void app_signing_use(struct app *app, struct signature_keys *keys); /* takes them */

/* --- app_fleet: its memory -------------------------------------------------------------------------------------- */

/* Reads it. Returns 0, or 1 having said why not. */
int app_fleet_open(struct app *app);
void app_fleet_stop(struct app *app); /* a part, closed when all is written */

/* --- app_tick ----------------------------------------------------------------------------------------------------- */

void app_on_tick(uv_timer_t *timer);

/* --- app_stop ----------------------------------------------------------------------------------------------------- */

void app_stop(struct app *app, const char *signal_name);

/* One of what talks to the outside has ended. */
void app_part_closed(void *owner);

/* What the operator's and the devices' connections say when the last of them is gone, while draining. */
void app_on_entry_empty(void *owner);
void app_on_http_empty(void *owner);

#endif
