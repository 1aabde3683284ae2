/* Where devices and the operator come in. Addresses are taken early, so that mistakes show at once; the doors open with
 * the first catalog, so that nobody is told of an empty repository. */
#include "server/app_parts.h"

#include <stdio.h>

#define ADMIN_BODIES_MAX (96u << 20)

/* --- binding ------------------------------------------------------------------------------------------------------ */

static void on_entry_room(void *owner)
{
    struct admin_entry *entry = owner;
    listener_resume(&entry->listener);
}

void app_on_room(void *owner)
{
    struct app *app = owner;
    for (size_t i = 0; i < app->listener_count; i++) {
        listener_resume(&app->listeners[i]);
    }
}

/* One of the devices' doors; `tls` NULL = plain. */
static bool bind_listener(struct app *app, const char *flag, const char *address, struct tls_room *tls)
{
    char message[512];
    struct listener *listener = &app->listeners[app->listener_count++];
    if (listener_bind(listener, &app->loop, &app->http, flag, address, message, sizeof message) != STATUS_OK) {
        app_say_error(message);
        return false;
    }
    listener->tls = tls;
    listener_for_crowds(listener); /* not the operators' door: who is silent must be seen to be */
    return true;
}

static int bind_listeners(struct app *app)
{
    const struct config *config = &app->config;
    bool good = true;
    for (size_t i = 0; config_is_plain(config) && i < config->listen.count && good; i++) {
        good = bind_listener(app, "listen", config->listen.texts[i], NULL);
    }
    for (size_t i = 0; i < config->tls_listen.count && good; i++) {
        good = bind_listener(app, "tls-listen", config->tls_listen.texts[i], &app->tls_room);
    }
    return good ? 0 : 1;
}

static enum status bind_entry(struct app *app, size_t i, char *message, size_t size)
{
    struct admin_entry *entry = &app->entries[i];
    struct http_limits limits = app_http_limits(app);
    limits.connections_max = ADMIN_CONNECTIONS_MAX;
    limits.bodies_bytes_max = ADMIN_BODIES_MAX;
    limits.peer_max = 0;
    limits.exempt = NULL;
    limits.refusals_ms = 1000;
    if (i == ADMIN_TCP) { /* anyone may knock there */
        limits.first_head_ms = ADMIN_FIRST_HEAD_MS;
        limits.peer_max = ADMIN_PEER_MAX;
    }
    entry->app = app;
    entry->used = true;
    entry->door = (struct admin_door){ .api = &app->admin, .needs_token = i == ADMIN_TCP };
    http_server_init(&entry->http, &app->loop, &app->blobs, &admin_handlers, entry, &limits);
    entry->http.refused = app->metrics.families[METRIC_REFUSED];
    entry->http.of_unix = i == ADMIN_UNIX;
    entry->http.on_room = on_entry_room;
    entry->http.on_empty = app_on_entry_empty;
    return i == ADMIN_UNIX ? listener_bind_unix(&entry->listener, &app->loop, &entry->http, "admin-socket",
                                                app->admin_socket, message, size)
                           : listener_bind(&entry->listener, &app->loop, &entry->http, "admin-listen",
                                           app->config.admin_listen, message, size);
}

static int bind_entry_or_say(struct app *app, size_t i)
{
    char message[CONFIG_TEXT_MAX + 256];
    return bind_entry(app, i, message, sizeof message) == STATUS_OK ? 0 : app_say_error(message);
}

int app_bind_addresses(struct app *app)
{
    if (bind_listeners(app) != 0) {
        return 1;
    }
    return app->config.admin_listen[0] != '\0' ? bind_entry_or_say(app, ADMIN_TCP) : 0;
}

int app_bind_socket(struct app *app)
{
    if (app->config.admin_socket[0] != '\0') {
        snprintf(app->admin_socket, sizeof app->admin_socket, "%s", app->config.admin_socket);
    } else {
        snprintf(app->admin_socket, sizeof app->admin_socket, "%s/admin.sock", app->config.state);
    }
    return bind_entry_or_say(app, ADMIN_UNIX);
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

/* Opens one door, says so, and returns true; else everything stops. */
static bool open_door(struct app *app, struct listener *listener, const char *flag, const char *kind,
                      const char *configured, char address[128])
{
    if (listener_start(listener, address, 128) != STATUS_OK) {
        char message[CONFIG_TEXT_MAX + 256];
        snprintf(message, sizeof message, "--%s %s: %s: another program has this address", flag, configured, address);
        app->exit_code = app_say_error(message);
        app_stop(app, "none: cannot listen");
        return false;
    }
    printf("listening %s %s\n", kind, listener->path[0] != '\0' ? configured : address);
    return true;
}

static bool open_admin_doors(struct app *app)
{
    static const char *const flags[] = { [ADMIN_UNIX] = "admin-socket", [ADMIN_TCP] = "admin-listen" };
    char address[128];
    for (size_t i = 0; i < ADMIN_ENTRIES; i++) {
        const char *configured = i == ADMIN_UNIX ? app->admin_socket : app->config.admin_listen;
        if (app->entries[i].used &&
            !open_door(app, &app->entries[i].listener, flags[i], "admin", configured, address)) {
            return false;
        }
    }
    return true;
}

bool app_open_doors(struct app *app)
{
    char address[128];
    for (size_t i = 0; i < app->listener_count; i++) {
        bool plain = app->listeners[i].tls == NULL;
        const char *kind = plain ? "http" : "https";
        size_t plain_count = config_is_plain(&app->config) ? app->config.listen.count : 0;
        const char *configured = plain ? app->config.listen.texts[i] : app->config.tls_listen.texts[i - plain_count];
        if (!open_door(app, &app->listeners[i], plain ? "listen" : "tls-listen", kind, configured, address)) {
            return false;
        }
        if (i == 0) {
            snprintf(app->first_listener, sizeof app->first_listener, "%s", address);
        }
        snprintf(app->admin.listeners[app->admin.listener_count++], sizeof app->admin.listeners[0], "%s %s", kind,
                 address);
    }
    return open_admin_doors(app);
}
